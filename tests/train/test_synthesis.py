"""Crops painted from regions, toned, scanned anew: what may change in them and what may not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from residency.errors import ConfigError, TrainingError
from residency.train.config import TrainingConfig, read_config
from residency.train.crops import crop
from residency.train.judge import Exam
from residency.train.loop import load
from residency.train.sources import divided
from residency.train.synthesis import Regions, read_painting, regions_of, synthesised
from residency.train.synthesis_part import SynthesisPart

Written = Callable[[dict[str, Any]], Path]
SIDE = 32
ALL: dict[str, Any] = {
    "painted": 0.5, "toned": 0.5, "lesions": 2, "bias": 0.3, "blur_voxels": 1, "thick_voxels": 3, "grain": 0.1,
}  # fmt: skip


def _head() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A ball of two halves (values 47 and 90) in a dark shell in a bright one, in air."""
    distance = np.linalg.norm(np.stack(np.indices((SIDE, SIDE, SIDE)), -1) - 15.5, axis=-1)
    image = np.select([distance < 7, distance < 9, distance < 12], [0.5, 0.1, 1.0], 0.0).astype(np.float32)
    reference = np.where(distance < 7, 90, 0).astype(np.uint8)
    reference[:, :, :16][reference[:, :, :16] > 0] = 47
    return image, reference


@pytest.fixture
def regions() -> Regions:
    return regions_of(*_head(), outside=2)


def _made(part: SynthesisPart, regions: Regions, seed: int, image: torch.Tensor | None = None) -> torch.Tensor:
    shown = torch.from_numpy(_head()[0])[None] if image is None else image
    return synthesised(shown, regions.where, regions, part, Generator().manual_seed(seed))


def test_a_volume_is_divided_into_air_body_by_intensity_and_reference(regions: Regions) -> None:
    image, reference = _head()
    where = regions.where[0].numpy()
    assert regions.inner == 3
    assert np.array_equal(where == 3, reference == 47)
    assert np.array_equal(where == 4, reference == 90)
    assert (where[0, 0, 0], where[15, 15, 24], where[15, 15, 27]) == (0, 1, 2)  # air, the dark shell, the bright one
    assert regions.levels.tolist() == pytest.approx([0, 0.1, 1, 0.5, 0.5])
    assert np.array_equal(where == 2, image == 1)


def test_a_reference_without_a_structure_cannot_be_painted() -> None:
    with pytest.raises(TrainingError, match="hold a structure"):
        regions_of(_head()[0], np.zeros((SIDE, SIDE, SIDE), np.uint8), outside=2)


def test_what_is_painted_shows_the_regions_and_not_the_image(regions: Regions) -> None:
    part = SynthesisPart(painted=1)
    found = _made(part, regions, seed=1)
    assert torch.equal(found, _made(part, regions, seed=1, image=torch.rand(1, SIDE, SIDE, SIDE)))
    within = [float(found[regions.where == number].std()) for number in range(5)]
    means = {
        seed: [float(_made(part, regions, seed)[regions.where == n].mean()) for n in range(5)] for seed in range(8)
    }
    assert max(within) < 0.2
    assert np.std([row[3] for row in means.values()]) > 0.1  # from crop to crop another contrast
    assert any(row[1] > row[2] for row in means.values())  # what is dark in the image may be bright
    assert any(row[1] < row[2] for row in means.values())


def test_a_tone_curve_keeps_equal_intensities_equal(regions: Regions) -> None:
    part = SynthesisPart(toned=1)
    shown = [_made(part, regions, seed) for seed in range(6)]
    image = torch.from_numpy(_head()[0])[None]
    assert all(len(torch.unique(one[image == level])) == 1 for one in shown for level in (0.0, 0.5, 1.0))
    assert len({round(float(one[image == 0.5][0]), 3) for one in shown}) > 3


def test_lesions_lie_inside_the_reference_alone(regions: Regions) -> None:
    bright = torch.full((1, SIDE, SIDE, SIDE), 0.5)
    bright[0, 0], bright[0, -1] = 0.0, 1.0  # so that the range stays
    part = SynthesisPart(lesions=3, lesion_voxels=5)
    plain = _made(SynthesisPart(), regions, 0, bright)
    changed = [_made(part, regions, seed, bright) != plain for seed in range(12)]
    inside = regions.where >= regions.inner
    assert sum(bool(one.any()) for one in changed) >= 6  # none in a quarter of them
    assert not any(bool((one & ~inside).any()) for one in changed)


@pytest.mark.parametrize(
    ("fault", "along"), [({"blur_voxels": 2.0}, "all"), ({"thick_voxels": 4.0}, "one"), ({"grain": 0.3}, "noise")]
)
def test_each_fault_of_a_scanner_is_there_in_some_crops(regions: Regions, fault: dict[str, float], along: str) -> None:
    plain = _made(SynthesisPart(), regions, 0)
    shown = [_made(SynthesisPart(**fault), regions, seed) for seed in range(30)]
    hit = [one for one in shown if not torch.equal(one, plain)]
    assert 3 <= len(hit) <= 18
    for one in hit:
        rough = [float(one.diff(dim=axis).abs().mean() / plain.diff(dim=axis).abs().mean()) for axis in (1, 2, 3)]
        softest = sum(ratio < min(rough) + 0.01 for ratio in rough) if min(rough) < 1 else 0
        assert softest == {"all": 3, "one": 1, "noise": 0}[along]


def test_bias_is_smooth(regions: Regions) -> None:
    flat = torch.full((1, SIDE, SIDE, SIDE), 0.5)
    flat[0, 0] = 0.0
    shown = [_made(SynthesisPart(bias=0.3), regions, seed, flat)[0, 1:] for seed in range(12)]
    biased = [one for one in shown if one.std() > 0.01]
    assert biased
    assert all(float(one.diff(dim=2).abs().max()) < 0.2 * float(one.max() - one.min()) for one in biased)


def _config(values: dict[str, Any], written: Written, **changed: Any) -> TrainingConfig:
    return read_config(written(copy.deepcopy(values) | changed))


def test_crops_are_a_function_of_their_number_and_their_labels_stay(
    small_values: dict[str, Any], written: Written
) -> None:
    made, plain = _config(small_values, written, synthesis=ALL), _config(small_values, written)
    exams = load(divided(made)[0], made)
    there = [crop(exams, made, number) for number in range(8)]
    again = [crop(exams, made, number) for number in reversed(range(8))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(there, again, strict=True) for a, b in zip(one, two, strict=True))
    without = [crop(exams, plain, number) for number in range(8)]
    assert all(torch.equal(one[1], two[1]) for one, two in zip(there, without, strict=True))
    assert not any(torch.equal(one[0], two[0]) for one, two in zip(there, without, strict=True))
    assert all(bool(torch.isfinite(image).all()) for image, _ in there)


def test_a_slice_can_be_painted(small_values: dict[str, Any], written: Written) -> None:
    config = _config(small_values, written, synthesis=ALL, patch=[1, 16, 16], net={"name": "unet-16"})
    exams: tuple[Exam, ...] = load(divided(config)[0], config)
    assert all(crop(exams, config, number)[0].shape == (1, 1, 1, 16, 16) for number in range(6))


def test_a_case_of_several_images_is_not_painted(small_values: dict[str, Any], written: Written) -> None:
    """A folder of nnU-Net's form tells how many there are only when it is read."""
    config = _config(small_values, written, synthesis=ALL)
    case = divided(config)[0][0]
    twice = replace(case, images={"t1": case.image, "t2": case.image})
    with pytest.raises(TrainingError, match=r"one image, and case '.+' has 2"):
        read_painting(twice, config)


def test_synthesis_is_another_training_and_a_file_without_it_the_same(
    small_values: dict[str, Any], written: Written
) -> None:
    plain = _config(small_values, written).digest()
    assert _config(small_values, written, synthesis={"painted": 0.0}).digest() == plain
    assert _config(small_values, written, synthesis={"painted": 0.1}).digest() != plain
    with pytest.raises(ConfigError, match=r"synthesis\.painted"):
        _config(small_values, written, synthesis={"painted": 2})


def test_a_card_tells_what_was_made() -> None:
    assert SynthesisPart().told() == ""
    told = SynthesisPart(**ALL).told()
    assert "50 % of the crops painted" in told
    assert "up to 2 lesions" in told
    assert "slices up to 3 voxels thick" in told
