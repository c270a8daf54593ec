"""Bootstrap intervals: of means, of figures of all cases, and of paired differences; what they count and refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.metrics import (
    auc,
    average_precision,
    bootstrap,
    bootstrap_figure,
    brier,
    intervals,
    not_inferior,
    paired,
)


def test_the_bootstrap_holds_its_mean_and_repeats() -> None:
    values = {person: [0.8 + 0.01 * person, 0.9] for person in range(12)}
    found = bootstrap(values, seed=3)
    assert found == bootstrap(values, seed=3)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(np.mean([v for figures in values.values() for v in figures]))
    assert (found.cases, found.persons) == (24, 12)


def test_cases_of_one_person_count_as_one_draw() -> None:
    alike = {person: [value] * 8 for person, value in enumerate(np.linspace(0.7, 0.9, 5))}
    apart = {8 * person + k: [value] for person, value in enumerate(np.linspace(0.7, 0.9, 5)) for k in range(8)}
    by_person, by_case = bootstrap(alike, seed=1), bootstrap(apart, seed=1)
    assert by_person.high - by_person.low > 2 * (by_case.high - by_case.low)


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        values = {person: [value] for person, value in enumerate(random.normal(0.85, 0.05, 40))}
        found = bootstrap(values, seed=trial, rounds=500)
        hits += found.low <= 0.85 <= found.high
    assert 176 <= hits <= 199


def test_figures_that_say_nothing_are_left_out_and_none_at_all_is_refused() -> None:
    found = bootstrap({"a": [math.nan, 0.5], "b": [math.nan], "c": [0.7]}, seed=0)
    assert (found.cases, found.persons) == (2, 2)
    with pytest.raises(ValueError, match="no figure"):
        bootstrap({"a": [math.nan]}, seed=0)


def test_an_infinite_figure_is_counted_and_never_averaged_away() -> None:
    values = {person: [1.0 + 0.1 * person] for person in range(20)}
    missed = values | {20: [math.inf]}
    found = bootstrap(missed, seed=0)
    assert found.mean == found.high == math.inf
    assert 1.0 < found.low < 3.0  # a third of the draws are without that person
    assert (found.cases, found.infinite, found.left_out) == (21, 1, 0)
    many = bootstrap({person: [math.inf if person % 2 else 1.0] for person in range(20)}, seed=0)
    assert many.low == many.high == math.inf
    with pytest.raises(ValueError, match="no mean"):
        bootstrap({"a": [math.inf], "b": [-math.inf]}, seed=0)


def test_what_is_left_out_is_counted() -> None:
    assert bootstrap({"a": [math.nan, 0.5], "b": [math.nan], "c": [0.7]}, seed=0).left_out == 2


@given(st.dictionaries(st.integers(), st.lists(st.floats(-10, 10), min_size=1, max_size=4), min_size=1, max_size=8))
def test_an_interval_lies_within_the_figures_and_does_not_depend_on_their_order(values: dict[Any, list[float]]) -> None:
    found = bootstrap(values, seed=1, rounds=50)
    flat = [value for figures in values.values() for value in figures]
    assert min(flat) - 1e-9 <= found.low <= found.high <= max(flat) + 1e-9
    assert bootstrap(dict(reversed(values.items())), seed=1, rounds=50) == found


def _cases(seed: int, persons: int, positives: int, each: int = 1) -> tuple[Any, Any, list[int]]:
    random = np.random.default_rng(seed)
    sick = np.arange(persons) < positives
    own = random.normal(0, 1, persons) + 1.5 * sick
    scores = np.repeat(own, each) + (random.normal(0, 0.2, persons * each) if each > 1 else 0.0)
    return scores, np.repeat(sick, each), np.repeat(np.arange(persons), each).tolist()


@pytest.mark.parametrize("figure", [auc, average_precision])
def test_no_draw_lacks_a_class_even_with_a_single_rare_person(figure: Callable[..., float]) -> None:
    scores, truths, persons = _cases(0, persons=30, positives=2)
    found = bootstrap_figure(figure, scores, truths, persons, seed=5, rounds=300)
    assert found == bootstrap_figure(figure, scores, truths, persons, seed=5, rounds=300)
    assert 0.0 <= found.low <= found.mean == figure(scores, truths) <= found.high <= 1.0
    assert not math.isnan(found.low)
    assert (found.cases, found.persons) == (30, 30)


def test_draws_hold_as_many_persons_of_each_kind_as_the_test_set() -> None:
    scores, truths, persons = _cases(1, persons=12, positives=4, each=3)
    truths[0] = False  # a person with both classes is a kind of its own
    seen = []

    def note(_: Any, drawn: Any) -> float:
        seen.append((len(drawn), int(drawn.sum())))
        return 0.0

    bootstrap_figure(note, scores, truths, persons, seed=0, rounds=20)
    assert set(seen) == {(36, 11)}


def test_many_cases_of_a_person_do_not_make_an_area_surer() -> None:
    by_person = bootstrap_figure(auc, *_cases(2, persons=40, positives=20, each=8), seed=1, rounds=300)
    scores, truths, _ = _cases(2, persons=40, positives=20, each=8)
    by_case = bootstrap_figure(auc, scores, truths, list(range(320)), seed=1, rounds=300)
    assert by_person.high - by_person.low > 1.8 * (by_case.high - by_case.low)


def test_the_interval_of_an_area_covers_the_true_one_about_as_often_as_it_says() -> None:
    true = 0.5 * (1 + math.erf(1.5 / math.sqrt(2) / math.sqrt(2)))  # of two normal distributions 1.5 apart
    hits = 0
    for trial in range(60):
        found = bootstrap_figure(auc, *_cases(100 + trial, persons=80, positives=40), seed=trial, rounds=200)
        hits += found.low <= true <= found.high
    assert 51 <= hits <= 60


def test_a_figure_that_is_not_there_has_no_interval() -> None:
    with pytest.raises(ValueError, match="absent"):
        bootstrap_figure(auc, np.array([0.1, 0.2]), np.array([True, True]), [1, 2], seed=0)
    with pytest.raises(ValueError, match="by case"):
        bootstrap_figure(brier, np.array([0.1, 0.2]), np.array([True, False]), [1], seed=0)


def test_a_paired_difference_is_surer_than_two_means() -> None:
    random = np.random.default_rng(3)
    theirs = {person: [value] for person, value in enumerate(random.uniform(0.6, 0.95, 30))}
    ours = {person: [value[0] - 0.004 + random.normal(0, 0.002)] for person, value in theirs.items()}
    found, alone = paired(ours, theirs, seed=1), bootstrap(ours, seed=1)
    assert found.mean == pytest.approx(bootstrap(ours, seed=1).mean - bootstrap(theirs, seed=1).mean)
    assert found.high - found.low < 0.1 * (alone.high - alone.low)
    assert found.high < 0.0
    assert not_inferior(found, 0.01)
    assert not not_inferior(found, 0.001)


def test_a_difference_that_is_not_significant_proves_nothing() -> None:
    few = paired({"a": [0.9], "b": [0.7]}, {"a": [0.8], "b": [0.85]}, seed=0)
    assert few.low < 0.0 < few.high
    assert not not_inferior(few, 0.01)


def test_where_low_is_good_the_upper_end_decides() -> None:
    found = paired({k: [2.0 + 0.1 * k] for k in range(9)}, {k: [2.0] for k in range(9)}, seed=0)
    assert not_inferior(found, 1.0, higher_is_better=False)
    assert not not_inferior(found, 0.3, higher_is_better=False)
    with pytest.raises(ValueError, match="positive"):
        not_inferior(found, 0.0)


def test_pairs_that_say_nothing_or_are_infinite_follow_a_stated_rule() -> None:
    nan, inf = math.nan, math.inf
    assert paired({"a": [inf, 2.0]}, {"a": [inf, 1.0]}, seed=0).mean == 0.5
    assert paired({"a": [inf, 2.0]}, {"a": [3.0, 1.0]}, seed=0).mean == inf
    both = paired({"a": [nan, 2.0]}, {"a": [nan, 1.0]}, seed=0)
    assert (both.mean, both.cases, both.left_out) == (1.0, 1, 1)
    with pytest.raises(ValueError, match="rightly_nothing"):
        paired({"a": [nan]}, {"a": [0.0]}, seed=0)
    assert paired({"a": [nan]}, {"a": [0.0]}, seed=0, rightly_nothing=1.0).mean == 1.0
    assert paired({"a": [0.0]}, {"a": [nan]}, seed=0, rightly_nothing=1.0).mean == -1.0


@pytest.mark.parametrize("theirs", [{"a": [1.0]}, {"a": [1.0], "b": [1.0, 2.0]}, {"a": [1.0], "c": [1.0]}])
def test_what_cannot_be_paired_is_refused(theirs: dict[Any, list[float]]) -> None:
    with pytest.raises(ValueError, match="same persons"):
        paired({"a": [1.0], "b": [1.0]}, theirs, seed=0)


def test_an_interval_does_not_depend_on_how_many_rounds_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    values = {f"p{n}": random.uniform(0, 1, 1 + n % 3).tolist() for n in range(37)}
    whole = bootstrap(values, seed=8, rounds=1001)
    for most in (1, 100, 37 * 7):
        monkeypatch.setattr(intervals, "MOST_DRAWN", most)
        assert bootstrap(values, seed=8, rounds=1001) == whole


def test_a_figure_lies_in_its_interval() -> None:
    """A calibration error is larger in nearly every draw: cases that come several times calibrate worse."""
    found = intervals.interval(0.02, np.array([0.03, 0.04, 0.05]), cases=10, persons=5)
    assert (found.low, found.mean) == (0.02, 0.02)
    assert found.high == pytest.approx(0.05, abs=0.001)
    assert (found.cases, found.persons) == (10, 5)
