"""What is known of the nets without torch is what they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from residency.errors import ConfigError
from residency.nets import NETS, build
from residency.nets.known import known_net


@pytest.mark.parametrize("name", list(NETS))
def test_sides_are_those_of_a_small_net_that_is_built(name: str) -> None:
    _compare(name, NETS[name].small)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETS))
def test_sides_are_those_of_the_nets_that_sources_tell_of(name: str) -> None:
    for count in NETS[name].counts:
        _compare(name, count.setting)


def _compare(name: str, setting: Mapping[str, Any]) -> None:
    parameters = {key: value for key, value in setting.items() if key not in ("channels", "classes")}
    with torch.device("meta"):
        net = build(name, **setting)
    known = known_net(name).sides(parameters)
    assert known in (net.sides, None)
    assert known is not None or "stem" in parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("unet", {"features": (2, 2, 2, 2)}),
        ("monet-3d", {"depth": 3, "filters": 2}),
        ("unet-16", {"depth": 2, "filters": 2}),
        ("planned-unet", {"features": (2, 2), "down": (1, 1), "up": (1,), "kernels": (3, 3), "strides": (1, 2)}),
        (
            "planned-unet",
            {"features": (2, 2), "down": (1, 1), "up": (1,), "kernels": (3, 3), "strides": (1, 1, 1, 1, 2, 2)},
        ),
    ],
)
def test_sides_follow_the_settings(name: str, parameters: dict[str, object]) -> None:
    net = build(name, **parameters)
    assert known_net(name).sides(parameters) == net.sides


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("monet", {"depth": 0}),
        ("monet", {"depth": 10**9}),
        ("planned-unet", {"strides": (1, 2)}),
        ("planned-unet", {"features": (), "strides": ()}),
        ("unet", {"features": ()}),
        ("resnet18", {"stem": "small"}),
    ],
)
def test_what_only_the_net_can_tell_is_left_to_it(name: str, parameters: dict[str, object]) -> None:
    assert known_net(name).sides(parameters) is None


def test_an_unknown_net_is_refused_without_torch() -> None:
    with pytest.raises(ConfigError, match="unknown net 'unett', did you mean 'unet'"):
        known_net("unett")
    with pytest.raises(ConfigError, match=r"unknown net 'brain', did you mean 'brainmage-resunet'\?"):
        known_net("brain")
    code = "import sys, residency.nets.known as k; k.known_net('unet'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
