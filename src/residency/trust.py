"""Who is believed for what: Ed25519 keys with roles, signatures over exact characters, signed statements -> Standing.

Pure: no disk, no clock. A signature covers the stored characters of a manifest or statement, never something written
again. A key's id is the SHA-256 of its 32 public bytes. A fresh TrustStore is empty: nobody is trusted by default.
Ed25519 is RFC 8032; keys travel as PEM (RFC 7468).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from residency.card.value import Digest, Line, Text
from residency.errors import ManifestError, RevokedError, SignatureError, UnsignedError, UntrustedKeyError, UsageError
from residency.package import canonical_json
from residency.standing import Approval, Standing

LARGEST_STATEMENT = 64 * 1024


class Role(StrEnum):
    """What a key is trusted to do. `site` is this installation's own key, which signs admissions."""

    PUBLISHER = "publisher"
    APPROVER = "approver"
    SITE = "site"


@dataclass(frozen=True)
class Signature:
    """64 bytes and the id of the key that is said to have made them."""

    key_id: str
    value: bytes


@dataclass(frozen=True)
class SigningKey:
    """A private key. Its `repr` shows only the key id."""

    _key: Ed25519PrivateKey

    @classmethod
    def new(cls) -> SigningKey:
        """A new random key, from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Raises UsageError for anything but an unencrypted Ed25519 private key."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise UsageError(
                "this is no unencrypted private key in PEM form; make one with 'residency trust new-key FILE'"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"only Ed25519 keys sign models, this is a {type(key).__name__}")
        return cls(key)

    @property
    def public(self) -> bytes:
        """The 32 public bytes."""
        return self._key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """ "sha256:..." of the public bytes."""
        return key_id_of(self.public)

    def pem(self) -> bytes:
        """The private key as PKCS #8 PEM. To be stored with mode 0600 only."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, text: bytes) -> Signature:
        """Signature over exactly these bytes."""
        return Signature(self.key_id, self._key.sign(text))

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


def key_id_of(public: bytes) -> str:
    """Fingerprint of a public key: SHA-256 of its 32 bytes."""
    return "sha256:" + hashlib.sha256(public).hexdigest()


def public_from_pem(pem: bytes) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM form. Raises UsageError, also for a private key."""
    if b"PRIVATE KEY" in pem:
        raise UsageError(
            "this file holds a private key: keep it secret, and give the public key (the .pub file) instead"
        )
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError("this is no public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"only Ed25519 keys are trusted, this is a {type(key).__name__}")
    return key.public_bytes_raw()


def public_pem(public: bytes) -> bytes:
    """32 public bytes -> PEM (SubjectPublicKeyInfo)."""
    return Ed25519PublicKey.from_public_bytes(public).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@dataclass(frozen=True)
class TrustedKey:
    """A public key (32 bytes), what its holder may do here, the name a person gave it, and since when."""

    public: bytes
    roles: frozenset[Role]
    name: str
    since: dt.datetime

    @property
    def key_id(self) -> str:
        """ "sha256:..." of the public bytes."""
        return key_id_of(self.public)


@dataclass(frozen=True)
class TrustStore:
    """The keys that a site trusts. Empty unless a person added one."""

    keys: tuple[TrustedKey, ...] = ()

    def get(self, key_id: str) -> TrustedKey | None:
        """The key with this id, or None."""
        return next((key for key in self.keys if key.key_id == key_id), None)


def trusted_key(signature: Signature | None, trust: TrustStore, *, roles: Iterable[Role]) -> TrustedKey:
    """The trusted key that a signature names; whether it fits is not looked at.

    Raises UnsignedError or UntrustedKeyError.
    """
    if signature is None:
        raise UnsignedError("there is no signature: publish it again with --key, signed by someone this site trusts")
    key = trust.get(signature.key_id)
    if key is None:
        raise UntrustedKeyError(
            f"it is signed with the key {signature.key_id}, which this site does not trust; "
            "if you know whose it is: residency trust add KEY --role publisher --name NAME"
        )
    wanted = set(roles)
    if not key.roles & wanted:
        raise UntrustedKeyError(
            f"it is signed by '{key.name}', who is trusted as {_listed(key.roles)}, not as {_listed(wanted)}"
        )
    return key


def verify(text: bytes, signature: Signature | None, trust: TrustStore, *, roles: Iterable[Role]) -> TrustedKey:
    """The trusted key that signed `text`. Raises UnsignedError, UntrustedKeyError or SignatureError, in this order."""
    key = trusted_key(signature, trust, roles=roles)
    assert signature is not None
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature.value, text)
    except InvalidSignature:
        raise SignatureError(
            f"the signature does not fit: the characters were changed, or not '{key.name}' signed them"
        ) from None
    return key


def _listed(roles: Iterable[Role]) -> str:
    return " and ".join(sorted(roles)) or "nothing"


class Kind(StrEnum):
    """What a statement says of its subject."""

    ADMITTED = "admitted"
    APPROVED = "approved"
    RESTRICTED = "restricted"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    EVALUATED = "evaluated"


KeyId = Digest
_Moment = dt.datetime


class Scope(BaseModel):
    """What an approval is limited to; an empty tuple limits nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_titles: tuple[Annotated[str, StringConstraints(min_length=1, max_length=16)], ...] = ()
    modalities: tuple[Annotated[str, StringConstraints(min_length=1, max_length=16)], ...] = ()
    purpose: Line | None = None

    def __str__(self) -> str:
        parts = [
            f"AE {', '.join(self.ae_titles)}" if self.ae_titles else "",
            f"modality {', '.join(self.modalities)}" if self.modalities else "",
            f"for {self.purpose}" if self.purpose else "",
        ]
        return "; ".join(p for p in parts if p) or "everything"


class Statement(BaseModel):
    """One signed sentence about one digest, never about "this version and later".

    issuer    id of the key that signs it
    evidence  what it rests on, by name: for an admission the engine, the precision and the Dice reached
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["residency-statement/1"] = "residency-statement/1"
    kind: Kind
    subject: Digest
    issuer: KeyId
    role: Role
    issued: _Moment
    expires: _Moment | None = None
    scope: Scope | None = None
    comment: Text = ""
    evidence: Mapping[Line, Line] = {}

    @model_validator(mode="after")
    def _sound(self) -> Statement:
        if self.issued.tzinfo is None or (self.expires is not None and self.expires.tzinfo is None):
            raise ValueError("times need a time zone")
        if self.kind is Kind.REVOKED and self.expires is not None:
            raise ValueError("a revocation does not expire; suspend instead")
        if self.expires is not None and self.expires <= self.issued:
            raise ValueError("expires before it is issued")
        return self

    def text(self) -> bytes:
        """Canonical JSON: what is signed and stored."""
        return canonical_json(json.loads(self.model_dump_json()))

    def counts(self, now: dt.datetime) -> bool:
        """False once expired, and, except for suspending and revoking, before it was issued."""
        if self.expires is not None and now >= self.expires:
            return False
        return self.kind in (Kind.SUSPENDED, Kind.REVOKED) or self.issued <= now


@dataclass(frozen=True)
class SignedStatement:
    """A statement, the exact characters it was read from, and the signature over them."""

    statement: Statement
    text: bytes
    signature: Signature


def sign_statement(statement: Statement, key: SigningKey) -> SignedStatement:
    """Sign. The statement must name the key as its issuer."""
    if statement.issuer != key.key_id:
        raise UsageError(f"the statement names {statement.issuer} as its issuer, the key is {key.key_id}")
    text = statement.text()
    return SignedStatement(statement, text, key.sign(text))


def parse_statement(text: bytes, signature: Signature) -> SignedStatement:
    """Stored characters -> statement. Raises ManifestError; the signature is looked at by `fold`."""
    if len(text) > LARGEST_STATEMENT:
        raise ManifestError(f"a statement has {len(text)} bytes, at most {LARGEST_STATEMENT} are read")
    try:
        statement = Statement.model_validate_json(text)
    except ValidationError as error:
        raise ManifestError(f"a statement is malformed: {error.errors()[0]['msg']}") from None
    if statement.text() != text or statement.issuer != signature.key_id:
        raise ManifestError("a statement is not canonical, or names another issuer than its signature")
    return SignedStatement(statement, text, signature)


_MAY_SAY: Mapping[Kind, frozenset[Role]] = {
    Kind.ADMITTED: frozenset({Role.SITE}),
    Kind.APPROVED: frozenset({Role.APPROVER}),
    Kind.RESTRICTED: frozenset({Role.APPROVER}),
    Kind.SUSPENDED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.REVOKED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.SUPERSEDED: frozenset({Role.APPROVER, Role.PUBLISHER}),
    Kind.EVALUATED: frozenset({Role.APPROVER, Role.PUBLISHER, Role.SITE}),
}


def believed(
    statements: Iterable[SignedStatement], trust: TrustStore, now: dt.datetime, *, publisher: str | None = None
) -> list[SignedStatement]:
    """Those statements that count: signed by a key trusted for saying this, not expired.

    `publisher` is the key id that signed the model: a publisher may withdraw its own models, not those of others.
    """
    found = []
    for signed in statements:
        statement = signed.statement
        try:
            key = verify(signed.text, signed.signature, trust, roles=_MAY_SAY[statement.kind] & {statement.role})
        except SignatureError:
            continue
        if statement.role is Role.PUBLISHER and key.key_id != publisher:
            continue
        if statement.counts(now):
            found.append(signed)
    return found


@dataclass(frozen=True)
class RunsOn:
    """What an admission holds for: engine and machine as text, and the precision computed in."""

    engine: str
    precision: str

    def evidence(self) -> dict[str, str]:
        """As an admission's evidence names it."""
        return {"engine": self.engine, "precision": self.precision}


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

    Revoked beats suspended beats restricted beats approved; among equals the one issued last names scope and person.
    Admitted holds only for an equal engine build and precision.
    """
    of_it = [s for s in statements if s.statement.subject == standing.digest]
    heard = believed(of_it, trust, now, publisher=publisher)
    by_kind: dict[Kind, SignedStatement] = {}
    for signed in sorted(heard, key=lambda s: (s.statement.issued, s.text)):
        by_kind[signed.statement.kind] = signed
    admitted = runs_on is not None and any(
        s.statement.kind is Kind.ADMITTED and runs_on.evidence().items() <= s.statement.evidence.items() for s in heard
    )
    approval, ground = Approval.NONE, None
    for kind, meaning in _STRONGEST_FIRST:
        if kind in by_kind:
            approval, ground = meaning, by_kind[kind]
            break
    scope = ground.statement.scope if ground else None
    key = trust.get(ground.signature.key_id) if ground else None
    return Standing(
        digest=standing.digest,
        publisher=standing.publisher,
        problem=standing.problem,
        admitted=admitted,
        approval=approval,
        scope=str(scope) if scope else None,
        approved_by=key.name if key else None,
    )


_STRONGEST_FIRST = (
    (Kind.REVOKED, Approval.REVOKED),
    (Kind.SUSPENDED, Approval.SUSPENDED),
    (Kind.RESTRICTED, Approval.RESTRICTED),
    (Kind.APPROVED, Approval.APPROVED),
)


def refuse_withdrawn(standing: Standing) -> None:
    """Raises RevokedError for a suspended or revoked version."""
    if standing.approval in (Approval.SUSPENDED, Approval.REVOKED):
        raise RevokedError(
            f"{standing.digest} is {standing.approval} by {standing.approved_by}; choose another version of the family"
        )
