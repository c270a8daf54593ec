"""Where the images of a series lie, and whether together they are one regular grid (DICOM PS3.3 C.7.6.2).

Only Image Position, Image Orientation and Pixel Spacing count. Instance Number, Slice Location, file names, Slice
Thickness and Spacing Between Slices order nothing and measure nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from residency.dicom.dataset import integer, is_uid, number, numbers, sop_uid, text, texts
from residency.errors import GeometryError, InputError, PixelError
from residency.geometry import ORIENTATION_TOLERANCE, SPACING_TOLERANCE_MM, TILT_TOLERANCE_DEGREES, slice_spacing
from residency.volume import Grid, Space

Vector = npt.NDArray[np.float64]

COSINE_TOLERANCE = 1e-3
"""Largest departure of the direction cosines from unit length and from a right angle. They are often written with three
or four decimals; what is further off is no orientation."""

LINE_TOLERANCE_MM = 0.05
"""Largest distance of a slice's position from the straight line through the stack. Positions are written with 1e-3 mm
or better; a slice that was planned apart from the others lies millimetres off."""

LARGEST_ROUNDING_MM = 0.05
"""Half a unit of the last decimal of positions that were rounded, at most: 0.1 mm is the coarsest that is met, and far
below half a voxel. Coarser positions must be regular as they stand."""

MOST_ROUNDED = 5_000
"""Slices of the longest stack in which rounding is looked for; the work grows with the square of their number."""

_PLAIN_NUMBER = re.compile(r"[+-]?\d*(\.\d*)?")

FARTHEST_MM = 1e6
"""Largest coordinate or extent that is taken for one, 1 km. Beyond it arithmetic loses the digits that place a voxel,
and a slice far away asks for a grid that no memory holds."""

PIXEL_SPACING_TOLERANCE = 1e-4
"""Largest relative difference between the pixel spacings of one series: another spelling, not another size."""


@dataclass(frozen=True)
class Placement:
    """What one image says of its size and place. None: the header does not say.

    uid          names the image: its SOP Instance UID, and which frame of it
    spacing_mm   (row, column): distance between rows first, as in Pixel Spacing
    orientation  direction of increasing column index, then of increasing row index, as in Image Orientation (Patient)
    unit_mm      what the last decimal of its position is worth, None where that is not told
    extent_mm    Spacing Between Slices, else Slice Thickness: how thick a series of one image is taken to be
    """

    uid: str
    rows: int
    columns: int
    spacing_mm: tuple[float, float] | None
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    frame_of_reference: str | None
    extent_mm: float | None
    unit_mm: float | None = None

    def __post_init__(self) -> None:
        """Raises GeometryError for numbers that can be no place in a room."""
        given = (*(self.spacing_mm or ()), *(self.position or ()), *(self.orientation or ()), self.extent_mm or 0.0)
        if max(map(abs, given)) > FARTHEST_MM:
            raise GeometryError(
                f"instance {self.uid}: position, orientation or spacing holds {max(map(abs, given)):g}; at most "
                f"{FARTHEST_MM:g} mm is read. Correct it at the source"
            )


def placement_of(dataset: Dataset, frame: int | None = None) -> Placement:
    """Size and place of a single-frame image, or of a frame by its header.

    frame  its number in the instance, from 1

    Raises PixelError without Rows and Columns, InputError where an attribute is malformed or beyond FARTHEST_MM.
    """
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    if not rows or not columns or min(rows, columns) < 1:
        missing = "Rows" if not rows or rows < 1 else "Columns"
        raise PixelError(f"instance {sop_uid(dataset)}: {missing} missing or zero; it holds no image that can be read")
    position = numbers(dataset, "ImagePositionPatient", 3)
    reference = text(dataset, "FrameOfReferenceUID")
    return Placement(
        uid=sop_uid(dataset) if frame is None else f"{sop_uid(dataset)} frame {frame}",
        rows=rows,
        columns=columns,
        spacing_mm=_spacing(dataset, ("PixelSpacing",) if position else ("PixelSpacing", "ImagerPixelSpacing")),
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        frame_of_reference=reference if is_uid(reference) else None,
        extent_mm=_extent(dataset),
        unit_mm=_unit(texts(dataset, "ImagePositionPatient")),
    )


def _spacing(dataset: Dataset, keywords: Sequence[str]) -> tuple[float, float] | None:
    """Pixel Spacing; for a radiograph without it Imager Pixel Spacing, which is measured on the detector."""
    for keyword in keywords:
        found = numbers(dataset, keyword, 2)
        if found is not None:
            if min(found) <= 0.0:
                raise GeometryError(f"instance {sop_uid(dataset)}: {keyword} must be positive, it is {found}")
            return (found[0], found[1])
    return None


def _unit(position: Sequence[str]) -> float | None:
    """What the last decimal of the coordinates is worth, in mm; None where an exponent hides it."""
    if not position or not all(_PLAIN_NUMBER.fullmatch(value) for value in position):
        return None
    decimals = max(len(value.partition(".")[2]) for value in position)
    return float(10.0**-decimals)


def _extent(dataset: Dataset) -> float | None:
    """Voxel extent across a single image. Unreadable or impossible values count as absent: nothing else uses them."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            found = number(dataset, keyword)
        except InputError:
            continue
        if found is not None and 0.0 < found <= FARTHEST_MM:
            return found
    return None


@dataclass(frozen=True)
class Stack:
    """Images in the order of their grid: slice k is placements[k], which was number order[k] of those given."""

    grid: Grid
    order: tuple[int, ...]
    placements: tuple[Placement, ...]
    notes: tuple[str, ...] = ()


def stack(placements: Sequence[Placement]) -> Stack:
    """One regular grid from the places of all images of a series, given in any order.

    Slices ascend along the normal (row direction x column direction). The slice step comes from the positions, so a
    tilt below TILT_TOLERANCE_DEGREES stays in the affine. A single image takes its thickness from the header.

    Raises GeometryError, naming the instance, for images without place, of different size, spacing, orientation or
    frame of reference, at one position, with a gap, sheared (gantry tilt) or off the line.
    """
    placed = sorted(enumerate(placements), key=lambda pair: pair[1].uid)
    first = placed[0][1]
    for _, other in placed:
        _check_placed(other)
        _check_alike(first, other)
    row, column = directions(first)
    normal = np.cross(row, column)
    positions = np.array([p.position for _, p in placed], dtype=np.float64)
    ascending = np.argsort(positions @ normal, kind="stable")
    ordered = [placed[i] for i in ascending]
    # The lowest slice speaks for all, so that the order of the files decides nothing, not even the last decimal.
    row, column = directions(ordered[0][1])
    line = _line_of([p for _, p in ordered], positions[ascending], np.cross(row, column))
    assert first.spacing_mm is not None  # checked by _check_placed
    affine = np.eye(4)
    affine[:3, 0] = line.step
    affine[:3, 1] = column * first.spacing_mm[0]
    affine[:3, 2] = row * first.spacing_mm[1]
    affine[:3, 3] = line.start
    grid = Grid((len(ordered), first.rows, first.columns), affine, first.frame_of_reference)
    return Stack(grid, tuple(i for i, _ in ordered), tuple(p for _, p in ordered), line.notes)


def _check_placed(image: Placement) -> None:
    for value, name in (
        (image.position, "Image Position (Patient)"),
        (image.orientation, "Image Orientation (Patient)"),
        (image.spacing_mm, "Pixel Spacing"),
    ):
        if value is None:
            raise GeometryError(
                f"instance {image.uid} has no {name}: its place in the patient is unknown. Choose another series"
            )


def _check_alike(first: Placement, other: Placement) -> None:
    """Raises GeometryError where two images cannot be slices of one grid."""
    what = ""
    assert first.spacing_mm and other.spacing_mm  # noqa: PT018 (both checked by _check_placed)
    assert first.orientation and other.orientation  # noqa: PT018
    if (first.rows, first.columns) != (other.rows, other.columns):
        what = f"its matrix is {other.rows} x {other.columns}, that of {first.uid} is {first.rows} x {first.columns}"
    elif not np.allclose(first.spacing_mm, other.spacing_mm, rtol=PIXEL_SPACING_TOLERANCE, atol=0.0):
        what = f"its pixels are {other.spacing_mm} mm, those of {first.uid} are {first.spacing_mm} mm"
    elif np.abs(np.subtract(first.orientation, other.orientation)).max() > ORIENTATION_TOLERANCE:
        what = f"its orientation differs from that of {first.uid}"
    elif first.frame_of_reference != other.frame_of_reference:
        what = f"its frame of reference differs from that of {first.uid}"
    if what:
        raise GeometryError(f"instance {other.uid} does not belong to one volume: {what}. Split the series")


def directions(image: Placement) -> tuple[Vector, Vector]:
    """Unit vectors of increasing column and of increasing row index."""
    if image.orientation is None:
        raise GeometryError(f"instance {image.uid} has no Image Orientation (Patient): its place is unknown")
    row, column = np.array(image.orientation[:3]), np.array(image.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(n - 1.0) for n in lengths) > COSINE_TOLERANCE or abs(row @ column) > COSINE_TOLERANCE:
        raise GeometryError(
            f"instance {image.uid}: Image Orientation (Patient) is not two perpendicular unit vectors. Correct it at "
            "the source"
        )
    return row / lengths[0], column / lengths[1]


@dataclass(frozen=True)
class _Line:
    """The corners of the slices: slice k has its own at start + k step."""

    start: Vector
    step: Vector
    notes: tuple[str, ...] = ()


def _line_of(ordered: Sequence[Placement], positions: Vector, normal: Vector) -> _Line:
    """The straight line with equal steps through the positions of the slices, (slices, 3) in mm."""
    if len(ordered) == 1:
        if ordered[0].extent_mm is None:
            raise GeometryError(
                f"instance {ordered[0].uid} is the only one of its series and has no Slice Thickness: "
                "its voxels have no known size. Correct it at the source"
            )
        return _Line(positions[0], normal * ordered[0].extent_mm)
    gaps = np.diff(positions @ normal)
    doubled = np.flatnonzero(gaps <= SPACING_TOLERANCE_MM)
    if doubled.size:
        at = int(doubled[0])
        raise GeometryError(
            f"instances {ordered[at].uid} and {ordered[at + 1].uid} lie at the same position "
            f"({doubled.size} such pairs): several phases, echoes or repetitions are not one volume. Split the series"
        )
    line = _Line(positions[0], (positions[-1] - positions[0]) / (len(ordered) - 1))
    try:
        _check_even(ordered, positions, normal, gaps)
        _check_upright(ordered, line.step, normal)
        _check_straight(ordered, positions, line)
    except GeometryError:
        rounded = _rounded(ordered, positions)
        if rounded is None:
            raise
        _check_upright(ordered, rounded.step, normal)
        return rounded
    return line


def _check_even(ordered: Sequence[Placement], positions: Vector, normal: Vector, gaps: Vector) -> None:
    try:
        slice_spacing(positions, normal)
    except GeometryError as error:
        wrong = int(np.argmax(np.abs(gaps - np.median(gaps)) > SPACING_TOLERANCE_MM))
        raise GeometryError(
            f"{error} The slices are instances {ordered[wrong].uid} and {ordered[wrong + 1].uid}"
        ) from None


def _check_upright(ordered: Sequence[Placement], step: Vector, normal: Vector) -> None:
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1.0, 1.0)))
    if tilt > TILT_TOLERANCE_DEGREES:
        raise GeometryError(
            f"the slices are sheared by {tilt:.1f} degrees (gantry tilt), between instances {ordered[0].uid} and "
            f"{ordered[1].uid}: they are no upright volume. Send a series that the scanner has reformatted"
        )


def _check_straight(ordered: Sequence[Placement], positions: Vector, line: _Line) -> None:
    off = np.linalg.norm(positions - (line.start + np.outer(np.arange(len(ordered)), line.step)), axis=1)
    if off.max() > LINE_TOLERANCE_MM:
        worst = ordered[int(np.argmax(off))].uid
        raise GeometryError(
            f"instance {worst} lies {off.max():.2f} mm off the line of the other slices. Split the series"
        )


def _rounded(ordered: Sequence[Placement], positions: Vector) -> _Line | None:
    """The regular line that rounding made uneven: every position lies within half a unit of its last decimal."""
    units = [placement.unit_mm for placement in ordered]
    if None in units or len(ordered) > MOST_ROUNDED:
        return None
    # Writers drop zeros at the end: the finest spelling tells how all were rounded.
    half = min(unit for unit in units if unit is not None) / 2.0
    fits = [_even_steps(coordinates, half) for coordinates in positions.T] if half <= LARGEST_ROUNDING_MM else [None]
    if None in fits:
        return None
    start, step = np.array([fit for fit in fits if fit is not None]).T
    return _Line(start, step, (f"positions rounded to {2.0 * half:g} mm: slices taken as evenly spaced",))


def _even_steps(values: Vector, half: float) -> tuple[float, float] | None:
    """(start, step) with every value within `half` of start + k step; None where there are none.

    Two values that are n apart bound the step by (their difference -+ 2 half) / n; any step that all pairs allow has a
    start.
    """
    half += 1e-9 * max(1.0, float(np.abs(values).max()))
    differences = ((n, values[n:] - values[:-n]) for n in range(1, len(values)))
    bounds = [((float(d.max()) - 2 * half) / n, (float(d.min()) + 2 * half) / n) for n, d in differences]
    low, high = max(b[0] for b in bounds), min(b[1] for b in bounds)
    if low > high:
        return None
    step = (low + high) / 2.0
    rest = values - step * np.arange(len(values))
    return float(rest.max() + rest.min()) / 2.0, step


def image_grid(image: Placement) -> Grid:
    """The grid of one radiograph or picture: (0, y, x) in mm on the detector, or in pixels where it has no spacing."""
    affine = np.eye(4)
    if image.spacing_mm is None:
        return Grid((1, image.rows, image.columns), _flat(affine, 1.0, 1.0), image.frame_of_reference, Space.PIXELS)
    return Grid(
        (1, image.rows, image.columns), _flat(affine, *image.spacing_mm), image.frame_of_reference, Space.DETECTOR
    )


def _flat(affine: Vector, row_mm: float, column_mm: float) -> Vector:
    affine[1, 1], affine[2, 2] = row_mm, column_mm
    return affine
