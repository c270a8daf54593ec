"""Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other.

Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for radiotherapy: deep learning algorithm
development and validation study", J Med Internet Res 23(7):e26151, 2021:

    (|S_A within the tolerance of S_B| + |S_B within the tolerance of S_A|) / (|S_A| + |S_B|)

with |S| an area (in 2D a length). A surface element lies where the 2 x 2 x 2 voxels about a corner are not all alike.
It weighs as much as the surface that parts these voxels by marching cubes (Lorensen and Cline, SIGGRAPH 1987): in a
cell whose corners are the voxel centres, the surface cuts an edge in the middle if its two ends differ. That is what
the authors' own program weighs by, and for a reason: where voxels are counted instead, a side wall through thick slices
weighs too little beside the faces in the slices; where faces are counted, an oblique surface weighs up to 1.7 times too
much.

A cell's surface is traced along the faces of the cell; where a face has two opposite corners inside, they are kept
apart. Pieces that are not flat are divided into triangles about the mean of their corners, so that turning or mirroring
an image never changes a figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from residency.metrics.masks import Mask, absent, checked, cropped, steps

_ROUNDING = 1e-9
"""Share and mm by which a distance may pass the tolerance: three steps of 0.1 mm are 0.30000000000000004 mm."""

Corner = tuple[int, ...]
Cut = frozenset[Corner]
Points = npt.NDArray[np.float64]


def surface_dice(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float) -> float:
    """Normalised surface Dice of two masks (2D or 3D), 0..1 or nan; see the package's table for empty masks.

    spacing_mm is by axis. A distance equal to the tolerance is within it. Where a mask ends at the border of the image,
    it has a surface there. Raises ValueError for other masks, and for a tolerance that is negative or not finite.
    """
    checked(prediction, reference)
    spacing = steps(reference, spacing_mm)
    if reference.ndim not in (2, 3):
        raise ValueError(f"a surface Dice is that of masks with 2 or 3 axes, got {reference.ndim}")
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"the tolerance is a length in mm, 0 or more, got {tolerance_mm}")
    nothing = absent(prediction, reference)
    if nothing is not None:
        return math.nan if math.isnan(nothing) else 0.0
    from scipy.spatial import cKDTree

    (here, sizes), (there, other_sizes) = (_elements(mask, spacing) for mask in cropped(prediction, reference))
    # Beyond the bound nothing is searched for, and the distance is infinity.
    bound = tolerance_mm * (1 + _ROUNDING) + _ROUNDING
    near = cKDTree(there).query(here, distance_upper_bound=bound)[0] < np.inf
    other_near = cKDTree(here).query(there, distance_upper_bound=bound)[0] < np.inf
    within = sizes[near].sum() + other_sizes[other_near].sum()
    return float(within / (sizes.sum() + other_sizes.sum()))


def _elements(mask: Mask, spacing: Points) -> tuple[Points, Points]:
    """Where the surface elements lie, (n, axes) in mm, and their sizes (n,) in mm2, in 2D in mm."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([side - 1 for side in padded.shape], dtype=np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        part = tuple(slice(at, at + side) for at, side in zip(corner, codes.shape, strict=True))
        codes |= padded[part] << np.uint8(bit)
    places = np.nonzero((codes > 0) & (codes < 2 ** (2**mask.ndim) - 1))
    return np.stack(places, axis=1) * spacing, _sizes(spacing)[codes[places]]


def _sizes(spacing: Points) -> Points:
    """Size of the surface in a cell, by code: bit k is corner k of the cell, the last axis fastest."""
    codes, pieces = _surfaces(len(spacing))
    sides = np.diff(pieces * spacing, axis=1)
    sizes = np.linalg.norm(sides[:, 0] if len(spacing) == 2 else np.cross(sides[:, 0], sides[:, 1]) / 2, axis=1)
    return np.bincount(codes, weights=sizes, minlength=2 ** (2 ** len(spacing))).astype(np.float64)


@cache
def _surfaces(axes: int) -> tuple[npt.NDArray[np.int64], Points]:
    """Codes (n,) and the lines (n, 2, 2) or triangles (n, 3, 3) of their surfaces, in voxels."""
    corners = list(product((0, 1), repeat=axes))
    found = []
    for code in range(2 ** len(corners)):
        inside = {corner for k, corner in enumerate(corners) if code >> k & 1}
        found += [(code, piece) for piece in (_lines(inside) if axes == 2 else _triangles(inside))]
    codes, pieces = zip(*found, strict=True)
    return np.array(codes), np.array(pieces, dtype=np.float64)


def _lines(inside: set[Corner]) -> Iterable[Points]:
    for ends in _pieces([(0, 0), (0, 1), (1, 1), (1, 0)], inside):
        yield np.stack([_middle(cut) for cut in ends])


def _triangles(inside: set[Corner]) -> Iterable[Points]:
    for loop in _loops(inside):
        rim = np.stack([_middle(cut) for cut in loop])
        centre = rim.mean(axis=0)
        for one, other in zip(rim, np.roll(rim, -1, axis=0), strict=True):
            yield np.stack([one, centre, other])


def _loops(inside: set[Corner]) -> Iterable[list[Cut]]:
    """The rims of the pieces of surface in a cube: each runs from face to face through the cut edges."""
    beside: dict[Cut, list[Cut]] = {}
    for axis, side in product(range(3), (0, 1)):
        face = [(*at[:axis], side, *at[axis:]) for at in ((0, 0), (0, 1), (1, 1), (1, 0))]
        for one, other in _pieces(face, inside):
            beside.setdefault(one, []).append(other)
            beside.setdefault(other, []).append(one)
    while beside:
        loop = [next(iter(beside))]
        while onward := [cut for cut in beside.pop(loop[-1]) if cut in beside]:
            loop.append(onward[0])
        yield loop


def _pieces(face: Sequence[Corner], inside: set[Corner]) -> list[tuple[Cut, Cut]]:
    """Lines across a face, given by its corners in turn, from cut edge to cut edge."""
    edges = [frozenset((face[k], face[(k + 1) % 4])) for k in range(4)]
    cuts = [edge for edge in edges if len(edge & inside) == 1]
    if len(cuts) == 2:
        return [(cuts[0], cuts[1])]
    return [(edges[k - 1], edges[k]) for k in range(4) if cuts and face[k] in inside]


def _middle(cut: Cut) -> Points:
    one, other = cut
    middle: Points = (np.array(one, dtype=np.float64) + np.array(other)) / 2
    return middle
