"""Instances of the model object -> parts, manifests, statements (see `model_object`).

Values are taken from raw bytes whatever VR they come back with: Implicit VR Little Endian turns every private value
into UN. Everything here comes from an archive that others can write to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from residency.card import Card
from residency.dicom import dataset as datasets
from residency.dicom.model_object import (
    BYTES,
    BYTES_DIGEST,
    CREATOR_VERSION_UID,
    DIGEST,
    ELEMENTS,
    FORMAT,
    FORMAT_VERSION,
    INDEX,
    KEY_ID,
    KIND,
    LENGTH,
    LIBRARY_PATIENT_ID,
    MANIFEST,
    NAME,
    OFFSET,
    PART,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    SIGNATURE,
    STATEMENT,
    TEXT,
    ManifestObject,
    PartObject,
    StatementObject,
    hex_of,
    manifest_uid_of,
    series_uid_of,
)
from residency.dicom.uids import family_study_uid
from residency.errors import DigestError, InputError, ManifestError, MisplacedError, StrippedError
from residency.package import LARGEST_MANIFEST, PART_BYTES, digest_of
from residency.trust import Signature, parse_statement

_LONGEST_TEXT = 80
"""LO holds 64 characters; all our short texts fit."""


def decode(data: bytes) -> PartObject | ManifestObject | StatementObject:
    """Read one of our Raw Data instances, in whatever transfer syntax and private block it comes back.

    Raises StrippedError where it was ours and lost its private block, ManifestError where it is none of ours or
    malformed, DigestError where a part's bytes differ from its own digest. Signatures, and whether parts belong to the
    manifest, are not judged here.
    """
    with datasets.quiet():
        uids, block = _opened(data)
    kind = _text(block, KIND)
    if _text(block, FORMAT) != FORMAT_VERSION:
        raise ManifestError(
            f"{uids.instance}: layout version {_text(block, FORMAT)!r} is unknown, '{FORMAT_VERSION}' is read"
        )
    if kind == PART:
        return _part(uids, block)
    if kind not in (MANIFEST, STATEMENT):
        raise ManifestError(f"{uids.instance}: unknown kind {kind!r} of a model's instance")
    text, signature = _long_text(block, uids.instance), _signature(block, uids.instance)
    if kind == MANIFEST:
        return ManifestObject(uids.instance, uids.series, uids.study, text, signature)
    if signature is None:
        raise ManifestError(f"{uids.instance}: a statement without a signature says nothing")
    return StatementObject(uids.instance, uids.series, parse_statement(text, signature))


def check_place(found: ManifestObject, card: Card) -> None:
    """Raises MisplacedError unless the manifest lies under the UIDs that its own characters demand.

    So an older manifest put in place of a newer one, a second manifest in a series, and a manifest over another
    model's parts are all found without comparing anything to what was there before.
    """
    expected = (
        ("SOP Instance", manifest_uid_of(found.digest), found.uid),
        ("Series Instance", series_uid_of(found.digest), found.series_uid),
        ("Study Instance", family_study_uid(card.identity.publisher.id, card.identity.family), found.study_uid),
    )
    for what, demanded, there in expected:
        if demanded != there:
            raise MisplacedError(
                f"the manifest of {found.digest} lies under {what} UID {there}, its digest demands {demanded}: "
                "it was moved, replayed or its UIDs were changed on the way; publish it again"
            )


@dataclass(frozen=True)
class _Uids:
    instance: str
    series: str
    study: str


def _opened(data: bytes) -> tuple[_Uids, dict[int, Any]]:
    """UIDs, and the values of our private block by their offset, wherever an archive put the block."""
    try:
        ds = datasets.parse(data)
        found = [datasets.text(ds, f"{level}InstanceUID") for level in ("SOP", "Series", "Study")]
        group = [(item.tag.element, item.value) for item in ds.group_dataset(PRIVATE_GROUP)]
    except InputError as error:
        raise ManifestError(f"an instance of a model cannot be read: {error}") from None
    except Exception as error:  # values are converted when looked at; hostile ones make pydicom raise many kinds
        raise ManifestError(f"an instance of a model is no readable DICOM: {type(error).__name__}") from None
    if not all(datasets.is_uid(uid) for uid in found):
        raise ManifestError("an instance of a model has no valid instance, series or study UID")
    uids = _Uids(*found)
    for number, value in group:
        if 0x10 <= number <= 0xFF and _plain_text(value) == PRIVATE_CREATOR:
            first = number << 8
            return uids, {element - first: held for element, held in group if first <= element <= first + 0xFF}
    if _names_us(ds):
        raise StrippedError(
            f"{uids.instance}: private block missing: stripped or anonymised in transit; publish the model again, "
            "past whatever de-identifies"
        )
    raise ManifestError(f"{uids.instance} is no instance of a model: it has no block of {PRIVATE_CREATOR!r}")


def _names_us(ds: Dataset) -> bool:
    """Whether an instance without our block was one of ours; archives that strip a block leave the one or the other."""
    announced = datasets.items(ds, "PrivateDataElementCharacteristicsSequence")
    return (
        datasets.text(ds, "CreatorVersionUID") == CREATOR_VERSION_UID
        or datasets.text(ds, "PatientID") == LIBRARY_PATIENT_ID
        or any(datasets.text(item, "PrivateCreatorReference") == PRIVATE_CREATOR for item in announced)
    )


def _part(uids: _Uids, block: dict[int, Any]) -> PartObject:
    uid = uids.instance
    length = _number(block, LENGTH, uid)
    stored = _raw(block, BYTES, uid)
    if length > PART_BYTES or not length <= len(stored) <= length + 1:
        raise DigestError(f"part {uid} holds {len(stored)} bytes and claims {length}: it was cut or padded on the way")
    data = stored[:length]
    if hex_of(digest_of(data)) != _text(block, BYTES_DIGEST):
        raise DigestError(f"part {uid} differs from its own digest: its bytes were changed")
    return PartObject(
        uid=uid,
        series_uid=uids.series,
        digest="sha256:" + _text(block, DIGEST),
        payload=_text(block, NAME),
        index=_number(block, INDEX, uid),
        offset=_number(block, OFFSET, uid),
        data=data,
    )


def _plain_text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", errors="replace").rstrip(" \0")
    return str(value).rstrip(" \0")


def _text(block: dict[int, Any], at: int) -> str:
    """A short text; it goes into messages, so it is cut and printable."""
    text = _plain_text(block.get(at, ""))
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_TEXT])


def _raw(block: dict[int, Any], at: int, uid: str) -> bytes:
    value = block.get(at)
    if value is None and at in block:
        return b""  # present without a value
    if not isinstance(value, bytes):
        raise ManifestError(f"{uid}: payload missing: {ELEMENTS[at][1]!r} was removed on the way")
    return value


def _number(block: dict[int, Any], at: int, uid: str) -> int:
    value = block.get(at)
    if isinstance(value, bytes) and len(value) == 4:
        return int.from_bytes(value, "little")
    if isinstance(value, int):
        return value
    raise ManifestError(f"{uid}: {ELEMENTS[at][1]!r} is missing or no number")


def _long_text(block: dict[int, Any], uid: str) -> bytes:
    length = _number(block, LENGTH, uid)
    value = block.get(TEXT)
    stored = value if isinstance(value, bytes) else str(value or "").encode("ascii", errors="replace")
    if length > LARGEST_MANIFEST or len(stored) > LARGEST_MANIFEST + 1:
        raise ManifestError(f"{uid}: the text claims {length} bytes, at most {LARGEST_MANIFEST} are read")
    if not stored:
        raise ManifestError(f"{uid}: payload missing: the text was removed on the way")
    text = stored.rstrip(b" \0")
    if len(text) != length:
        raise ManifestError(f"{uid}: the text has {len(text)} characters and claims {length}: it was changed")
    return text


def _signature(block: dict[int, Any], uid: str) -> Signature | None:
    value = block.get(SIGNATURE)
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) != 64:
        raise ManifestError(f"{uid}: the signature is not 64 bytes long")
    return Signature("sha256:" + _text(block, KEY_ID), value)
