"""Augmentation: labels go with the image, sides can be mirrored, and nothing random happens without the generator."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from residency.train.augment import channels_of, chosen, positions, sample, shaded
from residency.train.config import AugmentPart


def _crop(
    image: Tensor,
    labels: Tensor,
    seed: int = 0,
    patch: tuple[int, ...] | None = None,
    *,
    sharp: bool = False,
    **bounds: float,
) -> tuple[Tensor, Tensor]:
    part, generator = AugmentPart.model_validate(bounds), Generator().manual_seed(seed)
    where = positions(image.shape, patch or tuple(image.shape), part, generator, sharp=sharp)
    sampled = sample(channels_of(image[None], labels, 3), where)
    return shaded(sampled[:1], part, generator), chosen(sampled[1:])


@pytest.fixture
def labels() -> Tensor:
    labels = torch.zeros(14, 18, 16, dtype=torch.int64)
    labels[4:10, 5:9, 3:8], labels[4:10, 9:14, 3:8] = 1, 2
    return labels


def test_without_bounds_nothing_changes(labels: Tensor) -> None:
    image = torch.randn(labels.shape, generator=Generator().manual_seed(1))
    out, marked = _crop(image, labels)
    torch.testing.assert_close(out[0], image)
    assert torch.equal(marked[0], labels)


@pytest.mark.parametrize("seed", range(8))
def test_labels_go_where_the_image_goes(labels: Tensor, seed: int) -> None:
    moved = {"mirror_axis": 2, "rotate_degrees": 20, "scale": 0.15, "shift_voxels": 2, "bend_voxels": 1}
    image = (labels > 0).float()
    out, marked = _crop(image, labels, seed, **moved)
    inside = marked[0] > 0
    assert inside.any()
    # A label wins with a larger share than the background has; against two labels the background needs a third.
    assert (out[0][inside] > 0.499).all()
    assert (out[0][~inside] < 0.667).all()


def test_half_of_the_crops_are_mirrored_along_the_named_axis_alone(labels: Tensor) -> None:
    found = [_crop(labels.float(), labels, seed, mirror_axis=2)[1][0] for seed in range(60)]
    plain = sum(torch.equal(marked, labels) for marked in found)
    mirrored = sum(torch.equal(marked, labels.flip(2)) for marked in found)
    assert plain + mirrored == 60
    assert 18 <= mirrored <= 42


def test_turning_keeps_lengths_and_hands_and_scaling_keeps_its_bounds() -> None:
    from residency.train.augment import _turn

    for seed in range(50):
        turned = _turn(AugmentPart(rotate_degrees=30), Generator().manual_seed(seed))
        torch.testing.assert_close(turned @ turned.T, torch.eye(3))
        assert torch.linalg.det(turned) > 0
        scaled = _turn(AugmentPart(scale=0.2), Generator().manual_seed(seed))
        assert (scaled.diagonal().log().abs() <= 0.3 + 1e-6).all()


def test_outside_the_volume_is_background_and_zero(labels: Tensor) -> None:
    out, marked = _crop(torch.ones(labels.shape), torch.ones_like(labels), patch=(30, 30, 30))
    assert out[0, 0, 0, 0] == 0
    assert marked[0, 0, 0, 0] == 0
    assert marked[0, 15, 15, 15] == 1


def test_a_patch_smaller_than_the_volume_is_taken_from_everywhere_inside() -> None:
    where = torch.stack(torch.meshgrid(*[torch.arange(20.0)] * 3, indexing="ij")).sum(0)
    nothing = torch.zeros(20, 20, 20, dtype=torch.int64)
    corners = torch.stack([_crop(where, nothing, seed, patch=(8, 8, 8))[0][0, 0, 0, 0] for seed in range(40)])
    assert corners.min() >= 0
    assert corners.max() <= 36
    assert corners.max() - corners.min() > 12


def test_the_generator_decides_everything(labels: Tensor) -> None:
    bounds = {"rotate_degrees": 10, "bend_voxels": 1, "gamma": 0.3, "contrast": 0.2, "brightness": 0.2, "noise": 0.1}
    image = torch.rand(labels.shape, generator=Generator().manual_seed(3))
    torch.manual_seed(1)
    first = _crop(image, labels, 5, **bounds)
    torch.manual_seed(2)
    again, other = _crop(image, labels, 5, **bounds), _crop(image, labels, 6, **bounds)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_brightness_never_moves_a_label(labels: Tensor) -> None:
    image = torch.rand(labels.shape, generator=Generator().manual_seed(3))
    for seed in range(10):
        out, marked = _crop(image, labels, seed, gamma=0.5, contrast=0.3, brightness=0.5, noise=0.2)
        assert torch.equal(marked[0], labels)
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("patch", [(8, 9, 10), (20, 21, 15)])
def test_a_sharp_crop_is_a_piece_of_the_volume_as_it_is(labels: Tensor, patch: tuple[int, int, int]) -> None:
    image = torch.rand(labels.shape, generator=Generator().manual_seed(3)) + 1
    bounds = {"mirror_axis": 2, "rotate_degrees": 20.0, "scale": 0.2, "shift_voxels": 3.0, "bend_voxels": 2.0}
    for seed in range(6):
        out, _ = _crop(image, labels, seed, patch, sharp=True, **bounds)
        seen = out[out > 0.5]
        distance = (seen[:, None] - image.flatten()[None]).abs().min(dim=1).values
        assert len(seen) > 0.3 * min(out.numel(), image.numel())
        assert distance.max() < 1e-4


def test_a_quarter_of_the_crops_has_coarser_voxels_and_the_rest_is_untouched() -> None:
    image = torch.randn(16, 20, 12, generator=Generator().manual_seed(2))
    nowhere = torch.zeros(image.shape, dtype=torch.int64)
    found = [_crop(image, nowhere, seed, coarse_voxels=2)[0][0] for seed in range(120)]
    coarse = [crop for crop in found if not torch.allclose(crop, image, atol=1e-5)]
    assert 15 <= len(coarse) <= 45
    # White noise loses what neighbours do not share; the mean stays.
    assert all(float(crop.std()) < float(image.std()) for crop in coarse)
    assert min(float(crop.std()) for crop in coarse) < 0.6
    assert all(abs(float(crop.mean() - image.mean())) < 0.05 for crop in coarse)


def test_coarser_voxels_lie_where_the_fine_ones_did() -> None:
    from residency.train.augment import _coarse

    ramp = torch.arange(24.0).reshape(1, 24, 1, 1).expand(1, 24, 6, 8).contiguous()
    for seed in range(40):
        found = _coarse(ramp, 2.0, Generator().manual_seed(seed))
        torch.testing.assert_close(found[:, 2:-2], ramp[:, 2:-2], atol=1e-4, rtol=0)


def test_a_slice_stays_one_slice_with_coarser_voxels() -> None:
    image = torch.randn(1, 20, 12, generator=Generator().manual_seed(2))
    for seed in range(20):
        assert _crop(image, torch.zeros(image.shape, dtype=torch.int64), seed, coarse_voxels=2)[0].shape[1:] == (
            1,
            20,
            12,
        )
