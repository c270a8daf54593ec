"""Which crops a training sees: about structures where that is asked for, and the same ones every time."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from residency.train.config import TrainingConfig, read_config
from residency.train.crops import crop
from residency.train.judge import Exam

Written = Callable[[dict[str, Any]], Path]


ANY_SIDE = {"name": "unet", "parameters": {"features": [4]}}


@pytest.fixture
def exams() -> list[Exam]:
    """Large volumes with a speck of each of two structures near a corner; the image tells the place of a voxel."""
    labels = torch.zeros(30, 30, 30, dtype=torch.int64)
    labels[1:4, 14:17, 15:18], labels[20:24, 2:6, 20:26] = 1, 2
    places = torch.arange(1.0, 1 + labels.numel()).reshape(labels.shape)
    return [Exam("one", places[None], labels), Exam("two", places[None], labels)]


def _config(values: dict[str, Any], written: Written, **changed: Any) -> TrainingConfig:
    values = copy.deepcopy(values) | {"patch": [6, 6, 6], "augment": {}} | changed
    return read_config(written(values))


def test_the_asked_share_of_crops_lies_about_structures_each_as_often(
    exams: list[Exam], small_values: dict[str, Any], written: Written
) -> None:
    config = _config(small_values, written, sampling={"foreground": 0.75})
    seen = Counter(tuple(torch.unique(crop(exams, config, number)[1]).tolist()) for number in range(200))
    assert 130 <= seen[0, 1] + seen[0, 2] <= 172
    assert abs(seen[0, 1] - seen[0, 2]) < 40  # the one has 27 voxels, the other 96
    anywhere = _config(small_values, written)
    assert sum(bool(crop(exams, anywhere, number)[1].any()) for number in range(200)) < 40


def test_a_crop_about_a_structure_has_it_in_its_middle_or_touches_the_border(
    exams: list[Exam], small_values: dict[str, Any], written: Written
) -> None:
    config = _config(small_values, written, sampling={"foreground": 1}, patch=[5, 5, 5], net=ANY_SIDE)
    speck = torch.zeros_like(exams[0].labels)
    speck[1, 14, 15] = 1
    alone = [Exam("speck", exams[0].image, speck)]
    image, labels = crop(alone, config, 3)
    assert labels[0, 0].nonzero().tolist() == [[1, 2, 2]]  # the first slice of the crop is that of the volume
    torch.testing.assert_close(image[0, 0], exams[0].image[0, 0:5, 12:17, 13:18])


def test_crops_are_a_function_of_their_number(
    exams: list[Exam], small_values: dict[str, Any], written: Written
) -> None:
    config = _config(small_values, written, sampling={"foreground": 0.5}, augment={"rotate_degrees": 20})
    forward = [crop(exams, config, number) for number in range(6)]
    backward = [crop(exams, config, number) for number in reversed(range(6))][::-1]
    assert all(
        torch.equal(a, b) for one, other in zip(forward, backward, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert not torch.equal(forward[0][0], forward[1][0])


def test_a_large_volume_gives_the_crops_of_one_that_is_sampled_whole(
    exams: list[Exam], small_values: dict[str, Any], written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are made channels, and sampled, in a box about the crop; near the border too, and with regions."""
    bounds = {"rotate_degrees": 40, "scale": 0.3, "shift_voxels": 9, "bend_voxels": 1, "mirror_axis": 0}
    config = _config(small_values, written, augment=bounds, sampling={"foreground": 0.5})
    images = torch.stack([torch.sin(exams[0].image[0] / 50), torch.cos(exams[0].image[0] / 70)])
    large = [Exam("large", images, exams[0].labels.to(torch.uint8))]
    boxed = [crop(large, config, number) for number in range(40)]
    monkeypatch.setattr("residency.train.augment._WHOLE_UP_TO", 1_000_000)
    for number, (image, labels) in enumerate(boxed):
        whole, whole_labels = crop(large, config, number)
        torch.testing.assert_close(image, whole, rtol=0, atol=1e-4)
        assert (labels == whole_labels).float().mean() > 0.995  # a tie may fall to the other side
    assert {tuple(image.shape) for image, _ in boxed} == {(1, 2, 6, 6, 6)}
    assert any((image == 0).any() for image, _ in boxed)


def test_a_patch_of_one_slice_is_cut_from_whole_slices(
    exams: list[Exam], small_values: dict[str, Any], written: Written
) -> None:
    bounds = {"rotate_degrees": 30, "scale": 0.2, "shift_voxels": 2, "bend_voxels": 1}
    config = _config(small_values, written, patch=[20, 20], augment=bounds, sampling={"foreground": 0.5}, net=ANY_SIDE)
    assert config.patch == (1, 20, 20)
    depth = torch.arange(30.0)[:, None, None].expand(30, 30, 30) + 1
    deep = [Exam("deep", depth[None], exams[0].labels)]
    slices = set()
    for number in range(80):
        image, labels = crop(deep, config, number)
        assert image.shape == labels.shape == (1, 1, 1, 20, 20)
        middle = image[0, 0, 0, 6:14, 6:14]
        torch.testing.assert_close(middle, middle.round())
        assert middle.max() - middle.min() < 1e-3
        slices.add(round(float(middle[0, 0])))
    assert len(slices) > 15
    assert min(slices) >= 1
    assert max(slices) <= 30


def test_files_without_the_new_keys_are_the_same_training_and_files_with_them_another(
    small_values: dict[str, Any], written: Written
) -> None:
    plain = _config(small_values, written).learning_digest()
    assert _config(small_values, written, sampling={"foreground": 0}).learning_digest() == plain
    changed = [{"sampling": {"foreground": 0.3}}, {"judged_by": "dice"}]
    assert len({plain, *(_config(small_values, written, **one).learning_digest() for one in changed)}) == 3
