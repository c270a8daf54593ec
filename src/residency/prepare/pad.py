"""pad: voxels added on both sides until each axis is a multiple."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from residency.prepare.step import STRICT, check_size, regrid
from residency.volume import Volume

Multiple = Annotated[int, Field(ge=1, le=1024)]


class Pad(BaseModel):
    """Every axis a multiple of `multiple`: one number, or one each for slice, row, column (1 leaves an axis alone).

    mode   "constant": filled with `value`; "minimum": with the image's smallest value; "edge": with the outermost
           voxel; "reflect": mirrored at the outermost voxel
    value  for "constant", in the unit that the values have by then; 0 is the mean after a z-score

    An odd number of voxels puts the larger part behind. One number leaves an axis of one voxel alone (radiographs);
    three numbers are taken as they stand.
    """

    model_config = STRICT
    multiple: Multiple | tuple[Multiple, Multiple, Multiple]
    mode: Literal["constant", "minimum", "edge", "reflect"] = "constant"
    value: float = 0.0

    @model_validator(mode="after")
    def _value_used(self) -> Self:
        if self.value != 0.0 and self.mode != "constant":
            raise ValueError("value goes with mode: constant")
        return self

    def apply(self, volume: Volume) -> Volume:
        """The image with a margin, on the larger grid."""
        shape = volume.grid.shape
        if isinstance(self.multiple, tuple):
            missing = [-n % m for n, m in zip(shape, self.multiple, strict=True)]
        else:
            missing = [0 if n == 1 else -n % self.multiple for n in shape]
        if not any(missing):
            return volume
        check_size([n + m for n, m in zip(shape, missing, strict=True)], f"padding {shape} voxels")
        widths = [(m // 2, m - m // 2) for m in missing]
        if self.mode in ("constant", "minimum"):
            fill = np.float32(self.value) if self.mode == "constant" else volume.array.min()
            array = np.pad(volume.array, widths, mode="constant", constant_values=fill)
        elif self.mode == "edge":
            array = np.pad(volume.array, widths, mode="edge")
        else:
            array = np.pad(volume.array, widths, mode="reflect")
        grid = regrid(volume.grid, array.shape, (1.0, 1.0, 1.0), [-before for before, _ in widths])
        return replace(volume, array=array, grid=grid)
