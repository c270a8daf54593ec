"""Frames packed by the RLE of DICOM (PS3.5 annex G): a segment for each byte of a pixel, rows packed one by one.

Our own, since the fast encoder at hand (GDCM's) ends the whole process for images of an odd width, and the other
(pydicom's) takes ten times as long.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

_MOST = 128
"""Most bytes that one run, or one stretch without runs, holds."""
_HEADER_BYTES = 64


def rle_encode(frame: npt.NDArray[np.uint8 | np.uint16]) -> bytes:
    """One frame, (rows, columns), as the fragment of an RLE image; the high bytes of 16 bits come first (G.2)."""
    width = frame.dtype.itemsize
    planes = np.ascontiguousarray(frame.astype(frame.dtype.newbyteorder(">"))).view(np.uint8)
    segments = [_packed(planes.reshape(*frame.shape, width)[..., k]) for k in range(width)]
    offsets, at = [], _HEADER_BYTES
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    header = struct.pack("<16L", width, *offsets, *[0] * (15 - width))
    return header + b"".join(segments)


def _packed(plane: npt.NDArray[np.uint8]) -> bytes:
    """One segment: runs as (257 - length, value), what lies between them as (length - 1, values) (G.3.1)."""
    values, rows, lengths = _pieces(plane)
    alone = lengths == 1
    before = np.concatenate([[False], alone[:-1]]) & np.concatenate([[False], rows[1:] == rows[:-1]])
    # A stretch begins where no single value of the same row comes before, and again after every 128 of them.
    index = np.arange(len(values))
    since = index - np.maximum.accumulate(np.where(alone & before, 0, index))
    begins = alone & (since % _MOST == 0)
    stretch = np.cumsum(begins) - 1
    counts = np.bincount(stretch[alone], minlength=int(begins.sum()))
    ends = np.cumsum(np.where(alone, 1 + begins, 2))
    packed = np.zeros(int(ends[-1]), dtype=np.uint8)
    packed[ends - 1] = values
    packed[ends[~alone] - 2] = 257 - lengths[~alone]
    packed[ends[begins] - 2] = counts[stretch[begins]] - 1
    data = packed.tobytes()
    return data + b"\0" * (len(data) % 2)


def _pieces(
    plane: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Value, row and length of every run, cut at the ends of rows and after 128 bytes."""
    columns, flat = plane.shape[1], plane.ravel()
    begins = np.concatenate([[True], flat[1:] != flat[:-1]])
    begins[::columns] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, flat.size))
    pieces = -(-lengths // _MOST)
    run = np.repeat(np.arange(len(starts)), pieces)
    piece = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    cut = np.minimum(lengths[run] - piece * _MOST, _MOST)
    return flat[starts[run]], starts[run] // columns, cut
