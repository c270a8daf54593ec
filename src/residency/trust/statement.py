"""Signed statements: one sentence by one key about one digest.

The fields are those of DICOM's Assertion Macro (PS3.3 10.30): kind is its Assertion Code, the digest of the text its
Assertion UID, issuer and role its Asserter Identification, then date, expiration and comments. `dicom.approval` writes
them as such beside the signed characters.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from residency.card.value import Digest, Line, Text
from residency.errors import ManifestError, UsageError
from residency.package import canonical_json, digest_of
from residency.standing import Scope
from residency.trust.keys import Role, Signature, SigningKey

LARGEST_STATEMENT = 64 * 1024


class Kind(StrEnum):
    """What a statement says of its subject.

    ADMITTED and FAILED are the site's own word on the golden case. RESTRICTED narrows every approval to its scope.
    SUPERSEDED puts the other versions of the family first, until this one is approved again.
    """

    ADMITTED = "admitted"
    FAILED = "failed"
    APPROVED = "approved"
    RESTRICTED = "restricted"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    EVALUATED = "evaluated"


WITHDRAWALS = frozenset({Kind.RESTRICTED, Kind.SUSPENDED, Kind.REVOKED})
"""What takes from an approval: it counts whatever date it bears, and is remembered."""

BY = "by"
"""Name under which the evidence of a statement says which person made it, where they said so."""


class Statement(BaseModel):
    """One signed sentence about one digest, never about "this version and later".

    issuer    id of the key that signs it
    evidence  what it rests on, by name: for an admission the engine, the precision and the Dice reached
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["residency-statement/1"] = "residency-statement/1"
    kind: Kind
    subject: Digest
    issuer: Digest
    role: Role
    issued: dt.datetime
    expires: dt.datetime | None = None
    scope: Scope | None = None
    comment: Text = ""
    evidence: Mapping[Line, Line] = {}

    @model_validator(mode="after")
    def _sound(self) -> Statement:
        for moment in (self.issued, self.expires):
            if moment is not None:
                _check_moment(moment)
        if self.kind is Kind.RESTRICTED and self.scope in (None, Scope()):
            raise ValueError("a restriction names what it limits to")
        if self.kind is Kind.REVOKED and self.expires is not None:
            raise ValueError("a revocation does not expire; suspend instead")
        if self.expires is not None and self.expires <= self.issued:
            raise ValueError("expires before it is issued")
        return self

    def text(self) -> bytes:
        """Canonical JSON: what is signed and stored."""
        return canonical_json(json.loads(self.model_dump_json()))

    def untimely(self, now: dt.datetime) -> str | None:
        """Why it does not count at this moment; None where it does. Withdrawals count before their date too."""
        if self.expires is not None and now >= self.expires:
            return f"expired on {in_utc(self.expires)}"
        if self.kind not in WITHDRAWALS and self.issued > now:
            return f"dated {in_utc(self.issued)}, which is yet to come"
        return None


def in_utc(moment: dt.datetime) -> str:
    """A moment as people are told it, whatever time zone a statement gives it in: "2027-01-31 14:05 UTC"."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _check_moment(moment: dt.datetime) -> None:
    """Anybody can store a statement: one at the edge of the calendar must not stop whoever shows it."""
    if moment.tzinfo is None:
        raise ValueError("times need a time zone")
    try:
        moment.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("times lie within the years 1 to 9999 of UTC") from None


@dataclass(frozen=True)
class SignedStatement:
    """A statement, the exact characters it was read from, and the signature over them."""

    statement: Statement
    text: bytes
    signature: Signature

    @property
    def digest(self) -> str:
        """Of the text: the statement's identity."""
        return digest_of(self.text)


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
