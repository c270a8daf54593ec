"""What befalls a run from outside: a full disk, a second training in its folder, a checkpoint of another version."""

from __future__ import annotations

import copy
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.errors import ConfigError, TrainingError
from residency.train.config import TrainingConfig, read_config
from residency.train.log import LOG, read_log
from residency.train.progress import Progress
from residency.train.run import run_training
from residency.train.sources import secret_key
from residency.train.state import read_tensors, write_atomically

Written = Callable[[dict[str, Any]], Path]


@pytest.fixture
def config(small_values: dict[str, Any], written: Written) -> TrainingConfig:
    return read_config(written(small_values))


def _ignore(_: Progress) -> None:
    pass


@contextmanager
def _no_file_beyond(size: int) -> Iterator[None]:
    """A real write that fails, as on a full disk: the operating system refuses what is longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(config: TrainingConfig, tmp_path: Path) -> None:
    run_training(config, tmp_path, _ignore, lambda: True)
    with _no_file_beyond(8000), pytest.raises(TrainingError, match=r"checkpoint\.pt cannot be written: File too large"):
        run_training(config, tmp_path, _ignore, lambda: True)
    assert not list(tmp_path.glob("*.part")), "what is half written takes room that somebody may need"
    assert read_tensors(tmp_path / "checkpoint.pt")["step"] == 1
    steps: list[int] = []
    assert run_training(config, tmp_path, lambda done: steps.append(done.step), lambda: False).finished
    assert steps == list(range(2, 17))


def test_a_log_that_finds_no_room_says_so(config: TrainingConfig, tmp_path: Path) -> None:
    full = ExitStack()

    def fill(_: Progress) -> None:
        full.enter_context(_no_file_beyond((tmp_path / LOG).stat().st_size + 10))

    with full, pytest.raises(TrainingError, match=r"log\.jsonl cannot be written: File too large"):
        run_training(config, tmp_path, fill, lambda: False)
    assert [line["step"] for line in read_log(tmp_path)] == [1]
    run_training(config, tmp_path, _ignore, lambda: True)
    assert [line["step"] for line in read_log(tmp_path)] == [1]


def test_a_run_folder_where_there_can_be_none_is_refused(config: TrainingConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written: Not a directory"):
        run_training(config, tmp_path / "file" / "run", _ignore, lambda: True)


def test_two_trainings_do_not_share_a_folder(config: TrainingConfig, tmp_path: Path) -> None:
    refused = []

    def begin_another(_: Progress) -> None:
        with pytest.raises(TrainingError, match="another training is at work"):
            run_training(config, tmp_path, _ignore, lambda: True, fresh=True)
        refused.append(True)

    run_training(config, tmp_path, begin_another, lambda: True)
    assert refused
    run_training(config, tmp_path, _ignore, lambda: True)
    assert read_tensors(tmp_path / "checkpoint.pt")["step"] == 2, "neither of the two was harmed"


def test_to_start_anew_loses_nothing_where_it_cannot_start(
    small_values: dict[str, Any], written: Written, config: TrainingConfig, tmp_path: Path
) -> None:
    run_training(config, tmp_path, _ignore, lambda: True)
    values = copy.deepcopy(small_values)
    values["net"] = {"name": "monet-3d", "parameters": {"filters": 2, "depth": 1, "dropout": 2.0}}
    with pytest.raises(ConfigError, match="dropout"):
        run_training(read_config(written(values)), tmp_path, _ignore, lambda: True, fresh=True)
    assert read_tensors(tmp_path / "checkpoint.pt")["step"] == 1
    steps: list[int] = []
    run_training(config, tmp_path, lambda done: steps.append(done.step), lambda: len(steps) == 2, fresh=True)
    assert steps == [1, 2]
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


@pytest.mark.parametrize("change", ["a key of the schedule", "no optimiser", "another net"])
def test_a_checkpoint_of_another_version_is_refused(config: TrainingConfig, tmp_path: Path, change: str) -> None:
    run_training(config, tmp_path, _ignore, lambda: True)
    saved = read_tensors(tmp_path / "checkpoint.pt")
    if change == "a key of the schedule":
        saved["schedule"]["momentum"] = 0.9
    elif change == "no optimiser":
        del saved["optimiser"]
    else:
        saved["net"] = {"weight": torch.zeros(3)}
    write_atomically(saved, tmp_path / "checkpoint.pt")
    with pytest.raises(TrainingError, match="written by another version of Residency, or is damaged"):
        run_training(config, tmp_path, _ignore, lambda: True)


def test_crops_that_no_memory_holds_are_refused(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["patch"] = [100_000, 100_000, 100_000]
    with pytest.raises(TrainingError, match="not enough memory") as refused:
        run_training(read_config(written(small_values)), tmp_path / "run", _ignore, lambda: True)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_key_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "names.key"
    with _no_file_beyond(16), pytest.raises(TrainingError, match="cannot be made: File too large"):
        secret_key(file)
    assert not list(file.parent.iterdir())
    made = secret_key(file)
    assert len(made) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret_key(file) == made
    assert [one.name for one in file.parent.iterdir()] == ["names.key"]
