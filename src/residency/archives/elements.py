"""The elements of a data set as places in its bytes (DICOM PS3.5 section 7): nothing is decoded, nothing is allocated.

An archive needs to know where values lie, whether a file is whole and where the pixels begin; it reads hostile bytes.
So lengths are held against the end of the data before anything is sliced, and nesting is bounded.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from pydicom.datadict import dictionary_VR

Buffer = bytes | mmap.mmap

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
DEEPEST = 64
"""Sequences within sequences; the deepest in real use (structured reports) stay below 20."""

_LONG_FORM = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))


class MalformedError(ValueError):
    """The bytes are no data set, or not a whole one. The message holds no value out of it."""


@dataclass(frozen=True)
class Encoding:
    """How elements are written: byte order, and whether the VR stands beside the tag."""

    implicit: bool
    big: bool = False

    @property
    def order(self) -> str:
        """Byte order as `struct` names it."""
        return ">" if self.big else "<"


@dataclass(frozen=True, slots=True)
class Element:
    """One element by place: `start` of its tag, `value` of its first byte, `end` behind its last one.

    vr       b"" where the encoding does not say
    items    True if the value is a run of items closed by a delimiter (undefined length): `end` lies behind that
    encoding how its items are written
    """

    tag: int
    vr: bytes
    start: int
    value: int
    end: int
    items: bool
    encoding: Encoding

    @property
    def size(self) -> int:
        """Bytes of the value, delimiter included."""
        return self.end - self.value


@lru_cache(maxsize=4096)
def dictionary_vr(tag: int) -> bytes:
    """The VR that the data dictionary gives to a tag, or b"" for a private or unknown one."""
    try:
        return dictionary_VR(tag).split(" ")[0].encode("ascii")
    except KeyError:
        return b""


def elements(data: Buffer, start: int, end: int, encoding: Encoding, depth: int = 0) -> Iterator[Element]:
    """The elements between two places, in file order. Raises MalformedError where one does not end in time."""
    place = start
    while place < end:
        element = _element(data, place, end, encoding, depth)
        if element.tag >> 16 == 0xFFFE:
            raise MalformedError(f"an item delimiter stands at byte {place}, where an element belongs")
        yield element
        place = element.end


def items(data: Buffer, element: Element, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Start and end of what each item of a sequence, or each fragment of encapsulated pixels, holds."""
    if depth > DEEPEST:
        raise MalformedError(f"sequences are nested more than {DEEPEST} deep")
    place = element.value
    while place < element.end:
        tag, length, body = _item(data, place, element.end, element.encoding)
        if tag == SEQUENCE_END:
            return
        if length != UNDEFINED:
            yield body, body + length
            place = body + length
        else:
            inner = _end_of_open_item(data, body, element.end, element.encoding, depth + 1)
            yield body, inner
            place = inner + 8
    if element.items:
        raise MalformedError(f"the sequence at byte {element.start} has no end")


def _element(data: Buffer, place: int, end: int, encoding: Encoding, depth: int) -> Element:
    if place + 8 > end:
        raise MalformedError(f"the data end at byte {end} in the middle of an element")
    group, number = struct.unpack_from(encoding.order + "HH", data, place)
    tag, vr, value = group << 16 | number, b"", place + 8
    if not encoding.implicit:
        vr = bytes(data[place + 4 : place + 6])
        if not (vr.isalpha() and vr.isupper()):
            # Some writers fall back to implicit VR inside sequences; readers in the field follow them.
            vr, encoding = b"", replace(encoding, implicit=True)
    if encoding.implicit:
        (length,) = struct.unpack_from(encoding.order + "I", data, place + 4)
    elif vr in _LONG_FORM:
        value = place + 12
        if value > end:
            raise MalformedError(f"the data end at byte {end} in the middle of an element")
        (length,) = struct.unpack_from(encoding.order + "I", data, place + 8)
    else:
        (length,) = struct.unpack_from(encoding.order + "H", data, place + 6)
    if vr == b"UN" and length == UNDEFINED:
        encoding = Encoding(implicit=True)  # PS3.5 6.2.2: such a value is written in Implicit VR Little Endian
    if length != UNDEFINED:
        if value + length > end:
            raise MalformedError(
                f"element ({group:04X},{number:04X}) claims {length} bytes of {end - value}: the data are cut short"
            )
        return Element(tag, vr, place, value, value + length, False, encoding)
    return Element(tag, vr, place, value, _end_of_items(data, value, end, encoding, depth), True, encoding)


def _item(data: Buffer, place: int, end: int, encoding: Encoding) -> tuple[int, int, int]:
    """Tag, length and first byte behind the header of the item at a place."""
    if place + 8 > end:
        raise MalformedError(f"the data end at byte {end} inside a sequence")
    group, number, length = struct.unpack_from(encoding.order + "HHI", data, place)
    tag = group << 16 | number
    if tag not in (ITEM, SEQUENCE_END):
        raise MalformedError(f"no item begins at byte {place} of a sequence")
    if tag == ITEM and length != UNDEFINED and place + 8 + length > end:
        raise MalformedError(f"the item at byte {place} claims {length} bytes: the data are cut short")
    return tag, length, place + 8


def _end_of_items(data: Buffer, place: int, end: int, encoding: Encoding, depth: int) -> int:
    """The place behind the sequence delimiter of a value of undefined length."""
    if depth >= DEEPEST:
        raise MalformedError(f"sequences are nested more than {DEEPEST} deep")
    while True:
        tag, length, body = _item(data, place, end, encoding)
        if tag == SEQUENCE_END:
            return body
        open_item = length == UNDEFINED
        place = _end_of_open_item(data, body, end, encoding, depth + 1) + 8 if open_item else body + length


def _end_of_open_item(data: Buffer, place: int, end: int, encoding: Encoding, depth: int) -> int:
    """Where the item delimiter stands that closes an item of undefined length."""
    while True:
        if place + 8 > end:
            raise MalformedError(f"the data end at byte {end} inside an item")
        group, number = struct.unpack_from(encoding.order + "HH", data, place)
        if group << 16 | number == ITEM_END:
            return place
        place = _element(data, place, end, encoding, depth).end
