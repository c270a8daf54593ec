"""Whether a probability means what it says: of the cases given 0.8, are 80 % of the class?

Probabilities are (n,), of the positive class, with boolean truths (n,); or (n, classes), with labels (n,) from 0. Of
several classes the likeliest is judged: its probability against whether it is right (Guo et al., "On calibration of
modern neural networks", ICML 2017). Both figures are nan without cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.floating]
Truths = npt.NDArray[np.bool_] | npt.NDArray[np.integer]

BINS = 15
"""Of equal width: what published figures use, and what a reliability diagram shows."""

_ROUNDING, _SUM_TOLERANCE = 1e-6, 1e-3


@dataclass(frozen=True)
class Bin:
    """Cases whose probability lies in [low, high), in the last bin up to 1 with it.

    said   mean of their probabilities
    found  share of them that are of the class, or right
    """

    low: float
    high: float
    cases: int
    said: float
    found: float


def reliability(probabilities: Probabilities, truths: Truths, bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability diagram: all bins of equal width that hold cases, from low to high."""
    if bins < 1:
        raise ValueError(f"at least one bin is needed, got {bins}")
    said, found = _judged(probabilities, truths)
    at = np.minimum((said * bins).astype(np.int64), bins - 1)
    sizes = np.bincount(at, minlength=bins)
    sums = np.bincount(at, weights=said, minlength=bins)
    hits = np.bincount(at, weights=found, minlength=bins)
    return tuple(
        Bin(k / bins, (k + 1) / bins, int(sizes[k]), float(sums[k] / sizes[k]), float(hits[k] / sizes[k]))
        for k in np.flatnonzero(sizes).tolist()
    )


def expected_calibration_error(probabilities: Probabilities, truths: Truths, bins: int = BINS) -> float:
    """Mean distance between what is said and what is found over the bins, weighted by their cases: 0..1 or nan.

    With few cases it is above 0 even of a perfect model, since a bin of three cases cannot hold 80 % (Roelofs et al.,
    AISTATS 2022): compare it only at equal numbers of cases, and beside the Brier score, which has no bins.
    """
    return error_of(reliability(probabilities, truths, bins))


def error_of(diagram: Sequence[Bin]) -> float:
    """The expected calibration error of a reliability diagram: 0..1, or nan without cases."""
    cases = sum(one.cases for one in diagram)
    return math.fsum(one.cases * abs(one.said - one.found) for one in diagram) / cases if cases else math.nan


def pooled(diagrams: Iterable[Sequence[Bin]]) -> tuple[Bin, ...]:
    """The diagram of all cases together, from diagrams of the same bins; bins that hold cases, from low to high.

    So each case's voxels are counted once, and need not be kept.
    """
    together: dict[tuple[float, float], tuple[int, float, float]] = {}
    for one in (one for diagram in diagrams for one in diagram):
        cases, said, found = together.get((one.low, one.high), (0, 0.0, 0.0))
        together[one.low, one.high] = (
            cases + one.cases,
            said + one.cases * one.said,
            found + one.cases * one.found,
        )
    return tuple(
        Bin(low, high, cases, said / cases, found / cases)
        for (low, high), (cases, said, found) in sorted(together.items())
    )


def brier(probabilities: Probabilities, truths: Truths) -> float:
    """Mean squared distance of probabilities and truth (Brier, Monthly Weather Review 78:1, 1950); 0 is perfect.

    Of (n,): that of the positive class, 0..1. Of (n, classes): summed over the classes, as Brier did, 0..2; of two
    classes, that is twice the first. It is lowest on average only for the true probabilities.
    """
    _check(probabilities, truths)
    if not len(truths):
        return math.nan
    if probabilities.ndim == 1:
        return float(np.mean((probabilities - truths) ** 2))
    wanted = np.eye(probabilities.shape[1])[truths]
    return float(np.mean(np.sum((probabilities - wanted) ** 2, axis=1)))


def _judged(probabilities: Probabilities, truths: Truths) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The probability that is judged in each case, and whether it came true."""
    _check(probabilities, truths)
    if probabilities.ndim == 1:
        return probabilities.astype(np.float64), truths.astype(np.bool_)
    likeliest = probabilities.argmax(axis=1)
    return probabilities.max(axis=1).astype(np.float64), likeliest == truths


def _check(probabilities: Probabilities, truths: Truths) -> None:
    several = probabilities.ndim == 2
    kind = np.integer if several else np.bool_
    fits = probabilities.ndim in (1, 2) and truths.shape == probabilities.shape[:1]
    if not fits or not np.issubdtype(truths.dtype, kind):
        raise ValueError(
            "probabilities are (cases,) with boolean truths (cases,), or (cases, classes) with labels (cases,), got "
            f"{probabilities.shape} and {truths.dtype} {truths.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1 + _ROUNDING)).all():
        raise ValueError("a probability lies outside 0..1; scores need their activation first")
    if several and len(truths):
        if np.abs(probabilities.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
            raise ValueError("the probabilities of a case do not sum to 1; scores need their activation first")
        if not 0 <= truths.min() <= truths.max() < probabilities.shape[1]:
            raise ValueError(f"labels are 0..{probabilities.shape[1] - 1}, got {truths.min()}..{truths.max()}")
