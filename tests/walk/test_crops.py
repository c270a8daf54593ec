"""Boxes round a structure: which side they are on whatever way the images lie, and when no side may be told."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from residency.errors import CropError
from residency.files.nifti import read_nifti
from residency.labels import Side
from residency.pipeline.crops import APART_MM, Box, Crop, Located, cut, cut_off, locate, owned
from residency.prepare.orient import Orient
from residency.testing.cascades import BACK, CAVITY, FRONT, LEFT, RIGHT, SIZES, head
from residency.volume import Space, Volume, regular_grid

ORIENTATIONS = ["".join(letters) for axes in permutations(("LR", "PA", "SI")) for letters in product(*axes)]
SMALL = (4.0, 5.0, 5.0)


def found(volume: Volume, *, paired: bool = True, margin_mm: float = 6.0) -> Located:
    structure = volume.array > CAVITY + 1
    return locate(structure, volume.array > 0, volume.grid, paired=paired, margin_mm=margin_mm)


def centre(volume: Volume, box: Box) -> np.ndarray:
    """Of the structure in the box, LPS mm."""
    inside = np.argwhere(volume.array[box.slices] > CAVITY + 1) + np.array(box.start)
    return volume.grid.to_lps(inside).mean(axis=0)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.lists(st.floats(-25, 25), min_size=3, max_size=3),
    st.tuples(*[st.sampled_from((1.5, 2.0, 3.0))] * 3),
)
def test_sides_are_those_of_the_patient_in_any_orientation(letters, degrees, spacing):
    """Axial, sagittal, coronal, flipped and oblique: the left box holds what lies at the patient's left."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    turn[:3, 3] = (31.0, -12.0, 70.0)
    volume = Orient(letters=letters).apply(head(spacing_mm=spacing, turn=turn))
    boxes = found(volume).boxes
    assert [box.side for box in boxes] == [Side.LEFT, Side.RIGHT]
    for box, place in zip(boxes, (LEFT, RIGHT), strict=True):
        expected = turn[:3, :3] @ np.array(place) + turn[:3, 3]
        assert np.linalg.norm(centre(volume, box) - expected) < 2.0


def test_a_crop_is_a_part_of_the_source_in_its_true_place():
    volume = Orient(letters="PSR").apply(head())
    for box in found(volume).boxes:
        crop = cut(volume, box, 5.0)
        assert np.array_equal(crop.volume.array, volume.array[crop.box.slices])
        corners = np.array(list(product(*[(0, n - 1) for n in crop.volume.grid.shape])))
        there = volume.grid.to_lps(corners + np.array(crop.box.start))
        assert np.abs(crop.volume.grid.to_lps(corners) - there).max() < 1e-9
        for axis, step in enumerate(volume.grid.spacing_mm):
            margins = (box.start[axis] - crop.box.start[axis], crop.box.stop[axis] - box.stop[axis])
            assert min(margins) * step >= 5.0
            assert (max(margins) - 1) * step < 5.0


def test_at_the_border_a_crop_ends_and_what_reaches_it_is_told():
    edge = (LEFT[0], LEFT[1], -45.0)
    volume = head(((edge, SIZES[0]), (RIGHT, SIZES[1])))
    volume = volume.with_array(volume.array)
    left, right = found(volume).boxes
    crop = cut(volume, left, 6.0)
    assert crop.box.start[0] == 0
    assert not cut_off(right, volume.grid)
    assert not cut_off(left, volume.grid)
    further = head((((LEFT[0], LEFT[1], -51.0), SIZES[0]), (RIGHT, SIZES[1])))
    assert cut_off(found(further).boxes[0], further.grid)


@pytest.mark.parametrize(
    ("structures", "boxes", "said"),
    [
        ([(LEFT, SIZES[0])], 1, "one structure is found"),
        # Both in the left half: two, but not one on each side.
        ([(LEFT, SIZES[0]), ((20.0, 40.0, -10.0), SIZES[1])], 1, "one structure is found"),
        # One that lies across the middle, as two that touch do.
        ([((5.0, 5.0, -10.0), (7.0, 9.0, 6.0)), ((-5.0, 5.0, -10.0), (7.0, 9.0, 6.0))], 1, "one structure is found"),
        # Two halves with a slit between them: what a structure in the middle looks like when it falls apart.
        ([((6.0, 5.0, -10.0), (5.0, 9.0, 6.0)), ((-6.0, 5.0, -10.0), (5.0, 9.0, 6.0))], 1, "may be one structure"),
        # One on each side, but one of them nearly in the middle.
        ([((30.0, 5.0, -10.0), SIZES[1]), ((-2.5, 5.0, -10.0), (2.0, 9.0, 6.0))], 1, "may be one structure"),
        # A speck on the other side is no second structure.
        ([(LEFT, SIZES[0]), (RIGHT, SMALL)], 1, "of the volume"),
    ],
)
def test_no_side_is_told_where_none_is_proven(structures, boxes, said):
    located = found(head(structures))
    assert [box.side for box in located.boxes] == [None] * boxes
    assert said in " ".join(located.notes)


def test_a_pair_is_one_only_with_a_gap_as_wide_as_stated():
    """At the gap that the rule names the two are a pair; a voxel nearer they are not."""
    grid = regular_grid((20, 40, 61), (1.0, 1.0, 1.0))
    everything = np.ones(grid.shape, np.bool_)
    for gap, sides in ((int(APART_MM), [Side.LEFT, Side.RIGHT]), (int(APART_MM) - 1, [None])):
        mask = np.zeros(grid.shape, np.bool_)
        mask[5:15, 10:30, 33 : 33 + 15] = True
        mask[5:15, 10:30, 33 - gap - 15 : 33 - gap] = True
        assert [box.side for box in locate(mask, everything, grid, paired=True, margin_mm=2).boxes] == sides


def test_without_anything_else_in_the_head_no_side_is_told():
    volume = head()
    structure = volume.array > CAVITY + 1
    located = locate(structure, np.zeros_like(structure), volume.grid, paired=True, margin_mm=6)
    assert [box.side for box in located.boxes] == [None]
    assert "nothing by which sides could be told" in located.notes[0]


def test_a_structure_in_pieces_is_one_box():
    """A coarse localiser breaks thin structures; pieces within the margin belong together, farther ones do not."""
    pieces = [((20.0, -2.0, -10.0), (5.0, 5.0, 5.0)), ((20.0, 13.0, -10.0), (5.0, 6.0, 5.0)), (RIGHT, SIZES[1])]
    together = found(head(pieces), margin_mm=8.0).boxes
    apart = found(head(pieces), margin_mm=1.0).boxes
    assert together[0].stop[1] - together[0].start[1] > apart[0].stop[1] - apart[0].start[1] + 4
    assert [box.side for box in together] == [box.side for box in apart] == [Side.LEFT, Side.RIGHT]


def test_specks_take_no_part():
    specks = [((40.0, 0.0, 0.0), (1.5, 1.5, 1.5)), ((-40.0, 0.0, 0.0), (1.5, 1.5, 1.5))]
    assert found(head([(LEFT, SIZES[0]), (RIGHT, SIZES[1]), *specks])) == found(head())


def test_of_a_single_structure_the_largest_gives_the_crop_without_a_side():
    located = found(head(), paired=False)
    assert located == Located((located.boxes[0],))
    assert located.boxes[0].side is None
    assert centre(head(), located.boxes[0])[0] > 0


def test_nothing_found_and_no_place_in_the_patient_are_refused():
    volume = head(())
    with pytest.raises(CropError, match="finds nothing of the structure"):
        found(volume)
    flat = regular_grid((1, 8, 8), (1.0, 1.0, 1.0))
    picture = type(flat)(flat.shape, flat.affine, None, Space.DETECTOR)
    mask = np.ones(flat.shape, np.bool_)
    with pytest.raises(CropError, match="no place in the patient"):
        locate(mask, mask, picture, paired=False, margin_mm=1)


def test_a_voxel_in_two_crops_belongs_to_the_nearer_structure():
    volume = head([((12.0, 5.0, -10.0), SIZES[0]), ((-12.0, 5.0, -10.0), SIZES[0])])
    left, right = (cut(volume, box, 16.0) for box in found(volume).boxes)
    counted = np.zeros(volume.grid.shape, np.int64)
    for crop, other in ((left, right), (right, left)):
        counted[crop.box.slices] += owned(crop, [other], volume.grid)
    shared = np.zeros(volume.grid.shape, np.int64)
    for crop in (left, right):
        shared[crop.box.slices] += 1
    assert (shared == 2).any()
    assert (counted[shared == 2] == 1).all()
    assert (counted[shared == 1] == 1).all()
    assert _of_other_side(left, right, volume) == 0


def _of_other_side(crop: Crop, other: Crop, volume: Volume) -> int:
    """Voxels of the right structure that the left crop would count as its own."""
    mine = np.zeros(volume.grid.shape, np.bool_)
    mine[crop.box.slices] = owned(crop, [other], volume.grid)
    x = volume.grid.to_lps(np.moveaxis(np.indices(volume.grid.shape), 0, -1))[..., 0]
    return int(np.count_nonzero(mine & (x < 0) & np.isin(volume.array, (FRONT, BACK))))


def test_sides_in_real_heads_are_those_of_their_reference(shared_data):
    """Hippocampi as outlined in real heads, given without their sides: each box holds those of one."""
    right, left = 47, 48  # MUSE labels of the hippocampi
    files = sorted((shared_data / "brain_extraction").glob("*/dlmuse.nii.gz"))
    assert files
    for file in files:
        read = read_nifti(file.read_bytes())
        structure = np.isin(read.array, (left, right))
        located = locate(structure, read.array > 0, read.grid, paired=True, margin_mm=8.0)
        assert [box.side for box in located.boxes] == [Side.LEFT, Side.RIGHT], file
        for box, label in zip(located.boxes, (left, right), strict=True):
            assert set(np.unique(read.array[box.slices][structure[box.slices]])) == {label}, file
