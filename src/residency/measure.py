"""Volume and longest diameter of segments, in millimetres and never in voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.codes import Code
from residency.findings import Mask, Measurement, Segment
from residency.volume import Grid, Space

VOLUME = Code(scheme="SCT", value="118565006", meaning="Volume")
AREA = Code(scheme="SCT", value="42798000", meaning="Area")
LONGEST_DIAMETER = Code(scheme="IBSI", value="L0JK", meaning="Maximum 3D Diameter of a Mesh")
LONGEST_DIAMETER_IN_PLANE = Code(scheme="SCT", value="103339001", meaning="Long axis")
CUBIC_MILLIMETRE = Code(scheme="UCUM", value="mm3", meaning="cubic millimeter")
MILLILITRE = Code(scheme="UCUM", value="mL", meaning="milliliter")
SQUARE_MILLIMETRE = Code(scheme="UCUM", value="mm2", meaning="square millimeter")
MILLIMETRE = Code(scheme="UCUM", value="mm", meaning="millimeter")
ASYMMETRY = Code(scheme="99RESIDENCY", value="ASYMMETRY", meaning="Asymmetry index, (L - R) / ((L + R) / 2)")
INTRACRANIAL_SHARE = Code(scheme="99RESIDENCY", value="ICV-SHARE", meaning="Share of the intracranial volume")
RATIO = Code(scheme="UCUM", value="1", meaning="no units")
PERCENT = Code(scheme="UCUM", value="%", meaning="percent")

_ROWS_AT_ONCE = 512
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class Measured:
    """Measurements of all segments, and what a reader of them should know."""

    measurements: tuple[Measurement, ...] = ()
    warnings: tuple[str, ...] = ()


def measure(segments: Sequence[Segment], grid: Grid) -> Measured:
    """Volume in mm3 and mL and the longest diameter in mm of every segment (area and diameter on a radiograph).

    An image without pixel spacing is not measured, with a warning.
    """
    if not segments:
        return Measured()
    if grid.space is Space.PIXELS:
        return Measured(warnings=("not measured: the image has no pixel spacing",))
    found: list[Measurement] = []
    for segment in segments:
        diameter = longest_diameter_mm(segment.mask, grid)
        if grid.space is Space.DETECTOR:
            area = area_mm2(segment.mask, grid)
            found.append(Measurement(AREA, area, SQUARE_MILLIMETRE, segment.number))
            found.append(Measurement(LONGEST_DIAMETER_IN_PLANE, diameter, MILLIMETRE, segment.number))
        else:
            volume = volume_mm3(segment.mask, grid)
            found.append(Measurement(VOLUME, volume, CUBIC_MILLIMETRE, segment.number))
            found.append(Measurement(VOLUME, volume / 1000.0, MILLILITRE, segment.number))
            found.append(Measurement(LONGEST_DIAMETER, diameter, MILLIMETRE, segment.number))
    magnified = grid.space is Space.DETECTOR
    return Measured(
        tuple(found),
        ("measured on the detector: sizes in the patient are smaller by the magnification",) if magnified else (),
    )


def volume_mm3(mask: Mask, grid: Grid) -> float:
    """Voxels times the volume of a voxel."""
    return int(np.count_nonzero(mask)) * grid.voxel_mm3


def volume_measurements(mm3: float) -> tuple[Measurement, Measurement]:
    """A volume in mm3 and in mL."""
    return Measurement(VOLUME, mm3, CUBIC_MILLIMETRE), Measurement(VOLUME, mm3 / 1000.0, MILLILITRE)


def asymmetry(left: float, right: float) -> float:
    """(L - R) / ((L + R) / 2): positive where the left is larger; from -2 to 2. NaN where both are 0.

    >>> asymmetry(3.0, 3.0), asymmetry(3.0, 1.0), asymmetry(0.0, 1.0)
    (0.0, 1.0, -2.0)
    """
    return 2.0 * (left - right) / (left + right) if left + right > 0 else math.nan


def area_mm2(mask: Mask, grid: Grid) -> float:
    """Pixels times the area of a pixel, for a grid of one slice."""
    rows, columns = grid.affine[:3, 1], grid.affine[:3, 2]
    return int(np.count_nonzero(mask)) * float(np.linalg.norm(np.cross(rows, columns)))


def longest_diameter_mm(mask: Mask, grid: Grid) -> float:
    """Largest distance between two points of the surface, in mm; 0 for an empty mask.

    The surface is where the mask ends half-way between two voxel centres: these points are the vertices of the mesh
    that marching cubes draws round a binary mask, so that the value is the Image Biomarker Standardisation Initiative's
    "maximum 3D diameter" (Zwanenburg et al., reference manual, feature L0JK). One voxel measures its longest side.
    On a radiograph distances lie in the image plane.
    """
    in_plane = grid.space is not Space.PATIENT
    steps = [grid.affine[:3, axis] for axis in ((1, 2) if in_plane else (0, 1, 2))]
    centres = _line_ends(mask) @ grid.affine[:3, :3].T
    if len(centres) == 0:
        return 0.0
    centres = _outlying(centres, slack_mm=max(float(np.linalg.norm(step)) for step in steps))
    points = np.concatenate([centres + sign * step / 2 for step in steps for sign in (-1, 1)])
    return _largest_distance(_hull(points, 2 if in_plane else 3))


def _line_ends(mask: Mask) -> npt.NDArray[np.float64]:
    """(n, 3) in voxels: first and last voxel of every row of voxels. What lies between is never farthest."""
    hit = np.argwhere(mask.any(axis=2))
    rows = mask[hit[:, 0], hit[:, 1]]
    first = rows.argmax(axis=1)
    last = rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([hit, first]), np.column_stack([hit, last])]).astype(np.float64)


def _outlying(points: npt.NDArray[np.float64], slack_mm: float) -> npt.NDArray[np.float64]:
    """The points that can belong to a pair as far apart as any, give or take the slack.

    With all points within a radius of the middle, and two of them known to be `far` apart, a point nearer to the
    middle than far - radius has no partner at that distance. For long shapes little more than the two ends is left.
    """
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    from_middle = np.linalg.norm(points - middle, axis=1)
    far = np.linalg.norm(points - points[int(from_middle.argmax())], axis=1).max()
    kept: npt.NDArray[np.float64] = points[from_middle >= far - from_middle.max() - slack_mm - _ROUNDING_MM]
    return kept


def _hull(points: npt.NDArray[np.float64], dimensions: int) -> npt.NDArray[np.float64]:
    """The corners of the convex hull: two points farthest apart are always corners."""
    if len(points) <= _ROWS_AT_ONCE:
        return points
    from scipy.spatial import ConvexHull

    # On a radiograph all points lie in the plane of the image, (0, y, x).
    flat = points if dimensions == 3 else points[:, 1:]
    corners: npt.NDArray[np.float64] = points[ConvexHull(flat).vertices]
    return corners


def _largest_distance(points: npt.NDArray[np.float64]) -> float:
    from scipy.spatial.distance import cdist

    rows = range(0, len(points), _ROWS_AT_ONCE)
    return max(float(cdist(points[at : at + _ROWS_AT_ONCE], points[at:]).max()) for at in rows)
