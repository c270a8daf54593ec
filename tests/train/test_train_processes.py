"""Several processes train one net: with the bits of one, and never left alone when one of them ends."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.errors import ConfigError
from residency.train.config import read_config
from residency.train.log import read_log
from residency.train.run import run_training
from residency.train.state import read_tensors
from residency.train.team import Team

Written = Callable[[dict[str, Any]], Path]


def _command(file: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "residency", "train", str(file), "--run", str(run), *more]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def _train(file: Path, run: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(file, run, *more), capture_output=True, text=True, check=False, env=_environment(), timeout=300
    )


def test_two_processes_end_with_the_bits_of_one(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["schedule"] |= {"steps": 6, "validate_every": 3}
    file = written(small_values)
    run_training(read_config(file), tmp_path / "one", lambda _: None, lambda: False)
    done = _train(file, tmp_path / "two", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "Done: 6 steps" in done.stdout
    one, two = (read_tensors(tmp_path / name / "checkpoint.pt") for name in ("one", "two"))
    assert one["history"] == two["history"]
    for part in ("net", "average"):
        assert all(torch.equal(one[part][name], value) for name, value in two[part].items())
    assert [line["step"] for line in read_log(tmp_path / "two")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_processes_normalise_by_the_whole_batch(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    """Without dropout, statistics over both shares are those of the batch: the same run, but for rounding."""
    values = copy.deepcopy(small_values)
    values["net"] = {"name": "monet-3d", "parameters": {"filters": 4, "dropout": 0.0}}
    values["schedule"] |= {"steps": 2, "batch": 4, "validate_every": 2}
    file = written(values)
    losses: list[float] = []
    run_training(read_config(file), tmp_path / "one", lambda done: losses.append(done.loss), lambda: False)
    done = _train(file, tmp_path / "two", "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert [line["loss"] for line in read_log(tmp_path / "two")] == pytest.approx(losses, rel=1e-3)
    one, two = (read_tensors(tmp_path / name / "checkpoint.pt")["net"] for name in ("one", "two"))
    for name, value in one.items():
        if "running" in name:
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_all_with_a_run_that_goes_on(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 2000, "save_every": 1, "validate_every": 1000}
    file = written(small_values)
    with subprocess.Popen(
        _command(file, tmp_path, "--processes", "2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as process:
        _wait_for(process, (tmp_path / "checkpoint.pt").exists)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "another process of this training ended" in said
    assert "process 1 was ended by SIGKILL" in said
    assert "Traceback" not in said
    reached = read_tensors(tmp_path / "checkpoint.pt")["step"]
    steps: list[int] = []
    run_training(read_config(file), tmp_path, lambda done: steps.append(done.step), lambda: True)
    assert steps == [reached + 1]


@pytest.mark.slow
def test_an_interrupt_ends_all_after_the_same_step(
    small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    small_values["schedule"] |= {"steps": 2000, "save_every": 1000, "validate_every": 1000}
    file = written(small_values)
    with subprocess.Popen(
        _command(file, tmp_path, "--processes", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as process:
        _wait_for(process, lambda: len(read_log(tmp_path)) > 2)
        process.send_signal(signal.SIGINT)  # to the first alone: the others learn of it from it
        told, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    step = read_tensors(tmp_path / "checkpoint.pt")["step"]
    assert f"Stopped after step {step} of 2000" in told
    assert read_log(tmp_path)[-1]["step"] == step


@pytest.mark.slow
def test_what_each_process_says_wrong_is_told(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["schedule"]["batch"] = 3
    done = _train(written(small_values), tmp_path, "--processes", "2")
    assert done.returncode != 0
    assert "3 crops cannot be divided evenly among 2 processes" in done.stderr
    with pytest.raises(ConfigError, match="cannot be divided evenly"):
        Team(0, 2).check(3)


def _wait_for(process: subprocess.Popen[str], there: Callable[[], bool]) -> None:
    for _ in range(3000):
        if there():
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"it did not come: {process.communicate()}")
