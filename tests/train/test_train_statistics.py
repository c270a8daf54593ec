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
from residency.train.crops import crop
from residency.train.judge import judge
from residency.train.loop import load, workers
from residency.train.run import divided, run_training
from residency.train.state import State, read_tensors
from residency.train.step import Learner, batches_are_whole

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


def test_a_run_with_dropout_and_running_statistics_repeats_bit_by_bit(config: TrainingConfig, tmp_path: Path) -> None:
    stopped = []
    for name in ("whole", "parts", "parts"):  # the second is stopped after three steps of four and taken up again

        def stop(name: str = name) -> bool:
            stopped.append(name)
            return stopped == ["whole"] * 4 + ["parts"] * 3

        run_training(config, tmp_path / name, lambda _: None, stop)
    assert stopped == ["whole"] * 4 + ["parts"] * 4
    one, other = (read_tensors(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert one["losses"] == other["losses"]
    for part in ("net", "average"):
        assert all(torch.equal(one[part][name], value) for name, value in other[part].items())


def test_a_step_normalises_by_the_statistics_of_its_whole_batch_and_the_average_follows(
    config: TrainingConfig,
) -> None:
    exams = load(divided(config)[0], config)
    state = State.fresh(config)
    before = {name: value.clone() for name, value in state.net.named_buffers() if value.is_floating_point()}
    alike = copy.deepcopy(state.net)
    images = torch.cat([crop(exams, config, number)[0] for number in range(config.schedule.batch)])
    with torch.no_grad():
        alike(images)
    with workers(2) as pool:
        learner = Learner(state, exams, config, pool)
        assert learner.whole
        learner.step()
    first = next(iter(before))  # later layers see what dropout left
    torch.testing.assert_close(state.net.get_buffer(first), alike.get_buffer(first))
    share = min(config.schedule.average, 2 / 11)
    for name, value in before.items():
        now = state.net.get_buffer(name)
        torch.testing.assert_close(state.average.get_buffer(name), share * value + (1 - share) * now)
        assert not torch.equal(now, value)


def test_a_net_without_them_is_given_its_crops_one_by_one(small_values: dict[str, Any], written: Written) -> None:
    config = read_config(written(small_values))
    assert not batches_are_whole(State.fresh(config).net, config)
