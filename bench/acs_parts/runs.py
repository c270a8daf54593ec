"""One training of the bench: what it is, how it is carried out, and how many are carried out and taken up again.

A run is a file in the work folder, named after a digest of everything that determines it: a bench that was killed goes
on with the runs that are missing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from acs_parts.recipes import PRETRAININGS, TASKS

RECIPES = 1
"""To be raised when the code of a recipe changes, so that older runs are not taken for new ones."""

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training.

    task       a key of TASKS, or of PRETRAININGS
    method     a key of METHODS, or "2D" for a pretraining
    seed       of data, weights and order
    settings   of the task's recipe; plain data
    start      the run whose weights are carried over, None for random weights
    """

    task: str
    method: str
    seed: int
    settings: Mapping[str, Any] = field(hash=False)
    start: Run | None = None

    @property
    def name(self) -> str:
        """Of its file, unique to the settings."""
        told = json.dumps([RECIPES, asdict(self)], sort_keys=True).encode()
        words = [self.task, self.method, "pretrained" if self.start else "random", str(self.seed)]
        return "-".join([*(word.replace(" ", "-") for word in words), hashlib.sha256(told).hexdigest()[:10]])


def outcomes(runs: Sequence[Run], work: Path, workers: int, told: Callable[[str], None]) -> dict[str, Outcome]:
    """Carry out the runs that the work folder lacks, pretrainings first; name -> outcome of every run asked for."""
    work.mkdir(parents=True, exist_ok=True)
    first = {run.start.name: run.start for run in runs if run.start}
    _carry_out_all(list(first.values()), work, workers, told)
    _carry_out_all(runs, work, workers, told)
    return {run.name: json.loads(_file(run, work).read_text(encoding="utf-8")) for run in [*first.values(), *runs]}


def _carry_out_all(runs: Sequence[Run], work: Path, workers: int, told: Callable[[str], None]) -> None:
    missing = [run for run in runs if not _file(run, work).exists()]
    if not missing:
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers as they start
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _settled) as pool:
        under_way = {pool.submit(carry_out, run, work): run for run in missing}
        for count, done in enumerate(as_completed(under_way), 1):
            outcome = done.result()
            told(f"{count} of {len(missing)}: {under_way[done].name}, {outcome['seconds']:.0f} s")


def _settled() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # which costs time, and nothing here reads such memory


def carry_out(run: Run, work: Path) -> Outcome:
    """One run, written whole or not at all."""
    started, used = time.perf_counter(), time.process_time()
    if run.method == "2D":
        net, found = PRETRAININGS[run.task](run.seed, run.settings)
    else:
        learned = torch.load(_weights(run.start, work), weights_only=True) if run.start else None
        net, found = TASKS[run.task](run.method, run.seed, run.settings, learned)
    if run.method == "2D":
        unfinished = _weights(run, work).with_suffix(".unfinished")
        torch.save(net.state_dict(), unfinished)
        unfinished.replace(_weights(run, work))
    outcome = {
        "run": asdict(run),
        "parameters": sum(p.numel() for p in net.parameters()),
        **found,
        "seconds": time.perf_counter() - started,
        "processor seconds": time.process_time() - used,
    }
    file = _file(run, work)
    file.with_suffix(".part").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".part").replace(file)
    return outcome


def _file(run: Run, work: Path) -> Path:
    return work / f"{run.name}.json"


def _weights(run: Run, work: Path) -> Path:
    return work / f"{run.name}.pt"
