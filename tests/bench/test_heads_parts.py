"""What the bench of heads shows the network: changes that take the reference along, and a registration that finds."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from residency.volume import Grid, Volume

SPACING = 4.0


@pytest.fixture
def shown() -> Any:
    return importlib.import_module("heads_parts.shown")


@pytest.fixture
def registration() -> Any:
    return importlib.import_module("heads_parts.registration")


def _grid(shape: tuple[int, int, int], corner: tuple[float, float, float]) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = SPACING
    affine[:3, 3], affine[3, 3] = corner, 1
    return Grid(shape, affine)


def _phantom(grid: Grid, moved: tuple[float, float, float] = (0, 0, 0), *, dark: bool = False) -> Volume:
    """An uneven body with two parts, at a place in LPS mm; dark: in another contrast."""
    points = grid.to_lps(np.argwhere(np.ones(grid.shape, dtype=bool))) - np.array(moved)
    body = ((points / np.array([50, 60, 45])) ** 2).sum(axis=1) < 1
    part = (((points - np.array([20, -25, 10])) / np.array([16, 12, 20])) ** 2).sum(axis=1) < 1
    levels = (0.0, 0.9, 0.3) if dark else (0.0, 0.4, 1.0)
    values = np.where(part, levels[2], np.where(body, levels[1], levels[0])).reshape(grid.shape)
    return Volume(values.astype(np.float32), grid)


@pytest.fixture
def head(shown: Any) -> Any:
    volume = _phantom(_grid((30, 34, 30), (-58, -66, -58)))
    reference = (volume.array > 0).astype(np.uint8) + (volume.array == 1).astype(np.uint8)
    return shown.Head("someone", "group", "as it is", volume, reference)


def test_changes_are_the_same_each_time_and_keep_the_reference_on_the_image(shown: Any, head: Any) -> None:
    once, again = ([shown.changed(head, change) for change in shown.CHANGES] for _ in range(2))
    assert len({one.change for one in once}) == len(once) == 13
    for one, two in zip(once, again, strict=True):
        assert np.array_equal(one.volume.array, two.volume.array)
        assert one.reference.shape == one.volume.grid.shape
        mm3 = (one.reference > 0).sum() * one.volume.grid.voxel_mm3
        assert mm3 == pytest.approx((head.reference > 0).sum() * head.volume.grid.voxel_mm3, rel=0.03)


def test_other_storage_shows_the_same_voxels_in_the_same_places(shown: Any, head: Any) -> None:
    for change in (change for change in shown.CHANGES if change.startswith("stored")):
        one = shown.changed(head, change)
        index = np.argwhere(one.reference == 2)
        back = np.rint(head.volume.grid.to_index(one.volume.grid.to_lps(index))).astype(int)
        assert (head.reference[tuple(back.T)] == 2).all()
        assert sorted(one.volume.array.ravel()) == sorted(head.volume.array.ravel())


def test_lesions_lie_inside_and_faults_change_the_image_alone(shown: Any, head: Any) -> None:
    for one in (shown.changed(head, change) for change in shown.CHANGES):
        if "lesion" in one.change:
            differs = one.volume.array != head.volume.array
            assert differs.any()
            assert not (differs & (head.reference == 0)).any()
        if "noise" in one.change or "bias" in one.change or "inverted" in one.change:
            assert np.array_equal(one.reference, head.reference)
            assert not np.array_equal(one.volume.array, head.volume.array)
        if "bias" in one.change:
            gain = (one.volume.array / np.maximum(head.volume.array, 1e-6))[head.reference > 0]
            assert max(gain.max(), 1 / gain.min()) == pytest.approx(float(one.change.rsplit(" ", 1)[1]), rel=0.03)
    bare = shown.changed(head, shown.STRIPPED)
    assert not bare.volume.array[head.reference == 0].any()
    assert np.array_equal(bare.reference, head.reference)


def test_a_rigid_move_between_two_contrasts_is_found(
    registration: Any, shown: Any, head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "_SAMPLES", 4000)
    other = _phantom(_grid((28, 32, 28), (-50, -66, -54)), moved=(6.0, -8.0, 3.0), dark=True)
    found = registration.register(other, head.volume)
    there = found.map(np.array([[20.0 + 6, -25 - 8, 10 + 3], [-30 + 6, 20 - 8, 0 + 3]]))
    assert np.abs(there - np.array([[20.0, -25, 10], [-30, 20, 0]])).max() < 2.5
    assert found.after > found.before + 0.05
    carried = shown.carried(head, other.grid, found.map)
    overlap = ((carried > 0) & (other.array > 0)).sum() / (other.array > 0).sum()
    assert overlap > 0.95
