"""The pages of results say what the JSON beside them says, and name no place of the machine that measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from statistics import fmean

import pytest

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
PAGES = ["heads", "hippocampus", "monet", "monet_cost", "nets", "pneumonia", "training"]
"""Benches that have a page; of those whose full run is not recorded yet there is neither file."""


@pytest.mark.parametrize("name", [name for name in PAGES if (RESULTS / f"{name}.json").exists()])
def test_a_page_is_made_from_the_json_beside_it(repository: Path, name: str) -> None:
    results = repository / "docs" / "results"
    body = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    wanted = importlib.import_module(name).page(body)
    assert (results / f"{name}.md").read_text(encoding="utf-8") == wanted
    assert importlib.import_module(name).page(body | {"rows": body["rows"][1:] or 2 * body["rows"]}) != wanted


@pytest.mark.parametrize("name", PAGES)
def test_no_page_stands_without_its_json(name: str) -> None:
    assert (RESULTS / f"{name}.md").exists() is (RESULTS / f"{name}.json").exists()


def test_the_command_that_is_kept_names_no_place_of_this_machine(repository: Path, tmp_path: Path) -> None:
    command = importlib.import_module("contract").command
    called = [str(repository / "bench" / "nets.py"), "--work", str(tmp_path / "w"), "--json", "docs/results/nets.json"]
    assert command(called) == "python bench/nets.py --work w --json docs/results/nets.json"


ACS_TABLES = {
    "shapes": "## Shapes",
    "first epochs": "Six more seeds",
    "adrenal": "## Adrenal",
    "hippocampus": "## Hippo",
}
"""Task -> how the part of the page begins that has its table."""


@pytest.mark.parametrize("task", ACS_TABLES)
def test_the_page_of_acs_convolutions_has_the_figures_of_every_row(repository: Path, task: str) -> None:
    results = repository / "docs" / "results"
    body = json.loads((results / "acs.json").read_text(encoding="utf-8"))
    part = (results / "acs.md").read_text(encoding="utf-8").split(ACS_TABLES[task], 1)[1]
    rows = [row for row in body["rows"] if row["task"] == task]
    assert len(rows) == (4 if task == "first epochs" else 10)
    for row in rows:
        line = next(one for one in part.splitlines() if one.startswith(f"| {row['method']} | {row['start']} | "))
        if task == "adrenal":
            wanted = [_told(row[key], 3) for key in ("early by seed", "end by seed", "accuracy by seed")]
        else:
            wanted = [_told([curve[k] for curve in row["curves"]], 2) for k in range(len(row["points"]))]
        assert [cell.strip() for cell in line.split("|")[3 : 3 + len(wanted)]] == wanted
        for name in ("early", "end"):
            assert row[name] == pytest.approx(fmean(row[f"{name} by seed"]), abs=1e-6)


def _told(values: list[float], digits: int) -> str:
    mean, least, most = (f"{value:.{digits}f}" for value in (fmean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})"
