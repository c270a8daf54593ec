"""One series as a volume on its own grid: single-frame images, or frames of multi-frame ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from residency.dicom.dataset import parse, text
from residency.dicom.header import arrange, images_of
from residency.dicom.image_pixel import rescale_of
from residency.dicom.labels import labels_of
from residency.dicom.pixels import Frame, StoredFrames, check, fill
from residency.errors import PixelError
from residency.labels import SeriesLabels
from residency.volume import Grid, Volume

MAX_VOXELS = 2**31
"""Largest volume that is read, 8 GiB as float32; it bounds what compressed images can unpack to."""


@dataclass(frozen=True)
class SliceReference:
    """The image that a slice is: an instance, and of a multi-frame one which frame, from 1."""

    sop_class: str
    sop_uid: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class Slice:
    """One image of a series.

    header   its attributes as a single-frame image has them at the top: position, orientation and spacing are those of
             this slice, to the last digit, also where they stood in functional groups
    pixels   of its instance, still encoded
    frame    its number in a multi-frame instance, from 1
    """

    header: Dataset
    pixels: StoredFrames
    frame: int | None

    @property
    def reference(self) -> SliceReference:
        """How another object refers to this image."""
        return SliceReference(text(self.header, "SOPClassUID"), text(self.header, "SOPInstanceUID"), self.frame)

    @property
    def stored(self) -> Frame:
        """Where its values come from: its frame, with the slope and intercept that the header says."""
        return Frame(self.pixels) if self.frame is None else Frame(self.pixels, self.frame - 1, rescale_of(self.header))


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """All images of a series, checked and in the order of the grid; pixels are decoded when `volume` is asked for.

    slices  slice k of the grid is slices[k]; for the writers, which refer to them
    notes   what had to be taken as it is when the slices were put on a grid
    """

    labels: SeriesLabels
    grid: Grid
    slices: tuple[Slice, ...]
    projection: bool
    notes: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The headers in the order of the slices; those of frames as single-frame images have them."""
        return tuple(s.header for s in self.slices)

    @property
    def references(self) -> tuple[SliceReference, ...]:
        """The images in the order of the slices."""
        return tuple(s.reference for s in self.slices)

    @property
    def sop_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs in the order of the slices; one for all frames of a multi-frame instance."""
        return tuple(dict.fromkeys(reference.sop_uid for reference in self.references))

    def volume(self) -> Volume:
        """float32 modality values (stored x slope + intercept of each slice; HU for CT), (slices, rows, columns).

        A radiograph is given bright = dense. What reading had to do is told in the notes.
        Raises PixelError, naming the instance, where compressed pixels turn out to be damaged.
        """
        array = np.empty(self.grid.shape, dtype=np.float32)
        notes: dict[str, int] = {}
        for remarks in fill(array, [one.stored for one in self.slices], projection=self.projection):
            for remark in remarks:
                notes[remark] = notes.get(remark, 0) + 1
        many = len(self.slices)
        told = tuple(note if count == many else f"{note} ({count} of {many} images)" for note, count in notes.items())
        return Volume(array, self.grid, _unit(self.slices[0].header), (*self.notes, *told))


def open_series(instances: Iterable[bytes]) -> SourceSeries:
    """All instances of one series, in any order, in DICOM's file format (PS3.10).

    Read are CT, MR, PET and Secondary Capture slices that form one regular stack, CT, MR and PET also as enhanced
    multi-frame images, and one radiograph. Everything is checked now but the inside of compressed pixels; nothing is
    decoded yet.

    Raises InputError (GeometryError, PixelError), naming the instance and the cause, for what cannot be read exactly.
    """
    datasets = [parse(data) for data in instances]
    images = [(k, image, header) for k, dataset in enumerate(datasets) for image, header in images_of(dataset)]
    headers = [header for _, _, header in images]
    labels = labels_of(headers)
    placed = arrange(headers)
    pixels = [check(dataset) for dataset in datasets]
    slices = [Slice(image, pixels[k], header.frame) for k, image, header in images]
    grid = placed.grid
    if int(np.prod(grid.shape, dtype=np.int64)) > MAX_VOXELS:
        raise PixelError(f"series {labels.series_uid} has {grid.shape} voxels; at most {MAX_VOXELS} are read")
    if len(units := {_unit(one.header) for one in slices}) > 1:
        raise PixelError(
            f"series {labels.series_uid} holds images in different units ({', '.join(sorted(units))}, by Rescale Type "
            "or Units): they are no one volume. Send each kind as a series of its own"
        )
    return SourceSeries(labels, grid, tuple(slices[i] for i in placed.order), placed.projection, placed.notes)


def _unit(dataset: Dataset) -> str:
    """UCUM unit of the modality values: HU for CT (unless Rescale Type says otherwise), Bq/mL for PET, else none."""
    modality = text(dataset, "Modality")
    if modality == "CT" and text(dataset, "RescaleType") in ("", "HU"):
        return "[hnsf'U]"
    return "Bq/mL" if modality == "PT" and text(dataset, "Units") == "BQML" else "1"
