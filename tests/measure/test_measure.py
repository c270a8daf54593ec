"""Volumes and diameters in millimetres, against shapes whose size is known and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.codes import Code
from residency.findings import Segment
from residency.measure import area_mm2, longest_diameter_mm, measure, volume_mm3
from residency.testing.steps import oblique_grid
from residency.volume import Grid, Space, regular_grid

ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical structure")


def segment(mask, number=1):
    return Segment(number=number, label="organ", category=ANATOMY, type=ANATOMY, mask=mask)


def ellipsoid(grid, radii):
    """Half-axes in mm along the directions of the grid's axes, centred between voxels."""
    index = np.indices(grid.shape).reshape(3, -1).T - (np.array(grid.shape) - 1) / 2
    return (np.linalg.norm(index * grid.spacing_mm / np.array(radii), axis=1) <= 1).reshape(grid.shape)


def brute_force(mask, grid):
    """Every midpoint between a voxel inside and a neighbour outside, all pairs."""
    padded = np.pad(mask, 1)
    points = []
    for axis in range(3):
        for step in (-1, 1):
            face = padded & ~np.roll(padded, -step, axis=axis)
            at = np.argwhere(face)[:, :] - 1.0
            at[:, axis] += step / 2
            points.append(at)
    lps = np.concatenate(points) @ grid.affine[:3, :3].T
    return max((np.linalg.norm(lps - p, axis=1).max() for p in lps), default=0.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7)])
def test_an_ellipsoid_measures_its_long_axis(spacing):
    """Within a voxel: an organ drawn in voxels has no finer border."""
    grid = regular_grid((40, 90, 90), spacing)
    mask = ellipsoid(grid, (11.0, 14.5, 28.0))
    assert longest_diameter_mm(mask, grid) == pytest.approx(56.0, abs=max(spacing) / 2)
    assert volume_mm3(mask, grid) == pytest.approx(4 / 3 * np.pi * 11.0 * 14.5 * 28.0, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 6)] * 3), st.floats(0.02, 1.0))
def test_the_diameter_is_the_largest_of_all_distances(seed, shape, share):
    """Hull and shortcuts must never lose the two farthest points, whatever the shape: flat, thin, scattered."""
    grid = Grid(shape, oblique_grid().affine)
    mask = np.random.default_rng(seed).random(shape) < share
    assert longest_diameter_mm(mask, grid) == pytest.approx(brute_force(mask, grid))


@pytest.mark.parametrize(
    ("spacing", "voxels"),
    [
        ((8.0, 3.0, 3.0), [(0, 4, 0), (0, 5, 1), (1, 0, 1), (1, 5, 1), (1, 6, 0)]),
        ((1.0, 3.0, 2.0), [(0, 1, 4), (1, 3, 1), (2, 2, 0), (2, 2, 1), (2, 3, 4)]),
        ((1.0, 5.0, 2.0), [(2, 1, 2), (3, 1, 6), (3, 2, 4)]),
    ],
)
def test_thick_voxels_may_make_other_ends_than_their_centres(spacing, voxels):
    """The voxels whose centres lie farthest apart are not those whose faces do, where voxels are long."""
    grid = regular_grid((8, 8, 8), spacing)
    mask = np.zeros(grid.shape, bool)
    mask[tuple(np.transpose(voxels))] = True
    assert longest_diameter_mm(mask, grid) == pytest.approx(brute_force(mask, grid))


@pytest.mark.parametrize("shape", [(1, 30, 40), (20, 25, 1), (1, 1, 200), (12, 13, 14)])
def test_large_and_flat_shapes_go_through_the_hull(shape):
    """A full block: thousands of coplanar points, where hull algorithms fail if they do."""
    grid = Grid(shape, oblique_grid().affine)
    mask = np.ones(shape, bool)
    assert longest_diameter_mm(mask, grid) == pytest.approx(brute_force(mask, grid))


def test_one_voxel_measures_its_longest_side():
    grid = regular_grid((5, 5, 5), (3.0, 0.7, 0.9))
    mask = np.zeros(grid.shape, bool)
    assert longest_diameter_mm(mask, grid) == 0.0
    assert volume_mm3(mask, grid) == 0.0
    mask[2, 2, 2] = True
    assert longest_diameter_mm(mask, grid) == pytest.approx(3.0)
    assert volume_mm3(mask, grid) == pytest.approx(3.0 * 0.7 * 0.9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_how_the_series_is_stored_does_not_matter(seed, axes, flips):
    """Axial or sagittal, flipped or not, oblique or not: the same millilitres and millimetres."""
    plain = regular_grid((9, 10, 11), (2.0, 1.1, 0.8))
    mask = np.random.default_rng(seed).random(plain.shape) < 0.3
    turned = mask.transpose(axes)
    affine = oblique_grid().affine.copy()
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, :3] = (directions * plain.spacing_mm)[:, list(axes)]
    for k in range(3):
        if flips[k]:
            turned = np.flip(turned, axis=k)
            affine[:3, k] *= -1
    grid = Grid(turned.shape, affine)
    assert volume_mm3(turned, grid) == pytest.approx(volume_mm3(mask, plain))
    assert longest_diameter_mm(turned, grid) == pytest.approx(longest_diameter_mm(mask, plain))


def test_measurements_name_quantity_unit_and_segment():
    grid = regular_grid((5, 6, 7), (2.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[1:3, 1:3, 1:6] = True
    found = measure([segment(mask, 4)], grid)
    assert found.warnings == ()
    assert [(m.quantity.value, m.unit.value, m.segment) for m in found.measurements] == [
        ("118565006", "mm3", 4),
        ("118565006", "mL", 4),
        ("L0JK", "mm", 4),
    ]
    assert [m.value for m in found.measurements] == pytest.approx([40.0, 0.04, np.sqrt(5**2 + 3**2)], rel=0.05)


def test_a_radiograph_has_areas_and_a_warning():
    """Sizes on the detector are magnified, and depth is not there to measure."""
    grid = Grid((1, 40, 50), regular_grid((1, 40, 50), (1.0, 0.5, 0.2)).affine, space=Space.DETECTOR)
    affine = np.array([[1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0.2, 0], [0, 0, 0, 1.0]])
    grid = Grid(grid.shape, affine, space=Space.DETECTOR)
    mask = np.zeros(grid.shape, bool)
    mask[0, 10:20, 5:45] = True
    assert area_mm2(mask, grid) == pytest.approx(10 * 40 * 0.1)
    found = measure([segment(mask)], grid)
    assert [m.unit.value for m in found.measurements] == ["mm2", "mm"]
    assert found.measurements[1].value == pytest.approx(np.hypot(4.5, 8.0), abs=0.25)
    assert "magnification" in found.warnings[0]


def test_an_image_without_spacing_is_not_measured():
    """Pixels are no millimetres; a number would be believed."""
    grid = Grid((1, 4, 5), np.eye(4), space=Space.PIXELS)
    found = measure([segment(np.ones(grid.shape, bool))], grid)
    assert found.measurements == ()
    assert "no pixel spacing" in found.warnings[0]
