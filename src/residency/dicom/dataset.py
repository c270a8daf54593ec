"""Bytes to pydicom datasets, and the only way in which the rest of this room looks into one.

What arrives is hostile until parsed: nothing is allocated by a number from a header, every failure is an InputError
that names the instance by its SOP Instance UID and the attribute by its keyword, and no message repeats a value that
might tell who the patient is.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pydicom.config
from pydantic import ValidationError
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from residency.codes import Code
from residency.errors import InputError, PixelError

# pydicom's own remarks quote values, which may be a patient's. What matters of them is checked here and told by errors.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, double float and integer Pixel Data."""

MAX_INFLATED_BYTES = 512 * 1024 * 1024
"""Largest data set that a deflated instance may unpack to; a deflate stream can grow a thousandfold."""

MAX_TEXT = 1024
"""Characters of a text value that are kept. LO holds 64; what is longer is a description that nobody matches on."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_META_START = 132


@contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom's warnings, which quote values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse(data: bytes, *, pixels: bool = True) -> Dataset:
    """One instance from its bytes in DICOM's file format (PS3.10 section 7).

    pixels  False leaves Pixel Data and what follows out, as for headers

    Text is decoded by the instance's Specific Character Set (without one, as Latin-1) when it is looked at.
    Raises InputError for what is not DICOM's file format, does not say its transfer syntax or is cut short.
    """
    if data[128:_META_START] != b"DICM":
        raise InputError("not a DICOM file: no 'DICM' at byte 128. Send instances in DICOM's file format (PS3.10)")
    with quiet():
        meta, body = _file_meta(data)
        syntax = text(meta, "TransferSyntaxUID")
        if not is_uid(syntax):
            raise InputError("a DICOM file without Transfer Syntax UID cannot be read; export it again")
        if syntax == DeflatedExplicitVRLittleEndian:
            body = BytesIO(_inflate(body.read()))
        try:
            found = read_dataset(
                body,
                syntax == ImplicitVRLittleEndian,
                syntax != ExplicitVRBigEndian,
                stop_when=None if pixels else _at_pixels,
            )
        except (
            Exception
        ) as error:  # whatever hostile bytes make pydicom raise: ValueError, KeyError, RecursionError ...
            raise InputError(f"the data set cannot be parsed ({type(error).__name__}); export it again") from None
    found.file_meta = meta
    _check_complete(found)
    return found


def _file_meta(data: bytes) -> tuple[FileMetaDataset, BytesIO]:
    """The file meta group and the stream after it."""
    stream = BytesIO(data)
    stream.seek(_META_START)
    try:
        group = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
        return FileMetaDataset(group), stream
    except Exception as error:  # as in parse
        raise InputError(f"the file meta group cannot be parsed ({type(error).__name__}); export it again") from None


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in PIXEL_TAGS


def _inflate(packed: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = stream.decompress(packed, MAX_INFLATED_BYTES)
    except zlib.error:
        raise InputError("the deflated data set is damaged; export it again") from None
    if stream.unconsumed_tail:
        raise InputError(f"the deflated data set unpacks to more than {MAX_INFLATED_BYTES} bytes; send it uncompressed")
    return unpacked


def _check_complete(dataset: Dataset) -> None:
    """The last element must hold as many bytes as it announces: pydicom reads what is left of a cut file."""
    last = next(reversed(list(dataset.keys())), None)
    if last is None:
        raise InputError(f"instance {sop_uid(dataset)} is empty, or cut short within its pixels. Send it again")
    raw = dataset.get_item(last, keep_deferred=True)
    value, length = getattr(raw, "value", None), getattr(raw, "length", None)
    if isinstance(value, bytes) and isinstance(length, int) and length != 0xFFFFFFFF and len(value) < length:
        raise (PixelError if last in PIXEL_TAGS else InputError)(
            f"instance {sop_uid(dataset)} is cut short: element {last} announces {length} bytes, "
            f"{len(value)} are there. Send it again"
        )


def transfer_syntax(dataset: Dataset) -> str:
    """The transfer syntax UID that the instance came in."""
    return text(dataset.file_meta, "TransferSyntaxUID")


def pixel_bytes(dataset: Dataset, keyword: str = "PixelData") -> bytes:
    """The value of Pixel Data (or of its float kin) as it stands, encapsulated or not. Raises PixelError without it."""
    found = value_of(dataset, keyword)
    if not isinstance(found, bytes) or not found:
        what = "Pixel Data are empty" if keyword in dataset else "no Pixel Data"
        raise PixelError(f"instance {sop_uid(dataset)}: {what}; it holds no image that can be read")
    return found


def sop_uid(dataset: Dataset) -> str:
    """The SOP Instance UID for messages and references; words where it is missing or no UID."""
    found = text(dataset, "SOPInstanceUID")
    if not found and hasattr(dataset, "file_meta"):
        found = text(dataset.file_meta, "MediaStorageSOPInstanceUID")
    return found if is_uid(found) else "(no valid SOP Instance UID)"


def is_uid(value: str) -> bool:
    """True for what can be a UID: digits and dots, at most 64 characters (PS3.5 9.1; leading zeros are let pass)."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value as pydicom gives it, None where the attribute is absent or empty.

    Raises InputError, naming the attribute, where the bytes are not of its value representation.
    """
    tag = tag_for_keyword(keyword)
    if tag is None or BaseTag(tag) not in dataset:  # most are absent, and to be quiet costs time
        return None
    try:
        with quiet():
            found = dataset.get(keyword)
    except Exception:  # whatever pydicom's converters raise for hostile bytes
        # Asked for by the SOP Instance UID itself, its reading must not be tried again for the message.
        known = keyword not in ("SOPInstanceUID", "MediaStorageSOPInstanceUID")
        where = f"instance {sop_uid(dataset)}" if known else "an instance"
        raise InputError(f"{where}: {keyword} cannot be read; correct it at the source") from None
    return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All values as text, control characters taken out; () where absent, empty or unreadable.

    Unreadable text counts as absent, so that a broken remark does not stop a good image; numbers are not so forgiven.
    """
    try:
        found = value_of(dataset, keyword)
    except InputError:
        return ()
    if found is None:
        return ()
    many = found if isinstance(found, (list, tuple)) or type(found).__name__ == "MultiValue" else [found]
    return tuple(clean(str(value)) for value in many)


def text(dataset: Dataset, keyword: str) -> str:
    """The value as text, several joined by a backslash; "" where absent, empty or unreadable."""
    return "\\".join(texts(dataset, keyword))[:MAX_TEXT]


def lines(dataset: Dataset, keyword: str, limit: int = 100_000) -> tuple[str, ...]:
    """The lines of a long text (LT, ST, UT), control characters taken out; () where absent, empty or unreadable."""
    try:
        found = value_of(dataset, keyword)
    except InputError:
        return ()
    return () if found is None else tuple(clean(line) for line in str(found)[:limit].splitlines() if line.strip())


def clean(raw: str) -> str:
    """Text fit for a terminal and a page: no control characters, no padding, a bounded length."""
    return "".join(c for c in raw[:MAX_TEXT] if unicodedata.category(c) not in ("Cc", "Cf", "Cs")).strip()


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers; None where the attribute is absent or empty.

    Raises InputError where they are malformed, not finite or of another count.
    """
    found = value_of(dataset, keyword)
    if found is None:
        return None
    many = list(found) if hasattr(found, "__iter__") and not isinstance(found, str) else [found]
    try:
        values = tuple(float(value) for value in many)
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(
            f"instance {sop_uid(dataset)}: {keyword} must be {count} finite number{'s' if count > 1 else ''}; "
            "correct it at the source"
        )
    return values


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number; None where absent or empty. Raises InputError as `numbers` does."""
    found = numbers(dataset, keyword, 1)
    return None if found is None else found[0]


def integer(dataset: Dataset, keyword: str) -> int | None:
    """One whole number; None where absent or empty. Raises InputError as `numbers` does."""
    found = number(dataset, keyword)
    if found is not None and found != int(found):
        raise InputError(f"instance {sop_uid(dataset)}: {keyword} must be a whole number; correct it at the source")
    return None if found is None else int(found)


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; () where absent, empty or unreadable."""
    try:
        found = value_of(dataset, keyword)
    except InputError:
        return ()
    return tuple(found) if found is not None and all(isinstance(item, Dataset) for item in found) else ()


def code_of(item: Dataset) -> Code | None:
    """The code of one item of a code sequence (PS3.3 table 8.8-1); None where it breaks the rules of codes."""
    value = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
    scheme = text(item, "CodingSchemeDesignator") or ("URN" if text(item, "URNCodeValue") else "")
    try:
        return Code(scheme=scheme, value=value, meaning=text(item, "CodeMeaning")[:64] or value)
    except ValidationError:
        return None


def codes(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    """The well-formed codes of a code sequence, as they stand."""
    return tuple(code for code in map(code_of, items(dataset, keyword)) if code is not None)


def private_creators(dataset: Dataset) -> frozenset[str]:
    """Names of all private blocks at the top level of the data set."""
    found = set()
    for tag in list(dataset.keys()):
        if tag.is_private_creator:
            raw = getattr(dataset.get_item(tag, keep_deferred=True), "value", None)
            found.add(clean(raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)))
    return frozenset(found)
