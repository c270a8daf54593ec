"""normalise: each volume's values to a common scale, measured on the volume itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from residency.errors import PixelError
from residency.prepare.foreground import foreground
from residency.prepare.step import STRICT
from residency.volume import Image, Volume

_VALUES_AT_ONCE = 2**20

Percent = Annotated[float, Field(ge=0, le=100)]


class Normalise(BaseModel):
    """(value - shift) / scale, with shift and scale measured on this volume.

    method  "z-score": mean and standard deviation; "min-max": smallest value and range; "percentile": the value at
            `lower` percent and the distance to that at `upper` percent. The last two give about 0..1; nothing is cut.
    over    "all" voxels, or the "foreground" (see `foreground`; `above` sets its threshold)
    outside "scaled": all voxels are scaled; "zero": those that are no foreground become 0, as nnU-Net leaves them

    Raises PixelError for a volume without any contrast (or without foreground): it has no scale, and a network that is
    shown a blank image may well find an organ in it.
    """

    model_config = STRICT
    method: Literal["z-score", "min-max", "percentile"] = "z-score"
    over: Literal["all", "foreground"] = "all"
    above: float | None = None
    lower: Percent = 0.5
    upper: Percent = 99.5
    outside: Literal["scaled", "zero"] = "scaled"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower >= self.upper:
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        if self.above is not None and self.over != "foreground":
            raise ValueError("above is a threshold for over: foreground")
        if self.outside == "zero" and self.over != "foreground":
            raise ValueError("outside: zero goes with over: foreground")
        return self

    def apply(self, volume: Volume) -> Volume:
        """The same grid on the common scale."""
        values = volume.array
        if self.over == "foreground":
            values = values[foreground(values, self.above)]
        shift, scale = self._measure(values)
        if not scale > 0.0:
            raise PixelError("the image has no contrast: every voxel has the same value, so nothing can be found in it")
        # In double precision, since a large mean with a small deviation would lose its digits in float32; and slice by
        # slice, since the whole volume in double precision would be the largest thing in memory.
        scaled = np.empty_like(volume.array)
        for index, plane in enumerate(volume.array):
            scaled[index] = (plane.astype(np.float64) - shift) / scale
        if self.outside == "zero":
            scaled[~foreground(volume.array, self.above)] = 0.0
        return replace(volume, array=scaled, unit="1")

    def _measure(self, values: Image) -> tuple[float, float]:
        if values.size == 0 or values.min() == values.max():
            return 0.0, 0.0
        if self.method == "z-score":
            mean = float(np.mean(values, dtype=np.float64))
            squares = math.fsum(float(np.square(part.astype(np.float64) - mean).sum()) for part in _parts(values))
            return mean, math.sqrt(squares / values.size)
        if self.method == "min-max":
            low, high = float(values.min()), float(values.max())
        else:
            low, high = (float(v) for v in np.percentile(values, (self.lower, self.upper)))
        return low, high - low


def _parts(values: Image) -> Iterator[Image]:
    flat = values.reshape(-1)
    return (flat[at : at + _VALUES_AT_ONCE] for at in range(0, flat.size, _VALUES_AT_ONCE))
