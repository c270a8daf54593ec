"""Which crop a training step sees. The crop's number and the seed decide everything, not what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Generator, Tensor

from residency.train.augment import box_about, channels_of, chosen, positions, sample, shaded
from residency.train.config import TrainingConfig
from residency.train.judge import Exam
from residency.train.synthesis import synthesised


def crop(exams: Sequence[Exam], config: TrainingConfig, number: int) -> tuple[Tensor, Tensor]:
    """The training crop of a number, counted from 0: image (1, channels, *patch), and labels (1, 1, *patch) or, of
    classes, (1, tasks).

    What lies outside the volume is 0, in image and labels: after a z-score that is the mean, as `pad` fills it.
    """
    exam = _exam(exams, config, number)
    generator = _generator(config.seed, "crop", number)
    bounds, step = config.augment, number // config.schedule.batch
    # Drawn only where it matters, so that the steps before are the same whatever comes after them.
    sharp = step >= bounds.sharp_from and bool(torch.rand(1, generator=generator) < bounds.sharp_share)
    about = None if exam.label is not None else _foreground_voxel(exam, config, number)
    where = positions(exam.image.shape[1:], config.patch, bounds, generator, about=about, sharp=sharp)
    box = box_about(where, exam.image.shape[1:])
    inside = where - torch.tensor([side.start for side in box])
    image, images = exam.image[(slice(None), *box)], len(exam.image)
    if exam.label is None:
        sampled = sample(channels_of(image, exam.labels[box], len(config.data.classes)), inside)
        redrawn = _redrawn(sampled[:images], box, inside, exam, config, number)
        image, labels = shaded(redrawn, bounds, generator), chosen(sampled[images:])
    else:
        image, labels = shaded(sample(image, inside), bounds, generator), exam.labels.reshape(-1)
    return image[None].to(memory_format=torch.channels_last_3d), labels[None]


def _redrawn(
    image: Tensor, box: tuple[slice, slice, slice], inside: Tensor, exam: Exam, config: TrainingConfig, number: int
) -> Tensor:
    """What `synthesis` makes of a crop that was taken from these places of a part of the volume."""
    part, regions = config.synthesis, exam.regions
    if not part.used():
        return image
    here = None if regions is None else sample(regions.where[(slice(None), *box)], inside, nearest=True)
    return synthesised(image, here, regions, part, _generator(config.seed, "synthesis", number))


def _exam(exams: Sequence[Exam], config: TrainingConfig, number: int) -> Exam:
    """Each exam once before any comes again; balanced: each class once before any comes again, and so in each class."""
    if not config.sampling.balanced:
        epoch, position = divmod(number, len(exams))
        return exams[_order(config.seed, "epoch", epoch, len(exams))[position]]
    classes = sorted({exam.label for exam in exams if exam.label is not None})
    turn, position = divmod(number, len(classes))
    label = classes[_order(config.seed, "classes", turn, len(classes))[position]]
    own = [exam for exam in exams if exam.label == label]
    epoch, position = divmod(turn, len(own))
    return own[_order(config.seed, f"epoch of class {label}", epoch, len(own))[position]]


def _foreground_voxel(exam: Exam, config: TrainingConfig, number: int) -> tuple[int, ...] | None:
    """A voxel for the crop to lie about, of each structure that is there as often; None for a crop from anywhere."""
    if not config.sampling.foreground:
        return None
    generator = _generator(config.seed, "foreground", number)
    if torch.rand(1, generator=generator) >= config.sampling.foreground:
        return None
    there = exam.structures
    if not there:
        return None
    label = list(there)[int(torch.randint(len(there), (1,), generator=generator))]
    ends = there[label].cumsum(0)
    chosen_one = int(torch.randint(int(ends[-1]), (1,), generator=generator))
    at = int(torch.searchsorted(ends, chosen_one, right=True))
    before = int(ends[at] - there[label][at])
    row, column = torch.nonzero(exam.labels[at] == label)[chosen_one - before].tolist()
    return at, row, column


@lru_cache(maxsize=256)
def _order(seed: int, use: str, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=_generator(seed, use, epoch)).tolist())


def _generator(seed: int, use: str, number: int) -> Generator:
    hashed = hashlib.sha256(f"{seed}:{use}:{number}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
