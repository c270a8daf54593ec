"""A card is complete and strict: what it does not know it refuses, with the nearest name."""

from __future__ import annotations

import json

import pytest

from residency.card import Range, card_schema, parse_card
from residency.card.page import card_page
from residency.errors import CardError
from residency.testing.cards import EXAMPLE, example_card


def test_a_card_survives_json():
    card = example_card()
    assert parse_card(json.loads(card.model_dump_json())) == card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity.famly": "x"}, r"identity\.famly: unknown field, did you mean 'family'"),
        ({"inputs.0.regoins": []}, "did you mean 'regions'"),
        ({"inputs.0.modalities": ["XX"]}, r"inputs\.0\.modalities"),
        ({"inputs.0.modalities": []}, r"inputs\.0\.modalities"),
        ({"identity.version": "one"}, r"identity\.version"),
        ({"identity.created": "2026-01-01T00:00:00"}, "time zone"),
        ({"identity.created": "9999-12-31T23:59:59-23:00"}, "year 9999"),
        ({"inputs.0.slices": {"least": 9, "most": 3}}, "least 9"),
        ({"outputs.0.classes.1.index": 2}, "by index from 0"),
        ({"outputs.0.classes.1.type": None}, "needs a category and a type code"),
        ({"parameters": float("inf")}, "parameters"),
        ({"schema_version": 2}, "schema_version"),
        ({"golden.least_dice": 1.5}, r"golden\.least_dice"),
        ({"identity.name": "a\x1b[2Jb"}, r"identity\.name"),
        ({"identity.summary": "a\x9b2Jb"}, r"identity\.summary"),
        ({"regulatory.notice": "two\nlines"}, r"regulatory\.notice"),
        ({"outputs.0.classes.1.name": "a\x00"}, r"classes\.1\.name"),
        ({"training.software": {"a\x07": "1"}}, r"training\.software"),
        ({"step_before": {"family": "../x", "output": "o", "margin_mm": 1}}, r"step_before\.family"),
    ],
)
def test_a_wrong_field_is_named(changes, message):
    with pytest.raises(CardError, match=message):
        example_card(changes)


def test_a_card_carries_several_named_inputs_and_refuses_two_of_one_name():
    second = dict(EXAMPLE["inputs"][0]) | {"name": "flair", "tensor": "flair", "weightings": ["FLAIR"]}
    card = example_card({"inputs": [EXAMPLE["inputs"][0], second]})
    assert [i.name for i in card.inputs] == ["image", "flair"]
    with pytest.raises(CardError, match="share a name"):
        example_card({"inputs": [EXAMPLE["inputs"][0], EXAMPLE["inputs"][0]]})


def test_the_schema_describes_every_field():
    schema = card_schema()
    assert set(schema["properties"]) == set(type(example_card()).model_fields)
    assert schema["additionalProperties"] is False


def test_an_open_range_holds_everything_on_its_open_side():
    assert Range(least=2).holds(1e9)
    assert not Range(least=2).holds(1.9)
    assert str(Range(least=2)) == "2.."


def test_everything_that_a_card_can_say_stands_on_its_page():
    """What is recorded but never shown protects nobody."""
    told = {
        "intended_use.setting": "A radiology ward",
        "regulatory.notified_body": "Body 0123",
        "regulatory.change_plan": "Plan 7",
        "regulatory.ai_act_risk": "high risk",
        "inputs.0.channel": "T1 channel",
        "outputs.0.confidence": "Uncalibrated",
        "training.energy_kwh": 1.25,
        "training.federation": {"rounds": 12, "participants": 3, "epsilon": 4.5, "delta": 1e-5},
        "training.datasets": [
            {
                "name": "Set",
                "licence": "CC-BY-4.0",
                "source": "somewhere",
                "persons": 2,
                "cases": 3,
                "labels": "experts",
                "sites": ["Site A"],
                "scanners": ["Scanner B"],
                "exclusions": "Motion",
            }
        ],
        "monitoring": {"plausible_mm3": {"hippocampus": {"least": 10, "most": 90}}, "contact": "watch@example.org"},
        "runtime": {
            "engine": "OpenVINO",
            "measured": [{"cpu": "A CPU", "threads": 2, "precision": "f32", "what": "one crop", "seconds": 0.3}],
        },
        "compression": {
            "source_precision": "f32",
            "method": "INT8",
            "calibration": "20 persons",
            "metric": "Dice",
            "change": -0.001,
            "gate": "at most -0.005",
            "passed": True,
        },
    }
    text = card_page(example_card(told)).text(width=10_000)
    for said in (
        "A radiology ward", "Body 0123", "Plan 7", "high risk", "T1 channel", "Uncalibrated", "1.25 kWh", "12 rounds",
        "epsilon 4.5", "Site A", "Scanner B", "Motion", "hippocampus 10..90", "watch@example.org", "A CPU", "INT8",
    ):  # fmt: skip
        assert said in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs.0.classes.1.modifiers": [{"scheme": "SCT", "value": "7771000", "meaning": "Left"}]}, "a side"),
        ({"monitoring": {"plausible_mm3": {"kidney": {"most": 1}}}}, "kidney"),
        ({"golden.least_dice": 0.0}, r"golden\.least_dice"),
    ],
)
def test_what_would_mislead_is_refused(changes, message):
    with pytest.raises(CardError, match=message):
        example_card(changes)
