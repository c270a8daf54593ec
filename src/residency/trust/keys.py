"""Keys with roles, signatures over exact characters, and the keys that a site trusts.

A signature covers the stored characters of a manifest or statement, never something written again. A key's id is the
SHA-256 of its 32 public bytes. A fresh TrustStore is empty: nobody is trusted by default. Ed25519 is RFC 8032; keys
travel as PEM (RFC 7468).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from residency.errors import SignatureError, UnsignedError, UntrustedKeyError, UsageError
from residency.package import digest_of


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
class Retirement:
    """A key that its holder replaced by another. A signature bears no date that could be believed, so what counts on
    is what this site had seen of it by then.

    kept  digests of the signed texts that go on counting
    """

    at: dt.datetime
    successor: str
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TrustedKey:
    """A public key (32 bytes), what its holder may do here, the name a person gave it, and since when."""

    public: bytes
    roles: frozenset[Role]
    name: str
    since: dt.datetime
    retired: Retirement | None = None

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

    def same_holder(self, older: str | None, key_id: str) -> bool:
        """True where the key is `older` itself or the one that replaced it, directly or by several rotations."""
        seen: set[str] = set()
        while older is not None and older not in seen:
            if older == key_id:
                return True
            seen.add(older)
            key = self.get(older)
            older = key.retired.successor if key and key.retired else None
        return False

    def hearing_withdrawals(self) -> TrustStore:
        """Retired keys as if they were not: such a key may say less of a model at any time, never more."""
        return TrustStore(tuple(replace(key, retired=None) for key in self.keys))


def trusted_key(text: bytes, signature: Signature | None, trust: TrustStore, *, roles: Iterable[Role]) -> TrustedKey:
    """The trusted key that a signature over `text` names; whether it fits is not looked at.

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
    if key.retired is not None and digest_of(text) not in key.retired.kept:
        raise UntrustedKeyError(
            f"it is signed with the key {key.key_id} of '{key.name}', which was retired on {key.retired.at:%Y-%m-%d}, "
            "and this site had not seen it by then: have it signed with the new key"
        )
    return key


def verify(text: bytes, signature: Signature | None, trust: TrustStore, *, roles: Iterable[Role]) -> TrustedKey:
    """The trusted key that signed `text`. Raises UnsignedError, UntrustedKeyError or SignatureError, in this order."""
    key = trusted_key(text, signature, trust, roles=roles)
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
