"""Colour images for viewers: every frame as RGB (DICOM PS3.3 C.7.6.3.1.2, C.7.6.3.1.5).

Networks are not given colour: a luminance of an ultrasound's or a photograph's colours has no scale that anybody
measured, so `pixels.check` refuses it. What a person looks at is converted here, by the standard's own equations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from residency.dicom.dataset import integer, numbers, sop_uid, value_of
from residency.dicom.image_pixel import GREY, PALETTE, PixelFormat, format_of
from residency.dicom.pixels import (
    NATIVE,
    StoredFrames,
    check_syntax,
    decoded_words,
    found_in,
    native_words,
    stored_values,
)
from residency.errors import PixelError

Colours = npt.NDArray[np.uint8 | np.uint16]
Samples = npt.NDArray[np.signedinteger | np.unsignedinteger]

_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{k}" for k in (90, 91, 201, 202, 203))
"""Their decoders undo the colour transform of the stream itself."""

_RGB_FROM_YBR = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]])
"""Inverse of the equations of C.7.6.3.1.2 for full range (ITU-R BT.601, as in JFIF)."""


def frame_colour(dataset: Dataset, index: int) -> Colours:
    """One frame as RGB, uint8 or uint16 as the samples are, (rows, columns, 3). index: from 0.

    RGB is given as it is stored, YBR converted, a palette applied; grey images are refused: they are no colours.
    Raises PixelError where the instance cannot be read exactly.
    """
    check_syntax(dataset)
    described = format_of(dataset)
    if described.photometric in GREY or described.bits_allocated > 16 or described.signed:
        raise PixelError(
            f"instance {sop_uid(dataset)}: {described.photometric} of {described.bits_allocated} bits, "
            f"{'signed' if described.signed else 'unsigned'}, is not a colour image"
        )
    source = found_in(dataset, described)
    if not 0 <= index < described.frames:
        raise PixelError(f"instance {source.uid} has {described.frames} frames, none with number {index + 1}")
    if described.photometric == PALETTE:
        return _through_palette(dataset, stored_values(source, index)[0])
    samples, is_ybr = _samples(source, index)
    return _rgb(samples, described) if is_ybr else samples.astype(f"u{described.bits_allocated // 8}")


def _samples(source: StoredFrames, index: int) -> tuple[Samples, bool]:
    """Three samples a pixel, (rows, columns, 3), and whether they are YBR."""
    described = source.format
    is_ybr = described.photometric.startswith("YBR")
    if source.syntax in NATIVE:
        return _native(source, index), is_ybr
    found = decoded_words(source, index)
    if source.syntax in _JPEG_2000:
        if described.photometric not in ("RGB", "YBR_RCT", "YBR_ICT"):
            raise PixelError(f"instance {source.uid}: {described.photometric} in JPEG 2000 is not read")
        return found.words, False
    if found.header.transformed is not None and found.header.transformed != is_ybr:
        raise PixelError(
            f"instance {source.uid}: Photometric Interpretation is {described.photometric}, its JPEG stream says "
            f"{'YCbCr' if found.header.transformed else 'RGB'}; which is right cannot be told"
        )
    if int(found.words.max()) >= 1 << described.bits_stored:
        raise PixelError(f"instance {source.uid}: compressed pixels exceed Bits Stored; the header is wrong")
    return found.words, is_ybr


def _native(source: StoredFrames, index: int) -> Samples:
    described, words = source.format, native_words(source, index)
    rows, columns = described.rows, described.columns
    if described.photometric == "YBR_FULL_422":
        # Two luminances, then the colour of both, which is that of the first (C.7.6.3.1.2).
        if columns % 2 or described.planar:
            raise PixelError(
                f"instance {source.uid}: YBR_FULL_422 of an odd number of columns, or in planes, is not read"
            )
        pairs = words.reshape(rows, columns // 2, 4)
        colours = np.repeat(pairs[:, :, 2:], 2, axis=1)
        return np.dstack([pairs[:, :, :2].reshape(rows, columns), colours])
    if described.planar:
        return np.moveaxis(words.reshape(3, rows, columns), 0, -1)
    return words.reshape(rows, columns, 3)


def _rgb(samples: Samples, described: PixelFormat) -> Colours:
    """YBR of full range as RGB, rounded to the nearest and kept within the range."""
    most = (1 << described.bits_stored) - 1
    centred = samples.astype(np.float64) - np.array([0.0, (most + 1) / 2, (most + 1) / 2])
    found: Colours = np.clip(np.floor(centred @ _RGB_FROM_YBR.T + 0.5), 0, most).astype(
        f"u{described.bits_allocated // 8}"
    )
    return found


def _through_palette(dataset: Dataset, stored: npt.NDArray[np.signedinteger | np.unsignedinteger]) -> Colours:
    """Three look-up tables (C.7.6.3.1.5, C.7.6.3.1.6): values before the first and after the last take those."""
    tables = [_table(dataset, colour) for colour in ("Red", "Green", "Blue")]
    kind = "u2" if any(table.dtype.itemsize == 2 for _, table in tables) else "u1"
    planes = [table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)] for first, table in tables]
    return np.dstack(planes).astype(kind)


def _table(dataset: Dataset, colour: str) -> tuple[int, Samples]:
    """First value mapped, and the table of one colour."""
    name = f"{colour}PaletteColorLookupTable"
    described, held = numbers(dataset, f"{name}Descriptor", 3), value_of(dataset, f"{name}Data")
    if described is None or not isinstance(held, bytes):
        kind = "segmented tables are" if f"Segmented{name}Data" in dataset else "it has none that is"
        raise PixelError(f"instance {sop_uid(dataset)}: {kind} not read as a palette")
    entries, first, bits = (int(number) for number in described)
    entries = entries % 65536 or 65536
    if bits not in (8, 16) or integer(dataset, "BitsAllocated") is None:
        raise PixelError(f"instance {sop_uid(dataset)}: palette of {bits} bits; 8 and 16 are read")
    if bits == 8 and len(held) in (entries, entries + 1):
        return first, np.frombuffer(held, "<u1", count=entries)
    if len(held) < 2 * entries:
        raise PixelError(f"instance {sop_uid(dataset)}: palette of {entries} entries is cut short")
    words = np.frombuffer(held, "<u2", count=entries)
    return first, words.astype("u1") if bits == 8 else words
