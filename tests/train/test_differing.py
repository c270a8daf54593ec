"""A run that was begun with another training file: in which keys the two differ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import TrainingError
from residency.train.config import TrainingConfig, read_config
from residency.train.differing import SETTINGS, differing
from residency.train.report import effective
from residency.train.run import run_training

Written = Callable[[dict[str, Any]], Path]


@pytest.fixture
def begun(small_values: dict[str, Any], written: Written, tmp_path: Path) -> TrainingConfig:
    config = read_config(written(small_values))
    (tmp_path / SETTINGS).write_bytes(effective(config, "0" * 64))
    return config


def changed(values: dict[str, Any], written: Written, change: Callable[[dict[str, Any]], None]) -> TrainingConfig:
    other = copy.deepcopy(values)
    change(other)
    return read_config(written(other))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.update(seed=5), "seed (was 11, is 5)"),
        (lambda v: v["schedule"].update(rate=0.02), "schedule.rate (was 0.01, is 0.02)"),
        (
            lambda v: v.update(loss="dice"),
            'loss (was "dice-cross-entropy", is [{"name": "dice", "weight": 1.0, "par...)',
        ),
        (lambda v: v.update(sampling={"foreground": 0.5}), "sampling.foreground (was left out, is 0.5)"),
        (lambda v: v["augment"].pop("noise"), "augment.noise (was 0.1, is 0.0)"),
        (lambda v: v.update(device={"precision": "bf16"}), 'device.precision (was left out, is "bf16")'),
        (
            lambda v: v["recipe"]["steps"][2]["parameters"].update(multiple=4),
            "recipe.steps.2.parameters.multiple (was 2, is 4)",
        ),
        (lambda v: v.update(threads=1, logs="tensorboard", export={"symmetric_axis": 2}), ""),
    ],
)
def test_the_key_is_named_with_both_values(
    small_values: dict[str, Any],
    written: Written,
    begun: TrainingConfig,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    told: str,
) -> None:
    assert differing(changed(small_values, written, change), tmp_path, begun.learning_digest()) == told


def test_many_keys_are_counted(
    small_values: dict[str, Any], written: Written, begun: TrainingConfig, tmp_path: Path
) -> None:
    other = changed(small_values, written, lambda v: v["schedule"].update(steps=9, batch=1, rate=1, average=0.1))
    told = differing(other, tmp_path, begun.learning_digest())
    assert told.count(" (was ") == 3
    assert told.endswith(" and 1 more")


def test_what_is_not_known_is_not_told(
    small_values: dict[str, Any], written: Written, begun: TrainingConfig, tmp_path: Path
) -> None:
    other = changed(small_values, written, lambda v: v.update(seed=5))
    assert differing(other, tmp_path, "0" * 64) == "", "the settings are of another run than the checkpoint"
    (tmp_path / SETTINGS).write_text("{")
    assert differing(other, tmp_path, begun.learning_digest()) == ""
    (tmp_path / SETTINGS).unlink()
    assert differing(other, tmp_path, begun.learning_digest()) == ""


def test_a_training_that_cannot_go_on_says_why(begun: TrainingConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_training(begun, run, lambda _: None, lambda: True)
    with pytest.raises(TrainingError, match=r"another training file: seed \(was 11, is 5\); give another run folder"):
        run_training(begun.model_copy(update={"seed": 5}), run, lambda _: None, lambda: True)
