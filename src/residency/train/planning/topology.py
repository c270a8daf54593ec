"""Spacing, patch and stages: the rules of nnU-Net, on numbers alone.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, 18:203-211, supplementary note 2, in the form of the authors' version 2.

Axes are (slice, row, column) throughout; what is told of spacings holds for millimetres and for pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

Triple = tuple[int, int, int]

ANISOTROPIC = 3.0
"""An axis is coarse where its spacing is so many times that of the others."""

SMALLEST_EDGE = 4
"""Voxels along an axis at the bottom, at least; an axis is halved while it has twice as many."""


def target_spacing(spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    """The median along each axis; but of a coarse axis with few voxels the 10th percentile, not below the others.

    spacings, shapes  of each case

    Coarse: more than three times the spacing of the other axes, and less than a third of their voxels.
    """
    steps = np.array(spacings, dtype=np.float64)
    target = np.median(steps, axis=0)
    sizes = np.median(np.array(shapes, dtype=np.float64) * steps, axis=0) / target
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    few = sizes[worst] * ANISOTROPIC < min(sizes[others])
    if target[worst] > ANISOTROPIC * max(target[others]) and few:
        # Just above, as there: what is resampled with thick slices stays recognisable as such.
        target[worst] = max(np.percentile(steps[:, worst], 10), max(target[others]) + 1e-5)
    a, b, c = (float(f"{step:.3g}") for step in target)
    return a, b, c


def is_anisotropic(spacing: Sequence[float]) -> bool:
    """Slices are more than three times as far apart as pixels."""
    return max(spacing) > ANISOTROPIC * min(spacing)


@dataclass(frozen=True)
class Stages:
    """How a net goes down.

    patch    voxels along each axis, what the strides divide without a rest
    strides  of each stage's first convolution, (1, 1, 1) for the first stage
    kernels  sides of each stage's kernels
    """

    patch: Triple
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def divisors(self) -> Triple:
        """What each axis is a multiple of."""
        a, b, c = (math.prod(axis) for axis in zip(*self.strides, strict=True))
        return a, b, c

    @property
    def alike(self) -> int:
        """Stages, from the first, that treat all axes alike: a plain net with pooling by 2 has the same."""
        if any(set(kernel) != {3} for kernel in self.kernels):
            return 0
        return 1 + len(list(takewhile(lambda stride: set(stride) == {2}, self.strides[1:])))


def stages_of(patch: Sequence[int], spacing: Sequence[float], most: int = 99) -> Stages:
    """Halve every axis that has voxels to spare and is within a factor 2 of the finest, until none is left.

    A kernel is 1 along an axis until its spacing has come within a factor 2 of the finest, then 3, and always 3 at the
    bottom. The patch is rounded up to what is halved without a rest. `most`: stages at most.
    """
    size, step = [float(side) for side in patch], [float(one) for one in spacing]
    kernel, strides, kernels = [1, 1, 1], [(1, 1, 1)], []
    while True:
        finest = min(one for one, side in zip(step, patch, strict=True) if side > 1)
        kernel = [
            3 if side > 1 and (k == 3 or one / finest < 2) else 1 for k, one, side in _zipped(kernel, step, patch)
        ]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        able = [axis for axis in range(3) if size[axis] >= 2 * SMALLEST_EDGE]
        fine = min((step[axis] for axis in able), default=0.0)
        able = [axis for axis in able if step[axis] / fine < 2]
        if not able or (len(able) == 1 and size[able[0]] < 3 * SMALLEST_EDGE) or len(strides) >= most:
            break
        stride = [2 if axis in able else 1 for axis in range(3)]
        strides.append((stride[0], stride[1], stride[2]))
        size = [math.ceil(side / by) for side, by in zip(size, stride, strict=True)]
        step = [one * by for one, by in zip(step, stride, strict=True)]
    a, b, c = (1 if side == 1 else 3 for side in patch)
    kernels[-1] = (a, b, c)
    found = Stages((1, 1, 1), tuple(strides), tuple(kernels))
    a, b, c = (math.ceil(side / by) * by for side, by in zip(patch, found.divisors, strict=True))
    return Stages((a, b, c), found.strides, found.kernels)


def _zipped(kernel: Sequence[int], step: Sequence[float], patch: Sequence[int]) -> list[tuple[int, float, int]]:
    return list(zip(kernel, step, patch, strict=True))


def first_patch(spacing: Sequence[float], shape: Sequence[float], side: int = 256) -> Triple:
    """As many voxels as `side` cubed (a picture: `side` * 8 squared), longest where voxels are finest, at most `shape`.

    shape  median number of voxels along each axis, on the grid of `spacing`
    """
    deep = [axis for axis in range(3) if shape[axis] > 1]
    inverse = [1.0 / spacing[axis] for axis in deep]
    volume = float(side) ** 3 if len(deep) == 3 else float(8 * side) ** 2
    scale = (volume / math.prod(inverse)) ** (1 / len(deep)) if deep else 1.0
    made = [1, 1, 1]
    for axis, one in zip(deep, inverse, strict=True):
        made[axis] = max(1, min(round(one * scale), math.ceil(shape[axis])))
    return made[0], made[1], made[2]


def smaller_patch(stages: Stages, shape: Sequence[float], spacing: Sequence[float], most: int = 99) -> Stages | None:
    """One step down: the axis that covers the largest share of the median shape loses what it is divided by.

    None where no axis has anything left to lose.
    """
    least = [1 if side == 1 else 2 * SMALLEST_EDGE for side in stages.patch]
    able = [axis for axis in range(3) if stages.patch[axis] - stages.divisors[axis] >= least[axis]]
    if not able:
        return None
    axis = max(able, key=lambda k: stages.patch[k] / shape[k])
    cut = list(stages.patch)
    cut[axis] -= stages.divisors[axis]
    made = stages_of(cut, spacing, most)
    if math.prod(made.patch) >= math.prod(stages.patch):  # rounding up has undone it
        cut[axis] = max(least[axis], cut[axis] - stages.divisors[axis])
        made = stages_of(cut, spacing, most)
    return made if math.prod(made.patch) < math.prod(stages.patch) else None


def features_of(first: int, stages: int, most: int = 320) -> tuple[int, ...]:
    """Of each stage: they double, up to a limit."""
    return tuple(min(first * 2**level, most) for level in range(stages))
