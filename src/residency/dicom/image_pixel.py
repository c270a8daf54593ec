"""How the pixels of an image are stored and what they mean, from the header alone (PS3.3 C.7.6.3, C.7.5.1, C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from residency.dicom.dataset import integer, items, number, sop_uid, text, value_of
from residency.errors import PixelError

MAX_SIDE = 65_535
"""Rows and Columns are 16-bit numbers (US)."""

MAX_FRAMES = 65_536
"""Frames of one instance that are read; a volume has some thousands at most."""

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of one image are stored.

    frames                 how many of them the instance holds
    bits_stored, high_bit  the bits of a sample that count; what lies above is not image (PS3.5 8.1.1)
    planar                 colour: all samples of one kind together, instead of pixel by pixel
    floating               Float Pixel Data: float32 values that mean what they say
    padding                stored values, lowest and highest, of pixels outside the image (C.7.5.1.1.2)
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: bool = False
    floating: bool = False
    padding: tuple[int, int] | None = None

    @property
    def inverse(self) -> bool:
        """MONOCHROME1: the lowest value is shown white."""
        return self.photometric == "MONOCHROME1"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame; half of the colours are left out where the format says 422 (C.7.6.3.1.2)."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8

    @property
    def stored_range(self) -> tuple[int, int]:
        """Lowest and highest value that the stored bits can say."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1


@dataclass(frozen=True)
class Rescale:
    """Stored value x slope + intercept = modality value (C.11.1.1.2)."""

    slope: float = 1.0
    intercept: float = 0.0


def format_of(dataset: Dataset) -> PixelFormat:
    """The Image Pixel module, grey or colour. Raises PixelError where it is incomplete or cannot be read."""
    uid = sop_uid(dataset)
    photometric = text(dataset, "PhotometricInterpretation").upper()
    floating = "FloatPixelData" in dataset
    samples = integer(dataset, "SamplesPerPixel")
    samples = (3 if photometric in COLOUR else 1) if samples is None else samples
    if samples != (3 if photometric in COLOUR else 1) or photometric not in (*GREY, *COLOUR, PALETTE):
        raise PixelError(
            f"instance {uid}: Photometric Interpretation '{photometric}' with {samples} samples per pixel is not read"
        )
    allocated = _required(dataset, "BitsAllocated", 1, 64)
    if allocated not in ((32,) if floating else (8, 16, 32)):
        raise PixelError(f"instance {uid}: Bits Allocated {allocated}; 8, 16 and 32 are read")
    stored = allocated if floating else _required(dataset, "BitsStored", 1, allocated)
    high = integer(dataset, "HighBit")
    signed = not floating and _required(dataset, "PixelRepresentation", 0, 1) == 1
    frames = integer(dataset, "NumberOfFrames")
    if frames is not None and not 1 <= frames <= MAX_FRAMES:
        raise PixelError(f"instance {uid}: NumberOfFrames {frames}, not within 1 to {MAX_FRAMES}")
    return PixelFormat(
        rows=_required(dataset, "Rows", 1, MAX_SIDE),
        columns=_required(dataset, "Columns", 1, MAX_SIDE),
        frames=frames or 1,
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high is None or not stored - 1 <= high < allocated else high,
        signed=signed,
        planar=samples > 1 and integer(dataset, "PlanarConfiguration") == 1,
        floating=floating,
        padding=None if floating else _padding(dataset, allocated, signed=signed),
    )


def rescale_of(dataset: Dataset, item: Dataset | None = None) -> Rescale:
    """Slope and intercept of an image; 1 and 0 where both are absent, except for CT, whose HU are then unknown.

    item  where they stand, if not at the top: the item of a frame's Pixel Value Transformation Sequence

    Raises PixelError where one is missing, the slope is 0, or a table stands in their place.
    """
    where, uid = dataset if item is None else item, sop_uid(dataset)
    if items(dataset, "ModalityLUTSequence"):
        raise PixelError(
            f"instance {uid} carries a Modality LUT instead of slope and intercept, which is not read; export it with "
            "the LUT applied"
        )
    slope, intercept = number(where, "RescaleSlope"), number(where, "RescaleIntercept")
    if (slope is None) != (intercept is None) or (slope is None and text(dataset, "Modality") == "CT"):
        missing = "RescaleSlope" if slope is None else "RescaleIntercept"
        raise PixelError(f"instance {uid}: {missing} missing; what its pixel values mean is unknown")
    if slope == 0.0:
        raise PixelError(f"instance {uid}: Rescale Slope is 0")
    return Rescale() if slope is None or intercept is None else Rescale(slope, intercept)


def _required(dataset: Dataset, keyword: str, low: int, high: int) -> int:
    found = integer(dataset, keyword)
    if found is None or not low <= found <= high:
        what = "missing" if found is None else f"{found}, not within {low} to {high}"
        raise PixelError(f"instance {sop_uid(dataset)}: {keyword} {what}")
    return found


def _padding(dataset: Dataset, bits: int, *, signed: bool) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit as stored values, whatever VR they were written with (US or SS)."""
    value = _word(dataset, "PixelPaddingValue", bits, signed=signed)
    limit = _word(dataset, "PixelPaddingRangeLimit", bits, signed=signed)
    if value is None:
        return None
    return (value, value) if limit is None else (min(value, limit), max(value, limit))


def _word(dataset: Dataset, keyword: str, bits: int, *, signed: bool) -> int | None:
    found = value_of(dataset, keyword)
    if isinstance(found, bytes) and len(found) == 2:  # Implicit VR: pydicom leaves "US or SS" open
        found = int.from_bytes(found, "little")
    if not isinstance(found, int):
        return None
    pattern = found % (1 << bits)
    return pattern - (1 << bits) if signed and pattern >> (bits - 1) else pattern
