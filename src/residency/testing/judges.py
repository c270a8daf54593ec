"""Outside judges of what was read: stored pixels by DCMTK or OpenJPEG, places by the standard's own equation.

None of this uses the reader that is judged: other decoders, headers by pydicom alone, and arithmetic of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread

from residency.dicom.series import SourceSeries
from residency.testing.pixel_judge import judged_pixels

_PLACE_TOLERANCE_MM = 0.05

Stored = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """judge: who decoded the pixels again, None where nobody else could; farthest_mm: largest distance between where a
    corner voxel lies by the grid and by the standard's equation, None for images without a place."""

    judge: str | None
    farthest_mm: float | None


def judged(files: Sequence[bytes], series: SourceSeries, folder: Path) -> Verdict:
    """Every voxel and every corner of a series against an outside judge.

    files   the instances that the series was opened from
    folder  empty; for what DCMTK writes

    Raises AssertionError where they differ.
    """
    values = series.volume().array
    headers = [dcmread(BytesIO(data)) for data in files]
    index = {str(header.SOPInstanceUID): k for k, header in enumerate(headers)}
    pixels = [judged_pixels(data, folder) for data in files]
    judge = pixels[0].judge if pixels[0] is not None else None
    farthest: float | None = None
    for k, image in enumerate(series.references):
        at, frame = index[image.sop_uid], 0 if image.frame is None else image.frame - 1
        seen = pixels[at]
        if seen is not None:
            expected = _meant(headers[at], seen.values[frame], frame, projection=series.projection)
            assert np.array_equal(values[k], expected), f"{image.sop_uid} frame {frame + 1}: pixels differ"
        off = _off(headers[at], frame, series, k)
        farthest = off if farthest is None or off is None else max(farthest, off)
    return Verdict(judge, farthest)


def _meant(dataset: Dataset, stored: Stored, frame: int, *, projection: bool) -> npt.NDArray[np.float32]:
    """Modality values by the raw tags, those of the frame before the shared ones before the top."""
    item = _group(dataset, frame, "PixelValueTransformationSequence") or dataset
    slope, intercept = float(item.get("RescaleSlope", 1)), float(item.get("RescaleIntercept", 0))
    if projection and dataset.PhotometricInterpretation == "MONOCHROME1":
        bits = int(dataset.BitsStored)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dataset.PixelRepresentation else (0, (1 << bits) - 1)
        stored = low + high - stored
    return (stored * slope + intercept).astype(np.float32)


def _group(dataset: Dataset, frame: int, sequence: str) -> Dataset | None:
    """The item of a functional group of a frame."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return None
    for groups in (dataset.PerFrameFunctionalGroupsSequence[frame], dataset.SharedFunctionalGroupsSequence[0]):
        if sequence in groups:
            found: Dataset = groups[sequence].value[0]
            return found
    return None


def _off(dataset: Dataset, frame: int, series: SourceSeries, k: int) -> float | None:
    """How far a corner voxel lies from where PS3.3 equation C.7.6.2.1-1 puts it, in mm."""
    position = (_group(dataset, frame, "PlanePositionSequence") or dataset).get("ImagePositionPatient")
    if position is None or series.projection:
        return None
    cosines = (_group(dataset, frame, "PlaneOrientationSequence") or dataset).ImageOrientationPatient
    spacing = (_group(dataset, frame, "PixelMeasuresSequence") or dataset).PixelSpacing
    x, y, s = (np.array([float(v) for v in values]) for values in (cosines[:3], cosines[3:], position))
    worst = 0.0
    for row, column in (
        (0, 0),
        (0, dataset.Columns - 1),
        (dataset.Rows - 1, 0),
        (dataset.Rows - 1, dataset.Columns - 1),
    ):
        # Pixel Spacing names the distance between rows first; i counts columns, along the first three cosines.
        meant = s + x * float(spacing[1]) * column + y * float(spacing[0]) * row
        worst = max(worst, float(np.linalg.norm(series.grid.to_lps((k, row, column)) - meant)))
    pixel = min(float(v) for v in spacing)
    assert worst < max(_PLACE_TOLERANCE_MM, pixel / 2), f"{dataset.SOPInstanceUID}: {worst:.3f} mm off"
    return worst
