"""Selection on the headers of real studies: two brain examinations whose hippocampus crops name no body part."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest

from residency.cli.table import explanation, gate_lines, selection_dict
from residency.dicom.labels import read_labels
from residency.labels import SeriesLabels
from residency.selection import CandidateTable, OutcomeKind, Policy, RuleSet, Selection, select, shipped_rules
from residency.selection.explain import misses
from residency.testing.studies import example_candidate, example_series, region_fields

RULE = shipped_rules()[0]
ONE_MM = {axis: {"least": 0.5, "most": 1.5} for axis in ("LR", "PA", "SI")}
HIPPOCAMPUS = example_candidate(
    "hippocampus",
    {
        "regions": [region_fields("SCT:5366008")],
        "weightings": ["T1"],
        "spacing_mm": ONE_MM,
        "field_of_view_mm": {"LR": {"least": 25, "most": 70}},
    },
)
HEAD = example_candidate("head", {"regions": [region_fields("HEAD")], "spacing_mm": ONE_MM})


@pytest.fixture(params=[1, 2])
def study(request: pytest.FixtureRequest, shared_data: Path) -> list[SeriesLabels]:
    found: dict[str, list[bytes]] = defaultdict(list)
    with zipfile.ZipFile(shared_data / "dicom" / f"hippocampus_study{request.param}.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".dcm"):
                found[name.rsplit("/", 1)[0]].append(archive.read(name))
    return [read_labels(headers) for headers in found.values()]


def choose(study: list[SeriesLabels], *, approved: bool) -> Selection:
    rules = RuleSet((RULE,), {RULE.digest: "A. Person"} if approved else {})
    table = CandidateTable.of([HEAD, HIPPOCAMPUS])
    return select(study, table, rules=rules, policy=Policy(), content=lambda _uid, _condition: None)


def test_the_crop_is_chosen_and_nothing_else(study: list[SeriesLabels]) -> None:
    outcomes = choose(study, approved=True).outcomes
    assert [o.labels.name for o in outcomes if o.kind is OutcomeKind.CHOSEN] == ["HippoCrop"]
    assert all(o.kind is OutcomeKind.NONE for o in outcomes if o.labels.name != "HippoCrop")


def test_without_the_rule_the_region_is_missing_and_the_rule_suggested(study: list[SeriesLabels]) -> None:
    crop = next(o for o in choose(study, approved=False).outcomes if o.labels.name == "HippoCrop")
    assert crop.kind is OutcomeKind.NONE
    assert crop.reasons[0].startswith("anatomic region missing")
    assert "residency rules approve hippocrop" in crop.reasons[-1]


class TestShown:
    def test_a_chosen_series_is_explained_with_every_gate_and_the_rule(self, study: list[SeriesLabels]) -> None:
        selection = choose(study, approved=True)
        crop = next(o for o in selection.outcomes if o.kind is OutcomeKind.CHOSEN)
        lines = explanation(selection, crop.series_uid)
        text = " ".join(" ".join(lines).split())
        for verdict in selection.row(crop.series_uid, HIPPOCAMPUS.digest).verdicts:
            assert str(verdict) in text or verdict.gate in text.partition("the card asks nothing of")[2]
        assert "rule hippocrop version 1" in text
        assert "head 1.0.0" in text.partition("the card asks nothing of")[2], "what the other model misses"
        assert max(map(len, lines)) <= 80

    def test_what_a_series_misses_is_said_once_for_each_model(self, study: list[SeriesLabels]) -> None:
        selection = choose(study, approved=True)
        for outcome in selection.outcomes:
            text = " ".join(" ".join(explanation(selection, outcome.series_uid)).split())
            if outcome.kind is OutcomeKind.NONE:
                assert text.count("does not fit") == 2
                assert "nearest model" not in text
                missed = [v for row in selection.rows(outcome.series_uid) for v in misses(row)]
                for verdict in missed:
                    assert text.count(str(verdict)) == [str(v) for v in missed].count(str(verdict))

    def test_every_gate_of_one_pair_can_be_shown(self, study: list[SeriesLabels]) -> None:
        selection = choose(study, approved=True)
        text = "\n".join(gate_lines(selection.row(study[0].series_uid, HEAD.digest)))
        assert "Photometric Interpretation" in text

    def test_the_data_form_holds_every_pair_and_is_json(self, study: list[SeriesLabels]) -> None:
        data = json.loads(json.dumps(selection_dict(choose(study, approved=True))))
        assert len(data["table"]) == 2 * len(study)
        assert {gate["status"] for row in data["table"] for gate in row["gates"]} <= {"PASS", "UNKNOWN", "FAIL"}
        assert all(row["fits"] == (row["first_failing"] is None) for row in data["table"])

    def test_results_of_ours_are_explained_in_one_line(self) -> None:
        own = example_series(own_result=True, regions=None, attributes={"SeriesDescription": "AI result"})
        (line,) = explanation(choose([own], approved=True), own.series_uid, width=200)
        assert "a result or model object of Residency" in line
