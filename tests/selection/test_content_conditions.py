"""Content conditions: whether a skull is there, measured in any orientation; no answer where none can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from residency.card import ContentCondition
from residency.files.nifti import read_nifti, read_nifti_labels
from residency.labels import Side
from residency.selection.content import condition_holds, skull_dip, skull_present
from residency.testing.template import hippocampus_crop, template
from residency.volume import Grid, Space, Volume, regular_grid

HEADS = ("nichart_01", "nichart_06", "nichart_07", "nichart_12", "nichart_20", "nichart_23", "ixi012", "ms_01", "ms_12")


def head(folder: Path) -> Volume:
    return read_nifti((folder / "t1.nii.gz").read_bytes())


def stripped(folder: Path) -> Volume:
    """The same head inside its intracranial (or brain) mask."""
    volume = head(folder)
    name = "dlmuse.nii.gz" if (folder / "dlmuse.nii.gz").exists() else "brainmask.nii.gz"
    labels, _ = read_nifti_labels((folder / name).read_bytes())
    return volume.with_array(np.where(labels > 0, volume.array, 0))


@pytest.mark.parametrize("case", HEADS)
class TestRealHeads:
    """A network trained on heads with skull fails silently on brains without, and the other way round."""

    def test_a_whole_head_has_a_skull(self, shared_data: Path, case: str) -> None:
        assert skull_present(head(shared_data / "brain_extraction" / case)) is True

    def test_a_masked_head_has_none(self, shared_data: Path, case: str) -> None:
        assert skull_present(stripped(shared_data / "brain_extraction" / case)) is False


class TestOneHead:
    @pytest.fixture
    def whole(self, shared_data: Path) -> Volume:
        return head(shared_data / "brain_extraction" / "nichart_02")

    @pytest.mark.parametrize(("axes", "flip"), [((1, 2, 0), (0,)), ((2, 0, 1), (1, 2)), ((0, 2, 1), (0, 1, 2))])
    def test_the_order_of_axes_is_irrelevant(
        self, whole: Volume, axes: tuple[int, int, int], flip: tuple[int, ...]
    ) -> None:
        dip = skull_dip(whole)
        turned = skull_dip(_turned(whole, axes, flip))
        assert dip is not None
        assert turned == pytest.approx(dip, abs=0.02)

    def test_scale_and_noise_do_not_matter(self, whole: Volume) -> None:
        noise = np.random.default_rng(0).normal(0.0, 0.03, whole.array.shape) * np.percentile(whole.array, 99)
        assert skull_present(whole.with_array(np.abs(whole.array + noise) * 0.01)) is True

    def test_a_condition_holds_or_not(self, whole: Volume) -> None:
        assert condition_holds(whole, ContentCondition(name="skull_present", value=True)) is True
        assert condition_holds(whole, ContentCondition(name="skull_present", value=False)) is False


class TestTemplate:
    def test_the_template_is_called_stripped(self) -> None:
        assert skull_present(template()) is False

    def test_a_crop_inside_the_head_cannot_tell(self) -> None:
        assert skull_present(hippocampus_crop(Side.LEFT)) is None


class TestNoAnswer:
    def test_a_flat_image(self) -> None:
        assert skull_present(Volume(np.ones((20, 20, 20), np.float32), regular_grid((20, 20, 20), (2, 2, 2)))) is None

    def test_a_radiograph(self) -> None:
        grid = Grid((1, 64, 64), np.eye(4), space=Space.PIXELS)
        assert skull_present(Volume(np.zeros((1, 64, 64), np.float32), grid)) is None

    def test_ct(self) -> None:
        grid = regular_grid((60, 60, 60), (3, 3, 3))
        ball = np.random.default_rng(0).normal(size=(60, 60, 60)).astype(np.float32)
        assert skull_present(Volume(ball, grid, unit="[hnsf'U]")) is None


def _turned(volume: Volume, axes: tuple[int, int, int], flip: tuple[int, ...]) -> Volume:
    """The same image with its index axes in another order, some of them running backwards."""
    array = volume.array.transpose(axes)
    affine = volume.grid.affine[:, [*axes, 3]].copy()
    for axis in flip:
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return Volume(np.ascontiguousarray(array), Grid(shape, affine))
