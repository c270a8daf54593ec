"""Where a model with a step before looks: boxes round what that step found, cut out of the source, and their sides.

A crop is a part of the voxels of the source on their true place; nothing is resampled. Connected components (26
neighbours) of the structure are told apart, those below a tenth of the largest left out; components of one side whose
boxes are no farther apart than the margin are one structure in pieces.

A paired structure gives a left and a right crop, with these sides, only where all of this holds; x is LPS, and the
plane is that of the centre of what else the step before outlines (the intracranial mask, where there is one):
1. each of the two lies wholly on its own side of the plane, and its centre at least 5 mm from it;
2. between the two, along x, from edge to edge, are at least 5 mm: else they may be one structure, split;
3. the smaller has at least a quarter of the volume of the larger: else it may be a piece of something else.
Where there is nothing on the other side, or 3 fails, the larger gives one crop, its side unknown; where 1 or 2 fails,
the two are taken for one structure, and one crop holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from residency.errors import CropError
from residency.findings import Mask
from residency.labels import Side
from residency.prepare.crop import crop_to
from residency.volume import Grid, Space, Volume

FROM_PLANE_MM = 5.0
"""Least distance of a structure's centre from the plane between the sides."""
APART_MM = 5.0
"""Least gap along x between the left and the right structure."""
SMALLEST_PIECE = 0.1
"""Share of the largest component below which another one is no piece of anything."""
SMALLEST_OF_PAIR = 0.25
"""Share of the larger structure that the smaller one of a pair has at least."""

_MOST_COMPONENTS = 32
"""Largest components that are looked at."""

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """Voxels start <= index < stop, in (slice, row, column) of the source. side: proven, or None."""

    start: Index
    stop: Index
    side: Side | None = None

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """As an index of an array."""
        a, b = self.start, self.stop
        return slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])

    @property
    def name(self) -> str:
        """What the crop is called: "left", "right" or "side unknown"."""
        return in_words(self.side)


@dataclass(frozen=True)
class Crop:
    """A part of the source that a model is shown.

    structure  the box of what the step before found
    box        the same with the margin round it, where the source reaches so far
    volume     its voxels, on their own grid
    """

    structure: Box
    box: Box
    volume: Volume


@dataclass(frozen=True)
class Located:
    """Boxes of a structure, the left one first, and what a reader of the result should know of how they were found."""

    boxes: tuple[Box, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """One component, or several that are one structure."""

    voxels: int
    start: Index
    stop: Index
    x: tuple[float, float, float]
    """Least, mean and greatest LPS x, in mm: of the edges of its voxels, and of their centres."""

    def __add__(self, other: _Piece) -> _Piece:
        voxels = self.voxels + other.voxels
        mean = (self.voxels * self.x[1] + other.voxels * other.x[1]) / voxels
        return _Piece(
            voxels,
            _each(min, self.start, other.start),
            _each(max, self.stop, other.stop),
            (min(self.x[0], other.x[0]), mean, max(self.x[2], other.x[2])),
        )


def in_words(side: Side | None) -> str:
    """A side as people read it."""
    return {Side.LEFT: "left", Side.RIGHT: "right", None: "side unknown"}[side]


def locate(structure: Mask, reference: Mask, grid: Grid, *, paired: bool, margin_mm: float) -> Located:
    """The boxes of a structure, by the rules above.

    structure, reference  bool, (slices, rows, columns) of the grid; the centre of the reference parts left from right
    paired                False: one box, round the largest

    Raises CropError where there is nothing of the structure, or no place in the patient.
    """
    if grid.space is not Space.PATIENT:
        raise CropError("the image has no place in the patient, so that nothing can be cropped in it")
    pieces = _components(structure, grid)
    if not pieces:
        raise CropError("the step before finds nothing of the structure that the model needs a crop of")
    reach = [margin_mm / step for step in grid.spacing_mm]
    if not paired or not reference.any():
        note = () if not paired else ("side unknown: the step before finds nothing by which sides could be told",)
        return Located((_box(_joined(pieces, reach)),), note)
    plane = _centre_x(reference, grid)
    left = [piece for piece in pieces if piece.x[1] > plane]
    right = [piece for piece in pieces if piece.x[1] <= plane]
    if not left or not right:
        return Located((_box(_joined(pieces, reach)),), ("side unknown: one structure is found, not one on each side",))
    return _as_pair(_joined(left, reach), _joined(right, reach), plane)


def cut(volume: Volume, box: Box, margin_mm: float) -> Crop:
    """The box with its margin, cut out of a volume."""
    margin = [int(np.ceil(margin_mm / step - 1e-6)) for step in volume.grid.spacing_mm]
    start = [max(0, a - m) for a, m in zip(box.start, margin, strict=True)]
    stop = [min(n, b + m) for b, m, n in zip(box.stop, margin, volume.grid.shape, strict=True)]
    outer = replace(box, start=_index(start), stop=_index(stop))
    return Crop(box, outer, crop_to(volume, start, stop))


def cut_off(box: Box, grid: Grid) -> bool:
    """True where the structure reaches the border of the images: a part of it may lie outside."""
    return any(a == 0 or b == n for a, b, n in zip(box.start, box.stop, grid.shape, strict=True))


def owned(crop: Crop, others: Iterable[Crop], grid: Grid) -> Mask:
    """bool, of the shape of the crop: False where another crop shows the voxel too and its structure is nearer."""
    kept = np.ones(crop.volume.grid.shape, dtype=np.bool_)
    for other in others:
        start = _each(max, crop.box.start, other.box.start)
        stop = _each(min, crop.box.stop, other.box.stop)
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            continue
        mine, theirs = (_distance(one.structure, start, stop, grid) for one in (crop, other))
        first = crop.structure.start < other.structure.start
        inside = Box(_each(_minus, start, crop.box.start), _each(_minus, stop, crop.box.start))
        kept[inside.slices] &= (mine <= theirs) if first else (mine < theirs)
    return kept


def _as_pair(left: _Piece, right: _Piece, plane: float) -> Located:
    larger, smaller = (left, right) if left.voxels >= right.voxels else (right, left)
    if smaller.voxels < SMALLEST_OF_PAIR * larger.voxels:
        note = f"side unknown: on the other side the structure has {smaller.voxels / larger.voxels:.0%} of the volume"
        return Located((_box(larger),), (note,))
    crossing = left.x[0] < plane or right.x[2] > plane
    near = min(left.x[1] - plane, plane - right.x[1]) < FROM_PLANE_MM
    if crossing or near or left.x[0] - right.x[2] < APART_MM:
        note = "side unknown: left and right are not apart, so that the two may be one structure; one crop holds both"
        return Located((_box(left + right),), (note,))
    return Located((replace(_box(left), side=Side.LEFT), replace(_box(right), side=Side.RIGHT)))


def _components(mask: Mask, grid: Grid) -> list[_Piece]:
    """Components that are no specks, the largest first."""
    if not mask.any():
        return []
    import cc3d

    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)
    found = cc3d.statistics(labels)
    voxels = found["voxel_counts"].copy()
    voxels[0] = 0
    order = [int(k) for k in np.argsort(-voxels.astype(np.int64), kind="stable")[:_MOST_COMPONENTS]]
    kept = [k for k in order if voxels[k] > 0 and voxels[k] >= SMALLEST_PIECE * voxels[order[0]]]
    return [_piece(labels, k, found["bounding_boxes"][k], grid) for k in kept]


def _piece(labels: npt.NDArray[np.unsignedinteger], number: int, where: tuple[slice, ...], grid: Grid) -> _Piece:
    start = _index([s.start for s in where])
    inside = np.argwhere(labels[where] == number) + np.array(start)
    x = grid.to_lps(inside)[:, 0]
    half = float(np.abs(grid.affine[0, :3]).sum()) / 2
    ends = (float(x.min()) - half, float(x.mean()), float(x.max()) + half)
    return _Piece(len(inside), start, _index(inside.max(axis=0) + 1), ends)


def _joined(pieces: Sequence[_Piece], reach: Sequence[float]) -> _Piece:
    """The largest piece with every other whose box is within reach of it, or of what was joined to it already."""
    whole, *rest = sorted(pieces, key=lambda piece: -piece.voxels)
    while near := [piece for piece in rest if _gap_within(whole, piece, reach)]:
        for piece in near:
            whole += piece
            rest.remove(piece)
    return whole


def _gap_within(one: _Piece, other: _Piece, reach: Sequence[float]) -> bool:
    gaps = zip(one.start, one.stop, other.start, other.stop, reach, strict=True)
    return all(max(c - b, a - d) <= most for a, b, c, d, most in gaps)


def _distance(box: Box, start: Index, stop: Index, grid: Grid) -> npt.NDArray[np.float64]:
    """Squared distance in mm of each voxel of a region from a box, along the axes of the grid."""
    total = np.zeros([b - a for a, b in zip(start, stop, strict=True)])
    for axis, step in enumerate(grid.spacing_mm):
        index = np.arange(start[axis], stop[axis])
        outside = np.maximum(np.maximum(box.start[axis] - index, index - (box.stop[axis] - 1)), 0) * step
        shape = [1, 1, 1]
        shape[axis] = len(index)
        total += (outside**2).reshape(shape)
    return total


def _centre_x(mask: Mask, grid: Grid) -> float:
    """LPS x of the centre of a mask, in mm."""
    voxels = np.count_nonzero(mask)
    sums = [mask.sum(axis=tuple(k for k in range(3) if k != axis), dtype=np.int64) for axis in range(3)]
    return float(grid.to_lps([float(np.arange(len(n)) @ n) / voxels for n in sums])[0])


def _box(piece: _Piece) -> Box:
    return Box(piece.start, piece.stop)


def _index(values: Iterable[int]) -> Index:
    first, second, third = (int(value) for value in values)
    return first, second, third


def _minus(a: int, b: int) -> int:
    return a - b


def _each(which: Callable[[int, int], int], one: Index, other: Index) -> Index:
    return _index(which(a, b) for a, b in zip(one, other, strict=True))
