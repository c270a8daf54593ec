"""Affines between voxel indices and the patient, orientation letters, and named tolerances.

Everywhere in Residency an index is (slice, row, column) and a point is LPS: millimetres, +x to the patient's left,
+y to posterior, +z to superior (DICOM PS3.3 C.7.6.2.1.1). An affine is float64, 4 x 4, and maps (slice, row, column, 1)
to (x, y, z, 1); its first three columns are the steps, in mm, of one slice, one row and one column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from residency.errors import GeometryError

Affine = npt.NDArray[np.float64]

SPACING_TOLERANCE_MM = 0.01
"""Largest departure of a slice gap from the median gap. Scanners write positions with 1e-3 mm or better; a lost slice
changes the gap by whole millimetres."""

ORIENTATION_TOLERANCE = 1e-4
"""Largest difference between two direction cosines that count as one orientation. Some scanners spell the same plane
in two ways that differ in the sixth decimal."""

TILT_TOLERANCE_DEGREES = 0.5
"""Largest angle between the slice step and the normal of the slices; beyond it the stack is sheared (gantry tilt)."""

SEPARABLE_TOLERANCE = 1e-3
"""Largest off-axis share of a grid-to-grid mapping that still counts as a signed permutation with scales."""

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))


def slice_spacing(positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]) -> float:
    """Distance between neighbouring slices, in millimetres.

    positions  float64, (slices, 3), LPS mm: Image Position (Patient) of each slice, in any order; two or more
    normal     float64, (3,), unit length: row direction x column direction

    Slice Thickness and Spacing Between Slices are not read: scanners fill them differently, and only positions show a
    missing slice. Raises GeometryError, naming the gap, when a slice is missing or doubled.

    >>> float(slice_spacing(np.array([[0, 0, 5.0], [0, 0, 0.0], [0, 0, 2.5]]), normal=np.array([0, 0, 1.0])))
    2.5
    """
    along = np.sort(np.asarray(positions, dtype=np.float64) @ np.asarray(normal, dtype=np.float64))
    gaps = np.diff(along)
    median = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - median) > SPACING_TOLERANCE_MM)
    if median <= SPACING_TOLERANCE_MM or wrong.size:
        at = int(wrong[0]) if wrong.size else 0
        raise GeometryError(
            f"slice {at + 2} of {len(along)} is {gaps[at]:.2f} mm from slice {at + 1}, the median distance is "
            f"{median:.2f} mm: a slice is missing or doubled. Send the whole series again, "
            "or crop it to an unbroken run."
        )
    return median


def spacing_of(affine: Affine) -> tuple[float, float, float]:
    """Length in mm of one step along (slice, row, column)."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return (float(lengths[0]), float(lengths[1]), float(lengths[2]))


def orientation_letters(affine: Affine) -> str:
    """Where each index axis points, one letter an axis in the order (slice, row, column), nearest anatomical direction.

    An axial series with rows to posterior and columns to the left is "SPL". Oblique axes get the letter of their
    largest component; no anatomical axis is named twice.

    >>> orientation_letters(np.array([[0, 0, 1, 0], [0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    'SPL'
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    letters = [""] * 3
    free = np.abs(directions).copy()
    for _ in range(3):
        world, axis = np.unravel_index(int(np.argmax(free)), free.shape)
        letters[axis] = _LETTERS[world][0 if directions[world, axis] > 0 else 1]
        free[world, :] = -1.0
        free[:, axis] = -1.0
    return "".join(letters)


def reorientation(affine: Affine, letters: str) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which source axis becomes each axis of `letters`, and whether it is reversed on the way.

    Returns (axes, flips): output axis k is source axis axes[k], reversed where flips[k].
    Raises GeometryError if `letters` is not three letters, one of each pair L/R, P/A, S/I.
    """
    pairs = [next((i for i, pair in enumerate(_LETTERS) if letter in pair), -1) for letter in letters]
    if sorted(pairs) != [0, 1, 2]:
        raise GeometryError(
            f"orientation '{letters}' is not three letters, one each of L/R, P/A and S/I, such as 'SPL'"
        )
    have = orientation_letters(affine)
    axes, flips = [], []
    for letter, pair in zip(letters, pairs, strict=True):
        axis = next(i for i, h in enumerate(have) if h in _LETTERS[pair])
        axes.append(axis)
        flips.append(have[axis] != letter)
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def lps_from_ras(affine: Affine) -> Affine:
    """The same mapping with x and y reversed: NIfTI counts x to the right and y to anterior (and back again)."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
