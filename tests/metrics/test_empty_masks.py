"""The policy for empty masks, as the package states it: a missed structure is never perfect."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from residency import metrics
from residency.metrics import Agreement, agreement, dice, hd95, surface_dice, volume_error_mm3

Mask = npt.NDArray[np.bool_]

EMPTY = np.zeros((4, 4, 4), dtype=np.bool_)
ONE = EMPTY.copy()
ONE[1, 2, 3] = True
SPACING = (2.0, 1.0, 0.5)
INF, NAN = math.inf, math.nan

POLICY = {
    "missed": (EMPTY, ONE, (0.0, INF, INF, 0.0, -1.0, -1.0, 0.0, 0.0)),
    "invented": (ONE, EMPTY, (0.0, INF, INF, 0.0, 1.0, INF, NAN, 0.0)),
    "rightly nothing": (EMPTY, EMPTY, (NAN,) * 8),
    "found": (ONE, ONE, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("kind", POLICY)
def test_empty_masks_follow_the_stated_policy(kind: str) -> None:
    prediction, reference, wanted = POLICY[kind]
    found = agreement(prediction, reference, SPACING)
    assert _figures(found) == pytest.approx(wanted, nan_ok=True)


def test_the_policy_in_the_documentation_is_the_one_that_is_tested() -> None:
    rows = [line.strip("| ").split(" | ") for line in str(metrics.__doc__).splitlines() if line.startswith("| ")]
    said = {(row[0], row[1]): row[2:] for row in rows[1:]}
    words = {"0": 0.0, "-1": -1.0, "infinity": INF, "nan": NAN, "minus all": -1.0, "all": 1.0}
    for kind, place in (
        ("missed", ("something", "nothing")),
        ("invented", ("nothing", "something")),
        ("rightly nothing", ("nothing", "nothing")),
    ):
        wanted = POLICY[kind][2]
        told = [words[cell.split(":")[0]] for cell in said[place]]
        # The columns: Dice and surface Dice, HD95 and mean distance, then one figure each.
        assert told == pytest.approx([wanted[0], wanted[1], *wanted[4:]], nan_ok=True)
        assert (wanted[0], wanted[1]) == pytest.approx((wanted[3], wanted[2]), nan_ok=True)


def _figures(found: Agreement) -> tuple[float, ...]:
    return (
        found.dice,
        found.hd95_mm,
        found.mean_surface_distance_mm,
        found.surface_dice,
        found.volume_error_mm3,
        found.relative_volume_error,
        found.sensitivity,
        found.precision,
    )


@given(hnp.arrays(np.bool_, (4, 5, 3)), hnp.arrays(np.bool_, (4, 5, 3)))
@settings(deadline=None, max_examples=25)
def test_no_figure_is_perfect_unless_the_masks_are_alike(prediction: Mask, reference: Mask) -> None:
    found = agreement(prediction, reference, SPACING, tolerance_mm=0.0)
    alike = bool(reference.any()) and np.array_equal(prediction, reference)
    assert (found.dice == 1.0) == alike
    assert (found.sensitivity == 1.0 and found.precision == 1.0) == alike
    assert (found.mean_surface_distance_mm == 0.0 and found.relative_volume_error == 0.0) <= (found.dice > 0.0)


@given(hnp.arrays(np.bool_, (4, 5, 3)), hnp.arrays(np.bool_, (4, 5, 3)))
@settings(deadline=None, max_examples=25)
def test_all_figures_at_once_are_the_figures_one_by_one(prediction: Mask, reference: Mask) -> None:
    found = agreement(prediction, reference, SPACING, tolerance_mm=1.5)
    pair = (prediction, reference)
    wanted = (
        dice(*pair),
        hd95(*pair, SPACING),
        metrics.mean_surface_distance(*pair, SPACING),
        surface_dice(*pair, SPACING, 1.5),
        volume_error_mm3(*pair, SPACING),
        metrics.relative_volume_error(*pair),
        metrics.sensitivity(*pair),
        metrics.precision(*pair),
    )
    np.testing.assert_equal(_figures(found), wanted)
    assert found.tolerance_mm == 1.5
    np.testing.assert_equal(found.absolute_volume_error_mm3, abs(found.volume_error_mm3))
    np.testing.assert_equal(found.absolute_relative_volume_error, abs(found.relative_volume_error))


PAIRS: dict[str, Callable[..., Any]] = {
    "dice": dice,
    "sensitivity": metrics.sensitivity,
    "precision": metrics.precision,
    "relative_volume_error": metrics.relative_volume_error,
    "hd95": lambda a, b: hd95(a, b, SPACING),
    "mean_surface_distance": lambda a, b: metrics.mean_surface_distance(a, b, SPACING),
    "surface_dice": lambda a, b: surface_dice(a, b, SPACING, 1.0),
    "volume_error_mm3": lambda a, b: volume_error_mm3(a, b, SPACING),
}


@pytest.mark.parametrize("figure", PAIRS)
def test_masks_of_other_shapes_or_kinds_are_refused(figure: str) -> None:
    with pytest.raises(ValueError, match="one shape"):
        PAIRS[figure](EMPTY, EMPTY[1:])
    with pytest.raises(ValueError, match="boolean"):
        PAIRS[figure](EMPTY.astype(np.uint8), EMPTY)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, INF, 1.0), (1.0, NAN, 1.0)])
def test_impossible_spacings_are_refused(spacing: tuple[float, ...]) -> None:
    for figure in (hd95, metrics.mean_surface_distance, volume_error_mm3):
        with pytest.raises(ValueError, match="positive spacings"):
            figure(ONE, ONE, spacing)
    with pytest.raises(ValueError, match="positive spacings"):
        surface_dice(EMPTY, EMPTY, spacing, 1.0)


@pytest.mark.parametrize("tolerance", [-0.1, INF, NAN])
def test_impossible_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        surface_dice(ONE, ONE, SPACING, tolerance)


def test_a_surface_dice_of_a_line_is_refused() -> None:
    line = np.array([True, False])
    with pytest.raises(ValueError, match="2 or 3 axes"):
        surface_dice(line, line, (1.0,), 1.0)


@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
def test_overlap_and_volume_are_counted(shared: int, more: int, missed: int) -> None:
    prediction, reference = np.zeros((2, 100), dtype=np.bool_)
    prediction[: shared + more] = True
    reference[:shared] = reference[shared + more : shared + more + missed] = True
    assert metrics.sensitivity(prediction, reference) == pytest.approx(shared / (shared + missed))
    assert metrics.precision(prediction, reference) == pytest.approx(shared / (shared + more))
    assert metrics.precision(prediction, reference) == metrics.sensitivity(reference, prediction)
    assert dice(prediction, reference) == pytest.approx(2 * shared / (2 * shared + more + missed))
    assert volume_error_mm3(prediction, reference, (1.5,)) == pytest.approx(1.5 * (more - missed))
    assert metrics.relative_volume_error(prediction, reference) == pytest.approx((more - missed) / (shared + missed))
