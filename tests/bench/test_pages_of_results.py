"""The pages of results say what the JSON beside them says, and name no place of the machine that measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

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
