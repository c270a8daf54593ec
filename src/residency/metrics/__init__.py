"""How well results agree with their references, and how sure the figures are.

Masks that are empty are dealt with openly, since averages hide them:

| reference | prediction | Dice, surface Dice | HD95, mean distance | mm3 off | relative | sensitivity | precision |
|---|---|---|---|---|---|---|---|
| something | something | overlap | distance in mm | mm3 | share | share | share |
| something | nothing | 0: the structure was missed | infinity | minus all | -1 | 0 | 0 |
| nothing | something | 0: nothing was there | infinity | all | infinity | nan | 0 |
| nothing | nothing | nan: nothing to judge | nan | nan | nan | nan | nan |

A mean over cases leaves out nan and says how many it used; infinity is never averaged away. What absent classes do is
told where the figures of a classification are defined: `ranking`, `classification`, `calibration`.
"""

from __future__ import annotations

from residency.metrics.calibration import (
    BINS,
    Bin,
    brier,
    error_of,
    expected_calibration_error,
    pooled,
    reliability,
)
from residency.metrics.classification import Counts, accuracy, balanced_accuracy, confusion_matrix, counts
from residency.metrics.intervals import Interval, bootstrap, bootstrap_figure, not_inferior, paired
from residency.metrics.masks import Mask
from residency.metrics.nsd import surface_dice
from residency.metrics.overlap import dice, precision, sensitivity
from residency.metrics.ranking import auc, average_precision, by_class
from residency.metrics.structure import Agreement, agreement
from residency.metrics.surface import hd95, mean_surface_distance
from residency.metrics.volume import relative_volume_error, volume_error_mm3

__all__ = [
    "BINS",
    "Agreement",
    "Bin",
    "Counts",
    "Interval",
    "Mask",
    "accuracy",
    "agreement",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_figure",
    "brier",
    "by_class",
    "confusion_matrix",
    "counts",
    "dice",
    "error_of",
    "expected_calibration_error",
    "hd95",
    "mean_surface_distance",
    "not_inferior",
    "paired",
    "pooled",
    "precision",
    "relative_volume_error",
    "reliability",
    "sensitivity",
    "surface_dice",
    "volume_error_mm3",
]
