"""Stored pixels of one single-frame grey image and the values they mean (DICOM PS3.3 C.7.6.3, C.11.1; PS3.5 8).

What is checked comes first and needs no memory: `check` tells before anything is decoded whether an image can be read
exactly, and `modality_values` then reads one image at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import JPEGLSLosslessDecoder, JPEGLSNearLosslessDecoder, RLELosslessDecoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from residency.dicom.dataset import integer, items, number, pixel_bytes, quiet, sop_uid, text, transfer_syntax
from residency.errors import PixelError

NATIVE = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
"""Transfer syntaxes that hold the pixels as they are."""

DECODERS = {
    RLELossless: (RLELosslessDecoder, "pydicom"),
    JPEGLSLossless: (JPEGLSLosslessDecoder, "pyjpegls"),
    JPEGLSNearLossless: (JPEGLSNearLosslessDecoder, "pyjpegls"),
}
"""Compressed transfer syntaxes that are read, each with its one decoder: equal bytes give equal pixels everywhere."""

MAX_DECODED_BYTES = 256 * 1024 * 1024
"""Largest image that a compressed stream may unpack to: 8192 x 8192 at 16 bits is half of it."""

LARGEST_VALUE = 1e30
"""Largest modality value that is read; float32 ends at 3e38, and values of patients long before."""

MAX_SIDE = 65_535
"""Rows and Columns are 16-bit numbers (US)."""

Stored = npt.NDArray[np.signedinteger | np.unsignedinteger]


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one image are stored.

    bits_stored, high_bit  the bits of a pixel that count; what lies above is not image (PS3.5 8.1.1)
    slope, intercept       stored value x slope + intercept = modality value
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    inverse: bool
    """MONOCHROME1: the lowest value is shown white."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed image."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def stored_range(self) -> tuple[int, int]:
        """Lowest and highest value that the stored bits can say."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


def check(dataset: Dataset) -> PixelFormat:
    """How the pixels are stored, without decoding them.

    Read are grey single frames of 8 or 16 bits (which float32 holds exactly), uncompressed, RLE or JPEG-LS.
    Raises PixelError, naming the instance and the cause, where they cannot be read exactly.
    """
    uid, syntax = sop_uid(dataset), transfer_syntax(dataset)
    pixels = pixel_bytes(dataset)
    if syntax not in NATIVE and syntax not in DECODERS:
        raise PixelError(
            f"instance {uid}: transfer syntax {UID(syntax).name} ({syntax}) is not read; ask the archive for "
            "Explicit VR Little Endian"
        )
    found = check_format(dataset)
    if syntax in NATIVE and len(pixels) < found.frame_bytes:
        raise PixelError(
            f"instance {uid}: Pixel Data are cut short: {found.rows} x {found.columns} pixels of "
            f"{found.bits_allocated} bits need {found.frame_bytes} bytes, {len(pixels)} are there. Send it again"
        )
    if syntax in DECODERS and found.frame_bytes > MAX_DECODED_BYTES:
        raise PixelError(
            f"instance {uid}: the image unpacks to {found.frame_bytes} bytes, at most {MAX_DECODED_BYTES} are read"
        )
    return found


def check_format(dataset: Dataset) -> PixelFormat:
    """The same from the header alone: what `check` says before it looks at Pixel Data."""
    uid = sop_uid(dataset)
    rows, columns = _required(dataset, "Rows", 1, MAX_SIDE), _required(dataset, "Columns", 1, MAX_SIDE)
    photometric = text(dataset, "PhotometricInterpretation")
    frames = integer(dataset, "NumberOfFrames")
    if frames not in (None, 1):
        raise PixelError(
            f"instance {uid} holds {frames} frames; multi-frame images are not read yet. Send single frames"
        )
    if integer(dataset, "SamplesPerPixel") not in (None, 1) or not photometric.startswith("MONOCHROME"):
        raise PixelError(f"instance {uid}: Photometric Interpretation '{photometric}'; only grey images are read")
    allocated = _required(dataset, "BitsAllocated", 1, 64)
    if allocated not in (8, 16):
        raise PixelError(f"instance {uid}: Bits Allocated {allocated}; 8 and 16 are read")
    stored = _required(dataset, "BitsStored", 1, allocated)
    high = integer(dataset, "HighBit")
    if items(dataset, "ModalityLUTSequence"):
        raise PixelError(f"instance {uid} carries a Modality LUT, which is not applied yet")
    slope, intercept = _rescale(dataset)
    found = PixelFormat(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high is None or not stored - 1 <= high < allocated else high,
        signed=_required(dataset, "PixelRepresentation", 0, 1) == 1,
        slope=slope,
        intercept=intercept,
        inverse=photometric == "MONOCHROME1",
    )
    if max(abs(value * slope + intercept) for value in found.stored_range) > LARGEST_VALUE:
        raise PixelError(
            f"instance {uid}: Rescale Slope {slope:g} and Intercept {intercept:g} give values beyond {LARGEST_VALUE:g}"
        )
    return found


def _required(dataset: Dataset, keyword: str, low: int, high: int) -> int:
    found = integer(dataset, keyword)
    if found is None or not low <= found <= high:
        what = "missing" if found is None else f"{found}, not within {low} to {high}"
        raise PixelError(f"instance {sop_uid(dataset)}: {keyword} {what}")
    return found


def _rescale(dataset: Dataset) -> tuple[float, float]:
    """Rescale Slope and Intercept; 1 and 0 where both are absent, except for CT, whose HU are then unknown."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if (slope is None) != (intercept is None) or (slope is None and text(dataset, "Modality") == "CT"):
        missing = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise PixelError(f"instance {sop_uid(dataset)}: {missing} missing; what its pixel values mean is unknown")
    if slope == 0.0:
        raise PixelError(f"instance {sop_uid(dataset)}: Rescale Slope is 0")
    return (1.0, 0.0) if slope is None or intercept is None else (slope, intercept)


def stored_pixels(dataset: Dataset, found: PixelFormat) -> tuple[Stored, tuple[str, ...]]:
    """Stored values, integers of shape (rows, columns), and what had to be done to read them.

    Bits outside Bits Stored are cleared (old scanners keep overlays there). Raises PixelError where decoding fails.
    """
    syntax = transfer_syntax(dataset)
    if syntax in NATIVE:
        raw, notes = _native(dataset, found, big_endian=syntax == ExplicitVRBigEndian)
    else:
        raw, notes = _decoded(dataset, found), ()
    return _significant(raw, found, sop_uid(dataset), compressed=syntax in DECODERS, notes=notes)


def _native(dataset: Dataset, found: PixelFormat, *, big_endian: bool) -> tuple[Stored, tuple[str, ...]]:
    """Unsigned words as they stand in Pixel Data."""
    pixels = pixel_bytes(dataset)
    width = found.bits_allocated // 8
    # Length is even (PS3.5 8.1.1), so one byte more than needed is padding and no remark.
    notes = ("Pixel Data longer than the image: rest ignored",) if len(pixels) > found.frame_bytes + 1 else ()
    if big_endian and width == 1 and dataset["PixelData"].VR == "OW":
        raise PixelError(
            f"instance {sop_uid(dataset)}: 8-bit pixels in big-endian words are not read; send little endian"
        )
    order = ">" if big_endian else "<"
    words = np.frombuffer(pixels, dtype=f"{order}u{width}", count=found.rows * found.columns)
    return words.reshape(found.rows, found.columns).astype(f"u{width}", copy=False), notes


def _decoded(dataset: Dataset, found: PixelFormat) -> Stored:
    """Unsigned words that the one decoder of this transfer syntax gives."""
    decoder, plugin = DECODERS[UID(transfer_syntax(dataset))]
    try:
        with quiet():
            array, _ = decoder.as_array(dataset, raw=True, decoding_plugin=plugin)
    except Exception as error:  # decoders raise whatever damaged streams lead them to
        raise PixelError(
            f"instance {sop_uid(dataset)}: the compressed pixels are damaged ({type(error).__name__}). Send it again"
        ) from None
    if array.shape != (found.rows, found.columns):
        raise PixelError(
            f"instance {sop_uid(dataset)}: the compressed image is {array.shape}, the header says "
            f"({found.rows}, {found.columns})"
        )
    return array.view(f"u{array.dtype.itemsize}").astype(f"u{found.bits_allocated // 8}", copy=False)


def _significant(
    raw: Stored, found: PixelFormat, uid: str, *, compressed: bool, notes: tuple[str, ...]
) -> tuple[Stored, tuple[str, ...]]:
    """The bits that count, with their sign."""
    width = found.bits_allocated
    kind = f"{'i' if found.signed else 'u'}{width // 8}"
    if found.bits_stored == width:
        return raw.view(kind), notes
    # Left against the top, then back again: the second shift carries the sign of signed pixels.
    top, back = width - 1 - found.high_bit, width - found.bits_stored
    values = (raw << top).view(kind) >> back
    if found.high_bit == found.bits_stored - 1 and not np.array_equal(values.view(raw.dtype), raw):
        if compressed:
            raise PixelError(
                f"instance {uid}: compressed pixels exceed Bits Stored {found.bits_stored}; the header is wrong"
            )
        notes = (*notes, "bits above Bits Stored cleared")
    return values, notes


def modality_values(dataset: Dataset, *, projection: bool = False) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """float32 modality values of shape (rows, columns), and what had to be done to read them.

    projection  True for radiographs, which are given bright = dense: MONOCHROME1 is inverted within the range that its
                bits can say. CT and MR values mean the same either way and are left alone.
    """
    found = check(dataset)
    stored, notes = stored_pixels(dataset, found)
    values = stored.astype(np.float64) * found.slope + found.intercept
    if found.inverse and projection:
        low, high = found.stored_range
        values = (low + high) * found.slope + 2.0 * found.intercept - values
        notes = (*notes, "MONOCHROME1 inverted")
    if text(dataset, "LossyImageCompression") == "01":
        notes = (*notes, "lossy compression")
    return values.astype(np.float32), notes
