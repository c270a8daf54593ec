"""scale: values to a scale that is fixed beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from residency.prepare.step import STRICT
from residency.volume import Volume


class Scale(BaseModel):
    """(value - shift) / scale, with numbers of the training set: its mean and standard deviation, say.

    Keeps what `normalise` would lose, that an HU is an HU in every patient.
    """

    model_config = STRICT
    shift: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0

    def apply(self, volume: Volume) -> Volume:
        """The same grid on the fixed scale."""
        scaled = (volume.array - np.float32(self.shift)) / np.float32(self.scale)
        return replace(volume, array=scaled, unit="1")
