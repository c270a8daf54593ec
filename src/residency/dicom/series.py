"""One series of single-frame images as a volume on its own grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from residency.dicom.dataset import parse, text
from residency.dicom.header import arrange, header_of
from residency.dicom.labels import labels_of
from residency.dicom.pixels import check, modality_values
from residency.errors import PixelError
from residency.labels import SeriesLabels
from residency.volume import Grid, Volume

MAX_VOXELS = 2**31
"""Largest volume that is read, 8 GiB as float32; it bounds what compressed images can unpack to."""


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """All images of a series, checked and in the order of the grid; pixels are decoded when `volume` is asked for.

    datasets  slice k of the grid is datasets[k]; for the writers, which refer to them
    """

    labels: SeriesLabels
    grid: Grid
    datasets: tuple[Dataset, ...]
    projection: bool

    @property
    def sop_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs in the order of the slices."""
        return tuple(text(dataset, "SOPInstanceUID") for dataset in self.datasets)

    def volume(self) -> Volume:
        """float32 modality values (stored x slope + intercept of each slice; HU for CT), (slices, rows, columns).

        A radiograph is given bright = dense. What reading had to do is told in the notes.
        Raises PixelError, naming the instance, where compressed pixels turn out to be damaged.
        """
        array = np.empty(self.grid.shape, dtype=np.float32)
        notes: dict[str, int] = {}
        for k, dataset in enumerate(self.datasets):
            array[k], remarks = modality_values(dataset, projection=self.projection)
            for remark in remarks:
                notes[remark] = notes.get(remark, 0) + 1
        many = len(self.datasets)
        told = tuple(note if count == many else f"{note} ({count} of {many} images)" for note, count in notes.items())
        return Volume(array, self.grid, _unit(self.datasets[0]), told)


def open_series(instances: Iterable[bytes]) -> SourceSeries:
    """All instances of one series, in any order, in DICOM's file format (PS3.10).

    Read are single-frame CT, MR, PET and Secondary Capture slices that form one regular stack, and one radiograph.
    Everything is checked now but the inside of compressed pixels; nothing is decoded yet.

    Raises InputError (GeometryError, PixelError), naming the instance and the cause, for what cannot be read exactly.
    """
    datasets = [parse(data) for data in instances]
    headers = [header_of(dataset) for dataset in datasets]
    labels = labels_of(headers)
    placed = arrange(headers)
    for dataset in datasets:
        check(dataset)
    grid = placed.grid
    if int(np.prod(grid.shape, dtype=np.int64)) > MAX_VOXELS:
        raise PixelError(f"series {labels.series_uid} has {grid.shape} voxels; at most {MAX_VOXELS} are read")
    return SourceSeries(labels, grid, tuple(datasets[i] for i in placed.order), placed.projection)


def _unit(dataset: Dataset) -> str:
    """UCUM unit of the modality values: HU for CT (unless Rescale Type says otherwise), Bq/mL for PET, else none."""
    modality = text(dataset, "Modality")
    if modality == "CT" and text(dataset, "RescaleType") in ("", "HU"):
        return "[hnsf'U]"
    return "Bq/mL" if modality == "PT" and text(dataset, "Units") == "BQML" else "1"
