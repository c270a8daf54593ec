"""Dice and HD95 against their definitions, an independent implementation and the policy for empty masks."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from residency.metrics import bootstrap, dice, hd95

Mask = npt.NDArray[np.bool_]

masks = hnp.arrays(np.bool_, (6, 7, 5))
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)

EMPTY = np.zeros((4, 4, 4), dtype=np.bool_)
ONE = EMPTY.copy()
ONE[1, 2, 3] = True


@given(masks, masks)
def test_dice_is_symmetric_and_between_0_and_1(a: Mask, b: Mask) -> None:
    found = dice(a, b)
    assert found == dice(b, a) or math.isnan(found)
    assert math.isnan(found) == (not a.any() and not b.any())
    assert math.isnan(found) or 0.0 <= found <= 1.0


@given(masks.filter(np.any))
def test_a_mask_agrees_wholly_with_itself(a: Mask) -> None:
    assert dice(a, a) == 1.0
    assert hd95(a, a, (1.0, 1.0, 1.0)) == 0.0


def test_dice_counts_what_is_shared() -> None:
    a, b = np.zeros((2, 10), dtype=np.bool_)
    a[:6], b[4:8] = True, True
    assert dice(a, b) == pytest.approx(2 * 2 / (6 + 4))


@pytest.mark.parametrize(
    ("prediction", "reference", "overlap", "distance"),
    [(EMPTY, ONE, 0.0, math.inf), (ONE, EMPTY, 0.0, math.inf), (EMPTY, EMPTY, math.nan, math.nan)],
)
def test_empty_masks_follow_the_stated_policy(
    prediction: Mask, reference: Mask, overlap: float, distance: float
) -> None:
    assert dice(prediction, reference) == pytest.approx(overlap, nan_ok=True)
    assert hd95(prediction, reference, (1.0, 1.0, 1.0)) == pytest.approx(distance, nan_ok=True)


@given(masks.filter(np.any), masks.filter(np.any), spacings)
@settings(deadline=None)
def test_hd95_is_symmetric_and_scales_with_the_spacing(a: Mask, b: Mask, spacing: tuple[float, float, float]) -> None:
    found = hd95(a, b, spacing)
    assert found == pytest.approx(hd95(b, a, spacing))
    assert hd95(a, b, [2 * step for step in spacing]) == pytest.approx(2 * found)


def test_hd95_of_a_shifted_block_is_the_shift_in_millimetres() -> None:
    a = np.zeros((20, 20, 20), dtype=np.bool_)
    a[5:10, 5:10, 5:10] = True
    assert hd95(a, np.roll(a, 3, axis=0), (2.5, 1.0, 1.0)) == pytest.approx(7.5)


def test_one_far_voxel_hardly_moves_hd95_but_a_twentieth_of_the_surface_does() -> None:
    a = np.zeros((40, 40, 40), dtype=np.bool_)
    a[10:20, 10:20, 10:20] = True
    b = a.copy()
    b[35, 35, 35] = True
    assert hd95(a, b, (1.0, 1.0, 1.0)) == 0.0
    b[33:39, 33:39, 33:39] = True
    assert hd95(b, a, (1.0, 1.0, 1.0)) > 20.0


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges.always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(6))
def test_an_independent_implementation_finds_the_same(seed: int) -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    spacing = tuple(random.uniform(0.5, 3.0, 3))
    a, b = (gaussian_filter(random.standard_normal((14, 16, 12)), 2) > 0.02 for _ in range(2))
    theirs = [torch.from_numpy(mask[None, None]) for mask in (a, b)]
    assert dice(a, b) == pytest.approx(float(metrics.compute_dice(*theirs)), abs=1e-6)
    distance = float(
        metrics.compute_hausdorff_distance(*theirs, percentile=95, spacing=spacing, include_background=True)
    )
    # They pad the image by a voxel of background, so that a mask ends at the border of the image for both.
    assert hd95(a, b, spacing) == pytest.approx(distance, abs=1e-4)


def test_masks_of_other_shapes_or_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice(EMPTY, EMPTY[1:])
    with pytest.raises(ValueError, match="boolean"):
        hd95(EMPTY.astype(np.uint8), EMPTY, (1.0, 1.0, 1.0))  # type: ignore[arg-type]


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
