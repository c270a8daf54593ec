"""Nets that the loop cannot teach are refused when it begins, and say why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ConfigError, TrainingError
from residency.train.config import read_config
from residency.train.run import run_training

Written = Callable[[dict[str, Any]], Path]
DEEP = {"features": [2, 2, 2], "blocks": [1, 1, 1], "kernels": [3, 3, 3], "strides": [1, 2, 2]}


@pytest.mark.parametrize(
    ("net", "error", "said"),
    [
        (
            {"name": "resenc-unet", "parameters": DEEP | {"deep_supervision": True}},
            TrainingError,
            "scores do not use its 2 parameters auxiliary.0.weight, auxiliary.0.bias",
        ),
        (
            {"name": "monet-3d", "parameters": {"filters": 2, "depth": 3, "dropout": 0.0}},
            ConfigError,
            "patch: net 'monet-3d' cannot learn from such crops: Expected more than 1 value per channel",
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
    with pytest.raises(error, match=said) as raised:
        run_training(read_config(written(values)), tmp_path / "run", lambda _: None, lambda: False)
    assert "\n" not in str(raised.value)
