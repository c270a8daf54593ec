"""The gate: what it lets pass, what it refuses, and what it says of too few persons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from residency.optimise.gate import Bounds, Verdict, gated
from residency.optimise.judged import Judged

PERSONS = 24


def masks(change: float = 0.0, *, persons: int = PERSONS, each: int = 2) -> list[Judged]:
    """Cases whose Dice lies around 0.9, all changed alike."""
    random = np.random.default_rng(2)
    return [
        Judged(
            f"case-{person}-{number}",
            f"person-{person}",
            {"anterior": float(random.uniform(0.85, 0.95)) + change, "posterior": 0.9 + change},
            {"anterior": 1.0, "posterior": 2.0},
        )
        for person in range(persons)
        for number in range(each)
    ]


def classes(persons: int = PERSONS, *, shift: float = 0.0) -> list[Judged]:
    """Probabilities that tell two classes apart but for some cases; `shift` moves those of every other case."""
    random = np.random.default_rng(3)
    found = []
    for person in range(persons):
        truth = person % 2
        said = float(np.clip(random.normal(0.35 + 0.3 * truth, 0.15), 0.01, 0.99))
        said = min(0.99, max(0.01, said + shift * (1 if person % 4 < 2 else -1)))
        found.append(Judged(f"case-{person}", f"person-{person}", probabilities=(1 - said, said), truth=truth))
    return found


def changed(cases: Sequence[Judged], at: int, **values: Any) -> list[Judged]:
    made = list(cases)
    made[at] = replace(made[at], **values)
    return made


def broken(before: Sequence[Judged], after: Sequence[Judged]) -> list[str]:
    found = gated(before, after)
    assert found.verdict is Verdict.FAILED
    return [one.what for one in found.findings if not one.holds]


def test_equal_answers_pass_on_enough_persons_and_say_so() -> None:
    found = gated(masks(), masks())
    assert (found.verdict, found.persons, found.cases) == (Verdict.PASSED, PERSONS, 2 * PERSONS)
    assert found.why == "all bounds hold on 24 persons"


def test_on_too_few_persons_nothing_is_proven() -> None:
    found = gated(masks(persons=19), masks(persons=19))
    assert found.verdict is Verdict.INSUFFICIENT
    assert found.why == "all bounds hold, on 19 persons alone"
    assert gated(masks(persons=20), masks(persons=20)).verdict is Verdict.PASSED


def test_a_loss_fails_however_few_the_persons_are() -> None:
    assert gated(masks(persons=3), masks(-0.1, persons=3)).verdict is Verdict.FAILED


def test_a_mean_below_the_bound_fails_and_one_within_it_passes() -> None:
    assert gated(masks(), masks(-0.004)).verdict is Verdict.PASSED
    assert broken(masks(), masks(-0.006)) == ["mean Dice of anterior", "mean Dice of posterior"]


def test_a_mean_within_the_bound_fails_where_its_interval_is_not() -> None:
    """Half of the persons lose 0.009 and half nothing: 0.0045 on the average, but not surely."""
    after = [
        replace(one, dice={name: dice - 0.009 * (int(one.person[7:]) % 2) for name, dice in one.dice.items()})
        for one in masks()
    ]
    assert broken(masks(), after) == ["mean Dice of anterior", "mean Dice of posterior"]


def test_one_patient_whose_structure_is_gone_fails_whatever_the_mean() -> None:
    before = masks(persons=400, each=1)
    lost = changed(before, 7, dice={"anterior": before[7].dice["anterior"] - 0.03, "posterior": 0.9})
    found = gated(before, lost)
    assert found.verdict is Verdict.FAILED
    assert "worst case of anterior: -0.0300" in found.why
    assert [one.case for one in found.findings if not one.holds] == ["case-7-0"]
    assert "mean Dice" not in found.why


def test_a_distance_that_grows_fails_and_an_infinite_one_that_stays_does_not() -> None:
    before = masks()
    far = {"anterior": 1.0, "posterior": 4.5}
    assert broken(before, changed(before, 3, hd95_mm=far)) == ["HD95 of posterior, worst case"]
    missed = {"anterior": math.inf, "posterior": 2.0}
    assert gated(changed(before, 3, hd95_mm=missed), changed(before, 3, hd95_mm=missed)).verdict is Verdict.PASSED
    assert broken(before, changed(before, 3, hd95_mm=missed)) == ["HD95 of anterior, worst case"]


def test_rightly_nothing_counts_as_a_full_score_that_can_be_lost() -> None:
    nothing = {"anterior": math.nan, "posterior": 0.9}
    no_way = {"anterior": math.nan, "posterior": 2.0}
    before = changed(masks(), 5, dice=nothing, hd95_mm=no_way)
    assert gated(before, before).verdict is Verdict.PASSED
    invented = changed(before, 5, dice={**nothing, "anterior": 0.0}, hd95_mm={**no_way, "anterior": math.inf})
    assert "worst case of anterior" in broken(before, invented)


def test_a_case_without_an_answer_fails_with_its_reason() -> None:
    before = masks()
    none = dict.fromkeys(before[0].dice, 0.0)
    after = changed(before, 0, dice=none, hd95_mm=dict.fromkeys(none, math.inf), failure="out of memory")
    assert "cases without an answer in 8 bits: 1 of 48, the first: out of memory" in gated(before, after).why
    assert "cases without an answer in f32" in gated(after, before).why


def test_a_network_that_finds_nothing_has_nothing_to_lose_and_does_not_pass() -> None:
    """So would one whose references mean something else."""
    lost = [replace(one, dice=dict.fromkeys(one.dice, 0.0)) for one in masks()]
    assert broken(lost, lost) == ["Dice of anterior in f32", "Dice of posterior in f32"]
    blind = [replace(one, probabilities=(0.5, 0.5)) for one in classes()]
    assert broken(blind, blind) == ["AUC in f32, mean of the classes"]


def test_a_structure_that_few_persons_have_is_not_proven_by_the_others() -> None:
    rare = [
        one
        if int(one.person[7:]) < 6
        else replace(one, dice={**one.dice, "anterior": math.nan}, hd95_mm={**one.hd95_mm, "anterior": math.nan})
        for one in masks()
    ]
    found = gated(rare, rare)
    assert found.verdict is Verdict.INSUFFICIENT
    assert "anterior" in found.why
    assert "on 6 of 24 persons alone" in found.why
    worse = [replace(one, dice={name: dice - 0.006 for name, dice in one.dice.items()}) for one in rare]
    assert "mean Dice of anterior" in broken(rare, worse)
    nowhere = [replace(one, dice={**one.dice, "anterior": math.nan}) for one in masks()]
    assert gated(nowhere, nowhere).verdict is Verdict.INSUFFICIENT


def test_a_classifier_is_judged_by_area_and_calibration() -> None:
    assert gated(classes(), classes()).verdict is Verdict.PASSED
    assert "AUC, mean of the classes" in broken(classes(), classes(shift=0.3))
    sure, unsure = (
        [replace(one, probabilities=(1 - right, right) if one.truth else (right, 1 - right)) for one in classes()]
        for right in (0.98, 0.6)
    )
    assert broken(sure, unsure) == ["calibration error"]
    assert gated(unsure, sure).verdict is Verdict.PASSED


def test_a_classifier_judged_on_one_class_cannot_pass() -> None:
    alike = [replace(one, truth=0) for one in classes()]
    assert broken(alike, alike) == ["AUC, mean of the classes"]


def test_bounds_are_those_that_are_asked_for() -> None:
    assert gated(masks(), masks(-0.01), bounds=Bounds(mean_dice=0.02)).verdict is Verdict.PASSED


def test_other_cases_on_both_sides_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="the same cases"):
        gated(masks(), masks()[::-1])
    with pytest.raises(ValueError, match="the same cases"):
        gated([], [])
