"""Pictures and volumes of solid shapes in noise, labelled by the shape: what 2D pretraining is tried on.

After the proof of concept in the code of Yang et al., "Reinventing 2D Convolutions for 3D Images", IEEE JBHI 2021
(repository ACSConv): in 2D three of four quadrants, in 3D four of eight octants hold one shape each, so that no two
overlap; the image is the union of the shapes plus half a standard normal deviate a voxel. Labels here begin with the
background, 0. Grids are (row, column) and (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

FLAT = ("square", "disc")
SOLID = ("cone", "pyramid", "cube", "cylinder", "ball")
SIDE = 24
SIZES = (4, 12)
"""Least and most of a side, diameter or height."""
NOISE = 0.5

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def pictures(count: int, random: np.random.Generator) -> tuple[Images, Labels]:
    """Images (count, 1, SIDE, SIDE) and labels (count, SIDE, SIDE): 0 background, then FLAT."""
    return _drawn(count, 2, 3, len(FLAT), random)


def volumes(count: int, random: np.random.Generator) -> tuple[Images, Labels]:
    """Images (count, 1, SIDE, SIDE, SIDE) and labels (count, SIDE, SIDE, SIDE): 0 background, then SOLID."""
    return _drawn(count, 3, 4, len(SOLID), random)


def _drawn(count: int, dimensions: int, shapes: int, kinds: int, random: np.random.Generator) -> tuple[Images, Labels]:
    labels = np.zeros((count, *[SIDE] * dimensions), np.uint8)
    corners = np.array(list(product((0, SIDE // 2), repeat=dimensions)))
    for one in labels:
        for corner in random.permutation(corners)[:shapes]:
            kind = int(random.integers(kinds))
            across, height = (int(n) for n in random.integers(SIZES[0], SIZES[1] + 1, 2))
            mask = flat(FLAT[kind], across) if dimensions == 2 else _turned(SOLID[kind], across, height, random)
            at = [int(c + random.integers(SIDE // 2 - n + 1)) for c, n in zip(corner, mask.shape, strict=True)]
            one[tuple(slice(a, a + n) for a, n in zip(at, mask.shape, strict=True))][mask] = kind + 1
    images = (labels > 0) + NOISE * random.standard_normal(labels.shape)
    return images[:, None].astype(np.float32), labels


def flat(kind: str, across: int) -> Mask:
    """A square or disc in its bounding box."""
    if kind == "square":
        return np.ones((across, across), bool)
    return _distance((across, across)) <= across / 2


def solid(kind: str, across: int, height: int) -> Mask:
    """A shape in its bounding box; cone, pyramid and cylinder stand along the first axis, the two begin at a tip."""
    if kind == "cube":
        return np.ones((across, across, across), bool)
    if kind == "ball":
        return _distance((across, across, across)) <= across / 2
    if kind == "cylinder":
        return np.broadcast_to(flat("disc", across), (height, across, across)).copy()
    half_width = (np.arange(height) + 1) / height * across / 2
    slice_ = _distance((across, across)) if kind == "cone" else _chebyshev(across)
    found: Mask = slice_[None] <= half_width[:, None, None]
    return found


def _turned(kind: str, across: int, height: int, random: np.random.Generator) -> Mask:
    mask = solid(kind, across, height)
    if kind in ("cone", "pyramid"):  # the cylinder always stands upright, as in the source
        for axes in ((0, 1), (0, 2), (1, 2)):
            mask = np.rot90(mask, int(random.integers(4)), axes)
    return mask


def _distance(sides: Sequence[int]) -> npt.NDArray[np.float64]:
    """Of each voxel's centre from the centre of the box."""
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in sides], indexing="ij")
    found: npt.NDArray[np.float64] = np.sqrt(sum(axis**2 for axis in axes))
    return found


def _chebyshev(across: int) -> npt.NDArray[np.float64]:
    offset = np.abs(np.arange(across) - (across - 1) / 2)
    return np.maximum(offset[:, None], offset[None, :])
