"""crop: a part of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from residency.errors import GeometryError
from residency.prepare.foreground import foreground
from residency.prepare.step import STRICT, regrid
from residency.volume import Image, Volume

Edge = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=0)]


class Crop(BaseModel):
    """One of four ways to say which part:

    foreground  true: the smallest box that holds the foreground, and `margin` voxels more where there are any;
                `above` sets the threshold (see `foreground`). A constant image is left whole.
    box         slice, row, column of the first voxel, then of the one behind the last
    shape       as many voxels round the centre (slices, rows, columns); 0 or more than there are leaves an axis alone
    square      true: the largest square of rows and columns round the centre of each slice

    What is cut away is background in the result.
    """

    model_config = STRICT
    foreground: bool = False
    margin: Annotated[int, Field(ge=0)] = 0
    above: float | None = None
    box: tuple[Edge, Edge, Edge, Edge, Edge, Edge] | None = None
    shape: tuple[Length, Length, Length] | None = None
    square: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum((self.foreground, self.box is not None, self.shape is not None, self.square)) != 1:
            raise ValueError("give one of foreground: true, box, shape and square: true")
        if not self.foreground and (self.margin or self.above is not None):
            raise ValueError("margin and above go with foreground: true")
        if self.box is not None and any(a >= b for a, b in zip(self.box[:3], self.box[3:], strict=True)):
            raise ValueError(f"the box {self.box} is empty")
        return self

    def apply(self, volume: Volume) -> Volume:
        """The part, on its own grid."""
        if self.foreground:
            start, stop = self._foreground(volume.array)
        elif self.box is not None:
            start, stop = list(self.box[:3]), list(self.box[3:])
            if any(b > n for b, n in zip(stop, volume.grid.shape, strict=True)):
                raise GeometryError(f"the box {self.box} of crop leaves the grid of {volume.grid.shape} voxels")
        else:
            side = min(volume.grid.shape[1:])
            wanted = (0, side, side) if self.square else self.shape or ()
            keep = [min(want or n, n) for want, n in zip(wanted, volume.grid.shape, strict=True)]
            start = [(n - k) // 2 for n, k in zip(volume.grid.shape, keep, strict=True)]
            stop = [a + k for a, k in zip(start, keep, strict=True)]
        return crop_to(volume, start, stop)

    def _foreground(self, array: Image) -> tuple[list[int], list[int]]:
        mask = foreground(array, self.above)
        start, stop = [0, 0, 0], list(array.shape)
        for axis in range(3):
            hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
            if hit.size:
                start[axis] = max(0, int(hit[0]) - self.margin)
                stop[axis] = min(array.shape[axis], int(hit[-1]) + 1 + self.margin)
        return start, stop


def crop_to(volume: Volume, start: Sequence[int], stop: Sequence[int]) -> Volume:
    """The voxels start <= index < stop on each axis, on their own grid."""
    part = volume.array[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    grid = regrid(volume.grid, part.shape, (1.0, 1.0, 1.0), start)
    return replace(volume, array=np.ascontiguousarray(part), grid=grid)
