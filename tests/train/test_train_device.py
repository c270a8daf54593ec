"""Half precision, and what is said of a machine that lacks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.errors import ConfigError
from residency.train.config import read_config
from residency.train.device import find_device
from residency.train.device_part import DevicePart
from residency.train.run import run_training
from residency.train.state import read_tensors

Written = Callable[[dict[str, Any]], Path]


def _losses(values: dict[str, Any], written: Written, run: Path, stops: tuple[int, ...] = ()) -> list[float]:
    config, losses = read_config(written(values)), []
    for stop in (*stops, config.schedule.steps):

        def stopped(stop: int = stop) -> bool:
            return len(losses) == stop

        run_training(config, run, lambda done: losses.append(done.loss), stopped)
    return losses


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_net_learns_in_half_precision_and_goes_on_with_the_same_bits(
    precision: str, small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 6, "validate_every": 6}
    whole = _losses(small_values, written, tmp_path / "f32")
    halved = copy.deepcopy(small_values) | {"device": {"kind": "cpu", "precision": precision}}
    found = _losses(halved, written, tmp_path / "whole")
    assert found != whole
    assert found == pytest.approx(whole, rel=0.05)
    assert _losses(halved, written, tmp_path / "parts", stops=(3,)) == found
    checkpoint = read_tensors(tmp_path / "parts" / "checkpoint.pt")
    assert all(value.dtype == torch.float32 for value in checkpoint["net"].values())
    assert ("scaler" in checkpoint) == (precision == "f16")
    if precision == "f16":
        assert checkpoint["scaler"]["scale"] >= 1
    best = (read_tensors(tmp_path / name / "best.pt") for name in ("whole", "parts"))
    assert all(torch.equal(one, other) for one, other in zip(*(net.values() for net in best), strict=True))


def test_auto_is_bf16_only_where_the_processor_has_it() -> None:
    able = torch.cpu.get_capabilities()
    native = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    assert find_device(DevicePart(kind="cpu", precision="auto")).half == (torch.bfloat16 if native else None)
    asked = find_device(DevicePart(kind="cpu", precision="bf16"))
    assert asked.half == torch.bfloat16
    assert (asked.notes == ()) == native
    assert "no f16 of its own" in find_device(DevicePart(kind="cpu", precision="f16")).notes[0]


def test_precision_counts_for_a_run_and_the_place_does_not(small_values: dict[str, Any], written: Written) -> None:
    plain = read_config(written(small_values)).learning_digest()
    placed = small_values | {"device": {"kind": "cpu"}, "logs": "tensorboard"}
    assert read_config(written(placed)).learning_digest() == plain
    assert read_config(written(small_values | {"device": {"precision": "bf16"}})).learning_digest() != plain


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_missed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"device\.kind: cuda, but torch finds no GPU"):
        find_device(DevicePart(kind="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_a_gpu_learns_what_a_cpu_does(
    precision: str, small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 6, "validate_every": 6}
    on_cpu = _losses(small_values | {"device": {"kind": "cpu"}}, written, tmp_path / "cpu")
    on_gpu = small_values | {"device": {"kind": "cuda", "precision": precision}}
    assert _losses(on_gpu, written, tmp_path / "gpu", stops=(3,)) == pytest.approx(on_cpu, rel=0.05)
