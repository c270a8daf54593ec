"""What a preparation step is, and how a step that moves voxels says where they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from pydantic import ConfigDict

from residency.volume import Grid, Shape, Volume

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


def regrid(grid: Grid, shape: Sequence[int], scales: Sequence[float], offsets: Sequence[float]) -> Grid:
    """The grid of `shape` voxels whose index j on axis k lies at index scales[k] * j + offsets[k] of `grid`."""
    index = np.eye(4)
    index[range(3), range(3)] = scales
    index[:3, 3] = offsets
    new: Shape = (int(shape[0]), int(shape[1]), int(shape[2]))
    return replace(grid, shape=new, affine=grid.affine @ index)
