"""The DICOM JSON model (PS3.18 Annex F): objects out of a stream, and one object as a data set in DICOM's file format.

Numbers stay the characters that came, so that 0.1 is not first rounded to a binary fraction and then written again.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydicom.valuerep import format_number_as_ds

from residency.errors import AnswerError

LARGEST_OBJECT = 32 * 2**20
"""Characters of one row or header; the functional groups of 2,000 frames reach some 10 million."""
LARGEST_ANSWER = 2**30
"""Characters of all of them together; they are read one by one."""

_DEEPEST = 64
_PIXELS = 0x7FE00001
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_TEXT = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_UTF8 = "ISO_IR 192"

Json = Mapping[str, Any]


class Number(str):
    """A number as it was written."""

    __slots__ = ()


def objects(chunks: Iterable[bytes]) -> Iterator[Json]:
    """The objects of an array, one after the other; a single object counts as an array of one, nothing as none.

    Raises AnswerError for what is no such JSON, or beyond the bounds.
    """
    decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number)
    text = _Text(chunks)
    first = text.next_character()
    if first == "":
        return
    if first not in "[{":
        raise AnswerError("the archive's answer is no JSON of DICOM: is this the address of its DICOMweb service?")
    if first == "{":
        yield _object(text.value(decoder))
        return
    text.take()
    if text.next_character() == "]":
        return
    while True:
        yield _object(text.value(decoder))
        following = text.next_character()
        if following not in (",", "]"):
            raise _malformed()
        text.take()
        if following == "]":
            return


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise _malformed()
    return value


def _malformed() -> AnswerError:
    return AnswerError("the archive's answer is malformed JSON, or cut short", retry=True)


class _Text:
    """JSON text as it comes; one value of it is held."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._held = ""
        self._place = 0
        self._total = 0

    def next_character(self) -> str:
        """The next one that is no blank, not yet taken; "" at the end."""
        while True:
            while self._place < len(self._held):
                character = self._held[self._place]
                if character not in " \t\r\n":
                    return character
                self._place += 1
            self._held, self._place = self._next(), 0
            if not self._held:
                return ""

    def take(self) -> None:
        """Pass over it."""
        self._place += 1

    def value(self, decoder: json.JSONDecoder) -> object:
        """The value that begins at the next character."""
        if not self.next_character():
            raise _malformed()
        while True:
            try:
                value, self._place = decoder.raw_decode(self._held, self._place)
            except RecursionError:
                raise _malformed() from None
            except ValueError:
                self._double()
            else:
                return value

    def _double(self) -> None:
        """Hold twice as much before the next try, so that a value is parsed a few times and not once a chunk."""
        gathered = [self._held[self._place :]]
        size = len(gathered[0])
        if size > LARGEST_OBJECT:
            raise AnswerError(f"one row of the archive's answer exceeds {LARGEST_OBJECT} characters, or is malformed")
        wanted = min(2 * size, LARGEST_OBJECT + 1)
        while size < wanted:
            text = self._next()
            if not text:
                raise _malformed()
            gathered.append(text)
            size += len(text)
        self._held, self._place = "".join(gathered), 0

    def _next(self) -> str:
        """What came next, "" at the end."""
        for chunk in self._chunks:
            try:
                text = self._decode(chunk)
            except UnicodeDecodeError:
                raise _malformed() from None
            self._total += len(text)
            if self._total > LARGEST_ANSWER:
                raise AnswerError(f"the archive's answer exceeds {LARGEST_ANSWER} characters: ask for less at a time")
            if text:
                return text
        return ""


def values_of(row: Json, tag: str) -> list[object]:
    """The values of an attribute, none where it has none."""
    element = row.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def text_of(row: Json, tag: str) -> str:
    """The first value of an attribute as text, "" where it has none."""
    first = next(iter(values_of(row, tag)), "")
    # JSON can name halves of surrogate pairs, which no text that is shown or written may hold.
    return first.strip().encode("utf-8", "replace").decode("utf-8") if isinstance(first, str) else ""


def items_of(row: Json, tag: str) -> list[Json]:
    """The items of a sequence."""
    return [item for item in values_of(row, tag) if isinstance(item, dict)]


def bulk(header: Json, before: int = _PIXELS) -> Iterator[tuple[str, dict[str, Any]]]:
    """Binary values that are not in the JSON but behind a URI, up to pixel data and within sequences: tag, element."""
    for tag, element in _elements(header, 0):
        if int(tag, 16) >= before:
            continue
        vr = element.get("vr")
        if vr == "SQ":
            for item in items_of(header, tag):
                yield from bulk(item, before=0xFFFFFFFF)
        elif "BulkDataURI" in element or (vr in _BINARY and "Value" in element):
            yield tag, element


def encode(header: Json) -> bytes:
    """The header as a file: Explicit VR Little Endian, without pixel data and what stands behind a URI.

    Text is written in UTF-8 and said to be so where it needs it, whatever its character set was. Raises AnswerError.
    """
    try:
        ascii_only = _is_ascii(header)
        body = _data_set(header, ascii_only, 0)
    except (KeyError, ValueError, TypeError, struct.error, OverflowError, RecursionError):
        raise AnswerError("the archive's JSON holds a value that its VR does not allow") from None
    meta = b"".join((
        _element(0x00020001, "OB", b"\0\1"),
        _element(0x00020002, "UI", text_of(header, "00080016").encode("ascii", "replace")),
        _element(0x00020003, "UI", text_of(header, "00080018").encode("ascii", "replace")),
        _element(0x00020010, "UI", b"1.2.840.10008.1.2.1"),
    ))  # fmt: skip
    return bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + body


def _elements(header: Json, depth: int) -> list[tuple[str, dict[str, Any]]]:
    if depth > _DEEPEST:
        raise AnswerError(f"the archive's JSON nests sequences more than {_DEEPEST} deep")
    found = [(tag, element) for tag, element in header.items() if _TAG.fullmatch(tag) and isinstance(element, dict)]
    if not all(isinstance(element.get("vr"), str) for _, element in found):
        raise AnswerError("the archive's JSON has an element without a VR")
    return sorted(found, key=lambda pair: pair[0].upper())


def _is_ascii(header: Json) -> bool:
    return json.dumps(header, ensure_ascii=False).isascii()


def _data_set(header: Json, ascii_only: bool, depth: int) -> bytes:
    written: list[bytes] = []
    if not ascii_only and depth == 0:
        header = {**header, "00080005": {"vr": "CS", "Value": [_UTF8]}}
    for name, element in _elements(header, depth):
        tag, vr = int(name, 16), element["vr"]
        if tag >> 16 <= 2 or (depth == 0 and tag >= _PIXELS) or tag & 0xFFFF == 0:
            continue
        if not ascii_only and depth and tag == 0x00080005:
            continue
        if "BulkDataURI" in element or (vr in _BINARY and "Value" in element):
            continue
        written.append(_element(tag, vr, _value(element, vr, ascii_only, depth)))
    return b"".join(written)


def _value(element: dict[str, Any], vr: str, ascii_only: bool, depth: int) -> bytes:
    if vr in _BINARY or "InlineBinary" in element:
        return _unpacked(element.get("InlineBinary", ""))
    values = element.get("Value") or []
    if not isinstance(values, list):
        raise TypeError
    if vr == "SQ":
        items = [_data_set(_item(value), ascii_only, depth + 1) for value in values]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(v[:4], 16), int(v[4:], 16)) for v in values)
    if vr in _NUMBERS:
        wanted = float if vr in ("FL", "FD") else int
        return struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *(wanted(v) for v in values))
    if vr not in _TEXT:
        raise ValueError
    return "\\".join(_text(value, vr) for value in values).encode("utf-8")


def _item(value: object) -> Json:
    if value is not None and not isinstance(value, dict):
        raise TypeError
    return value or {}


def _text(value: object, vr: str) -> str:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        groups = (str(value.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(groups).rstrip("=")
    if not isinstance(value, str):
        raise TypeError
    if vr == "IS" and isinstance(value, Number) and not value.lstrip("+-").isdigit():
        return str(int(float(value)))
    if vr == "DS" and len(value) > 16:
        return str(format_number_as_ds(float(value)))
    return value


def _unpacked(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError from None


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode("ascii")
    if vr in _LONG:
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value
