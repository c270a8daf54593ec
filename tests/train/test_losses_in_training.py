"""Losses in the loop: a sum of them learns, and gives the same bits on any number of threads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from residency.train.config import read_config
from residency.train.run import run_training
from residency.train.state import read_tensors

Written = Callable[[dict[str, Any]], Path]

SUM = [
    {"name": "tversky", "parameters": {"alpha": 0.4, "beta": 0.6}},
    {"name": "focal", "weight": 0.5},
    {"name": "boundary", "weight": 0.02},
]


def test_a_sum_of_losses_learns_and_repeats(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    values = copy.deepcopy(small_values) | {"loss": SUM}
    values["schedule"] |= {"steps": 24, "rate": 0.02}
    seen: dict[int, list[float]] = {1: [], 2: []}
    for threads, losses in seen.items():
        config = read_config(written(values | {"threads": threads}))
        run_training(config, tmp_path / str(threads), lambda done, into=losses: into.append(done.loss), lambda: False)
    assert seen[1] == seen[2]
    assert sum(seen[1][-4:]) < 0.8 * sum(seen[1][:4])
    ends = [read_tensors(tmp_path / str(threads) / "checkpoint.pt")["net"] for threads in seen]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_another_loss_is_another_run(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    values = copy.deepcopy(small_values)
    values["schedule"] |= {"steps": 2}
    ends = set()
    for number, loss in enumerate(
        ("dice-cross-entropy", "dice", {"dice": 1.0, "focal": 0.5}, {"dice": 1.0, "focal": 5.0})
    ):
        run = tmp_path / str(number)
        run_training(read_config(written(values | {"loss": loss})), run, lambda _: None, lambda: False)
        ends.add(tuple(float(one.double().sum()) for one in read_tensors(run / "checkpoint.pt")["net"].values()))
    assert len(ends) == 4
