"""The normalised surface Dice against known surfaces, an independent implementation and the definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from residency.metrics import surface_dice
from residency.metrics.nsd import _elements

Mask = npt.NDArray[np.bool_]
Blobs = Callable[[int, Sequence[int]], tuple[Mask, Mask]]

masks = hnp.arrays(np.bool_, (4, 5, 3)).filter(np.any)
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)


def _surface(mask: Mask, spacing: Sequence[float]) -> float:
    return float(_elements(mask, np.array(spacing))[1].sum())


@pytest.mark.parametrize(("sides", "spacing"), [((4, 5, 6), (1.0, 1.0, 1.0)), ((3, 7, 2), (3.0, 0.5, 1.25))])
def test_a_box_has_the_surface_that_one_computes_by_hand(
    sides: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """Flat faces between voxel centres, edges cut off half-way, and a triangle at each corner."""
    a, b, c = ((side - 1) * step for side, step in zip(sides, spacing, strict=True))
    x, y, z = (step / 2 for step in spacing)
    faces = 2 * (a * b + b * c + c * a)
    edges = 4 * (a * math.hypot(y, z) + b * math.hypot(x, z) + c * math.hypot(x, y))
    corners = 8 * math.sqrt((x * y) ** 2 + (y * z) ** 2 + (z * x) ** 2) / 2
    assert _surface(np.ones(sides, dtype=np.bool_), spacing) == pytest.approx(faces + edges + corners)


def test_the_surface_of_a_ball_and_the_rim_of_a_disc_are_about_right() -> None:
    steps = (2.0, 1.0, 1.0)
    ball = sum(((x * step) - 40) ** 2 for x, step in zip(np.ogrid[:41, :81, :81], steps, strict=True)) < 30**2
    assert _surface(ball, steps) == pytest.approx(4 * math.pi * 30**2, rel=0.12)
    disc = sum((x - 40) ** 2 for x in np.ogrid[:81, :81]) < 30**2
    assert _surface(disc, (1.0, 1.0)) == pytest.approx(2 * math.pi * 30, rel=0.06)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges.always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(
    ("seed", "shape", "allowed"),
    [*((seed, (14, 16, 12), 0.004) for seed in range(6)), *((seed, (24, 20), 1e-6) for seed in range(6, 10))],
)
def test_an_independent_implementation_finds_the_same(
    seed: int, shape: tuple[int, ...], allowed: float, blobs: Blobs
) -> None:
    """Theirs weighs by a published table, which divides surface pieces that are not flat into other triangles."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("monai.metrics")
    spacing = tuple(np.random.default_rng(seed).uniform(0.5, 3.0, len(shape)).tolist())
    a, b = blobs(seed, shape)
    pair = [torch.from_numpy(mask[None, None]) for mask in (a, b)]
    for tolerance in (0.5, 1.0, 2.0):
        wanted = theirs.compute_surface_dice(
            *pair, [tolerance], include_background=True, spacing=spacing, use_subvoxels=True
        )
        assert surface_dice(a, b, spacing, tolerance) == pytest.approx(float(wanted), abs=allowed)


@given(masks, masks, spacings, st.floats(0.0, 6.0))
@settings(deadline=None, max_examples=20)
def test_the_definition_computed_slowly_gives_the_same(
    a: Mask, b: Mask, spacing: tuple[float, ...], tolerance: float
) -> None:
    def elements(mask: Mask) -> list[tuple[float, ...]]:
        padded = np.pad(mask, 1)
        cells = product(*(range(side - 1) for side in padded.shape))
        mixed = [at for at in cells if 0 < padded[tuple(slice(x, x + 2) for x in at)].sum() < 8]
        return [tuple(x * step for x, step in zip(at, spacing, strict=True)) for at in mixed]

    places = elements(a), elements(b)
    sizes = [_elements(mask, np.array(spacing))[1] for mask in (a, b)]
    assert [len(found) for found in places] == [len(found) for found in sizes]
    within, bound = 0.0, tolerance * (1 + 1e-9) + 1e-9  # a step of 0.7 mm three times is not quite 2.1 mm
    for here, there, size in ((places[0], places[1], sizes[0]), (places[1], places[0], sizes[1])):
        within += sum(s for at, s in zip(here, size, strict=True) if min(math.dist(at, to) for to in there) <= bound)
    assert surface_dice(a, b, spacing, tolerance) == pytest.approx(within / (sizes[0].sum() + sizes[1].sum()))


@given(masks, masks, spacings, st.floats(0.0, 6.0), st.floats(0.0, 6.0))
@settings(deadline=None, max_examples=25)
def test_it_is_symmetric_between_0_and_1_and_grows_with_the_tolerance(
    a: Mask, b: Mask, spacing: tuple[float, ...], tolerance: float, other: float
) -> None:
    low, high = sorted((tolerance, other))
    found = surface_dice(a, b, spacing, low)
    assert 0.0 <= found <= surface_dice(a, b, spacing, high) <= 1.0 + 1e-12
    assert found == pytest.approx(surface_dice(b, a, spacing, low))
    assert surface_dice(a, a, spacing, 0.0) == 1.0
    assert surface_dice(a, b, spacing, 100.0) == pytest.approx(1.0)
    assert surface_dice(a, b, [2 * step for step in spacing], 2 * low) == pytest.approx(found)


@given(hnp.arrays(np.bool_, (2, 2, 2)), spacings, st.permutations(range(3)), st.integers(0, 2))
@settings(deadline=None, max_examples=25)
def test_a_cell_has_the_same_surface_however_it_is_turned(
    cell: Mask, spacing: tuple[float, ...], order: list[int], mirrored: int
) -> None:
    turned = np.flip(cell.transpose(order), mirrored)
    assert _surface(turned, [spacing[axis] for axis in order]) == pytest.approx(_surface(cell, spacing))


def test_a_tolerance_of_whole_steps_holds_whatever_the_rounding() -> None:
    a = np.zeros((40, 8), dtype=np.bool_)
    a[5:30, 2:6] = True
    for steps in range(1, 8):
        assert surface_dice(a, np.roll(a, steps, axis=0), (0.1, 0.1), steps * 0.1) == pytest.approx(1.0)
        assert surface_dice(a, np.roll(a, steps, axis=0), (0.1, 0.1), steps * 0.1 - 0.01) < 1.0


def test_thick_slices_weigh_by_their_area() -> None:
    """A slab that is one slice too high: its top is off, its side walls are not, and these grow with the slices."""
    reference = np.zeros((12, 12, 12), dtype=np.bool_)
    reference[3:9, 3:9, 3:9] = True
    moved = reference.copy()
    moved[9, 3:9, 3:9] = True
    thin, thick = (surface_dice(moved, reference, (step, 1.0, 1.0), 0.5) for step in (1.0, 6.0))
    assert thin < thick
