"""How well scores tell two classes apart, whatever threshold is chosen later.

Both figures are nan where a class is absent: there is nothing to tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]
Truths = npt.NDArray[np.bool_]


def auc(scores: Scores, truths: Truths) -> float:
    """Area under the ROC curve: how often a positive case scores above a negative one, a tie counting half.

    scores (n,), higher for positive; truths (n,), boolean. Exact (Mann and Whitney, 1947; Hanley and McNeil, Radiology
    143:29, 1982): no thresholds are chosen.

    >>> auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    _check(scores, truths)
    positives = int(truths.sum())
    negatives = len(truths) - positives
    if not positives or not negatives:
        return math.nan
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2  # of tied scores: the mean of the places that they share, from 1
    return float((ranks[group][truths].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: Scores, truths: Truths) -> float:
    """Area under the precision-recall curve as a sum of steps: precision at each threshold by the recall it adds.

    scores (n,), higher for positive; truths (n,), boolean. Tied scores pass a threshold together. Nothing is
    interpolated, which would flatter (Davis and Goadrich, ICML 2006). A model that knows nothing scores about the share
    of positives, so the figure says little without that share.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    _check(scores, truths)
    positives = int(truths.sum())
    if positives in (0, len(truths)):
        return math.nan
    values, group = np.unique(-scores, return_inverse=True)
    right = np.cumsum(np.bincount(group, weights=truths, minlength=len(values)))
    said = np.cumsum(np.bincount(group, minlength=len(values)))
    return float(np.sum(np.diff(right, prepend=0.0) * right / said) / positives)


def by_class(
    figure: Callable[[Scores, Truths], float], scores: Scores, labels: npt.NDArray[np.integer]
) -> tuple[float, ...]:
    """A figure of each class against all others: scores (n, classes), labels (n,). nan for a class that is absent."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores are (cases, classes) and labels (cases,), got {scores.shape} and {labels.shape}")
    return tuple(figure(scores[:, label], labels == label) for label in range(scores.shape[1]))


def _check(scores: Scores, truths: Truths) -> None:
    if scores.ndim != 1 or scores.shape != truths.shape or truths.dtype != np.bool_:
        raise ValueError(
            f"scores and boolean truths have one shape (cases,), got {scores.shape} and {truths.dtype} {truths.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("a score is no finite number, and has no place in an order")
