"""Nets that the loop cannot teach are refused when it begins, and say why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConfigError, TrainingError
from residency.nets.net import Net
from residency.train.config import read_config
from residency.train.loop import load, workers
from residency.train.run import divided, run_training
from residency.train.state import State
from residency.train.step import Learner

Written = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize(
    ("net", "error", "said"),
    [
        (
            {"name": "monet-3d", "parameters": {"filters": 2, "depth": 3, "dropout": 0.0}},
            ConfigError,
            "patch: net 'monet-3d' cannot learn from such crops: a batch of 1 leaves one voxel",
        ),
    ],
)
def test_what_no_crop_could_teach_is_said_at_once(
    net: dict[str, Any],
    error: type[Exception],
    said: str,
    small_values: dict[str, Any],
    written: Written,
    tmp_path: Path,
) -> None:
    values = copy.deepcopy(small_values) | {"net": net, "patch": [8, 8, 8]}
    values["schedule"] |= {"batch": 1}
    with pytest.raises(error, match=said) as raised:
        run_training(read_config(written(values)), tmp_path / "run", lambda _: None, lambda: False)
    assert "\n" not in str(raised.value)


class Idle(Net):
    """Has a layer that its scores do not use."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 1
        self.used, self.idle = nn.Conv3d(1, 3, 1), nn.Conv3d(1, 3, 1)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.used(image)
        return logits


def test_parameters_that_nothing_would_teach_are_named(small_values: dict[str, Any], written: Written) -> None:
    config = read_config(written(small_values))
    net = Idle()
    state = State(net, Idle(), torch.optim.AdamW(net.parameters()))
    exams = load(divided(config)[0], config)
    with (
        workers(1) as pool,
        pytest.raises(TrainingError, match=r"do not use its 2 parameters idle\.weight, idle\.bias"),
    ):
        Learner(state, exams, config, pool).step()
