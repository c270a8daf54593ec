"""Grids and interpolations of other programs: nnU-Net's, against scipy's own splines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from residency.errors import ConfigError
from residency.prepare import check_recipe, prepare
from residency.recipe import recipe
from residency.volume import Grid, Space, Volume


def volume(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    return Volume(values, Grid(shape=shape, affine=np.diag([*spacing, 1.0]), space=Space.PATIENT))


def made(one: Volume, **parameters: object) -> Volume:
    return prepare(one, recipe(("resample", {"grid": "edges", "interpolation": "cubic", **parameters}))).volume


def test_cubic_is_scipys_spline_between_shared_faces() -> None:
    one = volume((10, 14, 9), (1.0, 1.0, 1.0))
    found = made(one, spacing_mm=(1.3, 0.8, 1.0), thick=3.0)
    assert found.array.shape == (8, 18, 9)  # rounded: 7.7 and 17.5
    wanted = ndimage.zoom(one.array.astype(float), (8 / 10, 18 / 14, 1), order=3, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(found.array, np.clip(wanted, one.array.min(), one.array.max()), atol=1e-5)
    edges = [grid.affine @ [-0.5, -0.5, -0.5, 1] for grid in (one.grid, found.grid)]
    np.testing.assert_allclose(edges[0], edges[1], atol=1e-9)
    assert found.grid.spacing_mm == pytest.approx((10 / 8, 14 / 18, 1.0))


@pytest.mark.parametrize(
    ("spacing", "wanted"), [((4.0, 1.0, 1.0), (2.0, 1.0, 0.5)), ((1.0, 1.0, 1.0), (5.0, 1.0, 0.5))]
)
def test_across_thick_slices_the_nearest_is_taken(
    spacing: tuple[float, float, float], wanted: tuple[float, float, float]
) -> None:
    one = volume((10, 8, 6), spacing)
    found = made(one, spacing_mm=wanted, thick=3.0).array
    planes = np.stack(
        [ndimage.zoom(p.astype(float), (1, 2), order=3, mode="nearest", grid_mode=True) for p in one.array]
    )
    planes = np.stack([np.clip(a, p.min(), p.max()) for a, p in zip(planes, one.array, strict=True)])
    places = (np.arange(len(found)) + 0.5) * 10 / len(found) - 0.5
    np.testing.assert_allclose(found, planes[np.floor(places + 0.5).astype(int)], atol=1e-5)


def test_an_image_that_rounds_to_its_own_size_is_left_alone() -> None:
    one = volume((10, 8, 6), (1.0, 1.0, 1.0))
    assert made(one, spacing_mm=(1.04, 0.98, 1.0), tolerance=0.0) is one


def test_options_that_do_not_go_together_are_refused() -> None:
    for bad in ({"interpolation": "cubic"}, {"grid": "edges", "thick": 3.0}):
        with pytest.raises(ConfigError, match="goes with"):
            check_recipe(recipe(("resample", {"spacing_mm": 1.0, **bad})))
