"""ModelPackage: card, graph and other payloads, and the manifest that gives a version its identity.

The manifest is canonical JSON: ASCII only (other characters as \\u escapes), keys sorted, no spaces, no trailing blank,
so that no character-set conversion or padding on the way through an archive can change it. The version digest is the
SHA-256 of exactly these characters. It names the publisher by a stable id, never by a key, so that the same package has
the same digest everywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from residency.card import Card, parse_card
from residency.errors import DigestError, ManifestError, PackageError

FORMAT = "residency-model/1"
PART_BYTES = 16 * 1024 * 1024
LARGEST_PAYLOAD = 512 * 1024 * 1024
LARGEST_MANIFEST = 1024 * 1024
MOST_PAYLOADS = 64

ROLES = ("graph", "variant/bf16", "variant/int8", "golden/input", "golden/expected", "report", "licence")
MEDIA_TYPES = (
    "application/onnx",
    "application/x-nifti+gzip",
    "text/plain",
    "text/html",
    "application/pdf",
    "application/json",
)

MANIFEST_FILE = "manifest.json"
"""The manifest's name where a package lies in a folder; no payload may have it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """ "sha256:" and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """ASCII, sorted keys, no spaces; NaN and infinity are refused."""
    try:
        return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
            "ascii"
        )
    except (TypeError, ValueError) as error:
        raise ManifestError(f"this cannot be written as canonical JSON: {error}") from None


@dataclass(frozen=True)
class Payload:
    """One file of a package: what it is for, its name (also its file name), media type and bytes."""

    role: str
    name: str
    media_type: str
    data: bytes

    def __post_init__(self) -> None:
        check_payload_fields(self.role, self.name, self.media_type, len(self.data))


@dataclass(frozen=True)
class PayloadEntry:
    """A payload as the manifest lists it."""

    role: str
    name: str
    media_type: str
    length: int
    digest: str

    def verify(self, data: bytes) -> Payload:
        """The payload, if the bytes are the listed ones. Raises DigestError naming it."""
        if len(data) != self.length:
            raise DigestError(f"payload '{self.name}' has {len(data)} bytes, the manifest lists {self.length}")
        found = digest_of(data)
        if found != self.digest:
            raise DigestError(
                f"payload '{self.name}' has digest {found}, the manifest lists {self.digest}: it was changed"
            )
        return Payload(self.role, self.name, self.media_type, data)


@dataclass(frozen=True)
class Manifest:
    """The parsed manifest with the exact characters it was read from."""

    text: bytes
    card: Card
    payloads: tuple[PayloadEntry, ...]

    @property
    def digest(self) -> str:
        """The version digest: SHA-256 of the exact characters."""
        return digest_of(self.text)

    def payload(self, name: str) -> PayloadEntry:
        """One entry by name. Raises ManifestError."""
        for entry in self.payloads:
            if entry.name == name:
                return entry
        raise ManifestError(f"the manifest lists no payload '{name}', only {[e.name for e in self.payloads]}")


@dataclass(frozen=True)
class ModelPackage:
    """A whole version in memory: manifest and verified payloads."""

    manifest: Manifest
    payloads: tuple[Payload, ...]

    @property
    def card(self) -> Card:
        """The card inside the manifest."""
        return self.manifest.card

    @property
    def digest(self) -> str:
        """The version digest."""
        return self.manifest.digest

    def payload(self, name: str) -> Payload:
        """One payload by name. Raises ManifestError."""
        self.manifest.payload(name)
        return next(p for p in self.payloads if p.name == name)

    def with_role(self, role: str) -> Payload:
        """The one payload of a role. Raises ManifestError."""
        found = [p for p in self.payloads if p.role == role]
        if len(found) != 1:
            raise ManifestError(f"expected one payload of role '{role}', found {len(found)}")
        return found[0]


def build_package(card: Card, payloads: Iterable[Payload]) -> ModelPackage:
    """Card and payloads -> a package whose manifest, and so digest, depends on nothing else."""
    listed = tuple(sorted(payloads, key=lambda p: p.name))
    body = {
        "format": FORMAT,
        "card": json.loads(card.model_dump_json(exclude_defaults=False)),
        "payloads": [
            {
                "role": p.role,
                "name": p.name,
                "media_type": p.media_type,
                "length": len(p.data),
                "sha256": digest_of(p.data),
            }
            for p in listed
        ],
        "payload_sha256": digest_of(b"".join(p.data for p in listed)),
    }
    manifest = parse_manifest(canonical_json(body))
    return verified_package(manifest, {p.name: p.data for p in listed})


def parse_manifest(text: bytes) -> Manifest:
    """Stored characters -> Manifest. Raises ManifestError or CardError; only form and consistency are checked."""
    if len(text) > LARGEST_MANIFEST:
        raise ManifestError(f"the manifest has {len(text)} bytes, at most {LARGEST_MANIFEST} are read")
    try:
        body = json.loads(text.decode("ascii"), object_pairs_hook=_no_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise ManifestError(f"the manifest is not ASCII JSON: {error}") from None
    if not isinstance(body, dict) or canonical_json(body) != text:
        raise ManifestError(
            "the manifest is not canonical JSON (sorted keys, no spaces, ASCII): it was re-written on its way"
        )
    if body.get("format") != FORMAT:
        raise ManifestError(
            f"the manifest has format {body.get('format')!r}; this version of Residency reads '{FORMAT}'"
        )
    if set(body) != {"format", "card", "payloads", "payload_sha256"}:
        raise ManifestError(
            f"the manifest has the members {sorted(body)}, expected card, format, payload_sha256, payloads"
        )
    if not isinstance(body["card"], dict):
        raise ManifestError("the manifest holds no card")
    manifest = Manifest(text, parse_card(body["card"]), _entries(body["payloads"]))
    _check_roles(manifest)
    return manifest


def parse_known_manifest(text: bytes) -> Manifest:
    """What `parse_manifest` gives for characters that it accepted before, in a third of the time.

    Only for characters that this site kept with their digest; raises ManifestError where they are no manifest at all.
    """
    try:
        body = json.loads(text)
        entries = tuple(
            PayloadEntry(p["role"], p["name"], p["media_type"], p["length"], p["sha256"]) for p in body["payloads"]
        )
        return Manifest(text, Card.model_validate_json(json.dumps(body["card"])), entries)
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"a manifest that was kept is damaged: {type(error).__name__}") from None


def verified_package(manifest: Manifest, data: Mapping[str, bytes]) -> ModelPackage:
    """Manifest and bytes by payload name -> package. Raises DigestError or PackageError."""
    missing = [e.name for e in manifest.payloads if e.name not in data]
    if missing:
        raise PackageError(f"payloads missing: {', '.join(missing)}")
    payloads = tuple(entry.verify(data[entry.name]) for entry in manifest.payloads)
    whole = digest_of(b"".join(p.data for p in payloads))
    if whole != json.loads(manifest.text)["payload_sha256"]:
        raise DigestError("the whole payload has another digest than the manifest lists")
    return ModelPackage(manifest, payloads)


def check_payload_fields(role: object, name: object, media_type: object, length: object) -> None:
    """Raises PackageError where a payload's description is out of bounds. Names become file names: they are strict."""
    if role not in ROLES:
        raise PackageError(f"unknown payload role {role!r}; known: {', '.join(ROLES)}")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name or name == MANIFEST_FILE:
        raise PackageError(
            f"a payload name is 1 to 63 of a-z, 0-9, dot and dash, and not {MANIFEST_FILE}; got {name!r}"
        )
    if media_type not in MEDIA_TYPES:
        raise PackageError(f"unknown media type {media_type!r} of payload '{name}'; nothing executable is stored")
    if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= LARGEST_PAYLOAD:
        raise PackageError(f"payload '{name}' claims a length of {length!r}; 0 to {LARGEST_PAYLOAD} bytes are read")


def _entries(listed: object) -> tuple[PayloadEntry, ...]:
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_PAYLOADS:
        raise ManifestError(f"the manifest must list 1 to {MOST_PAYLOADS} payloads")
    entries = []
    for item in listed:
        if not isinstance(item, dict) or set(item) != {"role", "name", "media_type", "length", "sha256"}:
            raise ManifestError("a payload entry needs role, name, media_type, length and sha256, and nothing else")
        check_payload_fields(item["role"], item["name"], item["media_type"], item["length"])
        if not isinstance(item["sha256"], str) or not _DIGEST.fullmatch(item["sha256"]):
            raise ManifestError(f"payload '{item['name']}' has a malformed digest")
        entries.append(PayloadEntry(item["role"], item["name"], item["media_type"], item["length"], item["sha256"]))
    names = [e.name for e in entries]
    if names != sorted(set(names)):
        raise ManifestError("payload names must be unique and sorted")
    return tuple(entries)


def _check_roles(manifest: Manifest) -> None:
    if sum(e.role == "graph" for e in manifest.payloads) != 1:
        raise ManifestError("the manifest must list exactly one payload of role 'graph'")
    golden = manifest.card.golden
    images = [(name, "golden/input") for name in (golden.input, *golden.more.values())]
    for name, role in (*images, (golden.expected, "golden/expected")):
        if manifest.payload(name).role != role:
            raise ManifestError(f"the card's golden payload '{name}' does not have the role '{role}'")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ManifestError("the manifest names a member twice")
    return found


def _no_constant(name: str) -> Any:
    raise ManifestError(f"the manifest holds {name}, which is no number")
