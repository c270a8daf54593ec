"""orient: the axes in a fixed anatomical order and direction, whatever way the series was stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from pydantic import BaseModel, model_validator

from residency.errors import GeometryError
from residency.geometry import reorientation
from residency.prepare.step import STRICT
from residency.volume import Space, Volume


class Orient(BaseModel):
    """Permute and reverse axes so that (slice, row, column) point, as nearly as they can, along `letters`.

    letters  one each of L/R, P/A, S/I: "SPL" is a plain axial series

    No value changes: an oblique series stays as oblique as it is. Refuses images that have no place in the patient.
    """

    model_config = STRICT
    letters: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            reorientation(np.eye(4), self.letters)
        except GeometryError as error:
            raise ValueError(str(error)) from None
        return self

    def apply(self, volume: Volume) -> Volume:
        """The same voxels in another order."""
        grid = volume.grid
        if grid.space is not Space.PATIENT:
            raise GeometryError(
                f"orient needs an image with a place in the patient; this one is measured on the {grid.space} only. "
                "Use a recipe without orient for radiographs"
            )
        axes, flips = reorientation(grid.affine, self.letters)
        index = np.zeros((4, 4))
        index[3, 3] = 1.0
        array = volume.array.transpose(axes)
        for new, (old, flipped) in enumerate(zip(axes, flips, strict=True)):
            index[old, new] = -1.0 if flipped else 1.0
            index[old, 3] = grid.shape[old] - 1 if flipped else 0.0
            if flipped:
                array = np.flip(array, axis=new)
        shape = (array.shape[0], array.shape[1], array.shape[2])
        moved = replace(grid, shape=shape, affine=grid.affine @ index)
        return replace(volume, array=np.ascontiguousarray(array), grid=moved)
