"""What is still needed of a card: what a person must say and has not, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from residency.errors import CardError
from residency.train.importing.draft import missing


@pytest.fixture
def whole(repository: Path) -> dict[str, Any]:
    """A card that lacks nothing but what is measured when a package is built."""
    card: dict[str, Any] = yaml.safe_load((repository / "models/hippocampus/card.yaml").read_text())
    card["training"] = {
        "datasets": [{"name": "a", "licence": "b", "cases": 2, "persons": 2, "digest": "sha256:" + 64 * "0"}],
        **dict.fromkeys(("split", "augmentation", "loss", "optimiser", "hardware"), "a"),
        **dict.fromkeys(("seed", "steps", "duration_minutes"), 1),
    }
    card["training"]["datasets"][0]["labels"] = "c"
    card["inputs"][0]["recipe"] = {"steps": []}
    card["evaluation"] = []
    card["tiling"] = {"window": [32, 32, 32]}
    return card


def lines(card: dict[str, Any]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in missing(card))


def test_of_a_part_that_is_known_in_part_the_rest_alone(whole: dict[str, Any]) -> None:
    already = lines(whole)
    del whole["identity"]["publisher"], whole["identity"]["summary"]
    del whole["licences"]["weights"], whole["licences"]["data"]
    del whole["inputs"][0]["regions"]
    assert lines(whole) == already | {
        "identity": "publisher {id, name}, summary",
        "licences": "weights (what the data demand of them)",
        "inputs": "regions (coded)",
    }


def test_of_a_part_that_is_not_known_all_that_must_be_said(whole: dict[str, Any]) -> None:
    del whole["intended_use"]
    assert lines(whole)["intended_use"] == "statement, users, population, out_of_scope, oversight, role"


def test_of_several_inputs_the_one_that_is_meant(whole: dict[str, Any]) -> None:
    whole["inputs"].append(copy.deepcopy(whole["inputs"][0]))
    del whole["inputs"][1]["modalities"]
    assert lines(whole)["inputs"] == "modalities of inputs.1"


def test_what_is_said_and_wrong_is_no_lack(whole: dict[str, Any]) -> None:
    whole["inputs"][0]["modalities"] = 5
    with pytest.raises(CardError, match=r"inputs\.0\.modalities: "):
        missing(whole)
