"""resize: a given number of voxels over the same field of view."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field

from residency.prepare.sampling import resampled
from residency.prepare.step import LONGEST_AXIS, STRICT, check_size, regrid
from residency.volume import Volume

Length = Annotated[int, Field(ge=0, le=LONGEST_AXIS)]


class Resize(BaseModel):
    """`shape` voxels (slices, rows, columns) over the same field of view; 0 leaves that axis alone.

    Linear where voxels get smaller, smoothed to the new size where they get larger. Proportions are not kept: the
    grid records each axis' new spacing.
    """

    model_config = STRICT
    shape: tuple[Length, Length, Length]

    def apply(self, volume: Volume) -> Volume:
        """The volume on the new grid."""
        old = volume.grid.shape
        new = (self.shape[0] or old[0], self.shape[1] or old[1], self.shape[2] or old[2])
        if new == old:
            return volume
        check_size(new, f"resizing {old} voxels")
        ratios = (old[0] / new[0], old[1] / new[1], old[2] / new[2])
        # Both grids have their edges in common: the centre of the first new voxel is half a new voxel from the edge.
        moved = regrid(volume.grid, new, ratios, [r / 2 - 0.5 for r in ratios])
        return replace(volume, array=resampled(volume.array, new, ratios), grid=moved)
