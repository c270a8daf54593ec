"""One instance in DICOM's file format (PS3.10) as an archive sees it: its place, its header, its equal."""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import keyword_for_tag
from pydicom.uid import ExplicitVRLittleEndian

from residency.archives.elements import (
    UNDEFINED,
    Buffer,
    Element,
    Encoding,
    MalformedError,
    dictionary_vr,
    elements,
    items,
)
from residency.dicom.dataset import is_uid
from residency.errors import ArchiveError

LARGEST_INSTANCE = 2**31
"""Bytes of one instance, inflated: what DICOM's own lengths reach, and more than a ward's computer should hold."""
LARGEST_INFLATED = 2**29
"""Bytes of a deflated data set once inflated; deflate can claim a thousandfold."""
LARGEST_HEADER_VALUE = 2**20
"""Values beyond this stay out of headers."""
MOST_ROWS = 500_000
"""Rows of one answer that are taken."""

_PIXELS = 0x7FE00001
"""The first element of the group of pixel data; what follows it is no header."""
_LARGEST_TEXT = 4096
_MOST_NAMED = 5
"""Changes that a message names; a private block that is gone is some ten elements."""

_IMPLICIT = frozenset((b"1.2.840.10008.1.2", b"1.2.840.113619.5.2"))
_BIG = b"1.2.840.10008.1.2.2"
_DEFLATED = frozenset((b"1.2.840.10008.1.2.1.99",))

_CHARACTER_SET = 0x00080005
_SOP_CLASS = 0x00080016
_COLUMNS = {
    0x00080016: "sop_class",
    0x00080018: "sop_uid",
    0x00080060: "modality",
    0x00081030: "study_description",
    0x0008103E: "series_description",
    0x00100020: "patient_id",
    0x0020000D: "study_uid",
    0x0020000E: "series_uid",
    0x00700080: "content_label",
}
_UIDS = {
    "sop_class": "SOP Class UID",
    "sop_uid": "SOP Instance UID",
    "study_uid": "Study Instance UID",
    "series_uid": "Series Instance UID",
}
_TEXT_VRS = frozenset(
    (
        b"AE",
        b"AS",
        b"CS",
        b"DA",
        b"DS",
        b"DT",
        b"IS",
        b"LO",
        b"LT",
        b"PN",
        b"SH",
        b"ST",
        b"TM",
        b"UC",
        b"UI",
        b"UR",
        b"UT",
    )
)


@dataclass(frozen=True)
class Row:
    """What the index keeps of one instance."""

    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    patient_id: str = ""
    modality: str = ""
    study_description: str = ""
    series_description: str = ""
    content_label: str = ""


@dataclass(frozen=True)
class _Body:
    """The data set of a file: where it lies in its bytes, and how it is written."""

    data: Buffer
    start: int
    encoding: Encoding
    deflated: bool

    def elements(self) -> Iterator[Element]:
        return elements(self.data, self.start, len(self.data), self.encoding)


@contextmanager
def mapped(file: Path) -> Iterator[Buffer]:
    """The bytes of a file without reading those that nobody looks at."""
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_size == 0:
            yield b""
            return
        with closing(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)) as data:
            yield data


def named(uid: str) -> str:
    """A UID for a message: only if it is one, since it may come from anywhere."""
    return uid if is_uid(uid) else "an instance without a valid UID"


def read_row(data: Buffer, where: str) -> Row:
    """The place of an instance in the hierarchy; the file is walked to its end, so that a cut one is noticed.

    where  how messages call it: a file's name or a UID. Raises ArchiveError for what is no whole DICOM instance.
    """
    try:
        body = _body(data)
        values = texts_of(body.data, body.elements(), _COLUMNS)
    except MalformedError as error:
        raise ArchiveError(f"{where} is not a whole DICOM file: {error}. Send it again from its source") from None
    for name, title in _UIDS.items():
        if not is_uid(values.get(name, "")):
            raise ArchiveError(f"{where} has no valid {title}: it belongs nowhere in an archive")
    return Row(**values)


def texts_of(data: Buffer, found: Iterable[Element], columns: Mapping[int, str]) -> dict[str, str]:
    """The text of those elements whose tags have a name, by name; in the character set that stands among them."""
    raw: dict[str, bytes] = {}
    character_set = b""
    for element in found:
        if element.tag == _CHARACTER_SET:
            character_set = _value(data, element)
        elif element.tag in columns:
            raw[columns[element.tag]] = _value(data, element)
    return {name: _decode(value, character_set) for name, value in raw.items()}


def as_message(data: Buffer, where: str) -> tuple[str, str, memoryview]:
    """SOP class, transfer syntax and data set of a file, as a C-STORE carries them; a deflated one is inflated.

    Raises ArchiveError for what is no DICOM file or names no SOP class.
    """
    try:
        syntax, _ = _meta(data)
        body = _body(data)
        upper = takewhile(lambda element: element.tag <= _SOP_CLASS, body.elements())
        sop_class = texts_of(body.data, upper, {_SOP_CLASS: "sop_class"}).get("sop_class", "")
    except MalformedError as error:
        raise ArchiveError(f"{where} is not a whole DICOM file: {error}") from None
    if not is_uid(sop_class):
        raise ArchiveError(f"{where} has no valid SOP Class UID: it belongs nowhere in an archive")
    named_syntax = str(ExplicitVRLittleEndian) if body.deflated else syntax.decode("ascii", "replace")
    return sop_class, named_syntax, memoryview(body.data)[body.start :]


def header_of(data: Buffer, where: str) -> bytes:
    """The file up to its pixel data, without values beyond 1 MiB; the same transfer syntax. Raises ArchiveError."""
    try:
        body = _body(data)
        kept: list[bytes] = []
        place = start = body.start
        for element in body.elements():
            if element.tag >= _PIXELS:
                break
            place = element.end
            if element.size > LARGEST_HEADER_VALUE:
                kept.append(body.data[start : element.start])
                kept.append(_without_large_values(body.data, element))
                start = element.end
        kept.append(body.data[start:place])
        if not body.deflated:
            return b"".join((data[: body.start], *kept))
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return data[: _meta_end(data)] + packer.compress(b"".join(kept)) + packer.flush()
    except MalformedError as error:
        raise ArchiveError(f"{where} is not a whole DICOM file: {error}") from None


def up_to_pixels(beginning: bytes) -> bytes | None:
    """The file up to its pixel data, out of its first bytes; None where they end before that, or are packed."""
    try:
        body = _body(beginning)
    except MalformedError:
        return None
    place = body.start
    try:
        for element in body.elements():
            if element.tag >= _PIXELS:
                break
            place = element.end
    except MalformedError:
        if place + 4 > len(beginning):
            return None
        group, number = struct.unpack_from(body.encoding.order + "HH", beginning, place)
        if group << 16 | number < _PIXELS:
            return None
    return None if body.deflated else beginning[:place]


def same_data_set(first: Buffer, second: Buffer) -> bool:
    """Whether two files hold equal data sets: equal elements and values.

    The file meta, the encoding of lengths and VRs, group lengths, trailing padding of the set and of text do not count:
    archives change them. Pixels in another compression are another content, and so is a private sequence whose nature
    an implicit VR encoding has hidden. Two files that are no DICOM are never equal.
    """
    if len(first) == len(second) and first[:] == second[:]:
        return True
    try:
        return _digest(_body(first)) == _digest(_body(second))
    except MalformedError:
        return False


def differences(sent: Buffer, found: Buffer) -> str:
    """In what the second data set differs from the first, in words for a message: attributes, never their values."""
    try:
        first, second = _tops(sent), _tops(found)
    except MalformedError:
        return "it is no whole DICOM file any more"
    changes = _named([tag for tag in first if tag not in second], "missing")
    changes += _named([tag for tag in second if tag not in first], "added")
    for tag, (digest, value) in first.items():
        if tag in second and second[tag][0] != digest:
            other = second[tag][1]
            cut = len(other) < len(value) and value.startswith(other)
            changes.append(f"{_name(tag)} is " + (f"cut from {len(value)} to {len(other)} bytes" if cut else "changed"))
    more = len(changes) - _MOST_NAMED
    return "; ".join(changes[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _tops(data: Buffer) -> dict[int, tuple[bytes, bytes]]:
    """Tag -> digest and value of each element that counts for `same_data_set`."""
    body = _body(data)
    found: dict[int, tuple[bytes, bytes]] = {}
    for element in body.elements():
        if element.tag & 0xFFFF and element.tag != 0xFFFCFFFC:
            digest = _hash_elements(body.data, element.start, element.end, element.encoding, 0)
            found[element.tag] = digest, body.data[element.value : element.end]
    return found


def _named(tags: list[int], what: str) -> list[str]:
    """Elements of a private group together, since they come and go together."""
    private: dict[int, int] = {}
    for tag in tags:
        if tag >> 16 & 1:
            private[tag >> 16] = private.get(tag >> 16, 0) + 1
    said = [f"private elements of group {group:04X} are {what} ({count})" for group, count in private.items()]
    return said + [f"{_name(tag)} is {what}" for tag in tags if not tag >> 16 & 1]


def _name(tag: int) -> str:
    number = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return f"{'private' if tag >> 16 & 1 else keyword_for_tag(tag)} {number}".strip()


def _meta_end(data: Buffer) -> int:
    return _meta(data)[1]


def _meta(data: Buffer) -> tuple[bytes, int]:
    """The transfer syntax and the place where the data set begins."""
    if len(data) < 132 or data[128:132] != b"DICM":
        raise MalformedError("the prefix DICM at byte 128 is missing")
    syntax, place = b"", 132
    while place + 8 <= len(data) and struct.unpack_from("<H", data, place)[0] == 2:
        element = next(elements(data, place, len(data), Encoding(implicit=False)))
        if element.tag == 0x00020010:
            syntax = bytes(data[element.value : min(element.end, element.value + 65)]).rstrip(b"\0 ")
        place = element.end
    if not syntax:
        raise MalformedError("the file meta group names no transfer syntax")
    return syntax, place


def _body(data: Buffer) -> _Body:
    if len(data) > LARGEST_INSTANCE:
        raise MalformedError(f"{len(data)} bytes are more than the {LARGEST_INSTANCE} that are taken")
    syntax, start = _meta(data)
    if syntax not in _DEFLATED:
        return _Body(data, start, Encoding(implicit=syntax in _IMPLICIT, big=syntax == _BIG), deflated=False)
    return _Body(_inflate(data[start:]), 0, Encoding(implicit=False), deflated=True)


def _inflate(packed: bytes) -> bytes:
    """Inflate within bounds: a few kilobytes can claim to be terabytes."""
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        data = unpacker.decompress(packed, LARGEST_INFLATED)
    except zlib.error:
        raise MalformedError("the deflated data set cannot be inflated") from None
    if unpacker.unconsumed_tail:
        raise MalformedError(f"the data set inflates to more than the {LARGEST_INFLATED} bytes that are taken")
    if not unpacker.eof:
        raise MalformedError("the deflated data set is cut short")
    return data


def _value(data: Buffer, element: Element) -> bytes:
    return b"" if element.items else bytes(data[element.value : min(element.end, element.value + _LARGEST_TEXT)])


def _decode(value: bytes, character_set: bytes) -> str:
    """Text as its Specific Character Set says (PS3.5 6.1); what does not fit becomes a replacement character."""
    value = value.rstrip(b"\0 ").lstrip(b" ")
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    names = [name.strip() for name in character_set.decode("ascii", "replace").rstrip("\0 ").split("\\")]
    with warnings.catch_warnings():
        # pydicom warns of unknown sets and wrong bytes and then does what is wanted here.
        warnings.simplefilter("ignore")
        try:
            return decode_bytes(value, convert_encodings(names), {0x5C})
        except LookupError:
            return value.decode("ascii", "replace")


def _is_sequence(element: Element) -> bool:
    vr = element.vr or dictionary_vr(element.tag)
    return vr == b"SQ" or (element.items and element.tag < _PIXELS)


def _without_large_values(data: Buffer, element: Element, depth: int = 0) -> bytes:
    """A large element anew: b"" for a plain value; a sequence keeps its items, without the large values in them."""
    if not _is_sequence(element):
        return b""
    kept = [_opened(data, element)]
    order = element.encoding.order
    for start, end in items(data, element, depth):
        kept.append(struct.pack(order + "HHI", 0xFFFE, 0xE000, UNDEFINED))
        for inner in elements(data, start, end, element.encoding, depth):
            large = inner.size > LARGEST_HEADER_VALUE
            kept.append(_without_large_values(data, inner, depth + 1) if large else data[inner.start : inner.end])
        kept.append(struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0))
    kept.append(struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0))
    return b"".join(kept)


def _opened(data: Buffer, element: Element) -> bytes:
    """Tag, VR and an undefined length: whatever the length was, what follows will be shorter."""
    return data[element.start : element.value - 4] + struct.pack(element.encoding.order + "I", UNDEFINED)


def _digest(body: _Body) -> bytes:
    return _hash_elements(body.data, body.start, len(body.data), body.encoding, 0)


def _hash_elements(data: Buffer, start: int, end: int, encoding: Encoding, depth: int) -> bytes:
    """SHA-256 over tags and values in one canonical writing; every part goes in with its length before it."""
    whole = hashlib.sha256()
    for element in elements(data, start, end, encoding, depth):
        if element.tag & 0xFFFF == 0 or element.tag == 0xFFFCFFFC:
            continue
        vr = element.vr if element.vr not in (b"", b"UN") else dictionary_vr(element.tag)
        whole.update(struct.pack("<I", element.tag))
        if _is_sequence(element) or element.items:
            for first, last in items(data, element, depth):
                nested = element.tag < _PIXELS
                inner = (
                    _hash_elements(data, first, last, element.encoding, depth + 1)
                    if nested
                    else hashlib.sha256(data[first:last]).digest()
                )
                whole.update(b"item" + inner)
            continue
        value = data[element.value : element.end]
        if not dictionary_vr(element.tag):
            # Its VR is lost in an implicit encoding, so what is padding must not depend on it.
            value = _little(value, vr, element.encoding)
            value = value[:-1] if value.endswith((b" ", b"\0")) else value
        else:
            value = value.rstrip(b"\0 ") if vr in _TEXT_VRS else _little(value, vr, element.encoding)
        whole.update(struct.pack("<Q", len(value)))
        whole.update(value)
    return whole.digest()


_WIDTHS = dict.fromkeys((b"US", b"SS", b"OW", b"AT"), 2) | dict.fromkeys((b"UL", b"SL", b"FL", b"OF", b"OL"), 4)
_WIDTHS |= dict.fromkeys((b"FD", b"OD", b"UV", b"SV", b"OV"), 8)


def _little(value: bytes, vr: bytes, encoding: Encoding) -> bytes:
    """A binary value in little endian byte order."""
    width = _WIDTHS.get(vr, 1)
    if not encoding.big or width == 1 or len(value) % width:
        return value
    return b"".join(value[i : i + width][::-1] for i in range(0, len(value), width))
