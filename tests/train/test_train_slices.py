"""2D nets on the slices of volumes, from the training file to a graph that production can feed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from residency.errors import ConfigError
from residency.nets import build
from residency.train.config import read_config
from residency.train.export import onnx_runtime
from residency.train.run import export_run, run_training
from residency.train.state import read_tensors

Written = Callable[[dict[str, Any]], Path]
FLAT = {"filters": 4, "depth": 1, "dropout": 0.0}


@pytest.fixture
def values(small_values: dict[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(small_values) | {"net": {"name": "unet-16", "parameters": FLAT}, "patch": [12, 12]}
    values["schedule"] |= {"steps": 200, "batch": 4, "rate": 0.02, "validate_every": 50, "save_every": 50}
    values["sampling"] = {"foreground": 0.7}
    return values


def test_a_2d_net_learns_slices_and_its_graph_takes_volumes(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(values))
    outcome = run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    assert outcome.best > 0.5
    made = export_run(config, tmp_path / "run", tmp_path)
    assert any(parity.shape[2] == 2 for parity in made.parities)  # slices at once, though it learnt one by one
    net = build("unet-16", channels=1, classes=3, **FLAT).eval()
    net.load_state_dict(read_tensors(tmp_path / "run" / "best.pt"))  # by the names of the 2D net
    images = np.random.default_rng(1).standard_normal((1, 1, 3, 12, 16)).astype(np.float32)
    run = onnx_runtime(made.graph.read_bytes())
    scores = run(images)
    one = run(images[:, :, :1])  # the window that production uses
    with torch.no_grad():
        for place in range(3):
            wanted = net(torch.from_numpy(images[:, :, place])).numpy()
            np.testing.assert_allclose(scores[:, :, place], wanted, atol=1e-3 * np.abs(wanted).max())
    np.testing.assert_allclose(one[:, :, 0], scores[:, :, 0], atol=1e-3 * np.abs(scores).max())


def test_a_2d_net_is_given_volumes_only_if_it_is_said_how(values: dict[str, Any], written: Written) -> None:
    file = written(values | {"patch": [12, 12, 12]})
    with pytest.raises(ConfigError, match=r"two-dimensional: .*net\.convert: acs.* patch: \[1, 12, 12\]"):
        read_config(file)
