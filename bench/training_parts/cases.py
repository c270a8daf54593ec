"""The one division of the hippocampus cases that every contender is given, and how their predictions are judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from residency.datasets import Case, Table, read_cases
from residency.files.nifti import read_nifti_labels
from residency.metrics import Interval, bootstrap, dice
from residency.prepare import labels_on
from residency.train.config import TrainingConfig
from residency.train.sources import divided

PARTS = ("anterior", "posterior")
SEED = 2026

Figures = dict[str, float]
"""Case -> mean Dice of both parts."""


def divide(config: TrainingConfig, file: Path, *, few: bool) -> dict[str, Any]:
    """Write, and return, who is learnt from, who is held out for choosing, and who is judged on.

    No person is in two of them; those judged on are split `val`, which is learnt from nowhere.
    """
    learn, choose = divided(config)
    cases = read_cases(config.data.folder, Table(person=config.data.person_column))
    judge = [case for case in cases if case.split == "val"]
    parts = {"learn": learn[:24] if few else learn, "choose": choose[:4] if few else choose}
    found: dict[str, Any] = {part: [case.name for case in cases] for part, cases in parts.items()}
    found["judge"] = [case.name for case in (judge[:4] if few else judge)]
    found["persons"] = {case.name: case.person for case in judge}
    found["images"] = str(config.data.folder / "images")
    found["labels"] = str(config.data.folder / "labels")
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def chosen(config: TrainingConfig, cases: Mapping[str, Any]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The cases to learn from and to choose by, as our trainer takes them."""
    learn, choose = divided(config)
    return (
        tuple(case for case in learn if case.name in cases["learn"]),
        tuple(case for case in choose if case.name in cases["choose"]),
    )


def judged(predictions: Path, cases: Mapping[str, Any]) -> Figures:
    """Mean Dice of both parts by case, of label files NAME.nii.gz, on the grid of the reference."""
    figures = {}
    for name in cases["judge"]:
        wanted, grid = read_nifti_labels((Path(cases["labels"]) / f"{name}.nii.gz").read_bytes())
        found = labels_on(*read_nifti_labels((predictions / f"{name}.nii.gz").read_bytes()), grid)
        each = [dice(found == part, wanted == part) for part in range(1, len(PARTS) + 1)]
        figures[name] = float(np.mean(each))
    return figures


def over_persons(figures: Figures, cases: Mapping[str, Any]) -> Interval:
    """Mean and 95 % interval, by bootstrap over persons."""
    by_person: dict[str, list[float]] = {}
    for name, figure in figures.items():
        by_person.setdefault(cases["persons"][name], []).append(figure)
    return bootstrap(by_person, seed=SEED)


def difference(ours: Figures, theirs: Figures, cases: Mapping[str, Any]) -> Interval:
    """Ours minus theirs, case by case."""
    return over_persons({name: ours[name] - theirs[name] for name in ours}, cases)
