"""Our trainer as a process of bench/training.py: `residency.train` as the command line runs it, and its answers.

python bench/children/training_ours.py TASK ARGUMENTS_AS_JSON
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from residency.datasets import Case, Table, read_cases, read_images
from residency.files.nifti import write_nifti
from residency.nets.symmetric import Symmetric
from residency.prepare import labels_on, prepare
from residency.train.config import TrainingConfig, read_config
from residency.train.judge import scores
from residency.train.loop import train
from residency.train.net_part import NetPart
from residency.train.progress import Progress
from residency.train.state import make_net, read_tensors
from training_parts.cases import chosen
from training_parts.clock import Clock, Worked

Arguments = Mapping[str, Any]


def learn(arguments: Arguments) -> dict[str, Any]:
    """Train for the budget; mark-SHARE.pt in the folder are the running averages of the weights at the marks.

    At a mark the run is stopped as by Ctrl-C and taken up again; on the clock is all else, from the first batch on.
    """
    entered = time.monotonic()
    config, cases = configured(arguments), json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    learning, choosing = chosen(config, cases)
    run = Path(arguments["folder"]) / "run"
    marks, reached, set_up = list(arguments["marks"]), list[float](), list[float]()
    latest, worked = Progress(0, 0.0), Worked()
    clock = Clock(arguments["budget_s"], marks, reached.append, arguments["warm_s"], worked)

    def report(step: Progress) -> None:
        nonlocal latest
        if not set_up:
            set_up.append(time.monotonic() - entered - step.seconds)
        took, latest = step.seconds - latest.seconds, step
        worked.resumed(took)
        clock.after_step(config.schedule.batch, step.waiting_share * took, step.loss)

    finished = False
    while not (finished or clock.over):
        kept = len(reached)
        paused = partial(_paused, reached, kept, clock)
        finished = train(config, learning, choosing, run, report, paused).finished
        worked.paused()
        # A schedule that ends a little before the budget leaves the last mark to its last weights.
        for mark in marks[kept:] if finished or clock.over else reached[kept:]:
            shutil.copyfile(run / "checkpoint.pt", run.parent / f"mark-{mark}.pt")
    size = sum(parameter.numel() for parameter in make_net(config).parameters())
    return clock.told() | {"set_up_s": set_up[0], "parameters": size}


def _paused(reached: Sequence[float], kept: int, clock: Clock) -> bool:
    """A mark has been reached, or the end."""
    return len(reached) > kept or clock.over


def answer(arguments: Arguments) -> dict[str, Any]:
    """Label files of the cases to judge on: the net and its mirror image, by the windows of its patch."""
    config, cases = configured(arguments), json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    net = make_net(config)
    net.load_state_dict(read_tensors(Path(arguments["weights"]))["average"])
    axis = config.export.symmetric_axis
    assert axis is not None
    symmetric = Symmetric(net, axis).eval()
    found = read_cases(config.data.folder, Table(person=config.data.person_column))
    by_name = {case.name: case for case in found}
    folder = Path(arguments["folder"]) / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(config.threads) as pool:
        for _ in pool.map(lambda name: _answered(by_name[name], symmetric, config, folder), cases["judge"]):
            pass
    return {"seconds": time.monotonic() - began}


def _answered(case: Case, net: Symmetric, config: TrainingConfig, folder: Path) -> None:
    (volume,) = read_images(case).values()
    prepared = prepare(volume, config.recipe)
    labels = scores(net, prepared.volume.array[None], config.patch).argmax(axis=0).astype(np.uint8)
    found = labels_on(labels, prepared.volume.grid, volume.grid)
    (folder / f"{case.name}.nii.gz").write_bytes(write_nifti(found, volume.grid))


def configured(arguments: Arguments) -> TrainingConfig:
    """The training file with the data, and, where they are given, net, patch, batch and steps of the bench."""
    config = read_config(Path(__file__).resolve().parents[1] / "training_parts" / "ours.yaml")
    data = config.data.model_copy(update={"folder": Path(arguments["data"])})
    update: dict[str, Any] = {"data": data}
    schedule: dict[str, Any] = {}
    if arguments.get("net"):
        update |= {"net": NetPart.model_validate(arguments["net"]), "patch": tuple(arguments["patch"])}
        schedule["batch"] = arguments["batch"]
    if arguments.get("steps"):
        schedule["steps"] = arguments["steps"]
    update["schedule"] = config.schedule.model_copy(update=schedule)
    return config.model_copy(update=update)


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    found = {"learn": learn, "answer": answer}[sys.argv[1]](given)
    Path(given["answer"]).write_text(json.dumps(found), encoding="utf-8")
