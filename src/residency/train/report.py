"""What a card tells about training, measured where it happened: `training.json` beside the graph."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from residency.card import DataSet, InputStatistics, Range, Training
from residency.datasets import Case, digest, persons, read_images
from residency.datasets.case import read_reference
from residency.geometry import orientation_letters
from residency.prepare import prepare
from residency.train.answer import Answering
from residency.train.config import AugmentPart, TrainingConfig
from residency.train.export import INPUT, OUTPUT, Parity
from residency.train.judge import OVERLAP
from residency.train.progress import Tell, silent, watched
from residency.train.state import Outcome
from residency.train.task import task_of
from residency.volume import Grid, Space

PERCENTS = (0.5, 5, 25, 50, 75, 95, 99.5)

Axis = Literal["LR", "PA", "SI"]
_AXES: Mapping[str, Axis] = {"L": "LR", "R": "LR", "P": "PA", "A": "PA", "S": "SI", "I": "SI"}


def training_report(  # noqa: PLR0913, PLR0917 -- a training and what came of it
    config: TrainingConfig,
    learning: Sequence[Case],
    judging: Sequence[Case],
    outcome: Outcome,
    answer: Answering,
    parities: Sequence[Parity],
    tell: Tell = silent,
) -> dict[str, Any]:
    """Plain JSON values; `training` and `input_statistics` are fields of a card as they stand."""
    cases = [*learning, *judging]
    seen = watched("measuring the training images", cases, tell)
    return {
        "training": how_trained(config, learning, judging, outcome).model_dump(mode="json"),
        "input_statistics": input_statistics(seen, config).model_dump(mode="json"),
        "recipe": config.recipe.model_dump(mode="json"),
        "tensors": {"input": INPUT, "output": OUTPUT},
        "images": list(cases[0].images),
        "classes": list(config.data.classes),
        "tasks": {column: list(names) for column, names in config.data.tasks.items()},
        "net": config.net.told(),
        "tiling": {"window": list(config.patch), "overlap": OVERLAP},
        "matrix": _matrix(cases, config),
        "chosen": {
            "step": outcome.best_at,
            "of_steps": outcome.step,
            _figure(config): outcome.best,
            "cases": len(judging),
            "persons": len(persons(judging)),
        },
        "shipped": _shipped(config, answer),
        "history": [
            {"step": step, "loss": round(loss, 5), _figure(config): round(figure, 5)}
            for step, loss, figure in outcome.history
        ],
        "parity": [asdict(parity) for parity in parities],
    }


def _figure(config: TrainingConfig) -> str:
    """Name of the figure that chose the weights."""
    named = config.judged_by or ("auc" if task_of(config) == "classification" else "dice")
    return {"dice": "mean_dice", "auc": "auc", "balanced-accuracy": "balanced_accuracy"}[named]


def _shipped(config: TrainingConfig, answer: Answering) -> dict[str, Any]:
    if answer.volumes is None:
        return {name.replace("-", "_").replace(" ", "_"): figure for name, figure in answer.figures.items()}
    return {
        "symmetric_axis": config.export.symmetric_axis,
        "background_shift": answer.volumes.background_shift,
        "volume_ratio_before_shift": answer.volumes.volume_ratio,
        "mean_dice_before_shift": answer.volumes.unshifted_dice,
        "mean_dice": answer.volumes.mean_dice,
    }


def how_trained(
    config: TrainingConfig, learning: Sequence[Case], judging: Sequence[Case], outcome: Outcome
) -> Training:
    """The field `training` of a card."""
    data, schedule = config.data, config.schedule
    cases = [*learning, *judging]
    learnt, chose = (f"{len(part)} cases of {len(persons(part))}" for part in (learning, judging))
    source = DataSet(
        name=data.name,
        licence=data.licence,
        source=data.source,
        persons=len(persons(cases)),
        cases=len(cases),
        labels=data.labels,
        digest=f"sha256:{digest(cases)}",
    )
    return Training(
        datasets=(source,),
        split=f"{data.divided_how()}, by person: {learnt} persons were learnt from, {chose} other persons chose the "
        "best weights. No other split was read.",
        seed=config.seed,
        augmentation=_augmentation(config.augment, config.synthesis.told()),
        loss=config.loss.told(),
        optimiser=f"AdamW, batch {schedule.batch}, rate {schedule.rate:g} falling to 0 over the last "
        f"{100 * schedule.decay:.0f} % of the steps{_restarts(schedule.restarts)}, weight decay "
        f"{schedule.weight_decay:g}; running average of the weights ({schedule.average:g})",
        steps=outcome.step,
        hardware=f"{processor()}, {config.threads} threads",
        duration_minutes=round(outcome.seconds / 60, 1),
        software=software(),
        config_digest=f"sha256:{config.digest()}",
    )


def effective(config: TrainingConfig, data: str) -> bytes:
    """All that decides a run, as JSON: the training file with every key that it leaves out, versions of what computes.

    data  digest of the cases
    """
    told = {
        "config": config.model_dump(mode="json"),
        "config_digest": f"sha256:{config.digest()}",
        "data_digest": f"sha256:{data}",
        "software": software(),
    }
    return (json.dumps(told, indent=1, ensure_ascii=True) + "\n").encode()


def software() -> dict[str, str]:
    """Versions of what computes."""
    names = ("residency", "torch", "monai", "numpy", "onnx", "onnxscript")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _restarts(steps: Sequence[int]) -> str:
    return f" of each run-up (restarted at {', '.join(map(str, steps))})" if steps else ""


def _augmentation(bounds: AugmentPart, made: str) -> str:
    axes = {0: "slice", 1: "row", 2: "column"}
    said = [
        f"mirrored along the {axes[bounds.mirror_axis]} axis (half of the crops)"
        if bounds.mirror_axis is not None
        else "",
        f"rotated up to {bounds.rotate_degrees:g} degrees about each axis" if bounds.rotate_degrees else "",
        f"scaled by up to exp({bounds.scale:g})" if bounds.scale else "",
        f"shifted up to {bounds.shift_voxels:g} voxels" if bounds.shift_voxels else "",
        f"bent (standard deviation up to {bounds.bend_voxels:g} voxels)" if bounds.bend_voxels else "",
        f"in a quarter of the crops coarser voxels, up to {bounds.coarse_voxels:g}" if bounds.coarse_voxels > 1 else "",
        f"gamma up to exp({bounds.gamma:g})" if bounds.gamma else "",
        f"contrast +-{bounds.contrast:g}" if bounds.contrast else "",
        f"brightness +-{bounds.brightness:g} standard deviations" if bounds.brightness else "",
        f"noise up to {bounds.noise:g} standard deviations" if bounds.noise else "",
        f"from step {bounds.sharp_from} on {100 * bounds.sharp_share:.0f} % of the crops not rotated, scaled or bent"
        if bounds.sharp_share
        else "",
        made,
    ]
    return "On the fly: " + "; ".join(text for text in said if text) if any(said) else "none"


def input_statistics(cases: Iterable[Case], config: TrainingConfig) -> InputStatistics:
    """Smallest and largest figure over the cases, of intensities before and after preparation, extent and volumes.

    Intensities are those of all images of a case.
    """
    raw, prepared = [], []
    spacing: dict[Axis, list[float]] = {}
    extent: dict[Axis, list[float]] = {}
    volumes: dict[str, list[float]] = {}
    for case in cases:
        volume, *others = read_images(case).values()
        for image in (volume, *others):
            raw.append(np.percentile(image.array, PERCENTS))
            prepared.append(np.percentile(prepare(image, config.recipe).volume.array, PERCENTS))
        for axis, step, length in _by_axis(volume.grid):
            spacing.setdefault(axis, []).append(step)
            extent.setdefault(axis, []).append(step * length)
        if case.reference is None:
            continue
        reference = read_reference(case, volume.grid, len(config.data.classes))
        for label, name in enumerate(config.data.classes[1:], 1):
            volumes.setdefault(name, []).append(float((reference == label).sum()) * volume.grid.voxel_mm3)
        volumes.setdefault("all", []).append(float((reference > 0).sum()) * volume.grid.voxel_mm3)
    return InputStatistics(
        raw_percentiles=_percentiles(raw),
        prepared_percentiles=_percentiles(prepared),
        spacing_mm={axis: _range(values) for axis, values in spacing.items()},
        field_of_view_mm={axis: _range(values) for axis, values in extent.items()},
        volumes_mm3={name: _range(values) for name, values in volumes.items()},
    )


def _matrix(cases: Sequence[Case], config: TrainingConfig) -> dict[str, Any]:
    """Shape of the prepared grid and share of foreground on the source grid, smallest and largest over the cases."""
    shapes, shares = [], []
    for case in cases:
        volume = next(iter(read_images(case).values()))
        shapes.append(prepare(volume, config.recipe).volume.grid.shape)
        if case.reference is not None:
            shares.append(float((read_reference(case, volume.grid, len(config.data.classes)) > 0).mean()))
    columns = zip(("slices", "rows", "columns"), zip(*shapes, strict=True), strict=True)
    return {
        "prepared": {name: [min(values), max(values)] for name, values in columns},
    } | ({"foreground_share": [round(min(shares), 4), round(max(shares), 4)]} if shares else {})


def _by_axis(grid: Grid) -> Iterable[tuple[Axis, float, int]]:
    if grid.space is not Space.PATIENT:  # a radiograph's axes are not the patient's
        return []
    letters = orientation_letters(grid.affine)
    return [(_AXES[letter], step, n) for letter, step, n in zip(letters, grid.spacing_mm, grid.shape, strict=True)]


def _percentiles(rows: Sequence[npt.NDArray[np.floating]]) -> dict[str, Range]:
    table = np.stack(rows)
    return {f"{percent:g}": _range(table[:, k].tolist()) for k, percent in enumerate(PERCENTS)}


def _range(values: Sequence[float]) -> Range:
    return Range(least=float(f"{min(values):.6g}"), most=float(f"{max(values):.6g}"))


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
