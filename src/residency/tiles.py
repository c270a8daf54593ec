"""Sliding windows over a grid, and the weights with which their answers are blended.

Windows lie on a lattice: every combination of one start an axis. With weights that are a product of one factor an axis,
the sum of all weights at a voxel is a product too; so each factor can be divided by its own sum beforehand, and the
blended answer is a plain sum over windows. No second accumulator is needed, and a window can be blended as it comes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.volume import Shape

SIGMA_SHARE = 0.125
"""Standard deviation of the Gaussian as a share of the window: nnU-Net's value (Isensee et al. 2021). Scores near the
border of a window have seen only half of their surroundings and count little."""

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Axis:
    """The windows along one axis.

    length   voxels of the grid
    window   voxels of a window; may exceed the length
    starts   first voxel of each window, ascending; negative where the window exceeds the grid
    weights  float32, (starts, window): at each voxel of the grid the weights of all windows add up to 1
    """

    length: int
    window: int
    starts: tuple[int, ...]
    weights: Weights

    def inside(self, start: int) -> tuple[slice, slice]:
        """The part of the window at `start` that lies on the grid: as a slice of the grid, and of the window."""
        low, high = max(start, 0), min(start + self.window, self.length)
        return slice(low, high), slice(low - start, high - start)


def axis_windows(length: int, window: int, overlap: float, *, even: bool = False) -> Axis:
    """Evenly spread windows that cover an axis, neighbours sharing at least `overlap` (0..0.9) of a window.

    even  all voxels of a window count alike

    A window that exceeds the axis lies round its middle.
    """
    if window >= length:
        starts: tuple[int, ...] = (-((window - length) // 2),)
    else:
        step = max(1, math.floor(window * (1.0 - overlap) + 1e-9))
        count = math.ceil((length - window) / step) + 1
        starts = tuple(round(k * (length - window) / (count - 1)) for k in range(count))
    factor = np.ones(window) if even else _gaussian(window)
    total = np.zeros(length + 2 * window)
    for start in starts:
        total[window + start : 2 * window + start] += factor
    weights = np.stack([factor / total[window + start : 2 * window + start] for start in starts])
    return Axis(length, window, starts, weights.astype(np.float32))


def windows(shape: Shape, window: Sequence[int], overlap: float, *, even: bool = False) -> tuple[Axis, Axis, Axis]:
    """The windows along each axis of a grid of `shape` (slices, rows, columns)."""
    made = [axis_windows(length, size, overlap, even=even) for length, size in zip(shape, window, strict=True)]
    return (made[0], made[1], made[2])


def cut(array: npt.NDArray[np.float32], axes: Sequence[Axis], starts: Sequence[int]) -> npt.NDArray[np.float32]:
    """One window of an array (slices, rows, columns), in memory of its own; 0 outside the grid, as `pad` fills."""
    parts = [axis.inside(start) for axis, start in zip(axes, starts, strict=True)]
    tile = np.zeros([axis.window for axis in axes], dtype=np.float32)
    tile[tuple(inner for _, inner in parts)] = array[tuple(outer for outer, _ in parts)]
    return tile


def _gaussian(window: int) -> npt.NDArray[np.float64]:
    from_centre = np.arange(window) - (window - 1) / 2
    values: npt.NDArray[np.float64] = np.exp(-0.5 * (from_centre / (SIGMA_SHARE * window)) ** 2)
    return values
