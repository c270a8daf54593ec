"""All that a validation found, as values: what the report shows and the card takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Evaluation, InputStatistics, Training
from residency.metrics import Bin, Interval, confusion_matrix
from residency.train.evidence import figures
from residency.train.evidence.figures import ALL, KINDS, Compared, Figure
from residency.train.evidence.rows import Row


@dataclass(frozen=True)
class Evidence:
    """What was found on one group of cases.

    title     of the report
    judged    what answered, in words
    cohort    whom it was asked about, in words
    caution   what these figures may not be used for
    rows      one a case, in the order of their names
    figures   of all cases; `subgroups` of some
    """

    title: str
    judged: str
    cohort: str
    caution: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...]
    subgroups: tuple[Figure, ...] = ()
    reliability: Mapping[str, tuple[Bin, ...]] = field(default_factory=dict)
    against: tuple[Compared, ...] = ()
    against_what: str = ""
    training: Training | None = None
    statistics: InputStatistics | None = None

    @property
    def classifies(self) -> bool:
        """Whether whole images were classified."""
        return self.rows[0].truth is not None

    @property
    def headline(self) -> Interval | None:
        """The figure that stands for all; None where nothing could be judged."""
        wanted = figures.headline(self.rows)
        return next((one.interval for one in self.figures if one.kind == wanted), None)

    @property
    def headline_name(self) -> str:
        """What the headline is called."""
        name = KINDS[figures.headline(self.rows)].name
        return f"mean {name}" if len(self.classes) > 2 else name

    @property
    def worst(self) -> tuple[Row, ...]:
        """All rows that can be ranked, the worst first."""
        ranked = [row for row in self.rows if figures.score(row) == figures.score(row)]
        return tuple(sorted(ranked, key=lambda row: (figures.score(row), row.case)))

    @property
    def confusion(self) -> npt.NDArray[np.int64] | None:
        """Cases by class, row = truth, column = likeliest; None of a segmentation."""
        if not self.classifies:
            return None
        said, truths = figures.probabilities_of(self.rows)
        return confusion_matrix(said.argmax(axis=1), truths, len(self.classes))


def found_in(
    rows: Sequence[Row],
    classes: Sequence[str],
    seed: int,
    by: Sequence[str] = (),
    theirs: Sequence[Row] | None = None,
    **told: Any,
) -> Evidence:
    """The evidence of judged cases. Raises TrainingError as `figures.groups` and `figures.compared` do."""
    subgroups = [
        figure
        for column, groups in figures.groups(rows, by).items()
        for value, members in groups.items()
        for figure in figures.figures_of(members, classes, seed, (column, value))
    ]
    return Evidence(
        classes=tuple(classes),
        rows=tuple(rows),
        figures=figures.figures_of(rows, classes, seed),
        subgroups=tuple(subgroups),
        reliability=figures.diagrams(rows, classes),
        against=() if theirs is None else figures.compared(rows, theirs, classes, seed),
        **told,
    )


def evaluations(evidence: Evidence) -> list[Evaluation]:
    """The figures in the form that a card takes: all of them, and the headline of each subgroup."""
    found = []
    wanted = figures.headline(evidence.rows)
    told = [one for one in evidence.subgroups if one.kind == wanted and one.interval.persons > 1]
    for figure in (*evidence.figures, *told):
        kept, definition = figure.interval, _definition(figure, evidence)
        if kept.infinite:
            if figure.finite is None:
                continue
            definition += f"; {kept.infinite} of {kept.cases} cases, missed or invented, have none and are left out"
            kept = figure.finite
        found.append(
            Evaluation(
                metric=figure.name[:500],
                definition=f"{definition}; {_how_sure(kept)}"[:500],
                cohort=f"{evidence.cohort}. {evidence.caution}"[:500],
                persons=kept.persons,
                cases=kept.cases,
                value=round(kept.mean, 4),
                low=round(kept.low, 4),
                high=round(kept.high, 4),
                subgroup=None if figure.group is None else f"{figure.group[0]} {figure.group[1]}"[:500],
            )
        )
    return found


def _how_sure(kept: Interval) -> str:
    return "95 % interval by bootstrap over persons" if kept.persons > 1 else "one person, and so no interval"


def _definition(figure: Figure, evidence: Evidence) -> str:
    told = KINDS[figure.kind].told(evidence.rows[0].unit)
    if figure.kind == "volume_error":
        told += f", {evidence.rows[0].unit}"
    if figure.kind == "ece" and not evidence.classifies:
        told += f", of the {figures.OF_VOXELS}"
    if figure.of == ALL and not evidence.classifies and len(evidence.classes) > 2:
        told += "; mean of the foreground classes"
    elif figure.of == ALL and figure.kind in ("auc", "auprc"):
        told += "; mean of the classes"
    return told
