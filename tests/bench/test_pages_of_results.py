"""The pages of results say what the JSON beside them says, and name no place of the machine that measured."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from residency.models.folder import read_folder

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


def test_what_is_said_of_the_nets_follows_from_their_rows(repository: Path) -> None:
    nets, body = importlib.import_module("nets"), recorded(repository, "nets")
    assert body["claims"] == [asdict(claim) for claim in nets._claims(body["rows"], False)]
    assert body["notes"][-2:] == nets._engines_compared(body["rows"])


def test_what_is_said_of_monets_cost_follows_from_its_rows(repository: Path) -> None:
    """But for counts and scores, whose claims are of more than the rows hold."""
    bench, body = importlib.import_module("monet_cost"), recorded(repository, "monet_cost")
    of_times = [asdict(claim) for claim in bench._time_claims(body["rows"], False)]
    assert body["claims"][-len(of_times) :] == of_times
    assert body["notes"][-1] == bench._parts_told(body["rows"])


def test_the_card_of_the_hippocampus_model_holds_what_was_recorded_of_it(repository: Path) -> None:
    rows = recorded(repository, "hippocampus")["rows"]
    told = importlib.import_module("hippocampus").evaluations(rows)
    card = read_folder(repository / "models" / "hippocampus").card
    assert list(card.evaluation) == told
    mean = {one.subgroup: f"{one.value:.3f}" for one in told if one.metric == "Dice both"}
    coarse = next(said for said in card.failure_modes if said.startswith("Coarse voxels"))
    for voxels in ("voxels of 1.5 mm", "voxels of 2 mm", None):
        assert mean[voxels] in coarse
    (volume,) = (one.value for one in told if (one.metric, one.subgroup) == ("volume error both", "voxels of 2 mm"))
    assert f"{-volume:.1f} % too small" in coarse
    readme = (repository / "models" / "hippocampus" / "README.md").read_text(encoding="utf-8")
    assert coarse.partition("held-out persons, ")[2] in " ".join(readme.split())


@pytest.mark.parametrize(("ratio", "said"), [(1.19, "alike"), (0.84, "alike"), (1.21, "longer"), (0.82, "shorter")])
def test_engines_within_a_fifth_of_each_other_are_not_told_apart(ratio: float, said: str) -> None:
    told = importlib.import_module("nets")._apart({"one": ratio}, "longer", "shorter")
    assert told.count("(one)") == (said != "alike")
    assert f"{said} on the other 1 of 1" in told or f"more than 20 % {said} on 1 (one)" in told


def recorded(repository: Path, name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((repository / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return body


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


def test_the_page_of_acs_convolutions_has_the_costs_of_every_method(repository: Path) -> None:
    body = recorded(repository, "acs")
    part = (repository / "docs" / "results" / "acs.md").read_text(encoding="utf-8").split("## Cost", 1)[1]
    costs = ("parameters", "MMAC", "step ms", "eager ms", "eager, folded ms", "OpenVINO ms", "OpenVINO, folded ms")
    rows = [row for row in body["rows"] if row["task"] != "first epochs"]
    assert len({(row["task"], row["method"]) for row in rows}) == 20
    for row in rows:
        assert "| " + " | ".join(str(row[key]) for key in ("task", "method", *costs)) + " |" in part


def _told(values: list[float], digits: int) -> str:
    mean, least, most = (f"{value:.{digits}f}" for value in (fmean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})"
