"""How well a segmentation agrees with its reference: overlap, surface distance, and how sure the mean is.

Masks that are empty are dealt with openly, since averages hide them:

| reference | prediction | Dice | HD95 |
|---|---|---|---|
| something | something | overlap | distance in mm |
| something | nothing | 0: the structure was missed | infinity |
| nothing | something | 0: nothing was there | infinity |
| nothing | nothing | nan: nothing to judge | nan |

A mean over cases leaves out nan and says how many it used; infinity is never averaged away.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice (1945), 2 |A and B| / (|A| + |B|), 0..1 or nan; see the table above for empty masks.

    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    _check(prediction, reference)
    sizes = int(prediction.sum()) + int(reference.sum())
    return 2.0 * int((prediction & reference).sum()) / sizes if sizes else math.nan


def hd95(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance in mm, infinity or nan; see the table above for empty masks.

    The larger of the two directions, each the 95th percentile (interpolated linearly) of the distances from the surface
    voxels of one mask to the nearest surface voxel of the other. A surface voxel has a face neighbour outside its mask
    or outside the image. spacing_mm is by axis of the masks.
    """
    _check(prediction, reference)
    if not prediction.any() and not reference.any():
        return math.nan
    if not prediction.any() or not reference.any():
        return math.inf
    one, other = (_surface_points(mask, spacing_mm) for mask in (prediction, reference))
    from scipy.spatial import cKDTree

    there = cKDTree(other).query(one)[0]
    back = cKDTree(one).query(other)[0]
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def _surface_points(mask: Mask, spacing_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    from scipy.ndimage import binary_erosion

    surface = mask & ~binary_erosion(mask)
    return np.argwhere(surface).astype(np.float64) * np.asarray(spacing_mm, dtype=np.float64)


def _check(prediction: Mask, reference: Mask) -> None:
    if prediction.shape != reference.shape or prediction.dtype != np.bool_ or reference.dtype != np.bool_:
        raise ValueError(
            f"two boolean masks of one shape are compared, got {prediction.dtype} {prediction.shape} and "
            f"{reference.dtype} {reference.shape}"
        )


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its 95 % bootstrap interval over persons."""

    mean: float
    low: float
    high: float
    cases: int
    persons: int


def bootstrap(values: Mapping[Hashable, Sequence[float]], *, seed: int, rounds: int = 10_000) -> Interval:
    """Mean over all cases, and the percentile interval (2.5 %, 97.5 %) of that mean when persons are drawn anew.

    values  person -> the figures of that person's cases; nan is left out

    Whole persons are drawn, with replacement, since cases of one person are not independent (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, on cluster sampling). Raises ValueError where nothing is left.
    """
    kept = [[v for v in figures if not math.isnan(v)] for _, figures in sorted(values.items(), key=lambda i: str(i[0]))]
    kept = [figures for figures in kept if figures]
    if not kept:
        raise ValueError("there is no figure to take the mean of")
    sums = np.array([sum(figures) for figures in kept])
    counts = np.array([len(figures) for figures in kept])
    drawn = np.random.default_rng(seed).integers(0, len(kept), size=(rounds, len(kept)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    mean = float(sums.sum() / counts.sum())
    return Interval(mean, float(low), float(high), int(counts.sum()), len(kept))
