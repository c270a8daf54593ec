"""How well the pneumonia demonstration tells ill from healthy, and whether a ResNet-18 of the same recipe does better.

The committed package, prepared, run and decided as a radiograph from an archive is, on the official test split of
PneumoniaMNIST, which neither training nor choosing reads. Beside it ResNet-18 at full width, and the shipped net, each
trained by models/pneumonia/train.yaml with three seeds; nothing but the net and the seed differs.

    python bench/pneumonia.py [--quick] [--alone] [--json FILE] [--work FOLDER] [--record]

`--record` writes docs/results/pneumonia.md and .json, and evaluation.json for the card; `--alone` judges the package
without training anything, in seconds. The full form trains for some 40 minutes on two quiet cores, in two processes of
one thread each; a bench that was stopped goes on. The data lie in ../shared/data beside the checkout, or where
RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract import REPOSITORY, RESULTS, Claim, Report, claims_told, code_digest, main, measured_on, paragraph
from residency.card import Card, Evaluation
from residency.datasets import Case, Table, read_cases, read_images
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.metrics import (
    Interval,
    auc,
    average_precision,
    bootstrap_figure,
    confusion_matrix,
    counts,
    expected_calibration_error,
)
from residency.models.folder import read_folder
from residency.models.graph import count_parameters
from residency.pipeline.compute import compute
from shipped import DATA, MODELS, SEED, shown, write_evaluations

MODEL = MODELS / "pneumonia"
PACKED = DATA / "medmnist3d" / "pneumoniamnist.npz"

CLASSES = ("normal", "pneumonia")
TABLE = Table(image="images/{name}.png", reference=None, tasks={"finding": CLASSES})
SEEDS = (20261122, 20261123, 20261124)
"""The first is that of the shipped network."""
OURS, THEIRS = "as shipped", "ResNet-18"
NETS: Mapping[str, Mapping[str, Any] | None] = {OURS: None, THEIRS: {"stem": "small"}}
"""Parameters of `resnet18`; None: those of the training file."""
QUICK_WIDTH, QUICK_STEPS, QUICK_CASES = 4, 4, 60
WORKERS = 2
_SOURCE = REPOSITORY / "src" / "residency"
CODE = code_digest(_SOURCE / "nets", *(_SOURCE / "train").glob("*.py"), packages=("torch", "numpy"))
"""State of what trains: a bench taken up again mixes no two of them."""

OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--work", type=Path, default=REPOSITORY / "runs" / "pneumonia-bench", metavar="FOLDER")
OPTIONS.add_argument("--alone", action="store_true", help="the package alone: nothing is trained beside it")

Probabilities = npt.NDArray[np.float64]
"""Of pneumonia, by case."""


def bench(quick: bool) -> Report:
    """The package and all trainings on the test split; quick: on some of it, two trainings of a few steps."""
    own, _ = OPTIONS.parse_known_args()
    folder = unpacked(own.work)
    test = [case for case in read_cases(folder, TABLE) if case.split == "test"]
    test = test[:: len(test) // QUICK_CASES] if quick else test
    truths = np.array([case.labels["finding"] == 1 for case in test])
    persons = [case.person for case in test]
    package = read_folder(MODEL)
    shipped = package.with_role("graph").data
    found = {("shipped", SEEDS[0]): (count_parameters(shipped), probabilities(package.card, shipped, test))}
    for (name, seed), graph in ({} if own.alone else trained(folder, own.work, quick=quick)).items():
        found[name, seed] = (count_parameters(graph), probabilities(package.card, graph, test))
    rows = [_row(name, seed, size, said, truths, persons) for (name, seed), (size, said) in found.items()]
    ours = found["shipped", SEEDS[0]][1]
    theirs = [said for (name, _), (_, said) in found.items() if name == THEIRS]
    claim = _claim(np.stack([ours, *theirs], 1), truths, persons, judged=not quick and bool(theirs))
    return Report(
        f"Pneumonia on {len(test)} radiographs of 28 x 28 pixels, {int(truths.sum())} with pneumonia",
        rows,
        [claim],
        [
            "intervals: 95 %, bootstrap over pictures, copies together; persons are not known. The claim's is of the "
            "difference, each network judged on the same pictures",
            "one training of the shipped network is compared with three of ResNet-18; the rate and all else of the "
            "recipe were set for the shipped network",
            "a class is found where it is the likelier of the two; calibration error in 15 bins of equal width",
        ],
    )


def _claim(
    scores: npt.NDArray[np.float64], truths: npt.NDArray[np.bool_], persons: Sequence[str], *, judged: bool
) -> Claim:
    """scores (cases, networks): the shipped network first, then its rivals, if they were trained."""
    value, holds = "not measured", False
    if scores.shape[1] > 1:
        difference = bootstrap_figure(_less, scores, truths, persons, seed=SEED)
        value, holds = shown(difference), difference.mean >= 0
    return Claim(
        claim="AUC of the shipped network, less the mean of ResNet-18 trained by the same file",
        source="MedMNIST v2 (not verified): ResNet-18 at 28 pixels 0.944, by another recipe",
        goal="at least 0",
        value=value,
        holds=holds,
        evaluated=judged,
    )


def unpacked(work: Path) -> Path:
    """The set as a folder of pictures with a table."""
    folder = work / "pictures"
    if not (folder / "cases.csv").exists():
        tool = REPOSITORY / "tools" / "unpack_medmnist.py"
        subprocess.run([sys.executable, tool, PACKED, folder, "finding", *CLASSES], check=True, stdout=sys.stderr)
    return folder


def trained(folder: Path, work: Path, *, quick: bool) -> dict[tuple[str, int], bytes]:
    """(net, seed) -> graph; what the work folder holds is gone on with."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers as they start
    wanted = [(name, seed) for seed in (SEEDS[:1] if quick else SEEDS) for name in reversed(list(NETS))]
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        under_way = {key: pool.submit(train_one, *key, folder, work, quick) for key in wanted}
        return {key: done.result() for key, done in under_way.items()}


def train_one(name: str, seed: int, folder: Path, work: Path, quick: bool) -> bytes:
    """The graph of a net trained by the training file of the package."""
    import torch

    from residency.train.config import read_config
    from residency.train.run import export_run, run_training

    torch.set_num_threads(1)
    config = read_config(MODEL / "train.yaml")
    parameters = {**(NETS[name] or config.net.parameters), **({"width": QUICK_WIDTH} if quick else {})}
    schedule = config.schedule.model_copy(update={"steps": QUICK_STEPS, "restarts": ()} if quick else {})
    update = {
        "seed": seed,
        "net": config.net.model_copy(update={"parameters": parameters}),
        "schedule": schedule,
        "data": config.data.model_copy(update={"folder": folder}),
    }
    config = config.model_copy(update=update)
    run = work / f"{name.replace(' ', '-')}-{seed}-{config.learning_digest()[:10]}-{CODE[:6]}"
    if not (run / "graph.onnx").exists():
        run_training(config, run, lambda _: None, lambda: False)
        export_run(config, run, run)
    return (run / "graph.onnx").read_bytes()


def probabilities(card: Card, graph: bytes, cases: Sequence[Case]) -> Probabilities:
    """Through the same functions as a radiograph of an archive."""
    network = OpenVino(threads=1).load(graph, precision=Precision.F32)
    name, output = card.inputs[0].name, card.outputs[0].name
    found = [compute(card, network, {name: next(iter(read_images(case).values()))})[output][1] for case in cases]
    return np.array(found, dtype=np.float64)


def _row(
    name: str, seed: int, size: int, said: Probabilities, truths: npt.NDArray[np.bool_], persons: Sequence[str]
) -> dict[str, Any]:
    figures = {title: _figure(title, said, truths, persons) for title in FIGURES}
    return {
        "network": name,
        "seed": seed,
        "parameters": size,
        **{title: shown(found) for title, found in figures.items()},
    }


def _figure(title: str, said: Probabilities, truths: npt.NDArray[np.bool_], persons: Sequence[str]) -> Interval:
    return bootstrap_figure(FIGURES[title], said, truths, persons, seed=SEED)


def _less(scores: npt.NDArray[Any], truths: npt.NDArray[Any]) -> float:
    """AUC of the first column, less the mean of the others'."""
    first, *others = (auc(column, truths) for column in scores.T)
    return float(first - np.mean(others))


def _sensitivity(said: npt.NDArray[Any], truths: npt.NDArray[Any]) -> float:
    return counts(confusion_matrix((said > 0.5).astype(int), truths.astype(int), 2))[1].sensitivity


def _specificity(said: npt.NDArray[Any], truths: npt.NDArray[Any]) -> float:
    return counts(confusion_matrix((said > 0.5).astype(int), truths.astype(int), 2))[1].specificity


FIGURES = {
    "AUC": auc,
    "average precision": average_precision,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "calibration error": expected_calibration_error,
}
DEFINITIONS = {
    "AUC": "Area under the ROC curve of the probability of pneumonia",
    "average precision": "Area under the precision-recall curve, by steps; 0.625 of the pictures show pneumonia",
    "sensitivity": "Share of the pictures with pneumonia that are found",
    "specificity": "Share of the pictures without pneumonia that are left alone",
    "calibration error": "Expected calibration error of the probability of pneumonia, 15 bins of equal width",
}


def evaluations(report: Report, work: Path) -> list[Evaluation]:
    """The figures of the package alone."""
    test = [case for case in read_cases(unpacked(work), TABLE) if case.split == "test"]
    package = read_folder(MODEL)
    said = probabilities(package.card, package.with_role("graph").data, test)
    truths, persons = np.array([case.labels["finding"] == 1 for case in test]), [case.person for case in test]
    (claim,) = report.claims
    return [
        Evaluation(
            metric=title,
            definition=f"{DEFINITIONS[title]}; 95 % interval by bootstrap over pictures",
            cohort="PneumoniaMNIST, official test split: 624 pictures, persons not known, never used in training",
            persons=found.persons,
            cases=found.cases,
            value=round(found.mean, 4),
            low=round(found.low, 4),
            high=round(found.high, 4),
            comparison=f"{claim.claim}: {claim.value}" if title == "AUC" and claim.evaluated else None,
        )
        for title in FIGURES
        for found in (_figure(title, said, truths, persons),)
    ]


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    names = list(body["rows"][0])
    lines = [
        "# Pneumonia: the demonstration on the official test split",
        "",
        paragraph(
            measured_on(body),
            "The package in `models/pneumonia` on the 624 pictures of the test split of PneumoniaMNIST, 28 x 28 "
            "pixels, which neither training nor choosing reads. Each goes through the recipe, the network on OpenVINO "
            "(f32) and the card's decision rule. A demonstration: at this size no radiologist would read a chest. "
            "Research use only.",
        ),
        "",
        *claims_told(body["claims"]),
        "",
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in body["rows"]),
        "",
        *(f"- {note}" for note in body["notes"]),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(
        bench,
        "The pneumonia demonstration on pictures never seen",
        [OPTIONS],
        page,
        RESULTS / "pneumonia.json",
        lambda report: write_evaluations(MODEL, evaluations(report, OPTIONS.parse_known_args()[0].work)),
    )
