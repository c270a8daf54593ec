"""HD95 and the mean surface distance against the definition, an independent implementation and known shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from residency.metrics import agreement, hd95, mean_surface_distance, surface_dice

Mask = npt.NDArray[np.bool_]
Blobs = Callable[[int, Sequence[int]], tuple[Mask, Mask]]

masks = hnp.arrays(np.bool_, (5, 6, 4)).filter(np.any)
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)


def _slowly(one: Mask, other: Mask, spacing: Sequence[float]) -> tuple[float, float]:
    """HD95 and mean surface distance, voxel by voxel as they are defined."""

    def surface(mask: Mask) -> list[tuple[float, ...]]:
        found = []
        for place in product(*map(range, mask.shape)):
            if not mask[place]:
                continue
            for axis, step in product(range(mask.ndim), (-1, 1)):
                beside = [*place]
                beside[axis] += step
                if not 0 <= beside[axis] < mask.shape[axis] or not mask[tuple(beside)]:
                    found.append(tuple(p * s for p, s in zip(place, spacing, strict=True)))
                    break
        return found

    def percentile(values: list[float]) -> float:
        ordered = sorted(values)
        at = 0.95 * (len(ordered) - 1)
        low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
        return low + (high - low) * (at - math.floor(at))

    points = surface(one), surface(other)
    there = [min(math.dist(a, b) for b in points[1]) for a in points[0]]
    back = [min(math.dist(a, b) for a in points[0]) for b in points[1]]
    return max(percentile(there), percentile(back)), (sum(there) + sum(back)) / (len(there) + len(back))


@given(masks, masks, spacings)
@settings(deadline=None, max_examples=15)
def test_the_definition_computed_slowly_gives_the_same(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    assert (hd95(a, b, spacing), mean_surface_distance(a, b, spacing)) == pytest.approx(_slowly(a, b, spacing))


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges.always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(
    ("seed", "shape"), [*((seed, (14, 16, 12)) for seed in range(6)), (6, (30, 24)), (7, (24, 30))]
)
def test_an_independent_implementation_finds_the_same(seed: int, shape: tuple[int, ...], blobs: Blobs) -> None:
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("monai.metrics")
    spacing = tuple(np.random.default_rng(seed).uniform(0.5, 3.0, len(shape)))
    a, b = blobs(seed, shape)
    pair = [torch.from_numpy(mask[None, None]) for mask in (a, b)]
    # They pad the image by a voxel of background, so that a mask ends at the border of the image for both.
    distance = theirs.compute_hausdorff_distance(*pair, percentile=95, spacing=spacing, include_background=True)
    mean = theirs.compute_average_surface_distance(*pair, symmetric=True, spacing=spacing, include_background=True)
    assert hd95(a, b, spacing) == pytest.approx(float(distance), abs=1e-4)
    assert mean_surface_distance(a, b, spacing) == pytest.approx(float(mean), abs=1e-4)


@given(masks, masks, spacings)
@settings(deadline=None, max_examples=25)
def test_distances_are_symmetric_and_scale_with_the_spacing(a: Mask, b: Mask, spacing: tuple[float, ...]) -> None:
    for figure in (hd95, mean_surface_distance):
        found = figure(a, b, spacing)
        assert found == pytest.approx(figure(b, a, spacing))
        assert figure(a, b, [2 * step for step in spacing]) == pytest.approx(2 * found)
        assert found >= 0.0
        assert figure(a, a, spacing) == 0.0


@given(masks, masks, spacings, st.permutations(range(3)), st.integers(0, 2), st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_turning_mirroring_and_moving_the_image_changes_nothing(
    a: Mask, b: Mask, spacing: tuple[float, ...], order: list[int], mirrored: int, margin: int
) -> None:
    turned = [np.pad(np.flip(mask.transpose(order), mirrored), ((0, 0), (margin, 0), (0, margin))) for mask in (a, b)]
    steps = [spacing[axis] for axis in order]
    for figure in (hd95, mean_surface_distance):
        assert figure(turned[0], turned[1], steps) == pytest.approx(figure(a, b, spacing))
    assert surface_dice(turned[0], turned[1], steps, 1.0) == pytest.approx(surface_dice(a, b, spacing, 1.0))


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
    assert mean_surface_distance(a, b, (1.0, 1.0, 1.0)) > 0.0
    b[33:39, 33:39, 33:39] = True
    assert hd95(b, a, (1.0, 1.0, 1.0)) > 20.0


def test_a_mask_that_fills_the_image_has_its_surface_at_the_border() -> None:
    full = np.ones((6, 6, 6), dtype=np.bool_)
    core = np.zeros_like(full)
    core[2:4, 2:4, 2:4] = True
    inside = np.pad(full, 2), np.pad(core, 2)
    assert hd95(full, core, (1.0, 1.0, 1.0)) == hd95(*inside, (1.0, 1.0, 1.0)) > 3.0
    assert surface_dice(full, core, (1.0, 1.0, 1.0), 3.0) == pytest.approx(surface_dice(*inside, (1.0, 1.0, 1.0), 3.0))
    assert surface_dice(full, full, (1.0, 1.0, 1.0), 0.0) == 1.0
    assert surface_dice(full, core, (1.0, 1.0, 1.0), 0.0) == 0.0


def test_a_whole_head_takes_seconds() -> None:
    axes = np.ogrid[:170, :256, :256]
    head, moved = (
        sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, (70, 90, 75), strict=True)) < 1
        for centre in ((85, 128, 128), (85, 131, 128))
    )
    start = time.process_time()
    found = agreement(moved, head, (1.2, 1.0, 1.0), tolerance_mm=1.0)
    assert time.process_time() - start < 8  # a tenth of it where nothing else runs
    assert found.hd95_mm == pytest.approx(3.0, abs=0.2)
    assert 0.2 < found.surface_dice < 0.6
