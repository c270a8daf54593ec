"""One random training crop of a prepared volume: where it lies, how it is bent, how bright it is.

All geometry happens in one interpolation, so that nothing is smoothed twice. Every random number comes from the
generator that is handed in. A patch of one slice is turned, scaled, bent and shifted within its slice alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from residency.train.config import AugmentPart

_BEND_NODES = 5
"""Nodes an axis of the coarse lattice of displacements; 5 over some 40 voxels bend on the scale of 1 cm."""

_COARSE_SHARE = 0.25
"""Of the crops that are brought to coarser voxels, as in nnU-Net."""

_WHOLE_UP_TO = 4
"""Times as large as its box a volume is sampled whole."""


def channels_of(image: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Image (channels, S, R, C) and labels (S, R, C) as channels: those of the image, then one a class but background.

    The background is what is left over, so that outside the volume is background too.
    """
    return torch.cat([image, *((labels == label).to(image.dtype)[None] for label in range(1, classes))])


def positions(
    shape: Sequence[int],
    patch: Sequence[int],
    bounds: AugmentPart,
    generator: Generator,
    *,
    about: Sequence[int] | None = None,
    sharp: bool = False,
) -> Tensor:
    """Where each voxel of a crop is taken from: (*patch, 3) in voxels (slice, row, column) of a volume of `shape`.

    about  voxel that the crop lies about, before it is shifted: in its middle, unless the crop would leave the volume
    sharp  only mirrored and shifted, by whole voxels
    """
    centre = _centre(shape, patch, bounds, generator, about)
    return (_whole_positions if sharp else _positions)(centre, patch, bounds, generator)


def chosen(shares: Tensor) -> Tensor:
    """Labels (1, *patch), int64, of the shares (classes - 1, *patch) that each class but the background has."""
    return torch.cat([1.0 - shares.sum(0, keepdim=True), shares]).argmax(0, keepdim=True)


def box_about(where: Tensor, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    """The part of a volume that a crop is sampled from; the whole volume where it is not much larger.

    Small volumes are left whole so that their crops keep the last bit: the place of a voxel is rounded by the extent.
    """
    flat = where.reshape(-1, 3)
    ends = zip(flat.amin(0).tolist(), flat.amax(0).tolist(), shape, strict=True)
    # At least two voxels a side: along an axis of one, `sample` takes every place for that voxel.
    sides = [(max(0, min(int(low) - 2, n - 2)), min(n, max(int(high) + 3, 2))) for low, high, n in ends]
    if math.prod(shape) <= _WHOLE_UP_TO * math.prod(stop - start for start, stop in sides):
        sides = [(0, n) for n in shape]
    first, second, third = (slice(*side) for side in sides)
    return first, second, third


def _centre(
    shape: Sequence[int], patch: Sequence[int], bounds: AugmentPart, generator: Generator, about: Sequence[int] | None
) -> Tensor:
    size = torch.tensor(patch, dtype=torch.float32)
    extent = torch.tensor(shape, dtype=torch.float32)
    middle, room, drawn = (extent - 1) / 2, (extent - size).clamp(min=0) / 2, _signed(generator, 3)
    if about is None:
        centre = middle + drawn * (room + bounds.shift_voxels)
    else:
        off = torch.tensor(about, dtype=torch.float32) - middle
        centre = middle + off.clamp(-room, room) + drawn * bounds.shift_voxels
    if patch[0] == 1:  # on a slice, each as often as the others
        centre[0] = about[0] if about is not None else ((drawn[0] + 1) / 2 * shape[0]).floor().clamp(max=shape[0] - 1)
    return centre


def _positions(centre: Tensor, patch: Sequence[int], bounds: AugmentPart, generator: Generator) -> Tensor:
    """Where each voxel of the patch is taken from: (*patch, 3) in voxels (slice, row, column) of the volume."""
    lattice = _lattice(patch)
    if bounds.bend_voxels:
        lattice = lattice + _bend(patch, bounds.bend_voxels, generator)
    return lattice @ _turn(bounds, generator, flat=patch[0] == 1).T + centre


def _whole_positions(centre: Tensor, patch: Sequence[int], bounds: AugmentPart, generator: Generator) -> Tensor:
    """The same without turning, scaling and bending: on voxels of the volume, so that nothing is smoothed."""
    half = (torch.tensor(patch, dtype=torch.float32) - 1) / 2
    turn = _turn(AugmentPart(mirror_axis=bounds.mirror_axis), generator)
    return _lattice(patch) @ turn.T + (centre - half).round() + half


def _lattice(patch: Sequence[int]) -> Tensor:
    """Voxels of the patch from its centre: (*patch, 3)."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def _turn(bounds: AugmentPart, generator: Generator, *, flat: bool = False) -> Tensor:
    """Rotation, scale and mirror, 3 x 3, about the centre of the patch; flat: within the slice."""
    matrix = torch.eye(3)
    angles = _signed(generator, 3) * math.radians(bounds.rotate_degrees)
    for axis in range(1 if flat else 3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        rotation = torch.eye(3)
        rotation[i, i] = rotation[j, j] = torch.cos(angles[axis])
        rotation[j, i] = torch.sin(angles[axis])
        rotation[i, j] = -rotation[j, i]
        matrix = rotation @ matrix
    # All axes together, and each a little on its own.
    scales = (_signed(generator, 1) * bounds.scale + _signed(generator, 3) * bounds.scale / 2).exp()
    if flat:
        scales[0] = 1
    mirrored = torch.rand(1, generator=generator) < 0.5
    if bounds.mirror_axis is not None and mirrored:
        scales[bounds.mirror_axis] *= -1
    return matrix * scales


def _bend(patch: Sequence[int], most: float, generator: Generator) -> Tensor:
    """A smooth random displacement (*patch, 3), in voxels; `most` bounds the drawn standard deviation."""
    strength = torch.rand(1, generator=generator) * most
    nodes = torch.randn(1, 3, _BEND_NODES, _BEND_NODES, _BEND_NODES, generator=generator) * strength
    fine = torch.nn.functional.interpolate(nodes, size=tuple(patch), mode="trilinear", align_corners=True)
    displacement = fine[0].permute(1, 2, 3, 0)
    return displacement * torch.tensor([0.0, 1.0, 1.0]) if patch[0] == 1 else displacement


def sample(channels: Tensor, where: Tensor, *, nearest: bool = False) -> Tensor:
    """Trilinear samples (C, *patch) of (C, S, R, C'), or the nearest voxels; 0 outside."""
    extent = torch.tensor(channels.shape[1:], dtype=torch.float32)
    unit = 2 * where / (extent - 1).clamp(min=1) - 1
    grid = unit.flip(-1)[None]  # grid_sample wants the last axis first
    sampled = torch.nn.functional.grid_sample(
        channels[None], grid, mode="nearest" if nearest else "bilinear", padding_mode="zeros", align_corners=True
    )
    return sampled[0]


def shaded(image: Tensor, bounds: AugmentPart, generator: Generator) -> Tensor:
    """An image (channels, *patch), each channel by itself, as `_shaded` does it."""
    return torch.cat([_shaded(one[None], bounds, generator) for one in image])


def _shaded(image: Tensor, bounds: AugmentPart, generator: Generator) -> Tensor:
    """Coarser voxels in a quarter of the cases; gamma, contrast, brightness and noise, each in half of them."""
    image = _coarse(image, bounds.coarse_voxels, generator)
    used = torch.rand(4, generator=generator) < 0.5
    gamma, contrast, brightness = (_signed(generator, 3) * torch.tensor([bounds.gamma, bounds.contrast, 1.0])).unbind()
    deviation = torch.rand(1, generator=generator) * bounds.noise
    if used[0] and bounds.gamma:
        low, high = image.amin(), image.amax()
        span = (high - low).clamp(min=1e-6)
        image = ((image - low) / span) ** gamma.exp() * span + low
    if used[1]:
        image = image * (1 + contrast)
    if used[2]:
        image = image + brightness * bounds.brightness
    if used[3] and bounds.noise:
        image = image + torch.randn(image.shape, generator=generator) * deviation
    return image


def _coarse(image: Tensor, most: float, generator: Generator) -> Tensor:
    """As an image of coarser voxels looks when it is brought to this grid: interpolated there and back.

    After Isensee et al., "nnU-Net", Nature Methods 18:203, 2021 (simulation of low resolution), linear on the way there
    too: up to twice the side, that is the mean of the voxels that a coarser one covers. One slice stays one.
    """
    if most <= 1:  # nothing is drawn, so that crops stay as they were before there was such a setting
        return image
    used, share = torch.rand(2, generator=generator).tolist()
    if used >= _COARSE_SHARE:
        return image
    side = 1 + share * (most - 1)
    fewer = [max(min(n, 2), round(n / side)) for n in image.shape[1:]]
    there = torch.nn.functional.interpolate(image[None], size=fewer, mode="trilinear", align_corners=False)
    return torch.nn.functional.interpolate(there, size=image.shape[1:], mode="trilinear", align_corners=False)[0]


def _signed(generator: Generator, count: int) -> Tensor:
    return torch.rand(count, generator=generator) * 2 - 1
