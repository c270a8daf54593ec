"""Label rules: exact, coded, approved by a person for exactly what they say; and malformed ones refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from residency.cli import rules as commands
from residency.errors import ConfigError
from residency.labels import Evidence, Side, Weighting
from residency.selection import LabelRule, RuleSet, apply_rules, parse_rules, shipped_rules, suggestion
from residency.testing.studies import example_series, regions

RULE = """
[[rule]]
id = "hips"
version = 2
[rule.when]
Modality = "CT"
SeriesDescription = "Hip left"
[rule.gives]
region = "SCT:29836001"
side = "L"
"""

HIPPOCROP = shipped_rules()[0]
CROP = example_series(regions=None, attributes={"Modality": "MR", "SeriesDescription": "HippoCrop"})

BOTH = ("region", "weighting")


def approving(*rules: LabelRule) -> RuleSet:
    return RuleSet(rules, {rule.digest: "A. Person" for rule in rules})


class TestParsing:
    def test_a_rule_is_read_with_its_codes(self) -> None:
        rule = parse_rules(RULE, "rules.toml")[0]
        assert rule.gives.region is not None
        assert (rule.gives.region.meaning, rule.gives.side) == ("Hip", Side.LEFT)

    def test_exactly_one_rule_ships(self) -> None:
        assert [rule.id for rule in shipped_rules()] == ["hippocrop"]
        assert str(HIPPOCROP.gives) == "region Hippocampus (SCT:5366008), weighting T1"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (RULE.replace("[rule.gives]", "[rule.give]"), "unknown key, did you mean 'gives'"),
            (RULE.replace("SCT:29836001", "hip"), "is not a code"),
            (RULE.replace("SCT:29836001", "SCT:29836002"), "SCT:29836002 is not in DICOM's dictionaries"),
            (RULE.replace('side = "L"', 'side = "left"'), "gives.side"),
            (RULE.replace("Modality", "modality"), "when"),
            (RULE.replace("SeriesDescription", "SeriesDesc"), "'SeriesDesc', did you mean 'SeriesDescription'?"),
            (RULE.replace("SeriesDescription", "PatientName"), "do not look at 'PatientName'"),
            (RULE.replace("version = 2", "version = 0"), "version"),
            (RULE + RULE, "two rules have the id 'hips'"),
            (RULE.split("[rule.gives]", maxsplit=1)[0] + "[rule.gives]\n", "gives nothing"),
            ("[[rules]]\n", "[[rule]] tables only, found 'rules'"),
            ("rule = 3\n", "[[rule]] tables only"),
            ("[[rule", "not valid TOML"),
            ("#" * 300_000, "at most 262144 bytes"),
        ],
    )
    def test_what_is_wrong_is_named(self, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as error:
            parse_rules(text, "rules.toml")
        assert message in str(error.value)
        assert "Value error" not in str(error.value)


class TestDigest:
    def test_a_changed_rule_needs_a_new_approval(self) -> None:
        """Whoever approved 'HippoCrop is a hippocampus' did not approve that it is a pancreas."""
        changed = HIPPOCROP.model_copy(update={"when": {**HIPPOCROP.when, "SeriesDescription": "Other"}})
        rules = RuleSet((changed,), {HIPPOCROP.digest: "A. Person"})
        assert rules.approver(changed) is None

    def test_the_note_is_no_part_of_it(self) -> None:
        assert HIPPOCROP.model_copy(update={"note": "reworded"}).digest == HIPPOCROP.digest


class TestApplying:
    def test_labels_come_with_the_rule_as_their_source(self) -> None:
        ruled = apply_rules(CROP, approving(HIPPOCROP))
        assert ruled.labels.regions == Evidence((HIPPOCROP.gives.region,), HIPPOCROP.name)
        assert ruled.labels.weighting == Evidence(Weighting.T1, HIPPOCROP.name)
        assert ruled.hits == (HIPPOCROP,)

    def test_an_unapproved_rule_changes_nothing(self) -> None:
        ruled = apply_rules(CROP, RuleSet((HIPPOCROP,)))
        assert ruled.labels == CROP
        assert ruled.hits == ()
        assert "rules approve hippocrop" in str(suggestion(ruled.labels, RuleSet((HIPPOCROP,)), BOTH))

    @given(st.text(max_size=20).filter(lambda text: text != "HippoCrop"))
    def test_nothing_but_the_exact_text_matches(self, text: str) -> None:
        labels = example_series(regions=None, attributes={"Modality": "MR", "SeriesDescription": text})
        assert apply_rules(labels, approving(HIPPOCROP)).labels == labels

    def test_the_first_matching_rule_counts(self) -> None:
        again = HIPPOCROP.model_copy(
            update={"id": "second", "gives": parse_rules(RULE, "rules.toml")[0].gives.model_copy(update={"side": None})}
        )
        ruled = apply_rules(CROP, approving(HIPPOCROP, again))
        assert ruled.labels.regions == Evidence((HIPPOCROP.gives.region,), HIPPOCROP.name)
        assert ruled.conflict is None
        assert ruled.hits == (HIPPOCROP,)

    def test_coded_evidence_is_never_replaced(self) -> None:
        labels = example_series(attributes=dict(CROP.attributes), regions=regions("BRAIN"))
        ruled = apply_rules(labels, approving(HIPPOCROP))
        assert ruled.labels.regions == regions("BRAIN")
        assert ruled.conflict is None

    def test_a_contradiction_names_both_sides(self) -> None:
        labels = example_series(attributes=dict(CROP.attributes), regions=regions("KNEE"))
        conflict = apply_rules(labels, approving(HIPPOCROP)).conflict
        assert conflict is not None
        assert "Body Part Examined = KNEE" in conflict
        assert "rule hippocrop version 1" in conflict

    def test_a_series_that_no_rule_knows_gets_a_suggestion_from_its_text(self) -> None:
        labels = example_series(regions=None, attributes={"Modality": "MR", "SeriesDescription": "Knie links"})
        ruled = apply_rules(labels, approving(HIPPOCROP))
        assert "SeriesDescription = Knie links" in str(suggestion(ruled.labels, approving(HIPPOCROP), BOTH))
        assert ruled.labels.regions is None

    @pytest.mark.parametrize(
        ("changes", "given"),
        [
            ({"weighting": None}, "give the weighting (see"),
            ({"weighting": None, "regions": None}, "give the region as a code and the weighting (see"),
            ({"regions": None}, "give the region as a code (see"),
            ({"weighting": None, "modality": "CT"}, None),
            ({}, None),
        ],
    )
    def test_the_suggestion_names_what_is_missing(self, changes: dict[str, Any], given: str | None) -> None:
        known = {"attributes": {"SeriesDescription": "T1 MPRAGE"}, "weighting": Evidence(Weighting.T1, "header")}
        labels = example_series(**known | changes)
        said = suggestion(labels, approving(HIPPOCROP), BOTH)
        assert said is None if given is None else given in str(said)

    @pytest.mark.parametrize(
        ("asked", "named"),
        [(("region",), "where"), (("weighting",), "what"), (BOTH, "all"), (("region", "side"), "where")],
    )
    def test_of_the_rules_that_wait_the_one_is_suggested_that_gives_what_is_asked(
        self, asked: tuple[str, ...], named: str
    ) -> None:
        given = {"what": ("weighting",), "where": ("region",), "all": ("region", "weighting")}
        every = {"region": HIPPOCROP.gives.region, "weighting": Weighting.T1, "side": None}
        waiting = tuple(
            HIPPOCROP.model_copy(
                update={
                    "id": name,
                    "gives": HIPPOCROP.gives.model_copy(
                        update={key: value if key in labels else None for key, value in every.items()}
                    ),
                }
            )
            for name, labels in given.items()
        )
        labels = example_series(regions=None, weighting=None, attributes=dict(CROP.attributes))
        assert f"rules approve {named} --by" in str(suggestion(labels, RuleSet(waiting), asked))
        (of_weighting, *_) = waiting
        said = str(suggestion(labels, RuleSet((of_weighting,)), ("region",)))
        assert "a label rule could say what this is" in said, "approving it would leave the region missing"


class TestCommands:
    @pytest.fixture
    def app(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
        monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path))
        app = typer.Typer()
        commands.register(app)
        return app

    def listed(self, app: typer.Typer) -> dict[str, str | None]:
        answer = CliRunner().invoke(app, ["rules", "list", "--json"], catch_exceptions=False)
        return {rule["id"]: rule["approved_by"] for rule in json.loads(answer.output)}

    def test_an_approval_is_kept_with_its_name(self, app: typer.Typer) -> None:
        assert self.listed(app) == {"hippocrop": None}
        done = CliRunner().invoke(app, ["rules", "approve", "hippocrop", "--by", "A. Person"], catch_exceptions=False)
        assert "approved by A. Person" in done.output
        assert self.listed(app) == {"hippocrop": "A. Person"}

    def test_the_sites_own_rules_come_first(self, app: typer.Typer, tmp_path: Path) -> None:
        (tmp_path / "label_rules.toml").write_text(RULE)
        assert list(self.listed(app)) == ["hips", "hippocrop"]

    def test_rules_that_are_no_text_are_refused_in_words(self, app: typer.Typer, tmp_path: Path) -> None:
        (tmp_path / "label_rules.toml").write_bytes(b"\xff")
        with pytest.raises(ConfigError, match="cannot be read"):
            CliRunner().invoke(app, ["rules", "list"], catch_exceptions=False)

    def test_an_unknown_rule_is_refused_with_the_nearest(self, app: typer.Typer) -> None:
        with pytest.raises(ConfigError, match="did you mean 'hippocrop'"):
            CliRunner().invoke(app, ["rules", "approve", "hipocrop", "--by", "X"], catch_exceptions=False)
        assert self.listed(app) == {"hippocrop": None}

    def test_the_table_can_be_read(self, app: typer.Typer) -> None:
        shown = CliRunner().invoke(app, ["rules", "list"], catch_exceptions=False, env={"COLUMNS": "200"})
        assert "residency rules approve hippocrop --by NAME" in shown.output
