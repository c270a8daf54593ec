"""Nets with scores at several resolutions learn by all of them but the coarsest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from residency.train.config import read_config
from residency.train.crops import crop
from residency.train.loop import load, workers
from residency.train.losses import DeepSupervision, loss_function
from residency.train.run import divided
from residency.train.state import State
from residency.train.step import Learner

Written = Callable[[dict[str, Any]], Path]
DEEP = {"features": [2, 2, 2, 2], "blocks": [1] * 4, "kernels": [3] * 4, "strides": [1, 2, 2, 2]}


def test_coarse_heads_are_taught_with_the_weights_of_deep_supervision(
    small_values: dict[str, Any], written: Written
) -> None:
    net = {"name": "resenc-unet", "parameters": DEEP | {"deep_supervision": True}}
    config = read_config(written(copy.deepcopy(small_values) | {"net": net, "patch": [16, 16, 16]}))
    exams, state = load(divided(config)[0], config), State.fresh(config)
    expected = DeepSupervision(loss_function(config.loss, 3))
    with torch.no_grad():
        losses = [float(expected(state.net.deep_scores(i), t)) for i, t in (crop(exams, config, n) for n in range(2))]
    before = {name: value.clone() for name, value in state.net.named_parameters()}
    with workers(1) as pool:
        found = Learner(state, exams, config, pool).step().loss
    assert abs(found - sum(losses) / 2) < 1e-5
    moved = {name for name, value in state.net.named_parameters() if not torch.equal(value, before[name])}
    assert {"head.weight", "auxiliary.0.weight"} <= moved
    assert "auxiliary.1.weight" not in moved  # the coarsest counts nothing
