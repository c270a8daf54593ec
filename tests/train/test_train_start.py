"""Weights to begin with that are those of another net: a classifier's in an encoder, other classes' in a net."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

from residency.errors import ConfigError, TrainingError
from residency.nets import build
from residency.nets.slices import bare
from residency.nets.weights import Head, Into
from residency.train.config import read_config
from residency.train.net_part import NetPart
from residency.train.state import State

Written = Callable[[dict[str, Any]], Path]
SMALL = {"width": 8, "blocks": (1, 1, 1, 1)}


def _file(folder: Path, name: str, **parameters: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(8)
    state = {key: value.clone() for key, value in build(name, **parameters).state_dict().items()}
    save_file(state, folder / "start.safetensors")
    return state


def _begun(small_values: dict[str, Any], written: Written, patch: list[int], **net: Any) -> dict[str, torch.Tensor]:
    values = copy.deepcopy(small_values) | {"net": net, "patch": patch}
    return bare(State.fresh(read_config(written(values))).net).state_dict()


def test_an_encoder_begins_with_the_weights_of_a_classifier(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    classifier = _file(tmp_path, "resnet18", channels=3, classes=10, **SMALL)
    net = {"name": "resnet18-unet", "parameters": SMALL | {"decoder": (4, 4, 4, 4, 4)}}
    begun = _begun(small_values, written, [32, 32], **net, start="start.safetensors", start_into="encoder")
    fresh = _begun(small_values, written, [32, 32], **net)
    assert torch.equal(begun["encoder.layer1.0.conv1.weight"], classifier["layer1.0.conv1.weight"])
    assert torch.equal(begun["encoder.conv1.weight"], classifier["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(begun["head.weight"], fresh["head.weight"])
    with pytest.raises(TrainingError, match="do not fit net 'resnet18-unet'"):
        _begun(small_values, written, [32, 32], **net, start="start.safetensors")


def test_a_net_for_other_classes_keeps_all_but_its_head(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    before = _file(tmp_path, "unet", channels=1, classes=7, features=(4, 8))
    net = {"name": "unet", "parameters": {"features": [4, 8]}, "start": "start.safetensors"}
    begun = _begun(small_values, written, [12, 12, 12], **net, start_head="fresh")
    kept = {key for key, value in begun.items() if before[key].shape == value.shape and torch.equal(before[key], value)}
    assert set(begun) - kept == {"head.weight", "head.bias"}
    with pytest.raises(TrainingError, match="do not fit"):
        _begun(small_values, written, [12, 12, 12], **net)


def test_how_weights_are_taken_counts_for_what_is_trained(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    _file(tmp_path, "unet", channels=1, classes=3, features=(4, 8))
    net = {"name": "unet", "parameters": {"features": [4, 8]}, "start": "start.safetensors"}
    plain, fresh = (read_config(written(small_values | {"net": net | more})) for more in ({}, {"start_head": "fresh"}))
    assert plain.learning_digest() != fresh.learning_digest()
    assert "start_head" not in plain.net.told()
    assert fresh.net.told()["start_head"] == "fresh"


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ({"start_into": "encoder"}, "start_into says how the file `start` is taken, which is missing"),
        ({"start_head": "fresh"}, "start_head says how the file `start` is taken, which is missing"),
        ({"start": "start.safetensors", "start_into": "encoder"}, "net 'unet' has no encoder of its own"),
        ({"start": "start.safetensors", "start_into": "encoder", "start_head": "fresh"}, "an encoder has no head"),
    ],
)
def test_what_cannot_be_taken_so_is_refused(
    small_values: dict[str, Any], written: Written, net: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(written(small_values | {"net": small_values["net"] | net}))


def test_the_file_knows_the_ways_that_the_loader_knows() -> None:
    assert get_args(NetPart.model_fields["start_into"].annotation) == get_args(Into)
    assert get_args(NetPart.model_fields["start_head"].annotation) == get_args(Head)
