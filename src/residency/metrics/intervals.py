"""How sure a figure is: bootstrap intervals, for which whole persons are drawn.

Cases of one person are not independent, so persons are drawn with replacement, each with all of its cases (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, on cluster sampling). Intervals run from the 2.5th to the 97.5th
percentile of the drawn figures. The same seed gives the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDS, FIGURE_ROUNDS = 10_000, 2_000

MOST_DRAWN = 2**22
"""Most persons that are drawn at once, over all rounds: memory stays the same for a hundred thousand persons."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over cases, or another figure of all cases, with its 95 % bootstrap interval over persons.

    cases     that the figure is of; persons likewise
    left_out  cases that say nothing (nan)
    infinite  cases among `cases` with an infinite figure, which make the mean infinite
    """

    mean: float
    low: float
    high: float
    cases: int
    persons: int
    left_out: int = 0
    infinite: int = 0


def bootstrap(values: Mapping[Any, Sequence[float]], *, seed: int, rounds: int = ROUNDS) -> Interval:
    """Mean over all cases, and its interval when persons are drawn anew.

    values  person -> the figures of that person's cases; nan is left out, and counted

    One infinite figure makes the mean infinite, and each drawn mean that it is part of. Raises ValueError where nothing
    is left, and for figures of plus and minus infinity, which have no mean.
    """
    ordered = [figures for _, figures in sorted(values.items(), key=lambda item: str(item[0]))]
    kept = [[v for v in figures if not math.isnan(v)] for figures in ordered]
    kept = [figures for figures in kept if figures]
    if not kept:
        raise ValueError("there is no figure to take the mean of")
    flat = [v for figures in kept for v in figures]
    if {math.inf, -math.inf} <= set(flat):
        raise ValueError("figures of plus and minus infinity have no mean")
    sums = np.array([sum(figures) for figures in kept])
    counts = np.array([len(figures) for figures in kept])
    low, high = _ends(_drawn_means(sums, counts, rounds, np.random.default_rng(seed)))
    return Interval(
        mean=float(sums.sum() / counts.sum()),
        low=low,
        high=high,
        cases=int(counts.sum()),
        persons=len(kept),
        left_out=sum(map(len, ordered)) - len(flat),
        infinite=sum(map(math.isinf, flat)),
    )


def _drawn_means(sums: Floats, counts: npt.NDArray[np.integer], rounds: int, random: np.random.Generator) -> Floats:
    """(rounds,): the mean over cases of as many persons as there are, drawn anew in each round.

    Some rounds at a time, whatever the number of persons; the numbers drawn are those of one call for all.
    """
    together = max(1, MOST_DRAWN // len(sums))
    found = []
    for start in range(0, rounds, together):
        drawn = random.integers(0, len(sums), size=(min(together, rounds - start), len(sums)))
        found.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(found)


def bootstrap_figure(
    figure: Callable[[Any, Any], float],
    scores: npt.NDArray[np.floating],
    truths: npt.NDArray[np.generic],
    persons: Sequence[Hashable],
    *,
    seed: int,
    rounds: int = FIGURE_ROUNDS,
) -> Interval:
    """A figure of all cases together, such as `auc` or `brier`, and its interval when persons are drawn anew.

    scores (n, ...), truths (n,) and persons (n,) are by case. Persons are drawn within strata: those who have the same
    classes among their cases. So each draw has as many persons of each kind as the test set, no draw lacks a class,
    and none has to be thrown away. A stratum of one person is in every draw, and adds nothing to the interval.

    Raises ValueError where the figure of all cases is nan, as that of a single class is.
    """
    if not len(scores) == len(truths) == len(persons):
        raise ValueError(f"scores, truths and persons are by case, got {len(scores)}, {len(truths)}, {len(persons)}")
    found = figure(scores, truths)
    if math.isnan(found):
        raise ValueError("the figure of all cases is not a number: a class is absent, or there is no case")
    strata = _strata(truths, persons)
    random = np.random.default_rng(seed)
    found_then = []
    for _ in range(rounds):
        drawn = [own[k] for own in strata for k in random.integers(0, len(own), size=len(own))]
        chosen = np.concatenate(drawn)
        found_then.append(figure(scores[chosen], truths[chosen]))
    return interval(float(found), np.array(found_then), len(truths), sum(map(len, strata)))


def interval(figure: float, drawn: Floats, cases: int, persons: int) -> Interval:
    """The interval of a figure of all cases together, from the figures (rounds,) of persons drawn anew.

    The figure itself lies in it. A calibration error is larger in most draws than in the cases drawn from, since these
    come several times; its interval would otherwise lie above it.
    """
    low, high = _ends(drawn)
    return Interval(figure, min(low, figure), max(high, figure), cases, persons)


def _strata(truths: npt.NDArray[np.generic], persons: Sequence[Hashable]) -> list[list[npt.NDArray[np.int64]]]:
    """The cases of each person, and the persons together who have the same classes; in an order of their own."""
    cases: dict[Hashable, list[int]] = {}
    for case, person in enumerate(persons):
        cases.setdefault(person, []).append(case)
    strata: dict[tuple[str, ...], list[npt.NDArray[np.int64]]] = {}
    for person in sorted(cases, key=str):
        kinds = tuple(sorted({str(truths[case]) for case in cases[person]}))
        strata.setdefault(kinds, []).append(np.array(cases[person]))
    return [own for _, own in sorted(strata.items())]


def paired(
    ours: Mapping[Any, Sequence[float]],
    theirs: Mapping[Any, Sequence[float]],
    *,
    seed: int,
    rightly_nothing: float | None = None,
    rounds: int = ROUNDS,
) -> Interval:
    """Mean over cases of ours minus theirs, with its interval when persons are drawn anew, each with both figures.

    ours, theirs     person -> the figures of that person's cases, in the same order of cases
    rightly_nothing  what a figure counts that is nan while the other is not: one of the two rightly said nothing
                     where nothing was. 1 for Dice, 0 for a distance in mm

    A case in which both are nan is left out, and counted; equal figures differ by 0, also where both are infinite.
    Raises ValueError for other persons or numbers of cases, for a nan on one side without `rightly_nothing`, and as
    `bootstrap` does.
    """
    if ours.keys() != theirs.keys() or any(len(ours[person]) != len(theirs[person]) for person in ours):
        raise ValueError("a paired comparison needs the same persons, and as many cases of each, on both sides")
    differences = {
        person: [_difference(*pair, rightly_nothing) for pair in zip(ours[person], theirs[person], strict=True)]
        for person in ours
    }
    return bootstrap(differences, seed=seed, rounds=rounds)


def not_inferior(difference: Interval, margin: float, *, higher_is_better: bool = True) -> bool:
    """True if the whole interval of ours minus theirs lies on the right side of the margin, a positive number.

    A difference that is merely not significant is no proof of being as good.
    """
    if not margin > 0:
        raise ValueError(f"the margin is a positive number in the units of the figure, got {margin}")
    return difference.low > -margin if higher_is_better else difference.high < margin


def _difference(one: float, other: float, rightly_nothing: float | None) -> float:
    if math.isnan(one) and math.isnan(other):
        return math.nan
    if math.isnan(one) or math.isnan(other):
        if rightly_nothing is None:
            raise ValueError("a figure is nan on one side alone; rightly_nothing must say what that counts")
        one, other = (rightly_nothing if math.isnan(value) else value for value in (one, other))
    return 0.0 if one == other else one - other


def _ends(drawn: Floats) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile; next to infinity nothing is interpolated."""
    if np.isfinite(drawn).all():
        low, high = np.percentile(drawn, (2.5, 97.5))
        return float(low), float(high)
    ordered = np.sort(drawn)
    last = len(drawn) - 1
    return float(ordered[math.floor(0.025 * last)]), float(ordered[math.ceil(0.975 * last)])
