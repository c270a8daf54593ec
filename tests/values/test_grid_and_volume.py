"""Grids and volumes know where they are in the patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.errors import GeometryError
from residency.geometry import lps_from_ras, orientation_letters, reorientation, slice_spacing
from residency.volume import Grid, Space, Volume, regular_grid

AXES = st.permutations([0, 1, 2])
SIGNS = st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)
SPACINGS = st.tuples(*[st.floats(0.2, 8.0)] * 3)
ORIGINS = st.tuples(*[st.floats(-300, 300)] * 3)


def affine_of(
    axes: list[int], signs: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...]
) -> np.ndarray:
    affine = np.zeros((4, 4))
    for column, (world, sign, step) in enumerate(zip(axes, signs, spacing, strict=True)):
        affine[world, column] = sign * step
    affine[:3, 3] = origin
    affine[3, 3] = 1.0
    return affine


@given(AXES, SIGNS, SPACINGS, ORIGINS)
def test_an_index_taken_to_the_patient_and_back_is_the_same_index(axes, signs, spacing, origin):
    grid = Grid((3, 4, 5), affine_of(axes, signs, spacing, origin))
    index = np.array([[0, 0, 0], [2, 3, 4], [1.5, 0.25, 3.75]])
    assert np.allclose(grid.to_index(grid.to_lps(index)), index, atol=1e-8)
    assert np.allclose(grid.spacing_mm, spacing)
    assert grid.voxel_mm3 == pytest.approx(np.prod(spacing))


@given(AXES, SIGNS, SPACINGS, ORIGINS, AXES, SIGNS)
def test_the_mapping_between_two_upright_grids_agrees_with_the_way_through_the_patient(
    axes, signs, sp, origin, axes2, signs2
):
    one = Grid((6, 7, 8), affine_of(axes, signs, sp, origin))
    two = Grid((6, 7, 8), affine_of(axes2, signs2, (1.0, 2.0, 3.0), (5.0, -4.0, 3.0)))
    mapping = one.axis_mapping(two)
    index = np.array([1.0, 2.0, 3.0])
    through_patient = two.to_index(one.to_lps(index))
    for axis in range(3):
        by_axis = mapping.scales[axis] * index[axis] + mapping.offsets[axis]
        assert by_axis == pytest.approx(through_patient[mapping.axes[axis]], abs=1e-6)


def test_grids_rotated_against_each_other_cannot_be_mapped_axis_by_axis():
    turned = np.eye(4)
    c, s = np.cos(0.2), np.sin(0.2)
    turned[:2, :2] = [[c, -s], [s, c]]
    with pytest.raises(GeometryError, match="quarter turns"):
        regular_grid((4, 4, 4), (1, 1, 1)).axis_mapping(Grid((4, 4, 4), turned))


@given(AXES, SIGNS, SPACINGS)
def test_reorienting_by_letters_gives_an_affine_with_these_letters(axes, signs, spacing):
    affine = affine_of(axes, signs, spacing, (0, 0, 0))
    order, flips = reorientation(affine, "SPL")
    columns = [(-1 if flip else 1) * affine[:, axis] for axis, flip in zip(order, flips, strict=True)]
    assert orientation_letters(np.column_stack([*columns, affine[:, 3]])) == "SPL"


def test_orientation_letters_name_every_anatomical_axis_once_even_for_oblique_planes():
    c, s = np.cos(np.pi / 4), np.sin(np.pi / 4)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    letters = orientation_letters(affine)
    assert sorted("LR".find(x) >= 0 for x in letters) == [False, False, True]
    assert len(set(letters)) == 3


@pytest.mark.parametrize("letters", ["SPX", "SSL", "SP", "LRA"])
def test_impossible_orientations_are_refused(letters):
    with pytest.raises(GeometryError, match="orientation"):
        reorientation(np.eye(4), letters)


@given(st.integers(1, 10))
def test_a_missing_slice_is_named(k):
    """A hole in the series stops the run; it is never bridged by interpolation."""
    z = np.zeros((12, 3))
    z[:, 2] = 2.5 * np.arange(12)
    with pytest.raises(GeometryError, match=rf"slice {k + 1} of 11 is 5.00 mm"):
        slice_spacing(np.delete(z, k, axis=0), np.array([0, 0, 1.0]))


def test_doubled_positions_are_refused():
    z = np.zeros((4, 3))
    with pytest.raises(GeometryError, match="missing or doubled"):
        slice_spacing(z, np.array([0, 0, 1.0]))


def test_ras_and_lps_differ_in_the_first_two_axes_and_the_change_is_its_own_inverse():
    affine = affine_of([2, 1, 0], (1, -1, 1), (1, 2, 3), (10, 20, 30))
    assert np.array_equal(lps_from_ras(lps_from_ras(affine)), affine)
    assert lps_from_ras(affine)[0, 3] == -10


def test_a_volume_refuses_an_array_of_another_shape_or_type():
    grid = regular_grid((2, 3, 4), (1, 1, 1))
    with pytest.raises(GeometryError, match="shape"):
        Volume(np.zeros((2, 3, 5), np.float32), grid)
    with pytest.raises(GeometryError, match="float32"):
        Volume(np.zeros((2, 3, 4), np.float64), grid)  # type: ignore[arg-type]


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_a_grid_refuses_an_affine_that_cannot_be_inverted(affine):
    with pytest.raises(GeometryError, match="invertible"):
        Grid((2, 2, 2), affine)


def test_a_radiograph_is_one_slice_on_its_detector():
    grid = Grid((1, 5, 7), regular_grid((1, 5, 7), (1.0, 0.2, 0.3)).affine, space=Space.DETECTOR)
    assert grid.spacing_mm == pytest.approx((1.0, 0.2, 0.3))
    assert not grid.matches(regular_grid((1, 5, 7), (1.0, 0.2, 0.3)))


def test_values_cannot_be_changed_behind_a_grids_back():
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 99
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 3] = 1
