"""Where the frames of a multi-frame result lie, and the regular grid that they span (DICOM PS3.3 C.7.6.16.2).

A frame is placed by its Plane Position, never by its index: writers leave frames out and order the others as they like.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from residency.dicom.dataset import integer, items, number, numbers, sop_uid, text
from residency.dicom.stack import LINE_TOLERANCE_MM, Placement, directions, image_grid
from residency.errors import GeometryError, InputError
from residency.geometry import ORIENTATION_TOLERANCE, SPACING_TOLERANCE_MM
from residency.volume import Grid, Space


@dataclass(frozen=True, eq=False)
class FramePlace:
    """One frame: its index from 0, its place, and its functional groups, the shared ones for those that it lacks."""

    index: int
    placement: Placement
    spacing_between_mm: float | None
    own: Dataset
    shared: Dataset

    def item(self, keyword: str) -> Dataset:
        """The first item of a functional group, empty where there is none."""
        return _item(self.own, self.shared, keyword)

    def all_items(self, keyword: str) -> tuple[Dataset, ...]:
        """The items of a functional group."""
        return items(self.own, keyword) or items(self.shared, keyword)


def frame_places(dataset: Dataset) -> tuple[FramePlace, ...]:
    """Every frame of an instance.

    Raises InputError where frames and their descriptions do not fit, GeometryError for places on a slide.
    """
    count, rows, columns = (integer(dataset, k) or 0 for k in ("NumberOfFrames", "Rows", "Columns"))
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if min(count, rows, columns) < 1 or len(groups) != count:
        raise InputError(
            f"instance {sop_uid(dataset)}: {count} frames of {rows} x {columns} pixels, {len(groups)} are described"
        )
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    if any(_item(own, shared, "PlanePositionSlideSequence") for own in groups):
        raise GeometryError(f"instance {sop_uid(dataset)}: its frames are tiles of a slide, which are not read")
    return tuple(_place(k, own, shared, dataset) for k, own in enumerate(groups))


def check_apart(shown: Iterable[tuple[object, int]], uid: str) -> None:
    """Raises GeometryError where two frames show the same thing on the same slice, as phases or tiles do.

    shown  what each frame shows, and on which slice
    """
    seen: set[tuple[object, int]] = set()
    for one in shown:
        if one in seen:
            raise GeometryError(
                f"instance {uid}: two frames show the same on slice {one[1] + 1}; phases and tiles are not read"
            )
        seen.add(one)


def _item(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return next(iter((*items(own, keyword), *items(shared, keyword))), Dataset())


def _place(index: int, own: Dataset, shared: Dataset, dataset: Dataset) -> FramePlace:
    measures = _item(own, shared, "PixelMeasuresSequence")
    spacing = numbers(measures, "PixelSpacing", 2)
    position = numbers(_item(own, shared, "PlanePositionSequence"), "ImagePositionPatient", 3)
    placement = Placement(
        uid=f"{sop_uid(dataset)} frame {index + 1}",
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(_item(own, shared, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        frame_of_reference=text(dataset, "FrameOfReferenceUID") or None,
        extent_mm=number(measures, "SliceThickness"),
    )
    return FramePlace(index, placement, number(measures, "SpacingBetweenSlices"), own, shared)


def span(frames: Sequence[FramePlace]) -> Grid:
    """The smallest regular grid on which every frame is a slice."""
    first_frame = min(frames, key=lambda f: f.placement.position or ())
    first, spacing_between = first_frame.placement, first_frame.spacing_between_mm or 0.0
    if all(f.placement.position is None for f in frames):
        return image_grid(first)
    if first.position is None or first.spacing_mm is None or min(first.spacing_mm) <= 0.0:
        raise GeometryError(f"instance {first.uid} has no place in the patient, others have")
    row, column = directions(first)
    positions = np.unique([f.placement.position for f in frames], axis=0)
    along = positions @ np.cross(row, column)
    lowest, highest = positions[np.argmin(along)], positions[np.argmax(along)]
    slices = 1 + _steps(np.sort(along) - along.min(), spacing_between, first.uid)
    affine = np.eye(4)
    thickness = next(given for given in (spacing_between, first.extent_mm or 0.0, 1.0) if given > 0.0)
    affine[:3, 0] = (highest - lowest) / (slices - 1) if slices > 1 else np.cross(row, column) * thickness
    affine[:3, 1], affine[:3, 2] = column * first.spacing_mm[0], row * first.spacing_mm[1]
    affine[:3, 3] = lowest
    return Grid((slices, first.rows, first.columns), affine, first.frame_of_reference)


def _steps(offsets: npt.NDArray[np.float64], spacing_between: float, uid: str) -> int:
    """Slices from the lowest to the highest frame: by Spacing Between Slices where that fits, else by the least gap."""
    gaps = np.diff(offsets)
    gaps = gaps[gaps > SPACING_TOLERANCE_MM]
    if gaps.size == 0:
        return 0
    for spacing in (spacing_between, float(gaps.min())):
        if spacing <= SPACING_TOLERANCE_MM:
            continue
        steps = np.round(offsets / spacing)
        if np.abs(offsets - steps * (offsets[-1] / max(steps[-1], 1.0))).max() <= LINE_TOLERANCE_MM:
            return int(steps[-1])
    raise GeometryError(f"the frames of instance {uid.split(maxsplit=1)[0]} do not lie at equal distances")


def slice_of(frame: FramePlace, grid: Grid) -> int:
    """The slice of the grid that the frame is. Raises GeometryError where it is none."""
    place = frame.placement
    if (place.rows, place.columns) != grid.shape[1:]:
        raise GeometryError(
            f"instance {place.uid}: {place.rows} x {place.columns} pixels; the grid has {grid.shape[1:]}"
        )
    if grid.space is not Space.PATIENT:
        if place.position is not None:
            raise GeometryError(f"instance {place.uid} lies in the patient, the grid does not")
        return 0
    if place.position is None or place.spacing_mm is None:
        raise GeometryError(f"instance {place.uid} has no place in the patient")
    if None not in (place.frame_of_reference, grid.frame_of_reference):
        same = place.frame_of_reference == grid.frame_of_reference
        if not same:
            raise GeometryError(f"instance {place.uid} lies in another frame of reference than the grid")
    row, column = directions(place)
    steps = np.stack([column * place.spacing_mm[0], row * place.spacing_mm[1]], axis=1)
    # What a different direction or spacing adds up to at the far corner is what counts.
    reach = np.abs(steps - grid.affine[:3, 1:3]) * np.array(grid.shape[1:])
    k = round(float(grid.to_index(place.position)[0]))
    off = np.abs(np.array(place.position) - grid.to_lps((k, 0, 0))).max()
    tolerance = LINE_TOLERANCE_MM + ORIENTATION_TOLERANCE * max(grid.shape[1:]) * max(place.spacing_mm)
    if reach.max() > tolerance or off > tolerance or not 0 <= k < grid.shape[0]:
        raise GeometryError(f"instance {place.uid} is no slice of the grid (off by {max(reach.max(), off):.2f} mm)")
    return k
