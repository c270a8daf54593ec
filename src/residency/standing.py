"""Standing: what trust has found out about one model version at this site."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Approval(StrEnum):
    """What the site's statements say of one digest, folded. Suspended and revoked win over everything."""

    NONE = "not approved"
    APPROVED = "approved"
    RESTRICTED = "restricted"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Standing:
    """How far this site trusts one version.

    digest     version digest, "sha256:..."
    publisher  the name under which the site trusts the signing key; None if it is not trusted
    problem    why the object must not be used at all (unsigned, untrusted key, damaged, incomplete), or None
    admitted   the golden case passed on this machine, engine and precision
    """

    digest: str
    publisher: str | None
    problem: str | None = None
    admitted: bool = False
    approval: Approval = Approval.NONE
    scope: str | None = None
    approved_by: str | None = None

    @property
    def trusted(self) -> bool:
        """Signed by a trusted publisher, whole, and neither suspended nor revoked."""
        return (
            self.publisher is not None
            and self.problem is None
            and self.approval not in (Approval.SUSPENDED, Approval.REVOKED)
        )
