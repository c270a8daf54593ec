"""Whether a faster form of a network may ship: a non-inferiority test on persons whom nobody chose by.

Each case is judged twice, by the form it comes from and by the faster one, and the two are compared case by case. A
mean hides the one patient whose structure is gone, so the worst case has a bound of its own; a difference that is
merely not significant is no proof, so the whole interval over persons must lie within the bound; and few persons prove
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

import numpy as np
import numpy.typing as npt

from residency.metrics import auc, by_class, expected_calibration_error, paired
from residency.metrics.intervals import bootstrap_figure
from residency.optimise.judged import Judged

Floats = npt.NDArray[np.float64]


class Verdict(StrEnum):
    """What the gate says."""

    PASSED = "passed"
    FAILED = "failed"
    INSUFFICIENT = "insufficient evidence"


@dataclass(frozen=True)
class Bounds:
    """How much may be lost, and on how many persons it must be shown.

    mean_dice   of the mean over cases, its whole 95 % interval over persons
    worst_dice  of any one case
    hd95_mm     that any one case may be farther off
    auc, ece    of a classification: what the area may lose, its whole interval, and the calibration error may gain
    worth_dice  that the form it comes from must reach: of one that finds nothing, nothing can be lost
    worth_auc   likewise
    """

    mean_dice: float = 0.005
    worst_dice: float = 0.02
    hd95_mm: float = 2.0
    auc: float = 0.005
    ece: float = 0.01
    persons: int = 20
    worth_dice: float = 0.1
    worth_auc: float = 0.55


@dataclass(frozen=True)
class Finding:
    """One bound: what it is of, what was found, and whether it holds.

    persons  who say something of it; None where it is of all
    case     the worst one, where it is of one
    mean     the mean change, of a figure that has one
    """

    what: str
    found: str
    bound: str
    holds: bool
    persons: int | None = None
    case: str | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Gated:
    """The verdict with everything that led to it."""

    verdict: Verdict
    persons: int
    cases: int
    findings: tuple[Finding, ...]

    @property
    def why(self) -> str:
        """In one line: what does not hold, or what there is too little of. Names no case."""
        if self.verdict is Verdict.FAILED:
            return "; ".join(f"{one.what}: {one.found} ({one.bound})" for one in self.findings if not one.holds)
        if self.verdict is Verdict.PASSED:
            return f"all bounds hold on {self.persons} persons"
        few = min(self.findings, key=lambda one: self.persons if one.persons is None else one.persons)
        if few.persons is None or few.persons == self.persons:
            return f"all bounds hold, on {self.persons} persons alone"
        return f"all bounds hold, {few.what} on {few.persons} of {self.persons} persons alone"


def gated(before: Sequence[Judged], after: Sequence[Judged], *, bounds: Bounds = Bounds(), seed: int = 0) -> Gated:
    """The verdict on `after`, the same cases in the same order as `before`. Raises ValueError for others.

    A bound that does not hold fails however few the persons are; where all hold and one of them is shown on fewer than
    are asked for, the evidence is insufficient. A case in which a structure is rightly absent from both says nothing of
    it.
    """
    if [one.case for one in before] != [one.case for one in after] or not before:
        raise ValueError("both forms are judged on the same cases, at least one")
    found = [_answers("f32", before), _answers("8 bits", after)]
    if before[0].truth is None:
        for name in before[0].dice:
            found += _of_structure(name, before, after, bounds, seed)
    else:
        found += _of_classes(before, after, bounds, seed)
    number = len({one.person for one in before})
    fewest = min(number, *(one.persons for one in found if one.persons is not None), number)
    if not all(one.holds for one in found):
        verdict = Verdict.FAILED
    else:
        verdict = Verdict.PASSED if fewest >= bounds.persons else Verdict.INSUFFICIENT
    return Gated(verdict, number, len(before), tuple(found))


def _answers(form: str, cases: Sequence[Judged]) -> Finding:
    failed = [one for one in cases if one.failure is not None]
    first = f", the first: {failed[0].failure}" if failed else ""
    return Finding(
        f"cases without an answer in {form}",
        f"{len(failed)} of {len(cases)}{first}",
        "none",
        not failed,
        case=failed[0].case if failed else None,
    )


def _of_structure(
    name: str, before: Sequence[Judged], after: Sequence[Judged], bounds: Bounds, seed: int
) -> list[Finding]:
    dice = [(was.dice[name], now.dice[name]) for was, now in zip(before, after, strict=True)]
    told = [at for at, pair in enumerate(dice) if not all(map(math.isnan, pair))]
    if not told:
        return [Finding(f"mean Dice of {name}", "in no case", f"at most {bounds.mean_dice:g} lower", True, persons=0)]
    was, now = (np.array([_or(dice[at][k], 1.0) for at in told]) for k in (0, 1))
    far = [(_or(before[at].hd95_mm[name], 0.0), _or(after[at].hd95_mm[name], 0.0)) for at in told]
    more = np.array([0.0 if one == other else other - one for one, other in far])
    people = [before[at].person for at in told]
    change = paired(_by_person(people, now), _by_person(people, was), seed=seed)
    lost = was - now
    worst, farthest = int(lost.argmax()), int(more.argmax())
    return [
        Finding(
            f"Dice of {name} in f32",
            f"{was.mean():.4f} on the average",
            f"at least {bounds.worth_dice:g}: else nothing can be lost",
            bool(was.mean() >= bounds.worth_dice),
            change.persons,
        ),
        Finding(
            f"mean Dice of {name}",
            f"{now.mean():.4f}, {change.mean:+.4f} ({change.low:+.4f} to {change.high:+.4f})",
            f"at most {bounds.mean_dice:g} lower, its whole interval",
            change.low >= -bounds.mean_dice,
            change.persons,
            mean=change.mean,
        ),
        Finding(
            f"worst case of {name}",
            f"{-lost[worst]:+.4f}",
            f"at most {bounds.worst_dice:g} lower",
            bool(lost[worst] <= bounds.worst_dice),
            change.persons,
            before[told[worst]].case,
        ),
        Finding(
            f"HD95 of {name}, worst case",
            f"{more[farthest]:+.2f} mm",
            f"at most {bounds.hd95_mm:g} mm more",
            bool(more[farthest] <= bounds.hd95_mm),
            change.persons,
            before[told[farthest]].case,
        ),
    ]


def _of_classes(before: Sequence[Judged], after: Sequence[Judged], bounds: Bounds, seed: int) -> list[Finding]:
    both = [(was, now) for was, now in zip(before, after, strict=True) if was.failure is None and now.failure is None]
    bound = f"at most {bounds.auc:g} lower, its whole interval"
    truths = np.array([was.truth for was, _ in both])
    if len(set(truths.tolist())) < 2:
        return [Finding("AUC, mean of the classes", "the cases are of one class", bound, holds=False)]
    scores = np.array([(was.probabilities, now.probabilities) for was, now in both])
    people = [was.person for was, _ in both]
    change = bootstrap_figure(
        lambda drawn, of: _area(drawn[:, 1], of) - _area(drawn[:, 0], of), scores, truths, people, seed=seed
    )
    worth = _area(scores[:, 0], truths)
    errors = [_calibration_error(scores[:, k], truths) for k in (0, 1)]
    return [
        Finding(
            "AUC in f32, mean of the classes",
            f"{worth:.4f}",
            f"at least {bounds.worth_auc:g}: else nothing can be lost",
            worth >= bounds.worth_auc,
        ),
        Finding(
            "AUC, mean of the classes",
            f"{worth + change.mean:.4f}, {change.mean:+.4f} ({change.low:+.4f} to {change.high:+.4f})",
            bound,
            change.low >= -bounds.auc,
            change.persons,
            mean=change.mean,
        ),
        Finding(
            "calibration error",
            f"{errors[1]:.4f}, {errors[1] - errors[0]:+.4f}",
            f"at most {bounds.ece:g} more",
            errors[1] - errors[0] <= bounds.ece,
        ),
    ]


def _area(probabilities: Floats, truths: npt.NDArray[np.integer]) -> float:
    """Mean over the classes that are there."""
    return float(np.nanmean(by_class(auc, probabilities, truths)))


def _calibration_error(probabilities: Floats, truths: npt.NDArray[np.integer]) -> float:
    """Of the likeliest class where classes exclude each other, else the mean over classes, each asked by itself."""
    if np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3):
        return expected_calibration_error(probabilities, truths)
    classes = range(probabilities.shape[1])
    return fmean(expected_calibration_error(probabilities[:, k], truths == k) for k in classes)


def _or(value: float, nothing: float) -> float:
    """What a figure counts that is nan in one form alone: rightly nothing."""
    return nothing if math.isnan(value) else value


def _by_person(people: Sequence[str], values: Floats) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for person, value in zip(people, values.tolist(), strict=True):
        found.setdefault(person, []).append(value)
    return found
