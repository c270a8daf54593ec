"""What ACS convolutions gain against Conv3d and other ways from 2D to 3D, at equal budget, and what they cost.

    python bench/acs.py [--quick] [--json FILE] [--work FOLDER] [--weights FILE]

Five methods, each from random weights and from a 2D pretraining of our own, in three tasks (acs_parts/recipes.py):
solid shapes in noise, AdrenalMNIST3D, hippocampus segmentation. All methods of a seed have the same data, order, steps
and rates; the first epochs on shapes are repeated with more seeds. The full form trains for about an hour on two quiet
cores, in two processes of one thread each; every training is a file in the work folder, so a bench that was stopped
goes on. Costs are timed afterwards, in turns.

`--weights` takes ResNet-18 weights learned on pictures (torchvision's names; safetensors, or torch weights-only), which
this project does not have: then AdrenalMNIST3D is also run at the full width of 64 from these and from random weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acs_parts.baselines import baselines
from acs_parts.costs import Subject, costs
from acs_parts.findings import RESNET, Group, claims, notes, rows
from acs_parts.networks import METHODS
from acs_parts.runs import Outcome, Run, outcomes
from contract import REPOSITORY, Report, main

SEEDS = (0, 1, 2)
MORE_SEEDS = tuple(range(3, 9))
"""On shapes, for the first epochs alone: what happens there differs more between seeds than between methods."""
WORKERS = 2
ROUNDS = {"shapes": 30, "adrenal": 12, "hippocampus": 20, RESNET: 9}
QUICK_ROUNDS = {"shapes": 2, "adrenal": 0, "hippocampus": 0, RESNET: 0}
"""Of timing; without rounds, parameters and multiply-accumulates are counted all the same."""

FULL: Mapping[str, Mapping[str, Any]] = {
    "flat shapes": {"width": 16, "train": 1000, "test": 30, "epochs": 6, "batch": 16, "rate": 2e-3},
    "shapes": {
        "width": 16, "train": 80, "test": 30, "epochs": 40, "at": (2, 5, 10, 20, 30, 40), "batch": 4, "rate": 2e-3,
    },
    "radiographs": {
        "net": "resnet18", "width": 16, "stem": "image", "side": 32, "most": None,
        "epochs": 3, "batch": 64, "rate": 1e-3,
    },
    "adrenal": {
        "net": "resnet18", "width": 16, "stem": "image", "side": 32, "most": None,
        "epochs": 6, "fall": (3, 5), "batch": 32, "rate": 1e-3,
    },
    "hippocampus": {
        "width": 16, "side": 32, "most": None, "steps": 160, "at": (20, 40, 80, 160), "batch": 2, "rate": 2e-3,
    },
}  # fmt: skip
QUICK: Mapping[str, Mapping[str, Any]] = {
    "flat shapes": {"train": 32, "test": 4, "epochs": 1},
    "shapes": {"train": 12, "test": 4, "epochs": 2, "at": (1, 2)},
    "radiographs": {"most": 128, "epochs": 1},
    "adrenal": {"most": 64, "epochs": 2, "fall": ()},
    "hippocampus": {"most": 4, "steps": 4, "at": (1, 2, 4)},
}
"""What the quick form has instead: enough to see each part at work, too little for any net to learn."""

MORE = {"epochs": 5, "at": (2, 5)}

PRETRAINING = {"shapes": "flat shapes", "adrenal": "radiographs", "hippocampus": "flat shapes"}

OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--work", type=Path, default=REPOSITORY / "runs" / "acs", metavar="FOLDER", help="finished runs")
OPTIONS.add_argument("--weights", type=Path, metavar="FILE", help="ResNet-18 weights learned on pictures")

NOT_MEASURED = (
    "pretraining on ImageNet: not measured here, for want of the weights; with them: "
    "python bench/acs.py --weights resnet18.safetensors"
)


def bench(quick: bool) -> Report:
    """Train what is missing, time everything, and set both side by side."""
    own, _ = OPTIONS.parse_known_args()
    settings = {task: {**FULL[task], **(QUICK[task] if quick else {})} for task in FULL}
    seeds = SEEDS[:1] if quick else SEEDS
    planned = plan(settings, seeds, None if own.weights is None else own.weights.resolve())
    found = outcomes(planned, own.work, WORKERS, lambda line: print(line, flush=True))
    groups = grouped(planned, found)
    timed = subjects(settings)
    costs_of = {name: costs(subject, (QUICK_ROUNDS if quick else ROUNDS)[name]) for name, subject in timed.items()}
    pretrained = {run.start.name: found[run.start.name] for run in planned if run.start}
    return Report(
        "ACS convolutions at equal budget",
        rows(groups, costs_of),
        claims(groups, costs_of, judged=not quick),
        [
            *notes(groups, list(pretrained.values()), baselines(), judged=not quick),
            *(f"{name}: step of {one['ACS'].images}, latency of a single one" for name, one in costs_of.items()),
            f"settings: {json.dumps(settings)}",
            f"processor time of all trainings: {sum(one['processor seconds'] for one in found.values()) / 60:.0f} min",
            *([] if own.weights else [NOT_MEASURED]),
        ],
    )


def plan(settings: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], weights: Path | None) -> list[Run]:
    """All runs but the pretrainings that they name; a seed is whole before the next begins."""
    runs = [
        _run(task, method, seed, settings, pretrained)
        for seed in seeds
        for task in PRETRAINING
        for method in METHODS
        for pretrained in (False, True)
    ]
    if len(seeds) > 1:
        short = {**settings, "first epochs": {**settings["shapes"], **MORE}}
        runs += [
            _run("first epochs", method, seed, short, pretrained)
            for seed in MORE_SEEDS
            for method in ("Conv3d", "ACS")
            for pretrained in (False, True)
        ]
    if weights is None:
        return runs
    wide = {**settings["adrenal"], "width": 64, "channels": 3}
    given = {**wide, "weights": str(weights), "weights sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    return runs + [
        Run("published", method, seed, held) for seed in seeds for method in ("Conv3d", "ACS") for held in (wide, given)
    ]


def _run(task: str, method: str, seed: int, settings: Mapping[str, Mapping[str, Any]], pretrained: bool) -> Run:
    before = PRETRAINING.get(task, "flat shapes")
    return Run(task, method, seed, settings[task], Run(before, "2D", seed, settings[before]) if pretrained else None)


def grouped(runs: Sequence[Run], found: Mapping[str, Outcome]) -> list[Group]:
    """The runs that differ in the seed alone, together."""
    together: dict[tuple[str, str, bool], list[Outcome]] = {}
    for run in runs:
        together.setdefault((run.task, run.method, run.start is not None or "weights" in run.settings), []).append(
            found[run.name]
        )
    return [Group(*key, one) for key, one in together.items()]


def subjects(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Subject]:
    """What is timed: the nets of the tasks as they are trained, and the ResNet-18 of the paper on a crop of 64."""
    shapes, adrenal, hippocampus = settings["shapes"], settings["adrenal"], settings["hippocampus"]
    small = {"channels": 1, "classes": 2, "width": adrenal["width"], "stem": adrenal["stem"]}
    return {
        "shapes": Subject("shapes", {"classes": 6, "width": shapes["width"]}, (24, 24, 24), shapes["batch"]),
        "adrenal": Subject("resnet18", small, (adrenal["side"],) * 3, adrenal["batch"]),
        "hippocampus": Subject(
            "shapes", {"classes": 3, "width": hippocampus["width"]}, (48, 64, 48), hippocampus["batch"]
        ),
        RESNET: Subject("resnet18", {"channels": 3, "classes": 1000}, (64, 64, 64), 2),
    }


if __name__ == "__main__":
    main(bench, "Accuracy at equal budget and cost of ACS convolutions and their rivals.", [OPTIONS])
