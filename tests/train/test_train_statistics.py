"""Nets with running statistics and dropout in the loop: judged as they will be used, and as repeatable as any."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from residency.nets import build
from residency.train.config import TrainingConfig, read_config
from residency.train.judge import judge
from residency.train.loop import crop, learn, load, workers
from residency.train.run import divided, run_training
from residency.train.state import State, read_tensors

Written = Callable[[dict[str, Any]], Path]
SMALL = {"filters": 4, "dropout": 0.3}


@pytest.fixture
def config(small_values: dict[str, Any], written: Written) -> TrainingConfig:
    values = copy.deepcopy(small_values)
    values["schedule"] |= {"steps": 4, "validate_every": 2}
    values["net"] = {"name": "monet-3d", "parameters": dict(SMALL)}
    return read_config(written(values))


def test_the_best_weights_are_judged_by_their_running_statistics_and_without_dropout(
    config: TrainingConfig, tmp_path: Path
) -> None:
    outcome = run_training(config, tmp_path, lambda _: None, lambda: False)
    net = build("monet-3d", channels=1, classes=3, **SMALL).eval()
    net.load_state_dict(read_tensors(tmp_path / "best.pt"))
    _, judging = divided(config)
    with workers(1) as pool:
        assert judge(net, load(judging, config), 3, config.patch, pool) == pytest.approx(outcome.best)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm3d)]
    assert norms
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_mean.abs().max() > 0
        assert norm.num_batches_tracked == outcome.best_at


def test_a_run_with_dropout_and_running_statistics_repeats_bit_by_bit_on_any_number_of_threads(
    config: TrainingConfig, tmp_path: Path
) -> None:
    for threads in (1, 2):
        run_training(
            config.model_copy(update={"threads": threads}), tmp_path / str(threads), lambda _: None, lambda: False
        )
    one, other = (read_tensors(tmp_path / name / "checkpoint.pt") for name in ("1", "2"))
    assert one["losses"] == other["losses"]
    for part in ("net", "average"):
        assert all(torch.equal(one[part][name], value) for name, value in other[part].items())


def test_statistics_of_a_step_are_those_of_all_its_crops_and_the_average_follows(config: TrainingConfig) -> None:
    exams = load(divided(config)[0], config)
    state = State.fresh(config)
    statistics = {name: [value.clone()] for name, value in state.net.named_buffers() if value.is_floating_point()}
    expected = {name: torch.zeros_like(value) for name, (value,) in statistics.items()}
    first = next(iter(expected))  # later layers see what dropout left
    for number in range(config.schedule.batch):
        own = copy.deepcopy(state.net)
        with torch.no_grad():
            own(crop(exams, config, number)[0])
        expected[first] += own.get_buffer(first) / config.schedule.batch
    with workers(2) as pool:
        learn(state, exams, config, pool)
    torch.testing.assert_close(state.net.get_buffer(first), expected[first])
    share = min(config.schedule.average, 2 / 11)
    for name, (before,) in statistics.items():
        now = state.net.get_buffer(name)
        torch.testing.assert_close(state.average.get_buffer(name), share * before + (1 - share) * now)
        assert not torch.equal(now, before)
