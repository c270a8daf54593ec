"""resize: a given number of voxels over the same field of view."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from residency.prepare.sampling import resampled
from residency.prepare.step import LONGEST_AXIS, STRICT, check_size, regrid
from residency.volume import Volume

Length = Annotated[int, Field(ge=0, le=LONGEST_AXIS)]


class Resize(BaseModel):
    """`shape` voxels (slices, rows, columns) over the same field of view; 0 leaves that axis alone.

    interpolation  "smoothed": linear where voxels get smaller, smoothed to the new size where they get larger;
                   "linear": linear throughout, so that voxels are skipped

    Proportions are not kept: the grid records each axis' new spacing.
    """

    model_config = STRICT
    shape: tuple[Length, Length, Length]
    interpolation: Literal["smoothed", "linear"] = "smoothed"

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
        array = resampled(volume.array, new, ratios, smoothed=self.interpolation == "smoothed")
        return replace(volume, array=array, grid=moved)
