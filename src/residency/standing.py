"""Standing: what trust has found out about one model version at this site, and what an approval is limited to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

_AE = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
_CODE_STRING = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,16}$")]
_WORDS = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


@dataclass(frozen=True)
class Use:
    """What a model is about to be used for; None: not known.

    modality  of the series; ae_title  of whoever sent the study (PS3.8: calling AE); purpose  as the site words it
    """

    modality: str | None = None
    ae_title: str | None = None
    purpose: str | None = None

    def __str__(self) -> str:
        return ", ".join(
            (
                f"modality {self.modality or 'unknown'}",
                f"AE {self.ae_title or 'unknown'}",
                f"purpose {self.purpose or 'not stated'}",
            )
        )


class Scope(BaseModel):
    """What a statement is limited to; an empty tuple limits nothing.

    purpose is compared character by character with the purpose that a run states: it is a label, never interpreted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_titles: tuple[_AE, ...] = ()
    modalities: tuple[_CODE_STRING, ...] = ()
    purpose: _WORDS | None = None

    def holds(self, use: Use) -> bool | None:
        """True where the use lies inside, False where it lies outside, None where what decides is not known."""
        return _all(
            (
                _within(use.modality, self.modalities),
                _within(use.ae_title, self.ae_titles),
                _within(use.purpose, (self.purpose,) if self.purpose else ()),
            )
        )

    def __str__(self) -> str:
        parts = [
            f"AE {', '.join(self.ae_titles)}" if self.ae_titles else "",
            f"modality {', '.join(self.modalities)}" if self.modalities else "",
            f"purpose {self.purpose}" if self.purpose else "",
        ]
        return "; ".join(p for p in parts if p) or "everything"


def _within(value: str | None, allowed: tuple[str, ...]) -> bool | None:
    if not allowed:
        return True
    return None if value is None else value in allowed


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return False if False in found else None if None in found else True


class Approval(StrEnum):
    """What the site's statements say of one digest, folded. Suspended and revoked win over everything."""

    NONE = "not approved"
    APPROVED = "approved"
    RESTRICTED = "restricted"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Grant:
    """One approval that counts: for what, by whom, and until when."""

    scope: Scope
    by: str | None = None
    until: dt.datetime | None = None

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        limits = f", {self.scope}" if self.scope != Scope() else ""
        return f"approved{by}{limits}" + (f", until {last_day(self.until)}" if self.until else "")


def last_day(end: dt.datetime) -> dt.date:
    """The last day, in UTC, on which something counts that ends at this moment."""
    return (end.astimezone(dt.UTC) - dt.timedelta(microseconds=1)).date()


@dataclass(frozen=True)
class Standing:
    """How far this site trusts one version.

    digest      version digest, "sha256:..."
    publisher   the name under which the site trusts the signing key; None if it is not trusted
    problem     why the object must not be used at all (unsigned, untrusted key, damaged, incomplete), or None
    admitted    the golden case passed on this machine, engine and precision
    failed      why the golden case failed on this machine, engine and precision, or None
    approval    RESTRICTED: approved, and limited further by `limits`
    grants      the approvals that count, last first, any of which suffices
    limits      of the restrictions that count, all of which must hold
    approved_by who said what `approval` says
    expired     when the last of the approvals that ended did so; None where none has
    superseded  someone put another version of its family before it
    unread      statements beside it in the archive that cannot be read
    """

    digest: str
    publisher: str | None
    problem: str | None = None
    admitted: bool = False
    failed: str | None = None
    approval: Approval = Approval.NONE
    grants: tuple[Grant, ...] = ()
    limits: tuple[Scope, ...] = ()
    approved_by: str | None = None
    expired: dt.datetime | None = None
    superseded: bool = False
    unread: int = 0

    @property
    def trusted(self) -> bool:
        """Signed by a trusted publisher, whole, not failed here, and neither suspended nor revoked."""
        return self.publisher is not None and self.problem is None and self.failed is None and not self.withdrawn

    @property
    def scope(self) -> str | None:
        """What the approval is limited to, in words; None without limits, and where nothing is approved."""
        if not self.approved:
            return None
        any_of = " or ".join(map(str, self.scopes))
        return "; only ".join([any_of or "everything", *map(str, self.limits)]) if any_of or self.limits else None

    @property
    def withdrawn(self) -> bool:
        """Suspended or revoked."""
        return self.approval in (Approval.SUSPENDED, Approval.REVOKED)

    @property
    def approved(self) -> bool:
        """Approved for something."""
        return self.approval in (Approval.APPROVED, Approval.RESTRICTED)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The different scopes of the approvals, any of which suffices; () where one of them has no limits."""
        found = tuple(dict.fromkeys(grant.scope for grant in self.grants))
        return () if Scope() in found else found

    def modality_fits(self, use: Use) -> bool:
        """False where no approval is for the modality of this use, whatever else the use is."""
        granted = [_within(use.modality, scope.modalities) for scope in self.scopes or (Scope(),)]
        return any(granted) and all(_within(use.modality, limit.modalities) for limit in self.limits)

    def granted(self, use: Use) -> str | None:
        """The approvals that hold for this use and what restricts them, in words; None where none holds.

        The same approvals give the same words, however often and in which order they were given.
        """
        if not self.approved_for(use):
            return None
        holding = {str(grant) for grant in self.grants if grant.scope.holds(use)} or {f"approved by {self.approved_by}"}
        return "; ".join([*sorted(holding), *sorted({f"restricted to {limit}" for limit in self.limits})])

    def approved_for(self, use: Use) -> bool | None:
        """True where an approval holds for this use, None where what decides is not known."""
        if not self.approved:
            return False
        answers = [scope.holds(use) for scope in self.scopes or (Scope(),)]
        granted = True if True in answers else None if None in answers else False
        return _all((granted, *(limit.holds(use) for limit in self.limits)))
