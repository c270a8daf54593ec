"""Statements -> Standing: who is heard, and what all that is heard comes to.

Only what is deleted can be undone: a withdrawal wins over every approval, whichever came first, so that nobody brings a
model back by storing an old approval once more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from residency.errors import RevokedError, SignatureError
from residency.standing import Approval, Grant, Scope, Standing
from residency.trust.keys import Role, TrustStore, verify
from residency.trust.statement import WITHDRAWALS, Kind, SignedStatement

_MAY_SAY: Mapping[Kind, frozenset[Role]] = {
    Kind.ADMITTED: frozenset({Role.SITE}),
    Kind.FAILED: frozenset({Role.SITE}),
    Kind.APPROVED: frozenset({Role.APPROVER}),
    Kind.RESTRICTED: frozenset({Role.APPROVER}),
    Kind.SUSPENDED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.REVOKED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.SUPERSEDED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.EVALUATED: frozenset({Role.APPROVER, Role.PUBLISHER, Role.SITE}),
}


@dataclass(frozen=True)
class Heard:
    """One statement, who is known to have signed it (None: a key that is not trusted), and why it does not count."""

    signed: SignedStatement
    by: str | None
    ignored: str | None

    @property
    def kind(self) -> Kind:
        """What it says."""
        return self.signed.statement.kind


def hear(
    statements: Iterable[SignedStatement], trust: TrustStore, now: dt.datetime, *, publisher: str | None = None
) -> list[Heard]:
    """Every statement once, oldest first, each with whether it counts: signed by a key trusted to say this, in force.

    `publisher` is the key id that signed the model: a publisher may withdraw its own models, not those of others.
    """
    once = {signed.text: signed for signed in statements}
    ordered = sorted(once.values(), key=lambda s: (s.statement.issued, s.text))
    return [Heard(s, _name(s, trust), _ignored(s, trust, now, publisher)) for s in ordered]


def _name(signed: SignedStatement, trust: TrustStore) -> str | None:
    key = trust.get(signed.signature.key_id)
    return key.name if key else None


def _ignored(signed: SignedStatement, trust: TrustStore, now: dt.datetime, publisher: str | None) -> str | None:
    statement = signed.statement
    if statement.role not in _MAY_SAY[statement.kind]:
        return f"a key with the role '{statement.role}' cannot say this"
    store = trust.hearing_withdrawals() if statement.kind in WITHDRAWALS else trust
    try:
        key = verify(signed.text, signed.signature, store, roles=[statement.role])
    except SignatureError as error:
        return str(error)
    if statement.role is Role.PUBLISHER and not trust.same_holder(publisher, key.key_id):
        return f"'{key.name}' did not publish this model"
    return statement.untimely(now)


@dataclass(frozen=True)
class RunsOn:
    """What an admission holds for: engine and version, the precision computed in, and the CPU's instruction sets."""

    engine: str
    precision: str
    cpu: str = ""

    def evidence(self) -> dict[str, str]:
        """As an admission's evidence names it."""
        return {"engine": self.engine, "precision": self.precision} | ({"cpu": self.cpu} if self.cpu else {})

    def is_that_of(self, signed: SignedStatement) -> bool:
        """True for an admission, or its refusal, on an equal engine, precision and CPU."""
        found = signed.statement.evidence
        return all(found.get(key) == value for key, value in self.evidence().items())


def judge(
    standing: Standing,
    statements: Iterable[SignedStatement],
    trust: TrustStore,
    *,
    now: dt.datetime,
    publisher: str | None = None,
    runs_on: RunsOn | None = None,
) -> Standing:
    """What was found out about the object itself, and what statements say of its digest -> its Standing.

    Revoked beats suspended beats restricted beats approved; among equals the one issued last names the person. A
    restriction says nothing of what nobody approved. The golden case counts as it came out last on an equal engine
    build, precision and CPU. A version stands behind the others of its family from being superseded until it is
    approved again.
    """
    of_it = (s for s in statements if s.statement.subject == standing.digest)
    heard = hear(of_it, trust, now, publisher=publisher)
    counting = [h for h in heard if h.ignored is None]
    last: dict[Kind, Heard] = {heard.kind: heard for heard in counting}
    approval, ground = _strongest(last)
    replayed = [
        h for h in counting if h.kind in (Kind.ADMITTED, Kind.FAILED) and runs_on and runs_on.is_that_of(h.signed)
    ]
    outcome = replayed[-1] if replayed else None
    return replace(
        standing,
        admitted=outcome is not None and outcome.kind is Kind.ADMITTED,
        failed=_why_failed(outcome) if outcome and outcome.kind is Kind.FAILED else None,
        approval=approval,
        grants=_grants(counting),
        limits=_limits(counting) if approval is Approval.RESTRICTED else (),
        approved_by=ground.by if ground else None,
        expired=_ended(heard, now),
        superseded=_issued(last, Kind.SUPERSEDED) > _issued(last, Kind.APPROVED),
    )


def _strongest(last: Mapping[Kind, Heard]) -> tuple[Approval, Heard | None]:
    for kind, meaning in ((Kind.REVOKED, Approval.REVOKED), (Kind.SUSPENDED, Approval.SUSPENDED)):
        if kind in last:
            return meaning, last[kind]
    if Kind.APPROVED not in last:
        return Approval.NONE, None
    if Kind.RESTRICTED in last:
        return Approval.RESTRICTED, last[Kind.RESTRICTED]
    return Approval.APPROVED, last[Kind.APPROVED]


def _grants(counting: Sequence[Heard]) -> tuple[Grant, ...]:
    """The different approvals, last first."""
    said = [(h.signed.statement, h.by) for h in reversed(counting) if h.kind is Kind.APPROVED]
    return tuple(dict.fromkeys(Grant(one.scope or Scope(), by, one.expires) for one, by in said))


def _limits(counting: Sequence[Heard]) -> tuple[Scope, ...]:
    """The different scopes of the restrictions, last first."""
    found = [h.signed.statement.scope for h in reversed(counting) if h.kind is Kind.RESTRICTED]
    return tuple(dict.fromkeys(scope for scope in found if scope is not None))


def _ended(heard: Iterable[Heard], now: dt.datetime) -> dt.datetime | None:
    """When the last approval ended of those that count no longer for this reason alone."""
    approvals = [(h.ignored, h.signed.statement) for h in heard if h.kind is Kind.APPROVED]
    ends = [said.expires for ignored, said in approvals if ignored is not None and ignored == said.untimely(now)]
    return max((end for end in ends if end is not None and end <= now), default=None)


def outweighed(heard: Sequence[Heard]) -> str | None:
    """What takes all effect from approvals among these statements, in words; None where nothing does."""
    kinds = {one.kind for one in heard if one.ignored is None}
    if Kind.REVOKED in kinds:
        return "outweighed by the revocation"
    return "outweighed by the suspension" if Kind.SUSPENDED in kinds else None


def _issued(last: Mapping[Kind, Heard], kind: Kind) -> dt.datetime:
    return last[kind].signed.statement.issued if kind in last else _NEVER


_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


def _why_failed(outcome: Heard) -> str:
    why = outcome.signed.statement.evidence.get("why", "the golden case failed here")
    return f"{why}; 'residency models admit' replays it"


def refuse_withdrawn(standing: Standing) -> None:
    """Raises RevokedError for a suspended or revoked version."""
    if standing.withdrawn:
        raise RevokedError(
            f"{standing.digest} is {standing.approval} by {standing.approved_by}; choose another version of the family"
        )
