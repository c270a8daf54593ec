"""Say something about a model: a signed statement, and going back to an older version.

A statement that would not count at this site is refused here, before it is stored: nobody is left to believe that a
model was approved or withdrawn when it was not.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from residency.errors import ModelError, UntrustedKeyError, UsageError
from residency.models.find import KnownModel, Library, usable_manifest
from residency.package import digest_of
from residency.trust import (
    Kind,
    Role,
    SignedStatement,
    SigningKey,
    Statement,
    TrustedKey,
    TrustStore,
    hear,
    refuse_withdrawn,
    sign_statement,
    verify,
)

_ADDS = frozenset({Kind.APPROVED, Kind.EVALUATED})
"""What is not said of a version that was withdrawn."""


@dataclass(frozen=True)
class Voice:
    """Who speaks: a private key, the keys trusted here, and the moment."""

    key: SigningKey
    trust: TrustStore
    now: dt.datetime

    def role(self, kind: Kind) -> Role:
        """As what the key speaks. Raises UntrustedKeyError where this site does not trust it to say this."""
        known = self.trust.get(self.key.key_id)
        may = [Role.APPROVER] if kind in (Kind.APPROVED, Kind.RESTRICTED) else [Role.APPROVER, Role.PUBLISHER]
        found = next((role for role in may if known and role in known.roles), None)
        if found is None:
            wanted = " or ".join(may)
            raise UntrustedKeyError(
                f"the key {self.key.key_id} is not trusted here as {wanted}, so nobody would hear it: "
                f"residency trust add FILE.pub --role {may[0]} --name NAME"
            )
        return found


def speak(model: KnownModel, statement: Statement, voice: Voice) -> SignedStatement:
    """A statement about a model, signed; to be remembered at the site and stored beside the model.

    Raises, for what adds to a model, its own error where it cannot be used and RevokedError where it was withdrawn;
    UsageError where the statement would not count here. What cannot be used may still be withdrawn.
    """
    if statement.kind in _ADDS:
        usable_manifest(model)
        refuse_withdrawn(model.standing)
    signed = sign_statement(statement, voice.key)
    publisher = model.found.signature.key_id if model.found and model.found.signature else None
    (heard,) = hear([signed], voice.trust, voice.now, publisher=publisher)
    if heard.ignored is not None:
        raise UsageError(f"this would not count here: {heard.ignored}")
    return signed


@dataclass(frozen=True)
class Rollback:
    """Going back: the version to approve again, and the newer ones that stand behind it from then on.

    approvals  of the version that count now; each is given again within its limits and until its end, so that going
               back neither approves what nobody approved nor approves it for more
    """

    target: KnownModel
    approvals: tuple[Statement, ...]
    over: tuple[KnownModel, ...]


def plan_rollback(library: Library, family: str, voice: Voice, to: str | None = None) -> Rollback:
    """Which version a family goes back to: the one named, else the newest approved one before that in use.

    to  version, digest or how the digest begins

    Raises UsageError where there is none that is approved here, RevokedError for one that was suspended or revoked.
    """
    versions = _family(library, family)
    in_use = [m for m in versions if _approved(m) and not m.standing.superseded]
    if to is not None:
        target = _named(versions, to, family)
        usable_manifest(target)
        refuse_withdrawn(target.standing)
    else:
        newest = in_use[0] if in_use else versions[0]
        older = [m for m in versions if _sequence(m) < _sequence(newest) and _approved(m)]
        if not older:
            raise UsageError(
                f"no version older than {newest.name} can be used and is approved here: see 'residency models list'"
            )
        target = older[0]
    approvals = _approvals(library, target, voice)
    if not approvals:
        raise UsageError(
            f"no approval of {target.name} counts here, so there is nothing to go back to: approve it first "
            "('residency models approve'), then go back to it"
        )
    return Rollback(target, approvals, tuple(m for m in in_use if _sequence(m) > _sequence(target)))


def _approvals(library: Library, model: KnownModel, voice: Voice) -> tuple[Statement, ...]:
    """The approvals of a version that count, one for each scope and end."""
    of_it = (s for s in library.statements if s.statement.subject == model.digest)
    heard = hear(of_it, voice.trust, voice.now)
    counting = [h.signed.statement for h in heard if h.ignored is None and h.kind is Kind.APPROVED]
    return tuple({(said.scope, said.expires): said for said in counting}.values())


def _family(library: Library, family: str) -> list[KnownModel]:
    """The versions with a readable card, newest first. Raises UsageError for none, or families of two publishers."""
    found = [m for m in library.by_digest.values() if m.card and m.card.identity.family == family]
    publishers = {m.card.identity.publisher.id for m in found if m.card}
    if len(publishers) > 1:
        raise UsageError(f"{' and '.join(sorted(publishers))} both publish a family '{family}': approve by digest")
    if not found:
        raise UsageError(f"no family '{family}' is in this archive: see 'residency models list'")
    return sorted(found, key=_sequence, reverse=True)


def _named(versions: list[KnownModel], to: str, family: str) -> KnownModel:
    digits = to.removeprefix("sha256:")
    found = [
        m
        for m in versions
        if (m.card and m.card.identity.version == to)
        or (len(digits) >= 6 and m.digest.removeprefix("sha256:").startswith(digits))
    ]
    if len(found) != 1:
        listed = ", ".join(m.card.identity.version for m in versions if m.card)
        raise UsageError(f"'{family}' has {len(found) or 'no'} versions '{to}'; there are {listed}")
    return found[0]


def _approved(model: KnownModel) -> bool:
    return model.standing.trusted and model.standing.approved


def _sequence(model: KnownModel) -> int:
    return model.card.identity.sequence if model.card else 0


def signed_with(library: Library, key: TrustedKey, trust: TrustStore) -> frozenset[str]:
    """Digests of the manifests and statements in the archive that this key really signed: what its retirement keeps."""
    texts = [(m.found.text, m.found.signature) for m in library.models if m.found is not None]
    texts += [(s.text, s.signature) for s in library.statements]
    digests = set()
    for text, signature in texts:
        if signature is None or signature.key_id != key.key_id:
            continue
        try:
            verify(text, signature, trust, roles=list(Role))
        except ModelError:
            continue
        digests.add(digest_of(text))
    return frozenset(digests)
