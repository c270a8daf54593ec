"""Sliding windows: nothing is missed, nothing counts twice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.tiles import axis_windows, cut, windows

LENGTHS, WINDOWS, OVERLAPS = st.integers(1, 200), st.integers(1, 96), st.floats(0.0, 0.9)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_weights_add_up_to_one_at_every_voxel(length, window, overlap):
    """A voxel whose weights do not add up to 1 has scores of another scale than its neighbour."""
    axis = axis_windows(length, window, overlap)
    total = np.zeros(length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        outer, inner = axis.inside(start)
        assert (weights > 0).all()
        total[outer] += weights[inner]
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@given(LENGTHS, WINDOWS, OVERLAPS)
def test_neighbours_overlap_as_demanded(length, window, overlap):
    starts = axis_windows(length, window, overlap).starts
    assert len(set(starts)) == len(starts)
    assert list(starts) == sorted(starts)
    step = max(1, window * (1 - overlap))
    assert all(b - a <= step + 1e-9 for a, b in itertools.pairwise(starts))
    if window < length:
        assert (starts[0], starts[-1] + window) == (0, length)


def test_a_window_counts_most_in_its_middle():
    weights = axis_windows(96, 32, 0.5).weights
    assert weights[1, 16] > 0.9
    assert weights[1, 0] < 0.01


@pytest.mark.parametrize(("window", "start"), [(10, 0), (12, -1), (13, -1), (20, -5)])
def test_a_window_larger_than_the_grid_lies_round_it(window, start):
    axis = axis_windows(10, window, 0.5)
    assert axis.starts == (start,)
    np.testing.assert_array_equal(axis.weights, 1.0)
    outer, inner = axis.inside(start)
    assert (outer, inner.stop - inner.start) == (slice(0, 10), 10)


def test_what_lies_outside_the_grid_is_zero():
    array = np.arange(1, 61, dtype=np.float32).reshape(3, 4, 5)
    axes = windows((3, 4, 5), (5, 4, 3), 0.0)
    tile = cut(array, axes, (-1, 0, 2))
    np.testing.assert_array_equal(tile[1:4], array[:, :, 2:5])
    assert not tile[[0, 4]].any()
    tile[...] = 0
    assert array.all()
