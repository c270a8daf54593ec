"""A grid in the patient and an image on it; radiographs too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from residency.errors import GeometryError
from residency.geometry import SEPARABLE_TOLERANCE, Affine, orientation_letters, spacing_of

Shape = tuple[int, int, int]
Image = npt.NDArray[np.float32]


class Space(StrEnum):
    """What the affine of a grid maps to."""

    PATIENT = "patient"
    """LPS millimetres in a frame of reference: CT, MR."""
    DETECTOR = "detector"
    """Millimetres on the detector: a radiograph with pixel spacing. One slice; no place in the patient."""
    PIXELS = "pixels"
    """Pixels: a radiograph or picture without spacing. Physical measures are refused."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular lattice of voxels.

    shape    (slices, rows, columns); a radiograph has one slice
    affine   float64, 4 x 4: (slice, row, column, 1) -> LPS mm for space PATIENT, else (0, y, x) on the image
    frame_of_reference  its UID, or None where the source has none
    """

    shape: Shape
    affine: Affine
    frame_of_reference: str | None = None
    space: Space = Space.PATIENT

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if len(tuple(self.shape)) != 3 or min(self.shape) < 1:
            raise GeometryError(f"a grid needs three axes of at least one voxel, got {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError(f"the affine of a grid must be 4 x 4, finite and invertible, got {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Step along (slice, row, column) in mm; in pixels for space PIXELS."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """Direction of each axis as letters, for example "SPL" for a plain axial series."""
        return orientation_letters(self.affine)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_lps(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Indices (..., 3) in (slice, row, column), voxel centres at integers -> points (..., 3) in LPS mm."""
        lps: npt.NDArray[np.float64] = np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return lps

    def to_index(self, lps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Points (..., 3) in LPS mm -> fractional indices (..., 3) in (slice, row, column)."""
        inverse = np.linalg.inv(self.affine)
        index: npt.NDArray[np.float64] = np.asarray(lps, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]
        return index

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """True if both grids have the same shape and every corner at the same place within the tolerance."""
        if self.shape != other.shape or self.space != other.space:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.to_lps(corners) - other.to_lps(corners)).max() <= tolerance_mm)

    def axis_mapping(self, target: Grid) -> AxisMapping:
        """How indices of this grid map to indices of `target`, axis by axis.

        Raises GeometryError where the two grids are rotated against each other by more than whole quarter turns.
        """
        matrix = np.linalg.inv(target.affine) @ self.affine
        linear = matrix[:3, :3]
        target_axes = np.argmax(np.abs(linear), axis=0)
        scales = linear[target_axes, range(3)]
        rest = linear.copy()
        rest[target_axes, range(3)] = 0.0
        if sorted(target_axes.tolist()) != [0, 1, 2] or np.abs(rest).max() > SEPARABLE_TOLERANCE * np.abs(scales).min():
            raise GeometryError(
                "the two grids are rotated against each other; only quarter turns can be undone axis by axis"
            )
        offsets = matrix[target_axes, 3]
        return AxisMapping(tuple(target_axes.tolist()), tuple(scales.tolist()), tuple(offsets.tolist()))


@dataclass(frozen=True)
class AxisMapping:
    """Index i on axis k of the one grid is index scales[k] * i + offsets[k] on axis axes[k] of the other."""

    axes: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid, one channel.

    array  float32, (slices, rows, columns): modality values (HU for CT), slope and intercept applied; a radiograph is
           given as MONOCHROME2 (bright = dense)
    unit   UCUM-like text of the values: "[hnsf'U]" for HU, "1" where the scale is arbitrary (MR, radiographs)
    """

    array: Image
    grid: Grid
    unit: str = "1"
    notes: tuple[str, ...] = field(default=())
    """What reading had to do that a reader of the result should know, such as "MONOCHROME1 inverted"."""

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise GeometryError(
                f"an array of shape {self.array.shape} does not lie on a grid of shape {self.grid.shape}"
            )
        if self.array.dtype != np.float32:
            raise GeometryError(f"a volume holds float32, got {self.array.dtype}")

    def with_array(self, array: npt.NDArray[np.floating]) -> Volume:
        """The same grid with other intensities of the same shape."""
        return replace(self, array=np.ascontiguousarray(array, dtype=np.float32))


def regular_grid(shape: Sequence[int], spacing_mm: Sequence[float], *, frame_of_reference: str | None = None) -> Grid:
    """A plain axial grid at the origin: slices to superior, rows to posterior, columns to the left ("SPL").

    shape       (slices, rows, columns)
    spacing_mm  (slice, row, column)
    """
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Grid((shape[0], shape[1], shape[2]), affine, frame_of_reference)
