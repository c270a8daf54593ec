"""window: a range of modality values to 0..1, as a display would."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from residency.prepare.step import STRICT
from residency.volume import Volume


class Window(BaseModel):
    """(value - centre) / width + 0.5, cut to 0..1: LINEAR_EXACT of DICOM PS3.3 C.11.2.1.3.2, in the volume's unit."""

    model_config = STRICT
    centre: float
    width: Annotated[float, Field(gt=0)]

    def apply(self, volume: Volume) -> Volume:
        """The same grid, values 0..1."""
        scaled = (volume.array - np.float32(self.centre)) / np.float32(self.width) + np.float32(0.5)
        return volume.with_array(np.clip(scaled, 0.0, 1.0))
