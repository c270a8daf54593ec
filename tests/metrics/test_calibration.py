"""Calibration: bins, the expected calibration error and the Brier score, against hand-made cases and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.metrics import BINS, brier, expected_calibration_error, reliability

probabilities = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)
Drawn = list[tuple[float, bool]]


def test_bins_say_what_was_said_and_what_was_found() -> None:
    said = np.array([0.0, 0.05, 0.5, 0.55, 0.95, 1.0])
    came = np.array([False, True, True, False, True, True])
    found = reliability(said, came, bins=10)
    assert [(one.low, one.high, one.cases) for one in found] == [(0.0, 0.1, 2), (0.5, 0.6, 2), (0.9, 1.0, 2)]
    assert [one.said for one in found] == pytest.approx([0.025, 0.525, 0.975])
    assert [one.found for one in found] == [0.5, 0.5, 1.0]
    assert expected_calibration_error(said, came, bins=10) == pytest.approx((0.475 + 0.025 + 0.025) / 3)
    assert brier(said, came) == pytest.approx((0 + 0.95**2 + 0.25 + 0.55**2 + 0.05**2 + 0) / 6)


@given(probabilities, st.integers(1, 20))
@settings(deadline=None, max_examples=20)
def test_an_independent_implementation_finds_the_same(drawn: Drawn, bins: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("monai.metrics.calibration")
    edges = np.arange(bins + 1) / bins
    # They compute in single precision: what lies at the edge of a bin may fall to either side.
    kept = [(said, came) for said, came in drawn if np.abs(edges[1:-1] - said).min(initial=1.0) > 1e-5]
    if not kept:
        return
    said, came = (np.array(column) for column in zip(*kept, strict=True))
    metric = theirs.CalibrationErrorMetric(num_bins=bins, calibration_reduction="expected")
    metric(y_pred=torch.from_numpy(said)[None, None], y=torch.from_numpy(came.astype(np.float64))[None, None])
    assert expected_calibration_error(said, came, bins) == pytest.approx(float(metric.aggregate()), abs=1e-5)


@given(probabilities)
def test_order_does_not_matter_and_figures_keep_their_bounds(drawn: Drawn) -> None:
    said, came = (np.array(column) for column in zip(*drawn, strict=True))
    for figure in (expected_calibration_error, brier):
        found = figure(said, came)
        assert 0.0 <= found <= 1.0
        assert figure(said[::-1], came[::-1]) == pytest.approx(found)
    assert expected_calibration_error(came.astype(np.float64), came) == 0.0
    assert brier(came.astype(np.float64), came) == 0.0
    assert sum(one.cases for one in reliability(said, came)) == len(drawn)
    # Within a bin, the mean of what is said cannot be further from what is found than the cases are.
    assert expected_calibration_error(said, came, bins=1) <= expected_calibration_error(said, came) + 1e-9


def test_two_classes_are_judged_by_the_likelier_one() -> None:
    said = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    labels = np.array([0, 0, 1])
    confidence, right = np.array([0.9, 0.6, 0.8]), np.array([True, False, True])
    assert expected_calibration_error(said, labels) == pytest.approx(expected_calibration_error(confidence, right))
    assert brier(said, labels) == pytest.approx(2 * brier(said[:, 1], labels == 1))


def test_few_cases_of_a_perfect_model_have_an_error_and_many_have_none() -> None:
    random = np.random.default_rng(0)
    few, many = (random.random(n) for n in (30, 200_000))
    assert expected_calibration_error(few, random.random(30) < few) > 0.05
    assert expected_calibration_error(many, random.random(200_000) < many) < 0.01


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_brier_score_is_lowest_for_the_true_share(share: float) -> None:
    came = np.arange(50) < 50 * share
    tried = np.linspace(0.0, 1.0, 101)
    best = min(tried, key=lambda said: brier(np.full(50, said), came))
    assert best == pytest.approx(share)


def test_without_cases_there_is_no_figure() -> None:
    nothing, none = np.empty(0), np.empty(0, dtype=np.bool_)
    assert math.isnan(brier(nothing, none))
    assert math.isnan(expected_calibration_error(nothing, none))
    assert math.isnan(brier(np.empty((0, 3)), np.empty(0, dtype=np.int64)))
    assert reliability(nothing, none) == ()


def test_scores_that_are_no_probabilities_are_refused() -> None:
    came = np.array([True, False])
    labels = came.astype(np.int64)
    for figure in (brier, expected_calibration_error):
        with pytest.raises(ValueError, match="outside 0"):
            figure(np.array([1.2, 0.1]), came)
        with pytest.raises(ValueError, match="outside 0"):
            figure(np.array([math.nan, 0.1]), came)
        with pytest.raises(ValueError, match="sum to 1"):
            figure(np.array([[0.5, 0.6], [0.5, 0.5]]), labels)
        with pytest.raises(ValueError, match="labels are 0"):
            figure(np.array([[0.5, 0.5], [0.5, 0.5]]), labels + 1)
        with pytest.raises(ValueError, match="boolean truths"):
            figure(np.array([0.5, 0.5]), labels)
    with pytest.raises(ValueError, match="bin"):
        expected_calibration_error(np.array([0.5, 0.5]), came, bins=0)
    assert BINS == 15
