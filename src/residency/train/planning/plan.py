"""A plan: from a data set and limits to a whole training file, every choice with its reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.datasets.fingerprint import Fingerprint, missing_values, warnings_of
from residency.datasets.layout import Layout
from residency.errors import TrainingError
from residency.recipe import recipe
from residency.train.planning import learning
from residency.train.planning.cost import passes
from residency.train.planning.fit import LEAST_STEPS, Fitted, fitted
from residency.train.planning.recipe import order_of, recipe_of, spacing_of
from residency.train.planning.values import Choice, Limits, Machine

SEED = 20261121
NOT_KNOWN = "not said"
"""What stands in the training file where only a person can say."""


@dataclass(frozen=True)
class Plan:
    """What is planned.

    values    the training file, as plain values
    choices   each with its reason; `recipe.NAME` is a step of the recipe
    warnings  what a person should look at before training
    """

    name: str
    values: Mapping[str, Any]
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...]
    fitted: Fitted
    limits: Limits
    machine: Machine
    found: Fingerprint

    @property
    def estimates(self) -> dict[str, Any]:
        """What it will take."""
        steps = self.values["schedule"]["steps"]
        return {
            "step_seconds": self.fitted.step,
            "training_hours": steps * self.fitted.step / 3600 / learning.WORKING,
            "training_memory_gib": self.fitted.memory / 2**30,
            "case_seconds": self.fitted.answer,
            "case_windows": passes(self.fitted.shape, self.fitted.patch),
            "rates": self.machine.how,
        }


def make_plan(name: str, found: Fingerprint, layout: Layout, out: Path, limits: Limits, machine: Machine) -> Plan:
    """A plan for the folder `out`.

    Raises UsageError where no net keeps within the limits, TrainingError for data that cannot be trained on."""
    _check(found)
    spacing = spacing_of(found)
    order = order_of(found, spacing)
    fit = fitted(found, spacing, order, limits, machine)
    steps = recipe_of(found, spacing, order, fit)
    augmented, asked = learning.augment_of(found, order, fit)
    choices = [
        *_data(layout, found, out),
        learning.validation_share(found),
        *learning.net_choices(fit),
        learning.loss_of(found),
        *learning.schedule_of(found, fit, limits, machine),
        *augmented,
        *learning.sampling_of(found, fit),
    ]
    values: dict[str, Any] = {"name": name, "seed": SEED, "threads": limits.threads}
    for choice in choices:
        _put(values, choice.key, choice.value)
    made = recipe(*[(step.key, step.value) for step in steps]).model_dump(mode="json")
    values["recipe"] = made
    choices[len(values["data"]) :] = [
        *(Choice(f"recipe.{step.key}", step.value, step.why) for step in steps),
        *choices[len(values["data"]) :],
    ]
    warnings = [*layout.notes, *warnings_of(found), *asked]
    few = values["schedule"]["steps"]
    if few < LEAST_STEPS:
        warnings.append(f"{few} steps are few: the net will not have learnt what it can; give it more --hours")
    ordered = {key: values[key] for key in _ORDER if key in values}
    return Plan(name, ordered, tuple(choices), tuple(warnings), fit, limits, machine, found)


_ORDER = ("name", "seed", "threads", "data", "recipe", "net", "patch", "loss", "schedule", "augment", "sampling")


def _check(found: Fingerprint) -> None:
    if found.task == "segmentation" and missing_values(found):
        raise TrainingError(
            f"{warnings_of(found)[0]}; a training needs 0, 1, 2, ... without a gap: say which values mean a class, "
            "--merge NAME=1,5 or --merge NAME=rest"
        )
    if len(found.classes) < 2 or (found.task == "segmentation" and len(found.values) < 2):
        raise TrainingError("every reference is empty: there is nothing to learn")
    if found.task == "segmentation" and len(found.classes) != len(found.values):
        raise TrainingError(
            f"{len(found.classes)} names of classes, {len(found.values)} label values: {', '.join(found.classes)}"
        )
    if found.persons < 2:
        raise TrainingError("all cases are of one person: nobody is left to choose the weights by")


def _data(layout: Layout, found: Fingerprint, out: Path) -> list[Choice]:
    said, folder = dict(layout.data), layout.folder
    if layout.table:
        said["table"] = Path(os.path.relpath(out.resolve() / "cases.csv", folder.resolve())).as_posix()
    made = [
        Choice("data.folder", str(folder.resolve()), "the folder that was given"),
        Choice("data.name", folder.resolve().name, "the folder's name; for the card, say what the set is called"),
        Choice("data.licence", NOT_KNOWN, "only you know it; a card needs it"),
        Choice("data.source", NOT_KNOWN, "only you know it; a card needs it"),
        Choice("data.labels", NOT_KNOWN, "only you know who outlined them, and how; a card needs it"),
        Choice("data.classes", list(found.classes), _why_classes(layout, found)),
    ]
    for key, value in said.items():
        made.append(Choice(f"data.{key}", value, layout.reasons.get(key, _MEANT.get(key, f"a {layout.kind} of cases"))))
    if layout.target is not None:
        why = f"column '{layout.target}' holds {len(found.classes)} different values"
        made.append(Choice("data.tasks", {layout.target: list(found.classes)}, why))
    return made


_MEANT = {
    "reference": "leads to the reference of each case",
    "merge": "said with --merge",
    "kind": "a table of cases beside files",
    "train": "the part of the cases to learn from",
    "table": "written by this plan",
}


def _why_classes(layout: Layout, found: Fingerprint) -> str:
    if layout.classes:
        return "named by the data set, or by you"
    return f"the label values that were found, {', '.join(map(str, found.values[:8]))}; rename them as you like"


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        values = values.setdefault(part, {})
    values[last] = value
