"""The log of a run: every step once, in order, whatever stopped the run in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.train.config import TrainingConfig, read_config
from residency.train.log import LOG, read_log
from residency.train.run import run_training
from residency.train.state import read_tensors

Written = Callable[[dict[str, Any]], Path]


@pytest.fixture
def config(small_values: dict[str, Any], written: Written) -> TrainingConfig:
    return read_config(written(small_values))


def _until(step: int) -> tuple[Callable[[Any], None], Callable[[], bool]]:
    seen: list[int] = []
    return (lambda done: seen.append(done.step)), (lambda: seen[-1] == step)


def test_each_step_is_told_once_however_often_the_run_was_stopped(config: TrainingConfig, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run_training(config, whole, *_until(16))
    run_training(config, tmp_path, *_until(8))
    log = tmp_path / LOG
    stopped = log.read_text()
    # As a kill leaves it: steps after the checkpoint (of step 8), the last half written.
    log.write_text(stopped + stopped.splitlines()[-1].replace('"step": 8', '"step": 9') + '\n{"step": 10, "lo')
    run_training(config, tmp_path, *_until(16))
    told = read_log(tmp_path)
    assert [line["step"] for line in told] == list(range(1, 17))
    for mine, undisturbed in zip(told, read_log(whole), strict=True):
        assert all(mine[key] == undisturbed[key] for key in ("step", "loss", "rate", "figure"))
    validated = {line["step"]: line["figure"] for line in told if line["figure"] is not None}
    history = read_tensors(tmp_path / "checkpoint.pt")["history"]
    assert validated == {step: figure for step, _, figure in history}
    assert told[0]["rate"] == config.schedule.rate_at(0)
    assert all(line["crops_second"] > 0 and 0 <= line["waiting_share"] <= 1 for line in told)
    seconds = [line["seconds"] for line in told]
    assert seconds == sorted(seconds)


def test_a_log_that_is_no_log_is_begun_anew(config: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(b"\xff\x00 something else\n" * 10)
    run_training(config, tmp_path, *_until(2))
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]
    assert read_log(tmp_path / "elsewhere") == ()


def test_a_run_that_gets_no_better_ends_at_a_validation_and_can_be_exported(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 1000, "rate": 1e-12, "patience": 2, "validate_every": 4, "save_every": 1000}
    config = read_config(written(small_values))
    outcome = run_training(config, tmp_path, lambda _: None, lambda: False)
    after_the_best = [step for step, _, _ in outcome.history if step > outcome.best_at]
    assert len(after_the_best) == 2
    assert outcome.step == after_the_best[-1]
    assert read_tensors(tmp_path / "checkpoint.pt")["step"] == outcome.step
