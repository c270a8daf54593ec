"""All that is asked of one structure in one case, with the surfaces found once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from residency.metrics.masks import Mask
from residency.metrics.nsd import surface_dice
from residency.metrics.overlap import dice, precision, sensitivity
from residency.metrics.surface import hd95_of, mean_of, surface_distances
from residency.metrics.volume import relative_volume_error, volume_error_mm3


@dataclass(frozen=True)
class Agreement:
    """How a predicted mask agrees with its reference; see the package's table for empty masks.

    tolerance_mm           what `surface_dice` was asked with
    volume_error_mm3       predicted minus reference
    relative_volume_error  the same as a share of the reference
    """

    dice: float
    hd95_mm: float
    mean_surface_distance_mm: float
    surface_dice: float
    tolerance_mm: float
    volume_error_mm3: float
    relative_volume_error: float
    sensitivity: float
    precision: float

    @property
    def absolute_volume_error_mm3(self) -> float:
        return abs(self.volume_error_mm3)

    @property
    def absolute_relative_volume_error(self) -> float:
        return abs(self.relative_volume_error)


def agreement(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], *, tolerance_mm: float = 1.0
) -> Agreement:
    """Compare two boolean masks of one shape. Raises ValueError for others, and for impossible lengths.

    A single slice is given with two axes: as a volume of one slice, all of it would be surface.
    """
    distances = surface_distances(prediction, reference, spacing_mm)
    return Agreement(
        dice=dice(prediction, reference),
        hd95_mm=distances if isinstance(distances, float) else hd95_of(*distances),
        mean_surface_distance_mm=distances if isinstance(distances, float) else mean_of(*distances),
        surface_dice=surface_dice(prediction, reference, spacing_mm, tolerance_mm),
        tolerance_mm=tolerance_mm,
        volume_error_mm3=volume_error_mm3(prediction, reference, spacing_mm),
        relative_volume_error=relative_volume_error(prediction, reference),
        sensitivity=sensitivity(prediction, reference),
        precision=precision(prediction, reference),
    )
