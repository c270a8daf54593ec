"""One training of the bench and what came of it, and how many of them are carried out and taken up again.

All nets of a seed see the same slices, in the same order, augmented alike. A run is a file in the work folder, named
after a digest of everything that determines it: a bench that was killed goes on with the runs that are missing.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from contract import REPOSITORY, code_digest
from monet_parts.data import FOLDS, TASKS, Exam, Images, Labels, judging, learning, one_a_person, tables_digest
from monet_parts.shifts import GRADES, shifted
from residency.metrics import dice, hd95
from residency.nets import build
from residency.nets.net import Net

NETS = {
    "MoNet": "monet",
    "MoNet-R": "monet-r",
    "U-Net-16": "unet-16",
    "U-Net-64": "unet-64",
    "Attention U-Net-64": "attention-unet",
}
WIDE = ("U-Net-64", "Attention U-Net-64")

_PARTS, _SOURCE = Path(__file__).resolve().parent, REPOSITORY / "src" / "residency"
CODE = code_digest(
    *(_PARTS / f"{name}.py" for name in ("data", "shifts", "training")),
    *(_SOURCE / name for name in ("datasets", "files", "metrics", "nets", "prepare")),
    packages=("numpy", "torch"),
)
"""State of all that a run comes from but its data, so that older runs are not taken for new ones."""

DEGREES, ZOOM, SHIFT, GAIN = 10.0, 0.2, 0.1, 0.2
"""Of the augmentation: turned, enlarged, shifted (share of the side), brighter; each up to so much, as MoNet's code."""

SLICES_AT_ONCE = 16

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training.

    task, net  keys of TASKS and NETS
    seed       of weights, order and augmentation; of heads also the fold that is judged
    settings   steps, batch, rate; `clean` and `shifted`: most persons to be judged on, one exam each (None: all exams,
               all persons), and `grades` of every shift
    """

    task: str
    net: str
    seed: int
    settings: Mapping[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """Of its file, unique to the settings."""
        told = json.dumps([CODE, tables_digest(self.task), asdict(self)], sort_keys=True).encode()
        words = [word.replace(" ", "-").lower() for word in (self.task, self.net, str(self.seed))]
        return "-".join([*words, hashlib.sha256(told).hexdigest()[:10]])


def outcomes(runs: Sequence[Run], work: Path, workers: int, told: Callable[[str], None]) -> dict[str, Outcome]:
    """Carry out the runs that the work folder lacks, the longest first; name -> outcome."""
    work.mkdir(parents=True, exist_ok=True)
    missing = [run for run in runs if not _file(run, work).exists()]
    if missing:
        os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers as they start
        started = time.monotonic()
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _settled) as pool:
            under_way = {pool.submit(carry_out, run, work): run for run in sorted(missing, key=_last)}
            for count, done in enumerate(as_completed(under_way), 1):
                taken = done.result()["seconds"]
                passed = (time.monotonic() - started) / 60
                told(f"{count} of {len(missing)}: {under_way[done].name}, {taken:.0f} s; {passed:.0f} min so far")
    return {run.name: json.loads(_file(run, work).read_text(encoding="utf-8")) for run in runs}


def _last(run: Run) -> tuple[int, bool]:
    """A seed is whole before the next begins; in it the longest first."""
    return run.seed, run.net not in WIDE


def _settled() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # which costs time, and nothing here reads such memory


def carry_out(run: Run, work: Path) -> Outcome:
    """One run, written whole or not at all."""
    started, used = time.perf_counter(), time.process_time()
    net, losses = trained(run)
    learnt = time.process_time() - used
    outcome = {
        "run": asdict(run),
        "parameters": sum(p.numel() for p in net.parameters()),
        "last loss": float(np.mean(losses[-20:])),
        "figures": list(judged(net, run)),
        "seconds": time.perf_counter() - started,
        "processor seconds": time.process_time() - used,
        "of them learning": learnt,
    }
    file = _file(run, work)
    file.with_suffix(".part").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".part").replace(file)
    return outcome


def _file(run: Run, work: Path) -> Path:
    return work / f"{run.name}.json"


# Learning.


def trained(run: Run) -> tuple[Net, list[float]]:
    """The net after its last step, and the loss of every step.

    Slices in random order, each once before any comes again. Adam; the rate falls in a straight line to 0 over the last
    two fifths of the steps.
    """
    s = run.settings
    slices = [
        (image, labels)
        for exam in learning(run.task, run.seed % FOLDS)
        for image, labels in zip(*padded(exam, run.task), strict=True)
    ]
    torch.manual_seed(run.seed)
    net = build(NETS[run.net], channels=1, classes=len(TASKS[run.task].classes) + 1)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on a CPU, for every net
    optimiser = torch.optim.Adam(net.parameters(), lr=s["rate"])
    random = np.random.default_rng([run.seed, 7])
    torch.manual_seed(run.seed)  # of dropout, whatever the drawing of weights took
    losses = []
    net.train()
    for step, chosen in zip(range(s["steps"]), _batches(len(slices), s["batch"], random), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = s["rate"] * min(1.0, (s["steps"] - step) / (0.4 * s["steps"]))
        images, labels = (
            torch.from_numpy(np.stack(arrays)) for arrays in zip(*(slices[k] for k in chosen), strict=True)
        )
        loss = loss_of(net, *augmented(images[:, None], labels, random))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise RuntimeError(f"{run.name}: the loss is no longer a number at step {step}")
    return net.eval(), losses


def padded(exam: Exam, task: str) -> tuple[Images, Labels]:
    """Slices (S, R, C) on the task's grid, the exam in the middle; intensities clipped to the middle 99 %, z-scored.

    What is added is 0, the mean, and background.
    """
    image = np.clip(exam.image, *np.percentile(exam.image, (0.5, 99.5)))
    image = ((image - image.mean()) / max(float(image.std()), 1e-6)).astype(np.float32)
    widths = [(0, 0), *((n // 2, n - n // 2) for n in _missing(exam, task))]
    return np.pad(image, widths), np.pad(exam.labels, widths)


def _missing(exam: Exam, task: str) -> list[int]:
    return [wanted - have for wanted, have in zip(TASKS[task].shape, exam.image.shape[1:], strict=True)]


def _batches(count: int, size: int, random: np.random.Generator) -> Iterator[Sequence[int]]:
    order: list[int] = []
    while True:
        while len(order) < size:
            order.extend(random.permutation(count).tolist())
        yield order[:size]
        del order[:size]


def augmented(images: Tensor, labels: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 1, R, C) and labels (N, R, C), each turned, enlarged and shifted by itself; images also brightened."""
    count, (rows, columns) = len(images), images.shape[2:]
    angle = np.radians(random.uniform(-DEGREES, DEGREES, count))
    zoom = np.exp(random.uniform(-ZOOM, ZOOM, count))
    sides = np.array([columns, rows], dtype=np.float64)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    # grid_sample counts each side from -1 to 1, so a turn of a slice that is no square has the sides in it.
    turn = turn * (sides[None, None] / sides[None, :, None]) * zoom[:, None, None]
    move = 2 * random.uniform(-SHIFT, SHIFT, (count, 2))
    where = torch.from_numpy(np.concatenate([turn, move[:, :, None]], 2).astype(np.float32))
    grid = nn.functional.affine_grid(where, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, mode="bilinear", align_corners=False)
    found = nn.functional.grid_sample(labels[:, None].float(), grid, mode="nearest", align_corners=False)
    gain, offset = torch.from_numpy(random.uniform(-GAIN, GAIN, (2, count, 1, 1, 1)).astype(np.float32))
    return moved * (1 + gain) + offset, found[:, 0].round().long()


def loss_of(net: Net, images: Tensor, labels: Tensor) -> Tensor:
    """Soft Dice of the classes beside the background over the whole batch, plus cross-entropy."""
    logits = net(images.contiguous(memory_format=torch.channels_last))
    wanted = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)[:, 1:]
    shares = logits.softmax(1)[:, 1:]
    both, either = (shares * wanted).sum((0, 2, 3)), (shares + wanted).sum((0, 2, 3))
    missed: Tensor = 1 - ((2 * both + 1) / (either + 1)).mean()
    return missed + nn.functional.cross_entropy(logits, labels)


# Judging.


def judged(net: Net, run: Run) -> Iterator[Outcome]:
    """Figures of exams as they are, and of one exam a person under every shift and grade."""
    s, held_out = run.settings, judging(run.task, run.seed % FOLDS)
    for exam in held_out if s["clean"] is None else one_a_person(held_out, s["clean"]):
        yield figures(net, run.task, exam, "as it is", 0)
    for kind in GRADES:
        for grade in s["grades"]:
            for exam in one_a_person(held_out, s["shifted"]):
                yield figures(net, run.task, shifted(exam, kind, grade), kind, grade)


def figures(net: Net, task: str, exam: Exam, shift: str, grade: int) -> Outcome:
    """Mean Dice and HD95 over the classes, all slices as one volume.

    A missed structure is as far away as two places of the image can be: it is counted, and never dropped.
    """
    found = segmented(net, task, exam)
    farthest = float(np.hypot.reduce([n * step for n, step in zip(exam.labels.shape, exam.spacing_mm, strict=True)]))
    masks = [(found == k, exam.labels == k) for k in range(1, len(TASKS[task].classes) + 1)]
    distances = [hd95(ours, theirs, exam.spacing_mm) for ours, theirs in masks]
    return {
        "exam": exam.name,
        "person": exam.person,
        "kind": exam.kind,
        "shift": shift,
        "grade": grade,
        "Dice": float(np.mean([dice(ours, theirs) for ours, theirs in masks])),
        "HD95": float(np.mean([min(distance, farthest) for distance in distances])),
        "missed": sum(map(math.isinf, distances)),
    }


def segmented(net: Net, task: str, exam: Exam) -> Labels:
    """Classes (S, R, C) of the exam, slice by slice."""
    images, _ = padded(exam, task)
    with torch.inference_mode():
        parts = [
            net(part.contiguous(memory_format=torch.channels_last)).argmax(1).to(torch.uint8)
            for part in torch.from_numpy(images[:, None]).split(SLICES_AT_ONCE)
        ]
    rows, columns = (n // 2 for n in _missing(exam, task))
    _, height, width = exam.labels.shape
    whole: Labels = torch.cat(parts).numpy()
    return whole[:, rows : rows + height, columns : columns + width]
