"""Training images that nobody took: painted from regions, in contrasts drawn at random, with lesions and poor scanners.

After Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining",
Medical Image Analysis 86:102789 (2023): Gaussian intensities for each region, blur, bias field, thick slices, noise.
Departures: regions that look alike in the image itself mostly look alike in the painted one, since all go through one
random tone curve, and only differ by what is drawn for each beside it; a quarter of the images is drawn region by
region, as there. What lies outside the reference is divided by its intensity. All is done to a crop, not to a volume,
and intensities end in 0 to 1.

Every random number comes from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from residency.datasets.case import Case, Labels, read_images
from residency.datasets.merged import read_regions
from residency.errors import TrainingError
from residency.prepare import labels_on, prepare
from residency.train.config import TrainingConfig
from residency.train.synthesis_part import SynthesisPart

_KNOTS = 6
"""Of a tone curve."""
_FREELY = 0.25
"""Share of the painted crops in which no region depends on how it looks in the image."""
_DARK_AIR = 0.8
"""Share of the crops whose air is as dark as air is; in the others it is drawn as everything else is."""
_BETWEEN_REGIONS = 0.5
"""Standard deviation in voxels of the blur of painted crops: a voxel on a border shows both sides."""
_SCAN_SHARE = 0.3
"""How often each fault of a scanner is there."""
_NODES = 4
"""Nodes an axis of the lattice of the bias field."""
_EDGE = 0.2
"""Share of the median intensity inside the reference at which the body begins."""


@dataclass(frozen=True)
class Regions:
    """A prepared volume divided into regions.

    where   float32 (1, S, R, C): number of the region of each voxel; 0 is the air round the body, and also what lies
            outside the volume
    inner   regions from this number on are of the reference
    levels  float32 (regions,): median intensity of each, as a share of the range of the image
    """

    where: Tensor
    inner: int
    levels: Tensor


def read_painting(case: Case, config: TrainingConfig) -> Regions | None:
    """The regions of a case; None where the training file paints nothing.

    Raises TrainingError as `read_case` does, and for a case of several images: each would need a contrast of its own.
    """
    if not config.synthesis.by_regions():
        return None
    volume, *others = read_images(case).values()
    if others:
        raise TrainingError(
            f"synthesis is for cases of one image, and case '{case.name}' has {1 + len(others)}; leave synthesis out"
        )
    made = prepare(volume, config.recipe)
    reference = labels_on(read_regions(case, volume.grid, len(config.data.classes)), made.source, made.volume.grid)
    return regions_of(made.volume.array, reference, config.synthesis.outside)


def regions_of(image: npt.NDArray[np.float32], reference: Labels, outside: int) -> Regions:
    """Divide a prepared volume: air, `outside` classes of the rest of the body, and each value of the reference.

    image, reference  (S, R, C)

    Raises TrainingError for a reference without any structure.
    """
    values = np.unique(reference[reference > 0])
    if not values.size:
        raise TrainingError("synthesis needs references that hold a structure")
    low, high = float(image.min()), float(image.max())
    relative = (image - low) / max(high - low, 1e-6)
    inside = reference > 0
    rest = _body(relative, inside) & ~inside
    where = np.zeros(image.shape, np.float32)
    where[rest] = 1 + _classes(relative[rest], outside)
    inner = 1 + outside
    table = np.zeros(256, np.float32)
    table[values] = np.arange(inner, inner + values.size)
    where[inside] = table[reference[inside]]
    levels = [
        float(np.median(relative[where == number])) if (where == number).any() else 0.0
        for number in range(inner + values.size)
    ]
    return Regions(torch.from_numpy(where)[None], inner, torch.tensor(levels))


def synthesised(
    image: Tensor, regions: Tensor | None, of: Regions | None, part: SynthesisPart, generator: Generator
) -> Tensor:
    """The crop as another scanner, and maybe another body, would show it; float32 (1, S, R, C), of 0 to 1.

    image    (1, S, R, C): the crop as it was taken
    regions  (1, S, R, C): the number of the region of each voxel; None only where the part asks for no regions
    """
    painted, toned = (torch.rand(2, generator=generator) < torch.tensor([part.painted, part.toned])).tolist()
    if painted and regions is not None and of is not None:
        image = _painted(regions.long(), of, generator)
    elif toned:
        image = _toned(_in_range(image), _curve(generator), generator)
    else:
        image = _in_range(image)
    if part.lesions and regions is not None and of is not None:
        image = _with_lesions(image, regions >= of.inner, part, generator)
    return _scanned(image, part, generator)


def _body(relative: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """What is brighter than air, the reference, and every hole in the two."""
    from scipy import ndimage

    bright = (relative > _EDGE * np.median(relative[inside])) | inside
    closed = ndimage.binary_closing(np.pad(bright, 4), iterations=2)[4:-4, 4:-4, 4:-4]
    named, count = ndimage.label(closed | inside)
    sizes = np.bincount(named.ravel(), minlength=count + 1)
    sizes[0] = 0
    body = named == int(sizes.argmax())
    for axis in range(3):  # filled slice by slice: the neck leaves the volume, and with it the air inside
        body |= np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(body, axis, 0)], axis=axis)
    found: npt.NDArray[np.bool_] = body
    return found


def _classes(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """0 .. count - 1 for each value, darkest first: k-means of one dimension, begun at the quantiles (Lloyd 1982)."""
    centres = np.quantile(values, (np.arange(count) + 0.5) / count) if values.size else np.zeros(count)
    for _ in range(20):
        found = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        members = np.bincount(found, minlength=count)
        sums = np.bincount(found, weights=values, minlength=count)
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


def _painted(regions: Tensor, of: Regions, generator: Generator) -> Tensor:
    count = len(of.levels)
    alike = _at(of.levels, _curve(generator))
    own, spread = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    freely, air, rough = torch.rand(3, generator=generator)
    apart = torch.rand(1, generator=generator) * 0.15
    means = own if freely < _FREELY else alike + apart * torch.randn(count, generator=generator)
    deviations = (0.01 + 0.1 * spread) * rough.clamp(min=0.2)
    if air < _DARK_AIR:
        means[0], deviations[0] = 0.05 * own[0], 0.02 * spread[0]
    image = means[regions].addcmul_(deviations[regions], torch.randn(regions.shape, generator=generator))
    for axis in range(1, 4):
        image = _blurred(image, axis, _BETWEEN_REGIONS)
    return image


def _curve(generator: Generator) -> Tensor:
    """Values of a tone curve at equal distances from 0 to 1."""
    return torch.rand(_KNOTS, generator=generator)


def _at(values: Tensor, curve: Tensor) -> Tensor:
    """The curve at values of 0 to 1, linear between its knots."""
    place = values.clamp(0, 1) * (len(curve) - 1)
    low = place.long().clamp(max=len(curve) - 2)
    return torch.lerp(curve[low], curve[low + 1], place - low)


def _toned(image: Tensor, curve: Tensor, generator: Generator) -> Tensor:
    if torch.rand(1, generator=generator) < _DARK_AIR:
        curve = torch.cat([torch.zeros(1), curve[1:]])
    return _at(image, curve)


def _in_range(image: Tensor) -> Tensor:
    """0 to 1 from the darkest to the brightest voxel but the last half percent at both ends; (1, S, R, C)."""
    some = image[0, ::2, ::2, ::2].flatten()
    low, high = torch.quantile(some, torch.tensor([0.005, 0.995]))
    span = (high - low).clamp(min=1e-6)
    return torch.clamp((image - low) / span, 0, 1)


def _with_lesions(image: Tensor, inside: Tensor, part: SynthesisPart, generator: Generator) -> Tensor:
    """Blobs of one intensity with soft, uneven borders, about voxels inside the reference and nowhere else."""
    number = int(torch.randint(part.lesions + 1, (1,), generator=generator))
    voxels = torch.nonzero(inside[0]) if number else torch.empty(0)
    if not len(voxels):
        return image
    image = image.clone()
    for _ in range(number):
        centre = voxels[int(torch.randint(len(voxels), (1,), generator=generator))]
        radius = 1 + float(torch.rand(1, generator=generator)) ** 2 * (part.lesion_voxels - 1)
        level, grain = torch.rand(2, generator=generator)
        start = (centre - int(1.5 * radius) - 1).clamp(min=0)
        stop = torch.minimum(centre + int(1.5 * radius) + 2, torch.tensor(image.shape[1:]))
        box = (slice(None), *(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)))
        axes = [torch.arange(int(a), int(b)) - int(c) for a, b, c in zip(start, stop, centre, strict=True)]
        distance = torch.stack(torch.meshgrid(*axes, indexing="ij")).float().norm(dim=0)
        uneven = _field(list(distance.shape), 3, generator) * 0.25
        share = (radius * (1 + uneven) - distance + 0.5).clamp(0, 1) * inside[box]
        level = level + 0.1 * grain * torch.randn(share.shape, generator=generator)
        image[box] = torch.lerp(image[box], level, share)
    return image


def _scanned(image: Tensor, part: SynthesisPart, generator: Generator) -> Tensor:
    """Bias, blur, thick slices, noise, each in a part of the crops; of 0 to 1."""
    used = (torch.rand(4, generator=generator) < _SCAN_SHARE).tolist()
    strength, blur, thick, grain = torch.rand(4, generator=generator).tolist()
    axis = int(torch.randint(3, (1,), generator=generator))
    shape = list(image.shape[1:])
    if used[0] and part.bias:
        image = image * (_field(shape, _NODES, generator) * (strength * part.bias)).exp()
    if used[1] and part.blur_voxels:
        for along in range(3):
            image = _blurred(image, 1 + along, blur * part.blur_voxels)
    if used[2] and part.thick_voxels > 1:
        image = _in_thick_slices(image, axis, 1 + thick * (part.thick_voxels - 1))
    if used[3] and part.grain:
        image = image + torch.randn(image.shape, generator=generator) * (grain * part.grain)
    return _in_range(image)


def _field(shape: list[int], nodes: int, generator: Generator) -> Tensor:
    """A smooth field (1, *shape) of about standard deviation 1 at its nodes."""
    coarse = torch.randn(1, 1, nodes, nodes, nodes, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0]


def _blurred(image: Tensor, axis: int, deviation: float) -> Tensor:
    """By a Gaussian along one axis, as a weighted sum of shifted images; the outermost voxel goes on beyond the end."""
    reach = min(int(3 * deviation), image.shape[axis] - 1)
    if reach < 1:
        return image
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, image.shape[axis] - 1, 1)
    sides = [-1] * image.ndim
    sides[axis] = reach
    wide = torch.cat([first.expand(sides), image, last.expand(sides)], dim=axis)
    total = torch.zeros_like(image)
    for shift, weight in enumerate(weights.tolist()):
        total.add_(wide.narrow(axis, shift, image.shape[axis]), alpha=weight)
    return total


def _in_thick_slices(image: Tensor, axis: int, thickness: float) -> Tensor:
    """Averaged to slices of this many voxels along an axis, and interpolated back."""
    shape = list(image.shape[1:])
    fewer = max(2, round(shape[axis] / thickness))
    if fewer >= shape[axis]:
        return image
    a, b, c = (fewer if k == axis else side for k, side in enumerate(shape))
    slabs = torch.nn.functional.adaptive_avg_pool3d(image[None], (a, b, c))
    return torch.nn.functional.interpolate(slabs, size=shape, mode="trilinear", align_corners=False)[0]
