"""Confusion matrices and what is counted from them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.metrics import accuracy, balanced_accuracy, confusion_matrix, counts
from residency.metrics import classification as story

CLASSES = 4
pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40)


@given(pairs)
def test_every_case_is_counted_once_by_truth_and_prediction(drawn: list[tuple[int, int]]) -> None:
    truths, predicted = np.array(drawn).T
    matrix = confusion_matrix(predicted, truths, CLASSES)
    assert {(t, p): int(matrix[t, p]) for t, p in np.argwhere(matrix).tolist()} == Counter(drawn)
    assert accuracy(matrix) == pytest.approx(np.mean(truths == predicted))
    for label, one in enumerate(counts(matrix)):
        assert one.true_positives == sum(t == p == label for t, p in drawn)
        assert one.false_positives == sum(t != label == p for t, p in drawn)
        assert one.false_negatives == sum(t == label != p for t, p in drawn)
        assert one.true_negatives == sum(t != label != p for t, p in drawn)


@given(pairs)
@settings(deadline=None, max_examples=20)
def test_an_independent_implementation_counts_the_same(drawn: list[tuple[int, int]]) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("monai.metrics")
    truths, predicted = np.array(drawn).T
    one_hot = [torch.from_numpy(np.eye(CLASSES)[labels]) for labels in (predicted, truths)]
    wanted = theirs.get_confusion_matrix(*one_hot).sum(0).tolist()
    found = counts(confusion_matrix(predicted, truths, CLASSES))
    assert [
        [one.true_positives, one.false_positives, one.true_negatives, one.false_negatives] for one in found
    ] == wanted


def test_shares_are_those_of_a_textbook() -> None:
    (_, sick) = counts(np.array([[80, 20], [5, 15]]))
    assert (sick.sensitivity, sick.specificity) == pytest.approx((0.75, 0.8))
    assert sick.precision == pytest.approx(15 / 35)
    assert balanced_accuracy(np.array([[80, 20], [5, 15]])) == pytest.approx(0.775)


def test_absent_classes_follow_the_stated_policy() -> None:
    nan = math.nan
    missed, invented, found, nothing = counts(np.array([[0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]]))
    assert (missed.sensitivity, missed.precision, missed.specificity) == (0.0, 0.0, 1.0)
    assert (invented.sensitivity, invented.precision) == pytest.approx((nan, 0.0), nan_ok=True)
    assert (found.sensitivity, found.precision) == (1.0, 0.75)
    assert (nothing.sensitivity, nothing.precision) == pytest.approx((nan, nan), nan_ok=True)
    (only,) = counts(np.array([[7]]))
    assert math.isnan(only.specificity)
    assert balanced_accuracy(np.array([[0, 2], [0, 0]])) == 0.0
    for empty in (accuracy, balanced_accuracy):
        assert math.isnan(empty(np.zeros((2, 2), dtype=np.int64)))
    table = str(story.__doc__)
    assert "| some | none | 0: the class was missed | 0," in table
    assert "| none | some | nan: nothing to find | 0 |" in table
    assert "| none | none | nan | nan |" in table


def test_labels_that_are_none_are_refused() -> None:
    right = np.array([0, 1])
    with pytest.raises(ValueError, match="labels are 0"):
        confusion_matrix(np.array([0, 2]), right, 2)
    with pytest.raises(ValueError, match="labels are 0"):
        confusion_matrix(right, np.array([-1, 1]), 2)
    with pytest.raises(ValueError, match="integer"):
        confusion_matrix(np.array([0.0, 1.0]), right, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one shape"):
        confusion_matrix(right[:1], right, 2)
