"""AUC and average precision against their definitions and independent implementations."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from residency.metrics import auc, average_precision, by_class

# Few different scores, so that ties are the rule.
cases = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30).filter(
    lambda drawn: len({truth for _, truth in drawn}) == 2
)
Drawn = list[tuple[int, bool]]


def _arrays(drawn: Drawn) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    scores, truths = zip(*drawn, strict=True)
    return np.array(scores, dtype=np.float64) / 5, np.array(truths, dtype=np.bool_)


@given(cases)
def test_an_area_is_the_share_of_pairs_in_the_right_order(drawn: Drawn) -> None:
    scores, truths = _arrays(drawn)
    pairs = list(product(scores[truths], scores[~truths]))
    right = sum(1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs)
    assert auc(scores, truths) == pytest.approx(right / len(pairs))
    theirs = mannwhitneyu(scores[truths], scores[~truths]).statistic / len(pairs)
    assert auc(scores, truths) == pytest.approx(theirs)


@given(cases)
def test_average_precision_sums_precision_over_the_recall_that_each_threshold_adds(drawn: Drawn) -> None:
    scores, truths = _arrays(drawn)
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        now = float((said & truths).sum() / truths.sum())
        total += (now - recall) * float((said & truths).sum() / said.sum())
        recall = now
    assert average_precision(scores, truths) == pytest.approx(total)


@pytest.mark.parametrize("seed", range(4))
def test_an_independent_implementation_finds_the_same(seed: int) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("monai.metrics")
    random = np.random.default_rng(seed)
    # Rounded for the area, where they handle ties; not for average precision, where they do not.
    scores, truths = random.random(80).astype(np.float32), random.random(80) < 0.3
    rounded = scores.round(1)
    wanted = float(theirs.compute_roc_auc(torch.from_numpy(rounded), torch.from_numpy(truths.astype(np.int64))))
    assert auc(rounded, truths) == pytest.approx(wanted)
    wanted = float(
        theirs.compute_average_precision(torch.from_numpy(scores), torch.from_numpy(truths.astype(np.int64)))
    )
    assert average_precision(scores, truths) == pytest.approx(wanted, abs=1e-5)


@given(cases, st.randoms(use_true_random=False))
def test_neither_order_nor_scale_matters_and_negation_turns_the_area_round(drawn: Drawn, random: Any) -> None:
    scores, truths = _arrays(drawn)
    shuffled = drawn.copy()
    random.shuffle(shuffled)
    for figure in (auc, average_precision):
        assert figure(*_arrays(shuffled)) == pytest.approx(figure(scores, truths))
        assert figure(np.exp(3 * scores) - 7, truths) == pytest.approx(figure(scores, truths))
        assert 0.0 <= figure(scores, truths) <= 1.0
    assert auc(-scores, truths) == pytest.approx(1 - auc(scores, truths))
    assert auc(scores, ~truths) == pytest.approx(1 - auc(scores, truths))


def test_a_model_that_knows_nothing_scores_a_half_and_the_share_of_positives() -> None:
    scores, truths = np.full(10, 0.3), np.arange(10) < 4
    assert auc(scores, truths) == 0.5
    assert average_precision(scores, truths) == pytest.approx(0.4)


@pytest.mark.parametrize("truth", [True, False])
def test_with_one_class_there_is_nothing_to_tell_apart(truth: bool) -> None:
    scores, truths = np.array([0.2, 0.8]), np.array([truth, truth])
    assert math.isnan(auc(scores, truths))
    assert math.isnan(average_precision(scores, truths))


def test_each_class_is_told_from_all_others_and_an_absent_one_has_no_figure() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1]])
    first, second, absent = by_class(auc, scores, labels)
    assert first == pytest.approx(auc(scores[:, 0], labels == 0)) == pytest.approx(0.75)
    assert second == pytest.approx(0.75)
    assert math.isnan(absent)


def test_what_has_no_order_is_refused() -> None:
    truths = np.array([True, False])
    with pytest.raises(ValueError, match="finite"):
        auc(np.array([math.nan, 0.1]), truths)
    with pytest.raises(ValueError, match="boolean"):
        average_precision(np.array([0.5, 0.1]), truths.astype(np.int64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        auc(np.array([0.5]), truths)
    with pytest.raises(ValueError, match="classes"):
        by_class(auc, np.zeros((3, 2)), np.zeros(2, dtype=np.int64))
