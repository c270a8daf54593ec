"""`residency validate`, `cross-validate` and `export-graph --folds`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from residency.cli import train, validate
from residency.errors import UsageError

Run = Callable[..., Result]


@pytest.fixture
def run(
    small_values: dict[str, Any],
    written: Callable[[dict[str, Any]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Types a command with a training file of four steps after its first word."""
    small_values["schedule"] = {"steps": 4, "batch": 2, "rate": 0.01, "validate_every": 2}
    small_values["net"]["parameters"]["features"] = [2, 4]
    file = written(small_values)
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    train.register(app)
    validate.register(app)

    def run(command: str, *words: str) -> Result:
        result = CliRunner().invoke(app, [command, str(file), *words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_a_run_is_judged_on_who_was_held_out_and_on_another_split(run: Run, tmp_path: Path) -> None:
    assert run("train").exit_code == 0
    held_out = run("validate")
    assert held_out.exit_code == 0
    assert "mean Dice 0." in held_out.stdout
    assert "(one person, no interval) on 2 cases of 1 persons" in held_out.stdout
    assert "flatter a little" in held_out.stdout
    told = json.loads(run("validate", "--split", "val", "--json").stdout)
    assert told["folder"] == "runs/balls/validation-val"
    assert "split 'val'" in told["cohort"]
    assert len(told["worst"]) == 2
    for name in ("validation", "validation-val"):
        files = {file.name for file in (tmp_path / "runs/balls" / name).iterdir()}
        assert files == {"cases", "cases.json", "card.draft.yaml", "evaluation.json", "report.html"}


def test_a_split_is_no_way_out_of_the_run_folder(run: Run) -> None:
    with pytest.raises(UsageError, match=r"--split '\.\./\.\./val' makes no name of a folder; name one with --out"):
        run("validate", "--split", "../../val")


@pytest.mark.parametrize(
    ("split", "package", "name"),
    [
        (None, None, "validation"),
        ("val", None, "validation-val"),
        (None, Path("made"), "validation-package"),
        ("val", Path("made"), "validation-package-val"),
    ],
)
def test_what_is_judged_apart_lies_apart(split: str | None, package: Path | None, name: str) -> None:
    assert validate.place_of(split, package) == name
    assert validate.place_of(split, package, "../Finding Labels") == f"{name}-by--Finding-Labels"


def test_folds_are_trained_judged_and_told_how_to_go_on(run: Run, tmp_path: Path) -> None:
    made = run("cross-validate", "--folds", "2")
    assert made.exit_code == 0
    assert "on 10 cases of 5 persons" in made.stdout
    assert f"residency export-graph {tmp_path / 'train.yaml'} --folds\n" in made.stdout
    assert (tmp_path / "runs/balls-folds/validation/report.html").is_file()
    with pytest.raises(UsageError, match="--unfinished is of one run"):
        run("export-graph", "--folds", "--unfinished")


@pytest.mark.slow
def test_folds_become_one_graph(run: Run, tmp_path: Path) -> None:
    run("cross-validate", "--folds", "2")
    said = run("export-graph", "--folds", "--out", "shipped").stdout
    assert "Parity holds" in said
    assert "fold 0: preparing the persons held out ..." in said
    told = json.loads((tmp_path / "shipped/training.json").read_text())
    assert len(told["folds"]) == 2
    assert (tmp_path / "shipped/graph.onnx").is_file()
