"""resample: voxels of a given size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field

from residency.errors import GeometryError
from residency.prepare.sampling import resampled
from residency.prepare.step import STRICT, check_size, regrid
from residency.volume import Space, Volume

Spacing = Annotated[float, Field(ge=0, le=1000)]


class Resample(BaseModel):
    """Voxels of `spacing_mm` (one number, or one each for slice, row, column; 0 leaves that axis alone).

    tolerance  an axis whose spacing differs by no more than this share is left alone, values and grid

    Linear where voxels get smaller, smoothed to the new size where they get larger (see `sampling.taps`). Old and
    new grid share their centre, so that a flipped series gives the flipped result; the new one covers every old voxel.
    An axis of one voxel is left alone: there is nothing to interpolate between.
    """

    model_config = STRICT
    spacing_mm: Spacing | tuple[Spacing, Spacing, Spacing]
    tolerance: Annotated[float, Field(ge=0, le=0.2)] = 0.01

    def apply(self, volume: Volume) -> Volume:
        """The volume on the new grid."""
        grid = volume.grid
        if grid.space is Space.PIXELS:
            raise GeometryError("resample needs millimetres, but the image has no pixel spacing; use resize instead")
        wanted = self.spacing_mm if isinstance(self.spacing_mm, tuple) else (self.spacing_mm,) * 3
        ratios, shape = [1.0, 1.0, 1.0], list(grid.shape)
        for axis, (have, want) in enumerate(zip(grid.spacing_mm, wanted, strict=True)):
            if grid.shape[axis] == 1 or want == 0 or abs(have / want - 1.0) <= self.tolerance:
                continue
            ratios[axis] = want / have
            # A thousandth of a voxel that sticks out through rounding is not worth a plane of its own.
            shape[axis] = max(1, math.ceil(grid.shape[axis] * have / want - 1e-3))
        check_size(shape, f"resampling {grid.shape} voxels of {grid.spacing_mm} mm to {wanted} mm")
        new = (shape[0], shape[1], shape[2])
        if new == grid.shape and ratios == [1.0, 1.0, 1.0]:
            return volume
        scales = (ratios[0], ratios[1], ratios[2])
        offsets = [(old - 1) / 2 - (n - 1) / 2 * r for old, n, r in zip(grid.shape, new, scales, strict=True)]
        moved = regrid(grid, new, scales, offsets)
        return replace(volume, array=resampled(volume.array, new, scales), grid=moved)
