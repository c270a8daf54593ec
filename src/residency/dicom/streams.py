"""What a compressed stream says of itself, read before any decoder sees it.

A decoder allocates and computes by these numbers, so they must be those of the data set. Only the headers are read,
strictly: what a decoder might understand in another way is refused here. Sources: ITU-T T.81 (JPEG), T.87 (JPEG-LS),
T.800 (JPEG 2000) and T.814 (HTJ2K); DICOM PS3.5 annex G (RLE).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from residency.errors import PixelError

MAX_TILES = 4096
"""Tiles of a JPEG 2000 image. Decoders keep books for each; images of patients have one, or some dozens."""

_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
_SOI, _EOI, _SOS, _DNL, _RESTART = 0xD8, 0xD9, 0xDA, 0xDC, range(0xD0, 0xD8)
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {0xC4, 0xC8, 0xCC}
"""Markers SOF: all but DHT, JPG and DAC."""

_OVERSIZE, _MAPPING = 4, (2, 3)
"""Kinds of JPEG-LS preset parameters that say another size, or that samples are indices."""


@dataclass(frozen=True)
class StreamHeader:
    """signed: what JPEG 2000 says of its samples; None where the stream cannot say. transformed: colour is YCbCr."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool | None = None
    transformed: bool | None = None


def jpeg_header(stream: bytes, processes: frozenset[int], *, first_order: bool = False) -> StreamHeader:
    """The frame header of a JPEG or JPEG-LS stream.

    processes    SOF markers that the transfer syntax allows
    first_order  True if lossless prediction must be selection value 1 (PS3.5 A.4.1)

    Raises PixelError for what is no such stream.
    """
    if stream[:2] != b"\xff\xd8":
        raise PixelError("the stream does not begin as JPEG does")
    found: StreamHeader | None = None
    process, adobe, jfif, at = 0, None, False, 2
    while True:
        while stream[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        marker, length = stream[at + 1 : at + 2], int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at : at + 1] != b"\xff" or not marker or length < 2 or at + 2 + length > len(stream):
            raise PixelError("the stream's headers are damaged")
        code, body = marker[0], stream[at + 4 : at + 2 + length]
        at += 2 + length
        if code == _SOS:
            break
        if code in _FRAMES:
            if found is not None or code not in processes:
                raise PixelError(
                    f"the stream is JPEG process SOF{code - 0xC0}, which its transfer syntax does not hold"
                )
            process, found = code, _frame_header(body)
        elif code == 0xF8 and body[:1] and (body[0] == _OVERSIZE or body[0] in _MAPPING):
            raise PixelError("the stream is JPEG-LS of a kind that is not read (mapping table or oversize)")
        elif code == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif code == 0xE0 and body[:5] == b"JFIF\x00":
            jfif = True
        elif code in (_SOI, _EOI, _DNL, 0x01) or code in _RESTART:
            raise PixelError("the stream's headers are damaged")
    if found is None:
        raise PixelError("the stream has no frame header")
    _check_scan(body, process, found.samples, first_order=first_order)
    transformed = adobe != 0 if adobe is not None else True if jfif else None
    return StreamHeader(found.rows, found.columns, found.samples, found.precision, transformed=transformed)


def _frame_header(body: bytes) -> StreamHeader:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise PixelError("the stream's frame header is damaged")
    return StreamHeader(int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5], body[0])


def _check_scan(body: bytes, process: int, samples: int, *, first_order: bool) -> None:
    """The parameters of the first scan must be possible for the process: decoders go on with others, and guess."""
    if not body or len(body) != 4 + 2 * body[0] or not 1 <= body[0] <= samples:
        raise PixelError("the stream's scan header is damaged")
    first, last, approximation = body[-3], body[-2], body[-1]
    if process in (_BASELINE, _EXTENDED) and (first, last, approximation) != (0, 63, 0):
        raise PixelError("the stream's scan parameters are impossible for sequential JPEG")
    if process == _LOSSLESS and (not 1 <= first <= 7 or last != 0 or approximation != 0):
        raise PixelError("the stream's scan parameters are impossible for lossless JPEG, or drop bits")
    if process == _LOSSLESS and first_order and first != 1:
        raise PixelError(f"the stream predicts by selection value {first}; its transfer syntax demands 1")
    if process == _JPEG_LS and (last > 2 or approximation != 0):
        raise PixelError("the stream's scan parameters are impossible for JPEG-LS, or drop bits")


def jpeg2000_header(stream: bytes, *, high_throughput: bool) -> StreamHeader:
    """Image and tile size (SIZ) of a JPEG 2000 code stream, which must be bare: no JP2 boxes (PS3.5 A.4.4).

    high_throughput  the transfer syntax is one of HTJ2K: the stream must say so, and only then

    Raises PixelError for what is no such stream.
    """
    if stream[:4] != b"\xff\x4f\xff\x51":
        raise PixelError("the stream does not begin as a JPEG 2000 code stream does")
    length, body = int.from_bytes(stream[4:6], "big"), stream[6:]
    samples = int.from_bytes(body[34:36], "big")
    if len(body) < 36 or length != 38 + 3 * samples or len(body) < 36 + 3 * samples or samples not in (1, 3):
        raise PixelError("the stream's size header is damaged")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = (
        int.from_bytes(body[k : k + 4], "big") for k in range(2, 34, 4)
    )
    if left or top or tile_left or tile_top or not right or not bottom or not tile_width or not tile_height:
        raise PixelError("the stream's image does not begin at its origin, or has no size")
    if -(-right // tile_width) * -(-bottom // tile_height) > MAX_TILES:
        raise PixelError(f"the stream has more than {MAX_TILES} tiles")
    depths = {body[36 + 3 * k] for k in range(samples)}
    if len(depths) != 1 or any(body[37 + 3 * k : 39 + 3 * k] != b"\x01\x01" for k in range(samples)):
        raise PixelError("the stream's components differ in size or depth")
    if bool(int.from_bytes(body[:2], "big") & 0x4000) != high_throughput:
        raise PixelError("the stream is HTJ2K and its transfer syntax is not, or the reverse")
    (depth,) = depths
    return StreamHeader(bottom, right, samples, (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def rle_segments(stream: bytes, count: int) -> tuple[slice, ...]:
    """The segments of an RLE frame, most significant byte of the first sample first (PS3.5 G.5).

    Raises PixelError where they are not `count`, not ascending or not within the stream.
    """
    if len(stream) < 64:
        raise PixelError("the RLE header is cut short")
    numbers = [int.from_bytes(stream[k : k + 4], "little") for k in range(0, 64, 4)]
    if numbers[0] != count:
        raise PixelError(f"the RLE stream holds {numbers[0]} segments, the image needs {count}")
    bounds = [*numbers[1 : count + 1], len(stream)]
    if bounds[0] < 64 or any(b <= a for a, b in pairwise(bounds)):
        raise PixelError("the RLE header's offsets are damaged")
    return tuple(slice(a, b) for a, b in pairwise(bounds))
