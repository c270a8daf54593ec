"""The model object: how a package lies in DICOM instances.

One Raw Data instance (PS3.3 A.37) a part, one Encapsulated PDF that any viewer shows, and the manifest, also Raw Data,
which is stored last and without which nothing exists; statements are added later. What is ours stands in one private
block (PS3.5 7.8), found by its creator in whatever block number it comes back. UIDs are hashes of the version digest.
`model_write` makes the instances, `model_read` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from residency.dicom.uids import derived_uid, model_uid
from residency.package import PART_BYTES, Manifest, digest_of
from residency.trust import Signature, SignedStatement

RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
LIBRARY_PATIENT_ID = "RESIDENCY-MODELS"

PRIVATE_GROUP = 0x7311
PRIVATE_CREATOR = "RESIDENCY MODEL 1"
FORMAT_VERSION = "1"
CREATOR_VERSION_UID = derived_uid("creator-version", PRIVATE_CREATOR)
"""Creator-Version UID (0008,9123): names this layout, so that a reader that does not know it leaves it alone."""
IMPLEMENTATION_UID = derived_uid("implementation", "residency model object")

MANIFEST, PART, STATEMENT = "MANIFEST", "PART", "STATEMENT"
"""Content Label (0070,0080) and kind of an instance: what archives can be asked for."""

# Offsets within the private block: VR, VM and keyword as announced in the Private Data Element
# Characteristics Sequence (PS3.3 C.12.1.1.7).
# No OV, UV or SV: archives drop them from metadata. The payload is last, so that all before it can be read cheaply.
KIND, FORMAT, DIGEST, INDEX, COUNT, NAME = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
OFFSET, LENGTH, BYTES_DIGEST, TEXT, SIGNATURE, KEY_ID, BYTES = 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x10
ELEMENTS = {
    KIND: ("LO", "Kind", "ResidencyKind"),
    FORMAT: ("LO", "Format version", "ResidencyFormatVersion"),
    DIGEST: ("LO", "SHA-256 of the manifest", "ResidencyVersionDigest"),
    INDEX: ("UL", "Part index from 1", "ResidencyPartIndex"),
    COUNT: ("UL", "Number of parts", "ResidencyPartCount"),
    NAME: ("LO", "Payload name", "ResidencyPayloadName"),
    OFFSET: ("UL", "Offset in the payload", "ResidencyPartOffset"),
    LENGTH: ("UL", "True length of the bytes", "ResidencyLength"),
    BYTES_DIGEST: ("LO", "SHA-256 of the bytes", "ResidencyBytesDigest"),
    TEXT: ("UT", "Manifest or statement", "ResidencyText"),
    SIGNATURE: ("OB", "Ed25519 signature of the text", "ResidencySignature"),
    KEY_ID: ("LO", "SHA-256 of the signing key", "ResidencyKeyId"),
    BYTES: ("OB", "Bytes", "ResidencyBytes"),
}


@dataclass(frozen=True)
class PartPlan:
    """One part as the manifest implies it: index from 1 over all payloads, and the piece of which payload it holds."""

    uid: str
    index: int
    payload: str
    offset: int
    length: int


@dataclass(frozen=True)
class PartObject:
    """A part as read."""

    uid: str
    series_uid: str
    digest: str
    payload: str
    index: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class ManifestObject:
    """A manifest as read: exact characters and the signature beside them. Nothing is verified yet."""

    uid: str
    series_uid: str
    study_uid: str
    text: bytes
    signature: Signature | None

    @property
    def digest(self) -> str:
        """The version digest of these characters."""
        return digest_of(self.text)


@dataclass(frozen=True)
class StatementObject:
    """A statement as read from an archive."""

    uid: str
    series_uid: str
    signed: SignedStatement


def series_uid_of(digest: str) -> str:
    """The series of a version: parts, manifest and statements."""
    return model_uid(digest, "series")


def manifest_uid_of(digest: str) -> str:
    """The manifest instance of a version."""
    return model_uid(digest, "manifest")


def statement_uid_of(signed: SignedStatement) -> str:
    """A statement's instance: a hash of its characters, so that the same statement is stored once."""
    return model_uid(signed.statement.subject, f"statement {digest_of(signed.text)}")


def card_series_uid_of(digest: str) -> str:
    """The series of the card page."""
    return model_uid(digest, "card-series")


def plan_parts(manifest: Manifest) -> tuple[PartPlan, ...]:
    """Which parts a version has; follows from the manifest alone. Payloads in its order, cut after each PART_BYTES."""
    plans: list[PartPlan] = []
    for entry in manifest.payloads:
        for offset in range(0, max(entry.length, 1), PART_BYTES):
            index = len(plans) + 1
            length = min(PART_BYTES, entry.length - offset)
            plans.append(PartPlan(model_uid(manifest.digest, "part", index), index, entry.name, offset, length))
    return tuple(plans)


def hex_of(digest: str) -> str:
    """The 64 digits alone: "sha256:" would make a digest longer than LO's 64 characters."""
    return digest.removeprefix("sha256:")
