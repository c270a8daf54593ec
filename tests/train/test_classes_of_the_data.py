"""Data that have other classes than the training file names: the error says in which key to put it right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency.errors import TrainingError
from residency.train.config import read_config
from residency.train.run import run_training

Written = Callable[[dict[str, Any]], Path]


def refusal(file: Path, run: Path) -> str:
    with pytest.raises(TrainingError) as refused:
        run_training(read_config(file), run, lambda _: None, lambda: True)
    assert not run.exists() or not list(run.glob("*.pt"))
    return str(refused.value)


def test_a_value_that_no_class_has(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["data"]["classes"] = ["background", "ball"]
    said = refusal(written(small_values), tmp_path / "run")
    assert said.startswith("case 'c")
    assert "labels must be 0..1, got [0, 1, 2]" in said
    assert "data.classes" in said
    assert "data.merge" in said


def test_a_class_that_no_case_has(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    small_values["data"]["classes"] = ["background", "ball", "shell", "handle", "rope"]
    said = refusal(written(small_values), tmp_path / "run")
    assert "data.classes names 'handle', 'rope', which none of the cases has" in said
    assert "data.merge" in said


def test_a_class_that_no_row_of_the_table_has(
    small_set: Path, small_values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    rows = (small_set / "cases.csv").read_text().splitlines()
    kinds = [f"{row},{'round' if number % 2 else 'square'}" for number, row in enumerate(rows[1:])]
    table = tmp_path / "kinds.csv"
    table.write_text("\n".join([f"{rows[0]},kind", *kinds]) + "\n")
    names = ["square", "round", "flat"]
    small_values["data"] |= {"table": str(table), "classes": names, "tasks": {"kind": [*names]}, "reference": None}
    small_values |= {"net": {"name": "resnet18-3d"}, "loss": "cross-entropy", "patch": [32, 32, 32]}
    del small_values["augment"]
    said = refusal(written(small_values), tmp_path / "run")
    assert "data.classes and data.tasks name 'flat', which none of the cases has" in said
    assert "merge" not in said
