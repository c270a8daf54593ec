"""What a training tells that may be meant: more threads than cores, crops larger than the images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.train.config import read_config
from residency.train.progress import Progress
from residency.train.run import run_training
from residency.train.together import remarks, remarks_on_images

Written = Callable[[dict[str, Any]], Path]


def test_more_threads_than_cores_are_remarked(
    small_values: dict[str, Any], written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert remarks(read_config(written(small_values))) == ()
    (said,) = remarks(read_config(written(small_values | {"threads": 64})))
    assert said == "threads: 64 share the 2 cores that there are; 2 would be as fast"


def test_a_validation_that_never_comes_is_remarked(small_values: dict[str, Any], written: Written) -> None:
    values = copy.deepcopy(small_values) | {"threads": 1}
    values["schedule"]["validate_every"] = 100
    (said,) = remarks(read_config(written(values)))
    assert said.startswith("schedule.validate_every: 100 is more than all 16 steps")


def test_a_patch_larger_than_most_images_is_remarked() -> None:
    shapes = [(20, 40, 40), (30, 40, 44), (30, 40, 48)]
    assert remarks_on_images(shapes, (20, 40, 40)) == ()
    assert remarks_on_images(shapes, (24, 40, 40)) == ()  # one of three
    (said,) = remarks_on_images(shapes, (32, 40, 48))
    assert "fewer along the slice and column axis (the most of any: 30 x 40 x 48)" in said


def test_it_is_said_with_the_first_step(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    values = copy.deepcopy(small_values) | {"patch": [12, 12, 40], "threads": 1}
    values["schedule"] |= {"steps": 2, "validate_every": 2, "batch": 1}
    steps: list[Progress] = []
    run_training(read_config(written(values)), tmp_path / "run", steps.append, lambda: False)
    assert [len(step.notes) for step in steps] == [1, 0]
    assert steps[0].notes[0].startswith("patch: 12 x 12 x 40 voxels")
