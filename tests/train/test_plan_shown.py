"""What `residency plan` shows: the choices that matter first, all of them where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from residency.cli import app


@pytest.mark.parametrize("every", [False, True])
def test_the_main_choices_or_all(small_set: Path, tmp_path: Path, *, every: bool) -> None:
    out = tmp_path / "made"
    command = ["plan", str(small_set), "--out", str(out), "--no-measure", "--threads", "2", *(["--all"] * every)]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "160"}, catch_exceptions=False).stdout
    keys = [choice["key"] for choice in json.loads((out / "plan.json").read_text())["choices"]]
    there = {line.split()[0] for line in shown.splitlines() if line.split()} & set(keys)
    main = {"data.classes", "recipe.orient", "recipe.resample", "net.name", "patch", "loss", "schedule.steps"}
    assert main <= there
    if every:
        assert there == set(keys)
    else:
        assert len(there) < len(keys) / 2 + 1
        assert "augment.noise" not in there
        assert f"{len(keys) - len(there)} more choices stand with their reasons in {out / 'train.yaml'}" in shown
