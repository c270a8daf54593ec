"""What bench/heads.py says of a head: sides and volumes of the cascade, claims that can fail, whose heads it shows."""

from __future__ import annotations

import csv
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.models import read_folder
from residency.package import ModelPackage
from residency.testing import cascades
from residency.train.config import read_config
from residency.train.sources import divided


@pytest.fixture
def parts() -> Any:
    names = ("heads", "shipped")
    own = ("cascaded", "findings", "judged", "pages", "shown")
    return SimpleNamespace(
        **{name: importlib.import_module(name) for name in names},
        **{name: importlib.import_module(f"heads_parts.{name}") for name in own},
    )


def _opened(parts: Any, package: ModelPackage) -> Any:
    network = OpenVino(threads=1).load(package.with_role("graph").data, precision=Precision.F32)
    return parts.shipped.Shipped(package.card, network, "made for the test")


@pytest.fixture
def packages(parts: Any) -> tuple[Any, Any]:
    """A localiser and a model of crops, whose networks tell voxels by their value."""
    return _opened(parts, cascades.localiser()), _opened(parts, cascades.crop_model())


def _head(parts: Any, *places: Any) -> Any:
    """A head with structures at (centre, half axes); its reference has both, whatever the image shows."""
    both, volume = cascades.head(), cascades.head(places) if places else cascades.head()
    reference = (both.array > 0).astype(np.uint8)
    x = both.grid.to_lps(np.argwhere(np.ones(both.grid.shape, bool)))[:, 0].reshape(both.grid.shape)
    structures = both.array > cascades.CAVITY
    reference[structures] = np.where(x > 0, parts.shown.LEFT, parts.shown.RIGHT)[structures]
    return parts.shown.Head("someone", parts.findings.VAL, parts.shown.UNCHANGED, volume, reference)


def test_each_side_is_held_against_its_own_reference(parts: Any, packages: tuple[Any, Any]) -> None:
    row = parts.judged.judge(_head(parts), *packages)
    assert row[parts.judged.INTRACRANIAL] == row[parts.judged.HIPPOCAMPUS] == 1.0
    assert (row[parts.judged.HD95], row[parts.judged.IN_CROPS], row["both sides found"]) == (0.0, 1.0, 1.0)
    assert (row["Dice left"], row["Dice right"], row["volume error left"]) == (1.0, 1.0, 0.0)
    assert row["mL left"] == row["reference mL left"] > row["mL right"] == row["reference mL right"]
    crossed = replace(_head(parts), reference=_head(parts).reference.copy())
    crossed.reference[_head(parts).reference == parts.shown.LEFT] = parts.shown.RIGHT
    crossed.reference[_head(parts).reference == parts.shown.RIGHT] = parts.shown.LEFT
    assert parts.judged.judge(crossed, *packages)["Dice left"] == 0.0


def test_a_side_that_is_missed_counts_in_full(parts: Any, packages: tuple[Any, Any]) -> None:
    row = parts.judged.judge(_head(parts, (cascades.LEFT, cascades.SIZES[0])), *packages)
    assert (row["both sides found"], row["Dice right"], row["volume error right"]) == (0.0, 0.0, -100.0)
    assert "one structure is found" in row["cascade"]
    none = _head(parts)
    empty = replace(none, volume=replace(none.volume, array=np.zeros_like(none.volume.array)))
    row = parts.judged.judge(empty, *packages)
    assert row[parts.judged.INTRACRANIAL] == row["both sides found"] == 0.0
    assert row[parts.judged.HD95] == pytest.approx(np.hypot.reduce([104, 120, 104]))
    assert "nothing of the structure" in row["cascade"]


def test_a_crop_that_its_card_refuses_is_not_found(parts: Any, packages: tuple[Any, Any]) -> None:
    strict = _opened(parts, cascades.crop_model({"inputs.0.rows": {"least": 50, "most": 60}}))
    row = parts.judged.judge(_head(parts), packages[0], strict)
    assert row["both sides found"] == 0.0
    assert "Rows = " in row["cascade"]


def _row(parts: Any, group: str, case: str, **figures: Any) -> dict[str, Any]:
    good = {
        parts.judged.INTRACRANIAL: 0.98,
        parts.judged.HD95: 2.0,
        parts.judged.ACCEPTED: 1.0,
        "both sides found": 1.0,
    }
    every = dict.fromkeys((*parts.judged.FIGURES, *parts.cascaded.FIGURES), 0.9)
    named = {"group": group, "change": parts.shown.UNCHANGED, "case": case, "person": case, "cascade": "", "note": ""}
    return {**named, "refused because": "", **every, **good, **figures}


def _rows(parts: Any, **figures: Any) -> list[dict[str, Any]]:
    """Good heads of every group, but that the first has other figures."""
    f = parts.findings
    rows = [_row(parts, group, f"{group} {n}") for group in (f.VAL, f.KEPT, f.IXI, f.FLAIR) for n in range(2)]
    rows[0] |= figures
    nothing = dict.fromkeys((*parts.judged.FIGURES, *parts.cascaded.FIGURES), math.nan)
    return [*rows, _row(parts, f.BARE, "bare") | nothing | {parts.judged.ACCEPTED: 0.0}]


def test_every_claim_can_fail(parts: Any) -> None:
    assert all(claim.holds for claim in parts.findings.claims(_rows(parts), judged=True))
    for figures, failing in (
        ({parts.judged.INTRACRANIAL: 0.9}, "mean Dice"),
        ({parts.judged.HD95: 4.5}, "HD95"),
        ({"both sides found": 0.0}, "cascade"),
        ({parts.judged.ACCEPTED: 0.0}, "refused"),
    ):
        claims = parts.findings.claims(_rows(parts, **figures), judged=True)
        assert [claim for claim in claims if not claim.holds]
        assert all(failing in claim.claim for claim in claims if not claim.holds)
    let_in = _rows(parts)
    let_in[-1][parts.judged.ACCEPTED] = 1.0
    assert not parts.findings.claims(let_in, judged=True)[-1].holds


def test_one_person_has_no_interval_and_brain_masks_stand_apart(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = parts.findings
    rows = [*_rows(parts), _row(parts, f.MASKS, "masked", **{parts.judged.INTRACRANIAL: 0.123})]
    contract = importlib.import_module("contract")
    report = contract.Report("heads", rows, f.claims(rows, judged=True))
    body = json.loads(json.dumps(contract.body_of(report, "python bench/heads.py", quick=False), allow_nan=False))
    made = parts.pages.page(body)
    assert "0.1230 (one person)" in made.split("## Heads whose reference is a brain mask")[1].split("## Worst")[0]
    assert "0.123" not in made.split("## Heads whose reference is a brain mask")[0]
    figures = f.evaluations(rows)
    assert any(one.cohort == f.COHORTS[f.EVERY] and one.persons == 6 for one in figures)
    assert all("no interval" in one.definition for one in figures if one.persons == 1)
    json.dumps([one.model_dump(mode="json") for one in figures], allow_nan=False)


def test_no_head_of_the_bench_is_known_to_training(parts: Any, repository: Path, shared_data: Path) -> None:
    config = read_config(repository / "models" / "head" / "train.yaml")
    data = config.data.model_copy(update={"folder": shared_data / "brain_extraction"})
    known = {case.person for part in divided(config.model_copy(update={"data": data})) for case in part}
    assert len(known) == 7
    asked = list(parts.heads._all())
    assert not known & {one.case for one in asked}
    with (shared_data / "brain_extraction" / "cases.csv").open(newline="", encoding="utf-8") as lines:
        split = {row["case"]: row["split"] for row in csv.DictReader(lines)}
    assert {case for case, part in split.items() if part == "val"} <= {one.case for one in asked}
    assert {split[one.case] for one in asked if one.group in (parts.findings.VAL, parts.findings.CHANGED)} == {"val"}


def test_labels_and_margin_are_those_of_their_sources(parts: Any, repository: Path, shared_data: Path) -> None:
    with (shared_data / "brain_extraction" / "muse_labels.csv").open(encoding="utf-8") as lines:
        named = {
            name.split("_")[-1]: int(number) for number, _, name in csv.reader(lines) if name.startswith("Hippocampus")
        }
    assert (named["R"], named["L"]) == parts.shown.HIPPOCAMPI
    before = read_folder(repository / "models" / "hippocampus").card.step_before
    assert before is not None
    assert before.margin_mm == parts.judged.MARGIN_MM


def test_what_was_judged_is_kept_and_another_state_is_judged_anew(parts: Any, tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, Any]:
        made.append("once")
        return {"figure": math.nan}

    for meant in (["code", b"image"], ["code", b"image"], ["other code", b"image"], ["code", b"other image"]):
        assert math.isnan(parts.shipped.once(tmp_path, meant, make)["figure"])
    assert len(made) == 3


def test_the_packages_do_what_was_recorded_of_them(parts: Any, repository: Path, shared_data: Path) -> None:
    """One head of val, anew. Another processor may decide a voxel on a border otherwise."""
    body = json.loads((repository / "docs" / "results" / "heads.json").read_text(encoding="utf-8"))
    asked = parts.heads.Asked(parts.findings.VAL, parts.shown.OF_VAL[-1])
    (told,) = (row for row in body["rows"] if (row["group"], row["case"]) == (asked.group, asked.case))
    first, second = (parts.shipped.Shipped.opened(repository / "models" / name) for name in ("head", "hippocampus"))
    assert {first.told, second.told} <= set(body["notes"])
    row = parts.heads._row(asked, first, second)
    for figure in (parts.judged.INTRACRANIAL, parts.judged.HIPPOCAMPUS, "Dice left", "Dice right"):
        assert row[figure] == pytest.approx(told[figure], abs=5e-3)
    assert row[parts.judged.HD95] == pytest.approx(told[parts.judged.HD95], abs=0.7)
    assert (row["both sides found"], row[parts.judged.ACCEPTED]) == (1.0, 1.0)
    figures = {
        (one.metric, one.cohort, one.subgroup): one.value
        for one in read_folder(repository / "models" / "head").card.evaluation
    }
    for one in parts.findings.evaluations(
        [{**row, **{key: float(row[key]) for key in parts.judged.FIGURES}} for row in body["rows"]]
    ):
        assert figures[one.metric, one.cohort, one.subgroup] == one.value
