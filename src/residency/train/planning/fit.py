"""The largest net that keeps within the limits: memory of training, time of an answer, hours of training.

What is given up, in this order: features, down to 16 of the first stage; then the patch; then features, down to 8; then
the patch again; and last the resolution of the images. So a net stays as wide as those that are known to learn, and
sees as much at once as it may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from residency.datasets.fingerprint import Fingerprint
from residency.errors import UsageError
from residency.train.planning import cost
from residency.train.planning.cost import Setting, Work
from residency.train.planning.topology import (
    SMALLEST_EDGE,
    Stages,
    Triple,
    features_of,
    first_patch,
    smaller_patch,
    stages_of,
)
from residency.train.planning.values import Limits, Machine

LEAST_STEPS = 1500
"""A net that has seen fewer batches has not learnt; more time must be given, or a smaller net taken."""

WIDTHS = (32, 24, 16, 12, 8)
_WIDE = 16
_DEEPEST = 5
_ALIKE = 3
"""Stages that treat all axes alike, from which on a plain net is as good as one that follows each axis to its end."""
_PATCHES = (64**3, 32**3)
"""Voxels below which a patch is not made smaller: while the net is wide, and at all."""
_LEAST_PICTURE = 64
_LARGEST_PICTURE = {"segmentation": 512, "classification": 224}
_LARGEST_VOLUME = 96
_COARSER = tuple(1.0 + 0.125 * k for k in range(9))
"""Up to twice the spacing, below which half a voxel of error would be a voxel."""
_VOXELS_A_STEP = {2: 4 * 128**2, 3: 2 * 40**3}
_LARGEST_BATCH = {"segmentation": 16, "classification": 32}


@dataclass(frozen=True)
class Fitted:
    """A net that keeps within the limits.

    net, parameters  as in a training file
    patch            voxels along (slice, row, column)
    batch            crops a step
    coarser          by how much the spacing was made larger
    shape            median shape of a prepared image
    work             of one crop
    memory           bytes that training takes, at most
    step, answer     seconds of a step, and of the answer to an image of median shape
    tried            settings that did not fit before, and why the last of them did not
    """

    net: str
    parameters: Mapping[str, Any]
    patch: Triple
    batch: int
    coarser: float
    shape: tuple[float, float, float]
    work: Work
    memory: int
    step: float
    answer: float
    tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Question:
    """What candidates are weighed against, at one spacing of the prepared images."""

    found: Fingerprint
    limits: Limits
    machine: Machine
    coarser: float
    spacing: tuple[float, ...]
    shape: tuple[float, float, float]
    voxels: int


def fitted(
    found: Fingerprint, spacing: Sequence[float], order: Sequence[int], limits: Limits, machine: Machine
) -> Fitted:
    """The first candidate that keeps within all limits; where only time is too short, the one with the fastest steps.

    spacing  of the prepared images, along the axes of the fingerprint; of pictures, 1
    order    the axes of the fingerprint in the order of the prepared image: where slices are thick, they come first

    Raises UsageError where none keeps within memory and latency, with what the smallest would need.
    """
    tried: list[str] = []
    last: Fitted | None = None
    whole = found.task == "classification" or found.flat  # then the image is resized, and candidates say to what
    for coarser in (1.0,) if whole else _COARSER:
        question = _asked(found, spacing, order, limits, machine, coarser)
        slow: list[Fitted] = []
        for candidate in _candidates(found, question.shape, question.spacing):
            last = _weighed(question, *candidate)
            why = _too_much(last, limits)
            if why is None and (too_slow := _too_slow(last, limits)) is None:
                return replace(last, tried=tuple(tried))
            if why is None:
                slow.append(last)
            tried.append(why or too_slow or "")
        if slow:  # a coarser image would be quicker, but time is for a person to give, and detail is not
            return replace(min(slow, key=lambda one: one.step), tried=tuple(tried))
    assert last is not None, "there is always a smallest candidate"
    raise UsageError(
        f"no net keeps within the limits: the smallest takes {last.memory / 2**30:.1f} GiB of memory to train and "
        f"{last.answer:.3g} s for a case of median size ({_too_much(last, limits)}); give it more"
    )


def _asked(
    found: Fingerprint,
    spacing: Sequence[float],
    order: Sequence[int],
    limits: Limits,
    machine: Machine,
    coarser: float,
) -> _Question:
    steps = tuple(spacing[axis] * coarser for axis in order)
    a, b, c = (max(1.0, found.extent[axis] / step) for axis, step in zip(order, steps, strict=True))
    voxels = sum(
        math.prod(
            max(1.0, n * own / (wanted * coarser))
            for n, own, wanted in zip(case.shape, case.spacing, spacing, strict=True)
        )
        for case in found.cases
    )
    return _Question(found, limits, machine, coarser, steps, (a, b, c), round(voxels))


def _weighed(question: _Question, net: str, parameters: Mapping[str, Any], patch: Triple) -> Fitted:
    """A candidate with the largest batch of those that are wanted that memory and time have room for."""
    found, limits, machine = question.found, question.limits, question.machine
    classes, whole = len(found.classes), found.task == "classification" or found.flat
    work = cost.work_of(net, parameters, len(found.modalities), classes, patch)
    shape = (float(patch[0]), float(patch[1]), float(patch[2])) if whole else question.shape
    voxels = math.prod(patch) * len(found.cases) if whole else question.voxels
    most = max(case.voxels for case in found.cases) / sum(case.voxels for case in found.cases)
    largest = math.prod(patch) if whole else round(voxels * most)

    def memory(batch: int) -> int:
        setting = Setting(patch, len(found.modalities), classes, batch, limits.threads, voxels, largest)
        return cost.training_bytes(work, setting)

    def hours(batch: int) -> float:
        return cost.step_seconds(work, batch, limits.threads, machine) * LEAST_STEPS / 3600

    least, batch = _batches(question, work, patch)
    while batch > least and memory(batch) > limits.memory_gib * 2**30:
        batch = max(least, batch // 2)
    while batch > least and hours(half := max(least, batch // 2)) < hours(batch) > limits.hours:
        batch = half
    return Fitted(
        net,
        parameters,
        patch,
        batch,
        question.coarser,
        shape,
        work,
        memory(batch),
        cost.step_seconds(work, batch, limits.threads, machine),
        cost.answer_seconds(work, shape, patch, machine),
    )


def _batches(question: _Question, work: Work, patch: Triple) -> tuple[int, int]:
    """(fewest crops a step, most)."""
    found, threads = question.found, question.limits.threads
    least = min(8 if work.together else 2, max(2, len(found.cases)))  # the norms of a batch need more than a few
    small = round(_VOXELS_A_STEP[2 if min(patch) == 1 else 3] / math.prod(patch))
    wanted = min(_LARGEST_BATCH[found.task], max(least, small, threads))
    return least, max(2, min(wanted, len(found.cases)))


def _too_much(one: Fitted, limits: Limits) -> str | None:
    """The limit that it breaks, in words. Time of training is no such limit: a person can give more."""
    if one.memory > limits.memory_gib * 2**30:
        return f"{_called(one)} takes {one.memory / 2**30:.1f} GiB to train, --memory is {limits.memory_gib:g}"
    if one.answer > limits.latency_seconds:
        return f"{_called(one)} takes {one.answer:.3g} s for a case, --latency is {limits.latency_seconds:g}"
    return None


def _too_slow(one: Fitted, limits: Limits) -> str | None:
    hours = one.step * LEAST_STEPS / 3600
    if hours <= limits.hours:
        return None
    return f"{_called(one)} takes {hours:.2g} h for {LEAST_STEPS} steps, --hours is {limits.hours:g}"


def _called(one: Fitted) -> str:
    width = one.parameters.get("features", one.parameters.get("filters", one.parameters.get("width")))
    first = width[0] if isinstance(width, tuple) else width
    return f"{one.net} with {first} features on {' x '.join(map(str, one.patch))}"


_Candidate = tuple[str, dict[str, Any], Triple]


def _candidates(found: Fingerprint, shape: Sequence[float], spacing: Sequence[float]) -> Iterator[_Candidate]:
    """From the most wanted to the smallest."""
    if found.task == "classification":
        yield from _classifiers(shape)
    elif found.flat:
        yield from _pictures(shape)
    else:
        yield from _volumes(shape, spacing)


def _volumes(shape: Sequence[float], spacing: Sequence[float]) -> Iterator[_Candidate]:
    first = [max(side, 2 * SMALLEST_EDGE) for side in first_patch(spacing, shape)]
    stages = stages_of(first, spacing, _DEEPEST)
    for width in (one for one in WIDTHS if one > _WIDE):
        yield _volume_net(width, stages)
    for width, least in ((_WIDE, _PATCHES[0]), (12, _PATCHES[0]), (8, _PATCHES[1])):
        yield _volume_net(width, stages)
        while math.prod(stages.patch) > least and (smaller := smaller_patch(stages, shape, spacing, _DEEPEST)):
            stages = smaller
            yield _volume_net(width, stages)


def _volume_net(width: int, stages: Stages) -> _Candidate:
    number = len(stages.strides)
    if stages.alike >= min(number, _ALIKE):
        return "unet", {"features": features_of(width, stages.alike)}, stages.patch
    features = features_of(width, number)
    strides, kernels = (tuple(chain.from_iterable(each)) for each in (stages.strides, stages.kernels))
    convolutions = {"down": (2,) * number, "up": (2,) * (number - 1)}
    parameters = {"features": features, **convolutions, "kernels": kernels, "strides": strides}
    return "planned-unet", parameters, stages.patch


def _pictures(shape: Sequence[float]) -> Iterator[_Candidate]:
    for scale in _scales(shape, _LARGEST_PICTURE["segmentation"]):
        depth = max(1, min(4, int(math.log2(min(scale)) - 2)))
        rows, columns = (max(1, round(side / 2**depth)) * 2**depth for side in scale)
        for width in WIDTHS[2:]:
            yield "unet-16", {"filters": width, "depth": depth}, (1, rows, columns)


def _classifiers(shape: Sequence[float]) -> Iterator[_Candidate]:
    flat = min(shape) == 1
    for scale in _scales(shape, _LARGEST_PICTURE["classification"] if flat else _LARGEST_VOLUME):
        sides = [max(8, round(side)) for side in scale]
        stem = "small" if max(sides) <= _LEAST_PICTURE else "image"
        if stem == "image":
            sides = [max(32, side) for side in sides]
        for width in (64, 32, 16, 8):
            if flat:
                yield "resnet18", {"width": width, "stem": stem}, (1, sides[0], sides[1])
            else:
                yield "resnet18-3d", {"width": width, "stem": stem}, (sides[0], sides[1], sides[2])


def _scales(shape: Sequence[float], largest: int) -> Iterator[list[float]]:
    """The sides of a whole image that is seen at once, from the largest that is useful down."""
    sides = [side for side in shape if side > 1]
    first = min(1.0, largest / max(sides))
    for share in (1.0, 0.75, 0.5, 0.375, 0.25):
        scaled = [side * first * share for side in sides]
        if share == 1.0 or max(scaled) >= _LEAST_PICTURE:
            yield scaled
