"""A place that cannot be written to is told in one line, before anything is computed for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import ConfigError, TrainingError
from residency.train.config import TrainingConfig, read_config
from residency.train.crossing import Shown, cross_validate, of_fold
from residency.train.ensemble import export_folds
from residency.train.run import export_run
from residency.train.validation import validate
from residency.train.written import check_writable

Written = Callable[[dict[str, Any]], Path]


@pytest.fixture
def config(small_values: dict[str, Any], written: Written) -> TrainingConfig:
    return read_config(written(small_values))


def test_nothing_is_looked_at_for_a_place_that_is_none(config: TrainingConfig, tmp_path: Path) -> None:
    """There is no run: it would be missed as soon as anything was looked at."""
    (tmp_path / "file").touch()
    place, run = tmp_path / "file" / "out", tmp_path / "run"

    def never(*_: object) -> bool:
        raise AssertionError("nothing is computed")

    for ask in (
        lambda: validate(config, run, place, never, never),
        lambda: export_run(config, run, place),
        lambda: export_folds(config, run, place),
        lambda: cross_validate(config, place, Shown(never, never), never),
    ):
        with pytest.raises(TrainingError, match=r"out cannot be written: Not a directory") as refused:
            ask()
        assert "\n" not in str(refused.value)


def test_a_place_that_will_be_made_is_none_yet(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_folds_that_is_far_too_large_is_not_read(config: TrainingConfig, tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    with file.open("wb") as sparse:
        sparse.truncate(65 * 1024**2)
    with pytest.raises(ConfigError, match=r"data\.split_file .*it has more than the"):
        of_fold(config, file, 0)
