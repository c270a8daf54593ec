"""clip: cut off values beyond two limits, given as values or as percentiles of the image."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, model_validator

from residency.prepare.step import STRICT
from residency.volume import Volume


class Clip(BaseModel):
    """Exactly one of `values` (low, high; in the volume's unit) and `percentiles` (low, high; 0..100 of all voxels)."""

    model_config = STRICT
    values: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        limits = [given for given in (self.values, self.percentiles) if given is not None]
        if len(limits) != 1:
            raise ValueError("give either values or percentiles, two numbers")
        if limits[0][0] >= limits[0][1]:
            raise ValueError(f"the lower limit {limits[0][0]} is not below the upper one {limits[0][1]}")
        if self.percentiles and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ValueError(f"percentiles lie in 0..100, got {self.percentiles}")
        return self

    def apply(self, volume: Volume) -> Volume:
        """The same grid, values within the limits."""
        low, high = self.values or (0.0, 0.0)
        if self.percentiles is not None:
            low, high = (float(v) for v in np.percentile(volume.array, self.percentiles))
        return volume.with_array(np.clip(volume.array, np.float32(low), np.float32(high)))
