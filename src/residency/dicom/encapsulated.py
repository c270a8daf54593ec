"""Where each frame lies in encapsulated Pixel Data (DICOM PS3.5 A.4): plain bytes in, slices of them out.

Items are followed by their lengths, never searched for: a compressed stream may hold any bytes, those of a delimiter
too. Nothing is copied or allocated by a number from the data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from residency.errors import PixelError

_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"

_STARTS = (b"\xff\xd8", b"\xff\x4f")
"""What a JPEG or JPEG-LS stream (SOI) and a JPEG 2000 stream (SOC) begin with."""

_END = b"\xff\xd9"
"""EOI and EOC, with which they end."""

Span = slice
"""Part of Pixel Data, by offset."""


def items(data: bytes, uid: str) -> tuple[Span, ...]:
    """The values of all items, the Basic Offset Table first. Raises PixelError where one ends beyond the data."""
    found: list[Span] = []
    at = 0
    while at + 8 <= len(data):
        tag, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if tag == _DELIMITER:
            break
        if tag != _ITEM:
            raise PixelError(f"instance {uid}: Pixel Data are not the items of a compressed image. Send it again")
        if length > len(data) - at - 8:
            raise PixelError(
                f"instance {uid}: Pixel Data are cut short: an item announces {length} bytes, "
                f"{len(data) - at - 8} are there. Send it again"
            )
        found.append(slice(at + 8, at + 8 + length))
        at += 8 + length
    if len(found) < 2:
        raise PixelError(f"instance {uid}: Pixel Data hold no compressed image; it holds no image that can be read")
    return tuple(found)


def frames(
    data: bytes, count: int, uid: str, extended: tuple[bytes, bytes] | None = None
) -> tuple[tuple[tuple[Span, ...], ...], tuple[str, ...]]:
    """The fragments of each of `count` frames, in their order, and what had to be done to find them.

    extended  values of Extended Offset Table and Extended Offset Table Lengths, where the instance has them

    As many fragments as frames leave no choice (a frame has at least one); then a table that says otherwise is not
    heeded. More fragments than frames are told apart by a table or, without one, by where streams end and begin.
    Raises PixelError where that gives another number of frames.
    """
    table, *fragments = items(data, uid)
    if len(fragments) < count:
        raise PixelError(
            f"instance {uid}: {count} frames are announced, Pixel Data hold {len(fragments)} fragments. Send it again"
        )
    offsets = _offsets(data[table], extended)
    starts = {span.start - fragments[0].start: k for k, span in enumerate(fragments)}
    if len(fragments) == count:
        wrong = offsets and list(offsets) != list(starts)
        notes = ("offset table contradicts the fragments: not used",) if wrong else ()
        return tuple((_shortened(span, k, offsets, extended),) for k, span in enumerate(fragments)), notes
    if count == 1:
        return (tuple(fragments),), ()
    first = [starts.get(offset, -1) for offset in offsets] if offsets else _stream_starts(data, fragments)
    if len(first) != count or first[0] != 0 or any(b <= a for a, b in pairwise(first)):
        how = "its offset table does not" if offsets else "the compressed streams do not"
        raise PixelError(
            f"instance {uid}: {len(fragments)} fragments hold {count} frames, and {how} tell which. Send single frames"
        )
    return tuple(tuple(fragments[a:b]) for a, b in pairwise([*first, len(fragments)])), ()


def _offsets(basic: bytes, extended: tuple[bytes, bytes] | None) -> tuple[int, ...]:
    """Where frames begin, from the first byte of the first fragment's item on; () without a table."""
    if extended is not None:
        return struct.unpack(f"<{len(extended[0]) // 8}Q", extended[0][: len(extended[0]) // 8 * 8])
    return struct.unpack(f"<{len(basic) // 4}L", basic[: len(basic) // 4 * 4])


def _shortened(span: Span, k: int, offsets: Sequence[int], extended: tuple[bytes, bytes] | None) -> Span:
    """A fragment without its padding, where the extended table tells its true length."""
    if extended is None or len(extended[1]) != 8 * len(offsets):
        return span
    length = int.from_bytes(extended[1][8 * k : 8 * k + 8], "little")
    return slice(span.start, span.start + length) if span.stop - span.start - length in (0, 1) else span


def _stream_starts(data: bytes, fragments: Sequence[Span]) -> list[int]:
    """Fragments with which a stream begins after another has ended (a byte of padding may follow the end)."""
    found, tail = [0], b""
    for k, span in enumerate(fragments):
        ended = tail.rstrip(b"\x00").endswith(_END)
        if k and ended and data[span.start : span.start + 2] in _STARTS:
            found.append(k)
        tail = (tail + data[max(span.start, span.stop - 3) : span.stop])[-3:]
    return found
