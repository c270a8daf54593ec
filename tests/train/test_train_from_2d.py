"""Training a 2D net in 3D, from the weights that it had in 2D."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

from residency.errors import ConfigError, TrainingError
from residency.nets import build
from residency.nets.acs import ACSConv3d
from residency.nets.acs.table import To
from residency.train.config import NetPart, TrainingConfig, read_config
from residency.train.progress import Progress
from residency.train.run import export_run, run_training
from residency.train.state import State, make_net, read_tensors

Written = Callable[[dict[str, Any]], Path]
FLAT = {"filters": 3, "depth": 1, "dropout": 0.0}


@pytest.fixture
def flat(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Weights of the 2D net, with statistics unlike those of a fresh one; beside the training file as `flat`."""
    torch.manual_seed(4)
    net = build("unet-16", channels=1, classes=3, **FLAT)
    net(torch.randn(4, 1, 16, 16))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    save_file(state, tmp_path / "flat.safetensors")
    torch.save(state, tmp_path / "flat.pt")
    return state


@pytest.fixture
def values(small_values: dict[str, Any]) -> dict[str, Any]:
    net = {"name": "unet-16", "parameters": FLAT, "convert": "acs", "start": "flat.safetensors"}
    schedule = small_values["schedule"] | {"steps": 6, "validate_every": 3, "save_every": 2}
    return copy.deepcopy(small_values) | {"net": net, "schedule": schedule}


def _with(values: dict[str, Any], **net: Any) -> dict[str, Any]:
    return values | {"net": {key: value for key, value in {**values["net"], **net}.items() if value is not None}}


def _never() -> bool:
    return False


def _ignore(_: Progress) -> None:
    pass


def test_files_without_the_new_keys_have_the_digest_that_they_had(repository: Path) -> None:
    folder = repository / "models" / "hippocampus"
    config, told = read_config(folder / "train.yaml"), json.loads((folder / "training.json").read_text())
    assert f"sha256:{config.digest()}" == told["training"]["config_digest"]
    assert config.learning_digest() == "d7ee906082387df9bcb8ef97573807ce2862d29880b79cc59b07bb560673d4b7"
    assert config.net.told() == told["net"]


def test_the_training_file_knows_every_conversion() -> None:
    assert get_args(get_args(NetPart.model_fields["convert"].annotation)[0]) == get_args(To)


@pytest.mark.parametrize("file", ["flat.safetensors", "flat.pt"])
def test_a_run_begins_with_the_2d_weights(
    flat: dict[str, torch.Tensor], values: dict[str, Any], written: Written, file: str
) -> None:
    state = State.fresh(read_config(written(_with(values, start=file))))
    assert state.net.dimensions == state.average.dimensions == 3
    assert any(isinstance(layer, ACSConv3d) for layer in state.net.modules())
    for net in (state.net, state.average):
        found = net.state_dict()
        assert found.keys() == flat.keys()
        assert all(torch.equal(found[name], value) for name, value in flat.items())


def test_inflated_weights_begin_from_the_same_file(
    flat: dict[str, torch.Tensor], values: dict[str, Any], written: Written
) -> None:
    found = State.fresh(read_config(written(_with(values, convert="i3d")))).net.state_dict()
    name = "encoders.0.0.weight"
    torch.testing.assert_close(found[name].sum(dim=2), flat[name])


def test_a_run_from_2d_weights_goes_on_to_the_same_end_without_them(
    flat: dict[str, torch.Tensor], values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    whole = read_config(written(values))
    run_training(whole, tmp_path / "whole", _ignore, _never)
    steps: list[int] = []
    run_training(whole, tmp_path / "parts", lambda done: steps.append(done.step), lambda: steps[-1] == 3)
    digest = hashlib.sha256((tmp_path / "flat.safetensors").read_bytes()).hexdigest()
    (tmp_path / "flat.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"net\.start: .*flat\.safetensors cannot be read"):
        read_config(written(values))
    later = read_config(written(_with(values, start_sha256=digest)))
    run_training(later, tmp_path / "parts", _ignore, _never)
    one, other = (read_tensors(tmp_path / run / "best.pt") for run in ("whole", "parts"))
    assert one.keys() == flat.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["head.weight"], flat["head.weight"])


def test_other_first_weights_are_another_run_wherever_they_lie(
    flat: dict[str, torch.Tensor], values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    first = read_config(written(values))
    (tmp_path / "moved.safetensors").write_bytes((tmp_path / "flat.safetensors").read_bytes())
    moved = read_config(written(_with(values, start="moved.safetensors")))
    assert first.learning_digest() == moved.learning_digest()
    assert str(tmp_path) not in json.dumps(first.net.told())
    save_file({name: value + 1 for name, value in flat.items()}, tmp_path / "moved.safetensors")
    other = read_config(written(_with(values, start="moved.safetensors")))
    alone = read_config(written(_with(values, start=None)))
    assert len({one.learning_digest() for one in (first, other, alone)}) == 3
    assert len({one.digest() for one in (first, other, alone)}) == 3


@pytest.mark.parametrize(
    ("net", "error", "said"),
    [
        ({"convert": None}, ConfigError, "net 'unet-16' is two-dimensional: .* net.convert: acs"),
        ({"name": "unet", "parameters": {"features": [2, 4]}, "start": None}, ConfigError, "three-dimensional already"),
        ({"parameters": FLAT | {"filters": 4}}, TrainingError, "do not fit net 'unet-16'"),
        ({"convert": "asc"}, ConfigError, r"net\.convert: one of 'acs'.* is expected, got 'asc'; did you mean 'acs'"),
        ({"strat": "x"}, ConfigError, r"unknown key 'net\.strat', did you mean 'start'"),
        ({"start_sha256": "0" * 64}, ConfigError, "net.start_sha256: .*flat.safetensors has sha256 "),
        ({"start_sha256": "0" * 64, "start": None}, ConfigError, "which is missing"),
        ({"name": "resnet18", "parameters": {}}, ConfigError, "net 'resnet18' classifies whole images"),
        ({"parameters": {"channels": 1}}, ConfigError, r"net\.parameters: 'channels' is not for the training file"),
        ({"parameters": {"depth": 3}}, ConfigError, r"patch: .* at least 8 that are multiples of 8, got 12 x 12 x 12"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    flat: dict[str, torch.Tensor],
    values: dict[str, Any],
    written: Written,
    net: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        State.fresh(read_config(written(_with(values, **net))))


@pytest.mark.slow
def test_a_run_from_2d_weights_is_exported_like_any(
    flat: dict[str, torch.Tensor], values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config: TrainingConfig = read_config(written(values))
    run_training(config, tmp_path / "run", _ignore, _never)
    exported = export_run(config, tmp_path / "run", tmp_path / "out")
    assert all(parity.holds for parity in exported.parities)
    told = json.loads(exported.report.read_text())["net"]
    assert (told["convert"], "start" in told, len(told["start_sha256"])) == ("acs", False, 64)
    assert make_net(config).dimensions == 3
