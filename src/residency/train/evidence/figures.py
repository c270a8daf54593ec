"""Figures of all cases together: means with intervals over persons, subgroups, and differences from another network.

What empty masks count is told in `residency.metrics`. Where a structure was missed or invented a distance is infinite,
and so is its mean; the mean of the others then stands beside the number of those.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt

from residency.errors import TrainingError, UsageError
from residency.metrics import (
    BINS,
    Bin,
    Interval,
    auc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    bootstrap_figure,
    brier,
    confusion_matrix,
    error_of,
    paired,
    pooled,
    reliability,
)
from residency.metrics.intervals import FIGURE_ROUNDS, interval
from residency.train.evidence.rows import NEAR_VOXELS, TOLERANCE_MM, Row, distances_in

ALL = "all"
"""Stands for the mean over the foreground classes, or for all classes together."""

MOST_GROUPS = 8
"""Most values that a column has for a subgroup each."""

OF_GROUPS = ("dice", "auc", "hd95", "balanced_accuracy")
"""Figures of a subgroup, each of all classes together."""

_LEAST_THIRDS = 9


@dataclass(frozen=True)
class Kind:
    """A figure: what it is called, what it is, whether more is better (None: 0 is best).

    In the definition {mm} stands for the unit of distances, which an image without spacing does not have.
    """

    name: str
    definition: str
    higher: bool | None = True

    def told(self, of_volumes: str) -> str:
        """What it is, for rows whose volumes have this unit."""
        return self.definition.format(mm=distances_in(of_volumes))


KINDS: Mapping[str, Kind] = {
    "dice": Kind("Dice", "Dice coefficient; 0 where the structure was missed or invented"),
    "surface_dice": Kind("Surface Dice", f"Share of both surfaces within {TOLERANCE_MM:g} {{mm}} of each other"),
    "hd95": Kind("HD95", "95th percentile of the surface distance, {mm}, the larger direction", False),
    "mean_surface_distance": Kind("Mean distance", "Mean surface distance of both directions, {mm}", False),
    "volume_error": Kind("Volume error", "Predicted minus reference volume", None),
    "relative_volume_error": Kind("Relative volume error", "Predicted minus reference, share of the reference", None),
    "sensitivity": Kind("Sensitivity", "Share of the reference that was found"),
    "precision": Kind("Precision", "Share of the prediction that is right"),
    "ece": Kind("ECE", f"Expected calibration error over {BINS} bins of equal width", False),
    "auc": Kind("AUC", "Area under the ROC curve, the class against all others"),
    "auprc": Kind("AUPRC", "Average precision: area under the precision-recall curve, the class against all others"),
    "brier": Kind("Brier score", "Mean squared distance of probabilities and truth, summed over the classes", False),
    "balanced_accuracy": Kind("Balanced accuracy", "Mean sensitivity of the classes"),
}

OF_VOXELS = (
    f"voxels at most {NEAR_VOXELS} steps from the structures or what was taken for them, the class against all others"
)
"""What the calibration of a segmentation is of."""


@dataclass(frozen=True)
class Figure:
    """One figure of one class.

    kind      key of `KINDS`; `of` is the class, or `ALL`
    interval  the mean over cases, or the figure of all cases, with its interval over persons
    finite    the mean of the cases with a finite figure, where there are others too
    median, tail, worst  over cases; `tail` is the 5th percentile from the bad end
    group     (column, value) of a subgroup
    """

    kind: str
    of: str
    interval: Interval
    finite: Interval | None = None
    median: float | None = None
    tail: float | None = None
    worst: float | None = None
    group: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        """For people: "Dice anterior"."""
        return KINDS[self.kind].name if self.of == ALL else f"{KINDS[self.kind].name} {self.of}"

    def unit(self, of_volumes: str) -> str:
        """Its unit; "" where it has none. `of_volumes` is that of the rows."""
        if self.kind == "volume_error":
            return of_volumes
        return distances_in(of_volumes) if self.kind in ("hd95", "mean_surface_distance") else ""


def headline(rows: Sequence[Row]) -> str:
    """Key of the figure that stands for all: Dice of a segmentation, AUC of a classification."""
    return "dice" if rows[0].truth is None else "auc"


def score(row: Row) -> float:
    """How good a case is, 0..1, higher is better: its mean Dice, or the probability that its class was given.

    nan where there was nothing to segment, and nothing was.
    """
    if row.truth is not None:
        return row.probabilities[row.truth]
    return mean_of([figures["dice"] for figures in row.figures.values()])


def mean_of(values: Sequence[float]) -> float:
    """Mean of what is not nan; nan where nothing is left."""
    held = [value for value in values if not math.isnan(value)]
    return fmean(held) if held else math.nan


def figures_of(
    rows: Sequence[Row], classes: Sequence[str], seed: int, group: tuple[str, str] | None = None
) -> tuple[Figure, ...]:
    """All figures of the rows, of a group `OF_GROUPS`; those of all classes together first.

    What cannot be computed is left out.
    """
    if rows[0].truth is not None:
        return _of_classification(rows, classes, seed, group)
    found = []
    for kind in rows[0].figures[classes[1]]:
        named = {name: [row.figures[name][kind] for row in rows] for name in classes[1:]}
        if len(named) > 1 and KINDS[kind].higher is not None:  # errors of several volumes would cancel each other
            named = {ALL: [mean_of(values) for values in zip(*named.values(), strict=True)]} | named
        wanted = {of: values for of, values in named.items() if _is_told(kind, of, classes, group)}
        found += [_of_cases(kind, of, rows, values, seed, group) for of, values in wanted.items()]
    if group is None:
        found += [_of_voxels(name, rows, seed) for name in classes[1:]]
    return tuple(figure for figure in found if figure is not None)


def _is_told(kind: str, of: str, classes: Sequence[str], group: tuple[str, str] | None) -> bool:
    return group is None or (kind in OF_GROUPS and (of == ALL or len(classes) == 2))


def _of_cases(
    kind: str, of: str, rows: Sequence[Row], values: Sequence[float], seed: int, group: tuple[str, str] | None
) -> Figure | None:
    held = sorted(value for value in values if not math.isnan(value))
    if not held:
        return None
    bad = sorted(held, key=_badness(KINDS[kind].higher), reverse=True)
    infinite = math.isinf(held[-1])
    finite = [value if math.isfinite(value) else math.nan for value in values]
    return Figure(
        kind,
        of,
        bootstrap(by_person(rows, values), seed=seed),
        bootstrap(by_person(rows, finite), seed=seed) if infinite and math.isfinite(held[0]) else None,
        median=held[len(held) // 2] if len(held) % 2 else (held[len(held) // 2 - 1] + held[len(held) // 2]) / 2,
        tail=bad[math.floor(0.05 * (len(bad) - 1))],
        worst=bad[0],
        group=group,
    )


def _badness(higher: bool | None) -> Callable[[float], float]:
    if higher is None:
        return abs
    return (lambda value: -value) if higher else (lambda value: value)


def by_person(rows: Sequence[Row], values: Sequence[float]) -> dict[str, list[float]]:
    """Person -> the values of that person's cases."""
    found: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        found.setdefault(row.person, []).append(value)
    return found


def _of_voxels(name: str, rows: Sequence[Row], seed: int) -> Figure | None:
    """The calibration of the probabilities of voxels; whole persons are drawn, each with the bins of all cases."""
    there = [row for row in rows if name in row.reliability]
    diagram = pooled(row.reliability[name] for row in there)
    if not diagram:
        return None
    places = {one.low: k for k, one in enumerate(diagram)}
    everyone = sorted({row.person for row in there})
    sums = np.zeros((len(everyone), len(places), 2))
    for row in there:
        for one in row.reliability[name]:
            sums[everyone.index(row.person), places[one.low]] += one.cases, one.cases * (one.said - one.found)
    drawn = np.random.default_rng(seed).integers(0, len(everyone), size=(FIGURE_ROUNDS, len(everyone)))
    times = np.stack([np.bincount(row, minlength=len(everyone)) for row in drawn])
    voxels, off = np.tensordot(times, sums, axes=1).transpose(2, 0, 1)
    drawn_errors = np.abs(off).sum(axis=1) / voxels.sum(axis=1)
    return Figure("ece", name, interval(error_of(diagram), drawn_errors, len(there), len(everyone)))


def _of_classification(
    rows: Sequence[Row], classes: Sequence[str], seed: int, group: tuple[str, str] | None
) -> tuple[Figure, ...]:
    said, truths = probabilities_of(rows)
    persons = [row.person for row in rows]

    def figure(kind: str, of: str, computed: Callable[[FloatArray, IntArray], float]) -> Figure | None:
        if not _is_told(kind, of, classes, group) or math.isnan(computed(said, truths)):
            return None
        return Figure(kind, of, bootstrap_figure(computed, said, truths, persons, seed=seed), group=group)

    found: list[Figure | None] = []
    told = range(len(classes)) if len(classes) > 2 else (1,)  # of two classes, the one tells the other
    for kind, one in (("auc", auc), ("auprc", average_precision)):
        if len(told) > 1:
            found.append(figure(kind, ALL, lambda p, t, one=one: _mean_over_classes(one, p, t)))  # type: ignore[misc]
        found += [figure(kind, classes[k], lambda p, t, one=one, k=k: one(p[:, k], t == k)) for k in told]  # type: ignore[misc]
    found.append(figure("balanced_accuracy", ALL, lambda p, t: _balanced(p, t, len(classes))))
    if exclusive(said):
        found.append(figure("ece", ALL, lambda p, t: error_of(reliability(p, t))))
        found.append(figure("brier", ALL, brier))
    return tuple(one for one in found if one is not None)


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def probabilities_of(rows: Sequence[Row]) -> tuple[FloatArray, IntArray]:
    """(cases, classes) and (cases,): what was said of each case, and what it is."""
    return np.array([row.probabilities for row in rows]), np.array([row.truth for row in rows], dtype=np.int64)


def exclusive(said: FloatArray) -> bool:
    """Whether the probabilities of each case sum to one, as those of a softmax do."""
    return bool(np.abs(said.sum(axis=1) - 1).max() < 1e-3)


def _mean_over_classes(
    one: Callable[[FloatArray, npt.NDArray[np.bool_]], float], said: FloatArray, of: IntArray
) -> float:
    return mean_of([one(said[:, k], of == k) for k in range(said.shape[1])])


def _balanced(said: FloatArray, truths: IntArray, classes: int) -> float:
    return balanced_accuracy(confusion_matrix(said.argmax(axis=1), truths, classes))


def diagrams(rows: Sequence[Row], classes: Sequence[str]) -> dict[str, tuple[Bin, ...]]:
    """The reliability diagrams: of each foreground class, or of the likeliest class of a classification."""
    if rows[0].truth is None:
        made = {name: pooled(row.reliability.get(name, ()) for row in rows) for name in classes[1:]}
        return {name: bins for name, bins in made.items() if bins}
    said, truths = probabilities_of(rows)
    if exclusive(said):
        return {"likeliest class": reliability(said, truths)}
    return {name: reliability(said[:, k], truths == k) for k, name in enumerate(classes)}


def groups(rows: Sequence[Row], by: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
    """column -> value -> the rows with that value; of a column of many numbers, thirds.

    by  columns to divide by; without any, all that can divide, with more than one case to a value, but for those
        that say where a file lies or what its digest is

    Raises UsageError for a column that is not there or cannot divide.
    """
    found = {}
    there = sorted({key for row in rows for key in row.columns})
    for column in by or [column for column in there if _tells(rows, column)]:
        made = _divided(rows, column)
        if made is not None and (by or len(made) < len(rows)):
            found[column] = made
        elif by:
            raise UsageError(
                f"--by {column}: no column of the table divides the cases so into 2 to {MOST_GROUPS} groups; its "
                f"columns: {', '.join(there) or 'none'}"
            )
    return found


_TECHNICAL = re.compile(
    r"(\w:|\.{0,2})[/\\].*|(.*[/\\]){2}.*|.*\.(nii|gz|dcm|png|jpe?g|tiff?|mha|nrrd|csv|json)"
    r"|(sha\d+:)?[0-9a-f]{32,}|[\d.]{20,}",
    re.I,
)
"""A path, the name of a file, a digest, or a UID."""


def _tells(rows: Sequence[Row], column: str) -> bool:
    """Whether a column may say something of the people or of how they were imaged."""
    return not any(_TECHNICAL.fullmatch(row.columns.get(column, "")) for row in rows)


def _divided(rows: Sequence[Row], column: str) -> dict[str, list[Row]] | None:
    made: dict[str, list[Row]] = {}
    for row in rows:
        made.setdefault(row.columns.get(column, "") or "(not told)", []).append(row)
    if 2 <= len(made) <= MOST_GROUPS:
        return dict(sorted(made.items()))
    return _thirds(rows, column)


def _thirds(rows: Sequence[Row], column: str) -> dict[str, list[Row]] | None:
    try:
        values = [float(row.columns[column]) for row in rows]
    except (KeyError, ValueError):
        return None
    if not all(map(math.isfinite, values)) or len(set(values)) < _LEAST_THIRDS:
        return None
    low, high = np.percentile(values, (100 / 3, 200 / 3))
    made: dict[str, list[Row]] = {f"up to {low:g}": [], f"{low:g} to {high:g}": [], f"above {high:g}": []}
    for row, value in zip(rows, values, strict=True):
        made[list(made)[0 if value <= low else 1 if value <= high else 2]].append(row)
    return {name: members for name, members in made.items() if members}  # a value that many share leaves one empty


@dataclass(frozen=True)
class Compared:
    """Ours minus theirs, of the same cases."""

    kind: str
    of: str
    difference: Interval


def compared(ours: Sequence[Row], theirs: Sequence[Row], classes: Sequence[str], seed: int) -> tuple[Compared, ...]:
    """Paired differences case by case.

    Raises TrainingError unless both judged the same cases of the same persons, by the same references.
    """
    other = {row.case: row for row in theirs}
    if {(row.case, row.person) for row in ours} != {(row.case, row.person) for row in theirs}:
        raise TrainingError("--against judged other cases; a comparison needs the same ones on both sides")
    if any(row.figures.keys() != other[row.case].figures.keys() for row in ours):
        raise TrainingError("--against judged other classes; a comparison needs the same ones on both sides")
    theirs = [other[row.case] for row in ours]
    changed = [one.case for one, two in zip(ours, theirs, strict=True) if _reference(one) != _reference(two)]
    if changed:
        raise TrainingError(
            f"--against judged {len(changed)} cases by other references, the first is '{changed[0]}'; validate that "
            "run again"
        )
    if ours[0].truth is not None:
        return _compared_classes(ours, theirs, seed)
    found = []
    for kind, nothing in (("dice", 1.0), ("surface_dice", 1.0), ("hd95", 0.0)):
        for name in classes[1:]:
            sides = [[row.figures[name][kind] for row in rows] for rows in (ours, theirs)]
            told = any(not math.isnan(value) for side in sides for value in side)
            if told and not any(math.isinf(value) for side in sides for value in side):
                one, two = (by_person(ours, side) for side in sides)
                found.append(Compared(kind, name, paired(one, two, seed=seed, rightly_nothing=nothing)))
    return tuple(found)


def _reference(row: Row) -> tuple[int | None, dict[str, float]]:
    """What is kept of what a case was judged by."""
    return row.truth, {name: wanted for name, (_, wanted) in row.volumes.items()}


def _compared_classes(ours: Sequence[Row], theirs: Sequence[Row], seed: int) -> tuple[Compared, ...]:
    (one, truths), (two, _) = probabilities_of(ours), probabilities_of(theirs)

    def difference(both: FloatArray, truths: IntArray) -> float:
        return _mean_over_classes(auc, both[:, 0], truths) - _mean_over_classes(auc, both[:, 1], truths)

    both = np.stack([one, two], axis=1)
    if math.isnan(difference(both, truths)):
        return ()
    persons = [row.person for row in ours]
    return (Compared("auc", ALL, bootstrap_figure(difference, both, truths, persons, seed=seed)),)
