"""How far a volume is off. Errors are signed, predicted minus reference, since a bias hides in absolute ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from residency.metrics.masks import Mask, checked, steps


def volume_error_mm3(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Predicted minus reference volume in mm3 (mm2 for a 2D mask); nan where both masks are empty."""
    checked(prediction, reference)
    voxel_mm3 = float(steps(reference, spacing_mm).prod())
    said, wanted = int(prediction.sum()), int(reference.sum())
    return (said - wanted) * voxel_mm3 if said or wanted else math.nan


def relative_volume_error(prediction: Mask, reference: Mask) -> float:
    """Predicted minus reference volume as a share of the reference: -1 for a missed structure, infinity or nan."""
    checked(prediction, reference)
    said, wanted = int(prediction.sum()), int(reference.sum())
    if not wanted:
        return math.inf if said else math.nan
    return (said - wanted) / wanted
