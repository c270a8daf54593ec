"""Whole recipes: what was prepared finds back, and sampling agrees with an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from residency.prepare import labels_on, prepare
from residency.prepare.sampling import sample_axis, taps
from residency.recipe import recipe
from residency.testing.steps import oblique_grid, ramp
from residency.volume import Grid, Volume

SPACINGS = st.sampled_from([0.0, 0.6, 1.0, 1.7, 4.0])
STEPS = st.one_of(
    st.sampled_from(["SPL", "IAR", "LSP", "PRI", "RAS"]).map(lambda letters: ("orient", {"letters": letters})),
    st.tuples(SPACINGS, SPACINGS, SPACINGS).map(lambda s: ("resample", {"spacing_mm": s})),
    st.tuples(*[st.integers(0, 40)] * 3).map(lambda shape: ("resize", {"shape": shape})),
    st.integers(1, 16).map(lambda m: ("pad", {"multiple": m, "mode": "edge"})),
    st.just(("window", {"centre": 10.0, "width": 40.0})),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=5), st.tuples(*[st.integers(1, 18)] * 3))
def test_every_voxel_of_the_source_is_covered(steps, shape):
    """Whatever the order of steps: a voxel that the network never saw would silently become background."""
    grid = Grid(shape, oblique_grid().affine)
    prepared = prepare(ramp(grid, (1, 2, 3)), recipe(*steps))
    assert prepared.source is grid
    mapping, made = prepared.back, prepared.volume.grid
    for axis in range(3):
        ends = np.array([0, shape[axis] - 1]) * mapping.scales[axis] + mapping.offsets[axis]
        assert ends.min() >= -0.5 - 1e-3
        assert ends.max() <= made.shape[mapping.axes[axis]] - 0.5 + 1e-3


@settings(max_examples=40, deadline=None)
@given(st.permutations(["S", "P", "L"]), st.tuples(*[st.booleans()] * 3), st.integers(1, 9))
def test_moving_voxels_alone_loses_nothing(pairs, flips, multiple):
    """Orient and pad are undone exactly."""
    letters = "".join({"S": "SI", "P": "PA", "L": "LR"}[p][f] for p, f in zip(pairs, flips, strict=True))
    grid = oblique_grid((5, 6, 7))
    labels = np.random.default_rng(1).integers(0, 4, grid.shape).astype(np.uint8)
    prepared = prepare(
        Volume(labels.astype(np.float32), grid),
        recipe(("orient", {"letters": letters}), ("pad", {"multiple": multiple})),
    )
    back = labels_on(prepared.volume.array.astype(np.uint8), prepared.volume.grid, grid)
    np.testing.assert_array_equal(back, labels)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.lists(st.floats(-3, 33), min_size=1, max_size=20))
def test_linear_sampling_is_that_of_scipy(length, positions):
    """The judge is an independent implementation; beyond the ends both repeat the outermost value."""
    line = np.random.default_rng(length).normal(size=length).astype(np.float32)
    at = np.array(positions)
    ours = sample_axis(line, 0, *taps(at, length))
    theirs = map_coordinates(line.astype(np.float64), [np.clip(at, 0, length - 1)], order=1, mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@given(st.floats(1.0, 12.0), st.floats(0, 1))
def test_downsampling_keeps_ramps_and_means(ratio, phase):
    """A smoothing kernel that is not balanced would shift anatomy by a fraction of a voxel, differently at each."""
    length = 200
    at = np.arange(20.0, 180.0, ratio) + phase
    index, weight = taps(at, length, ratio)
    np.testing.assert_allclose((index * weight.astype(np.float64)).sum(axis=1), at, atol=1e-4)
    np.testing.assert_allclose(weight.sum(axis=1), 1.0, atol=1e-6)
    counts = np.zeros(length)
    np.add.at(counts, index, weight)
    if ratio > 2:
        assert counts[30:170].min() > 0.3 / ratio


def test_downsampling_takes_the_high_frequencies_out():
    """Taking every third voxel of a fine pattern would invent a coarse one."""
    pattern = (np.arange(300) % 3 == 0).astype(np.float32)
    coarse = sample_axis(pattern, 0, *taps(np.arange(10.0, 290.0, 3.1), 300, 3.1))
    assert np.abs(coarse - 1 / 3).max() < 0.1


@pytest.mark.parametrize("name", ["hippocampus_001", "hippocampus_003"])
def test_real_labels_survive_resampling_of_the_image(shared_data, name):
    """Reference labels brought onto a finer prepared grid and back are the labels."""
    from residency.files.nifti import read_nifti, read_nifti_labels

    folder = shared_data / "hippocampus"
    if not (folder / "images" / f"{name}.nii.gz").is_file():
        pytest.skip(f"{name} is not there")
    volume = read_nifti((folder / "images" / f"{name}.nii.gz").read_bytes())
    labels, grid = read_nifti_labels((folder / "labels" / f"{name}.nii.gz").read_bytes())
    prepared = prepare(
        volume, recipe(("orient", {"letters": "LIP"}), ("resample", {"spacing_mm": 0.5}), ("pad", {"multiple": 8}))
    )
    fine = labels_on(labels, grid, prepared.volume.grid)
    np.testing.assert_array_equal(labels_on(fine, prepared.volume.grid, grid), labels)
    assert np.count_nonzero(fine) == pytest.approx(8 * np.count_nonzero(labels), rel=0.02)
