"""What a preparation step is, and how a step that moves voxels says where they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from pydantic import ConfigDict

from residency.errors import GeometryError
from residency.volume import Grid, Shape, Volume

LONGEST_AXIS = 4096
MOST_VOXELS = 2**30
"""Bounds of what a step makes: 4 GiB of float32, twice a whole-body CT of 512 x 512 x 2,000 voxels. A wrong spacing in
a header, or a recipe of another kind of image, must not fill the memory."""

STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
"""Every step is a pydantic model of its parameters: frozen, and unknown parameters are refused."""


class Preparation(Protocol):
    """One step: a pydantic model of its parameters, and what it does to a volume.

    `apply` never changes its argument, draws nothing at random, and gives float32. A step that moves, adds or drops
    voxels gives them a grid whose affine still says where in the patient each of them lies; so the way back to the
    source needs no record of the steps: it follows from the two grids (`Grid.axis_mapping`).
    Every step passes `residency.testing.steps.StepContract`.
    """

    def apply(self, volume: Volume) -> Volume:
        """The prepared volume. Raises GeometryError or PixelError where this step cannot be done on this image."""
        ...


def check_size(shape: Sequence[int], what: str) -> None:
    """Raises GeometryError, before any memory is asked for, where a step would make too many voxels."""
    voxels = int(shape[0]) * int(shape[1]) * int(shape[2])
    if max(shape) > LONGEST_AXIS or voxels > MOST_VOXELS:
        raise GeometryError(
            f"{what} gives {tuple(shape)} voxels; at most {LONGEST_AXIS} on an axis and {MOST_VOXELS} in all are made. "
            "Check the spacing in the images and the model's recipe"
        )


def regrid(grid: Grid, shape: Sequence[int], scales: Sequence[float], offsets: Sequence[float]) -> Grid:
    """The grid of `shape` voxels whose index j on axis k lies at index scales[k] * j + offsets[k] of `grid`."""
    index = np.eye(4)
    index[range(3), range(3)] = scales
    index[:3, 3] = offsets
    new: Shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    return replace(grid, shape=new, affine=grid.affine @ index)
