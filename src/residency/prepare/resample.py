"""resample: voxels of a given size."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from residency.errors import GeometryError
from residency.prepare.sampling import cubic, resampled
from residency.prepare.step import STRICT, check_size, regrid
from residency.volume import Space, Volume

Spacing = Annotated[float, Field(ge=0, le=1000)]


class Resample(BaseModel):
    """Voxels of `spacing_mm` (one number, or one each for slice, row, column; 0 leaves that axis alone).

    tolerance      an axis whose spacing differs by no more than this share is left alone, values and grid
    grid           "cover": old and new grid share their centre, so that a flipped series gives the flipped result,
                   and the new one covers every old voxel; "first": they share their first voxel, and as many follow
                   as there is room for between the outermost centres (MONAI's Spacing); "edges": they share their
                   outer faces, the number of voxels is rounded and their size follows from it (nnU-Net)
    interpolation  "smoothed": linear where voxels get smaller, smoothed to the new size where they get larger (see
                   `sampling.taps`); "linear": linear throughout; "cubic": by splines, with grid "edges"
    thick          for "cubic": an axis whose spacing, before or else after, is more than so many times the finest is
                   taken by the nearest voxel, and the planes across it by themselves; 0: never

    An axis of one voxel is left alone: there is nothing to interpolate between.
    """

    model_config = STRICT
    spacing_mm: Spacing | tuple[Spacing, Spacing, Spacing]
    tolerance: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    grid: Literal["cover", "first", "edges"] = "cover"
    interpolation: Literal["smoothed", "linear", "cubic"] = "smoothed"
    thick: Annotated[float, Field(ge=0, le=100)] = 0.0

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.interpolation == "cubic" and self.grid != "edges":
            raise ValueError("interpolation: cubic goes with grid: edges")
        if self.thick and self.interpolation != "cubic":
            raise ValueError("thick goes with interpolation: cubic")
        return self

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
            shape[axis] = self._length(grid.shape[axis], have / want)
            ratios[axis] = grid.shape[axis] / shape[axis] if self.grid == "edges" else want / have
        check_size(shape, f"resampling {grid.shape} voxels of {grid.spacing_mm} mm to {wanted} mm")
        new = (shape[0], shape[1], shape[2])
        if new == grid.shape and ratios == [1.0, 1.0, 1.0]:
            return volume
        scales = (ratios[0], ratios[1], ratios[2])
        first = self.grid == "first"
        offsets = [
            0.0 if first else (old - 1) / 2 - (n - 1) / 2 * r for old, n, r in zip(grid.shape, new, scales, strict=True)
        ]
        if self.interpolation == "cubic":
            array = cubic(volume.array, new, self._thick_axis(grid.spacing_mm, wanted))
        else:
            smoothed = self.interpolation == "smoothed"
            array = resampled(volume.array, new, scales, first=first, smoothed=smoothed)
        return replace(volume, array=array, grid=regrid(grid, new, scales, offsets))

    def _length(self, voxels: int, times: float) -> int:
        """How many voxels become of an axis on which there are `times` as many to a millimetre."""
        if self.grid == "cover":
            # A thousandth of a voxel that sticks out through rounding is not worth a plane of its own.
            return max(1, math.ceil(voxels * times - 1e-3))
        return round((voxels - 1) * times) + 1 if self.grid == "first" else max(1, round(voxels * times))

    def _thick_axis(self, have: tuple[float, ...], wanted: tuple[float, ...]) -> int | None:
        """The one axis that is far coarser than the finest; None where there is none, or several."""
        if not self.thick:
            return None
        for spacing in (have, tuple(want or old for want, old in zip(wanted, have, strict=True))):
            if max(spacing) / min(spacing) > self.thick:
                coarsest = [axis for axis in range(3) if spacing[axis] == max(spacing)]
                return coarsest[0] if len(coarsest) == 1 else None
        return None
