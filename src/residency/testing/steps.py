"""What every preparation step promises. Subclass `StepContract` and supply the `step` fixture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from residency.prepare.step import Preparation
from residency.volume import Grid, Volume


def oblique_grid(shape: tuple[int, int, int] = (14, 19, 23)) -> Grid:
    """Anisotropic, turned about two axes, one axis reversed: nothing that a mistake could cancel out in."""
    turn, tilt = np.radians(14.0), np.radians(-9.0)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    steps = np.array([[0, 0, 0.8], [0, -1.1, 0], [2.3, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ steps
    affine[:3, 3] = (-31.0, 17.0, 203.0)
    return Grid(shape, affine, "1.2.826.0.1.3680043.8.498.1")


def ramp(grid: Grid, direction: npt.ArrayLike) -> Volume:
    """An image whose value is the position in mm along a direction: each voxel says where in the patient it lies."""
    index = np.indices(grid.shape).reshape(3, -1).T
    value = grid.to_lps(index) @ np.asarray(direction, dtype=np.float64)
    return Volume(value.reshape(grid.shape).astype(np.float32), grid)


class StepContract:
    """Moves voxels and says so, or changes values and leaves the grid alone; never anything else."""

    crops = False
    """True for a step that may cut parts of the source away."""

    @pytest.fixture
    def volume(self) -> Volume:
        """The image that the step is tried on; override where the step needs another one."""
        return ramp(oblique_grid(), (1.0, 0.4, -0.3))

    def test_leaves_its_input_as_it_was(self, step: Preparation, volume: Volume) -> None:
        """A series is prepared once for each model: one must not see what another did."""
        before, affine = volume.array.copy(), volume.grid.affine.copy()
        made = step.apply(volume)
        if not np.may_share_memory(made.array, volume.array):
            made.array[...] = -1.0
        np.testing.assert_array_equal(volume.array, before)
        np.testing.assert_array_equal(volume.grid.affine, affine)

    def test_gives_float32_in_memory_order(self, step: Preparation, volume: Volume) -> None:
        """Engines take nothing else, and would copy or misread it."""
        made = step.apply(volume)
        assert made.array.dtype == np.float32
        assert made.array.flags.c_contiguous
        assert np.isfinite(made.array).all()

    def test_is_deterministic(self, step: Preparation, volume: Volume) -> None:
        """The same series must give the same result tomorrow."""
        first, second = step.apply(volume), step.apply(volume)
        assert first.array.tobytes() == second.array.tobytes()
        assert first.grid.matches(second.grid, 0.0)

    def test_keeps_frame_and_space(self, step: Preparation, volume: Volume) -> None:
        """A result without its frame of reference cannot be laid over the images."""
        made = step.apply(volume)
        assert (made.grid.frame_of_reference, made.grid.space) == (
            volume.grid.frame_of_reference,
            volume.grid.space,
        )

    @pytest.mark.parametrize("direction", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)])
    def test_the_grid_tracks_the_content(self, step: Preparation, volume: Volume, direction: npt.ArrayLike) -> None:
        """Anatomy that moves against its grid puts the result beside the organ.

        The image says in mm where each voxel lies; after a step that moves voxels, every voxel made of source voxels
        alone must still say what its grid says, to 0.02 voxel. A step that leaves the grid alone may change the scale,
        never the order, of values.
        """
        source = ramp(volume.grid, direction)
        made = step.apply(source)
        if made.grid.matches(source.grid, 0.0):
            order = np.argsort(source.array, axis=None, kind="stable")
            assert (np.diff(made.array.reshape(-1)[order]) >= 0).all()
            return
        said, lies, inside = made.array, ramp(made.grid, direction).array, _inside(made.grid, source.grid)
        assert inside.any()
        assert np.abs(said - lies)[inside].max() < 0.02 * min(source.grid.spacing_mm)

    def test_the_way_back_covers_the_source(self, step: Preparation, volume: Volume) -> None:
        """A voxel of the source that the network never saw would silently become background."""
        made = step.apply(volume)
        mapping = volume.grid.axis_mapping(made.grid)
        for axis in range(3):
            ends = np.array([0, volume.grid.shape[axis] - 1]) * mapping.scales[axis] + mapping.offsets[axis]
            if not self.crops:
                assert ends.min() >= -0.5 - 1e-9
                assert ends.max() <= made.grid.shape[mapping.axes[axis]] - 0.5 + 1e-9


def _inside(made: Grid, source: Grid) -> npt.NDArray[np.bool_]:
    """bool, made's shape: voxels that need nothing beyond the outermost centres of source voxels."""
    mapping = made.axis_mapping(source)
    index = source.to_index(made.to_lps(np.indices(made.shape).reshape(3, -1).T)).reshape(*made.shape, 3)
    reach = np.zeros(3)
    for k in range(3):
        scale = abs(mapping.scales[k])
        reach[mapping.axes[k]] = scale / 2 if scale > 1.0 + 1e-9 else 0.0
    low, high = reach - 1e-6, np.array(source.shape) - 1 - reach + 1e-6
    inside: npt.NDArray[np.bool_] = np.logical_and.reduce((index >= low) & (index <= high), axis=-1)
    return inside
