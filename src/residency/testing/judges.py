"""Outside judges of what was read: stored pixels by DCMTK or OpenJPEG, places by the standard's own equation.

None of this uses the reader that is judged: other decoders, headers by pydicom alone, and arithmetic of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.pixels.decoders.base import get_decoder

from residency.dicom.series import SourceSeries

DCMTK = {
    "1.2.840.10008.1.2": None,
    "1.2.840.10008.1.2.1": None,
    "1.2.840.10008.1.2.2": ("dcmconv", "+te"),
    "1.2.840.10008.1.2.1.99": None,
    "1.2.840.10008.1.2.5": ("dcmdrle",),
    "1.2.840.10008.1.2.4.50": ("dcmdjpeg",),
    "1.2.840.10008.1.2.4.51": ("dcmdjpeg",),
    "1.2.840.10008.1.2.4.57": ("dcmdjpeg",),
    "1.2.840.10008.1.2.4.70": ("dcmdjpeg",),
    "1.2.840.10008.1.2.4.80": ("dcmdjpls",),
    "1.2.840.10008.1.2.4.81": ("dcmdjpls",),
}
"""What DCMTK needs to make plain pixels of a transfer syntax; None: dcmdump reads them as they are."""

JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
"""Judged by OpenJPEG; GDCM, which reads them here, bundles another version of it."""

_SECONDS = 60
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
    judge, stored = _stored(headers, files, folder)
    farthest: float | None = None
    for k, image in enumerate(series.references):
        at, frame = index[image.sop_uid], 0 if image.frame is None else image.frame - 1
        if stored:
            expected = _meant(headers[at], stored[at][frame], frame, projection=series.projection)
            assert np.array_equal(values[k], expected), f"{image.sop_uid} frame {frame + 1}: pixels differ"
        off = _off(headers[at], frame, series, k)
        farthest = off if farthest is None or off is None else max(farthest, off)
    return Verdict(judge, farthest)


def _stored(headers: Sequence[Dataset], files: Sequence[bytes], folder: Path) -> tuple[str | None, list[Stored]]:
    """Who decoded the pixels, and stored values of all frames of each file, (frames, rows, columns)."""
    (syntax,) = {str(header.file_meta.TransferSyntaxUID) for header in headers}
    if syntax in JPEG_2000:
        decoder = get_decoder(syntax)
        decoded = [decoder.as_array(header, raw=True, decoding_plugin="pylibjpeg")[0] for header in headers]
        judge = "OpenJPEG"
    elif syntax in DCMTK:
        decoded = _by_dcmtk(headers, files, folder, DCMTK[syntax])
        judge = "DCMTK"
    else:
        return None, []
    return judge, [
        _cleaned(words.reshape(-1, header.Rows, header.Columns), header)
        for words, header in zip(decoded, headers, strict=True)
    ]


def _by_dcmtk(
    headers: Sequence[Dataset], files: Sequence[bytes], folder: Path, tool: tuple[str, ...] | None
) -> list[npt.NDArray[Any]]:
    plain = []
    for k, data in enumerate(files):
        plain.append(folder / f"{k}.dcm")
        plain[k].write_bytes(data)
        if tool is not None:
            plain[k] = folder / f"{k}.plain"
            subprocess.run(
                [*tool, folder / f"{k}.dcm", plain[k]], check=True, timeout=_SECONDS, stderr=subprocess.DEVNULL
            )
    dump: list[str | Path] = ["dcmdump", "+W", folder, *plain]
    subprocess.run(dump, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = []
    for file, header in zip(plain, headers, strict=True):
        # Overlays and tables are written too; the pixels are the largest.
        raw = max(folder.glob(f"{file.name}.*.raw"), key=lambda written: written.stat().st_size)
        count = int(header.get("NumberOfFrames") or 1) * header.Rows * header.Columns
        found.append(np.fromfile(raw, f"<u{header.BitsAllocated // 8}", count=count))
    return found


def _cleaned(words: npt.NDArray[Any], dataset: Dataset) -> Stored:
    """The bits that count, with their sign (PS3.5 8.1.1)."""
    bits = int(dataset.BitsStored)
    kept = words.astype(np.int64) & ((1 << bits) - 1)
    return np.where(kept >> (bits - 1), kept - (1 << bits), kept) if dataset.PixelRepresentation else kept


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
