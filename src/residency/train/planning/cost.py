"""What a net costs to train and to use, before it is built: memory by counting, time by counting and a measured rate.

What is kept for the way back is counted on shapes alone, with the hooks of torch's autograd.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from residency.nets import named
from residency.nets.cost import macs, size, without_memory
from residency.tiles import windows
from residency.train.judge import OVERLAP
from residency.train.planning.values import Machine

BASE_BYTES = 700 * 2**20
"""Python with torch, MONAI and NumPy, before any data: what is left of measured peaks when all else is counted."""

SLACK = 1.25
"""Peaks over what is counted: buffers of convolutions, and what the allocator has not given back."""

ASSUMED = Machine(answering=15e9, learning=10e9, measured=False, cpu="plain CPU with two cores")
"""Where nothing is measured."""


@dataclass(frozen=True)
class Work:
    """What one crop costs.

    macs        multiply-accumulates of an answer
    parameters  values that are learnt
    kept        bytes that a step holds for its way back
    together    the net sees its batch whole, since it normalises by it or draws numbers
    """

    macs: int
    parameters: int
    kept: int
    together: bool


def work_of(net: str, parameters: Mapping[str, Any], channels: int, classes: int, patch: Sequence[int]) -> Work:
    """Counted on shapes alone; no memory is taken.

    patch  (slices, rows, columns); a net of two dimensions sees the first axis slice by slice

    Of a net that segments, work grows with the voxels, so that one small patch is counted for all.
    """
    frozen = tuple(sorted((key, tuple(v) if isinstance(v, list) else v) for key, v in parameters.items()))
    architecture = named(net)
    grid, slices = (tuple(patch[1:]), patch[0]) if architecture.dimensions == 2 else (tuple(patch), 1)
    if architecture.task == "classification":
        one, share = _work(net, frozen, channels, classes, grid), float(slices)
    else:
        one, share = _work(net, frozen, channels, classes, None), 1.0
        share = math.prod(patch) / one.voxels
    return Work(round(one.macs * share), one.parameters, round(one.kept * share), one.together)


@dataclass(frozen=True)
class _Counted(Work):
    """`voxels` of the image that was counted."""

    voxels: int


@lru_cache(maxsize=512)
def _work(
    net: str, parameters: tuple[tuple[str, Any], ...], channels: int, classes: int, grid: tuple[int, ...] | None
) -> _Counted:
    architecture = named(net)
    made = without_memory(architecture.make, channels=channels, classes=classes, **dict(parameters))
    sides = grid or (max(2 * made.multiple, made.least),) * architecture.dimensions
    own = {one.untyped_storage()._cdata for one in made.parameters()}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        held.append(tensor)  # else a later storage could come to lie where this one lay
        return tensor

    image = torch.empty(2, channels, *sides, device="meta")  # two: a batch norm learns nothing from one
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made.train()(image)
    norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in made.modules())
    draws = any(isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0 for layer in made.modules())
    return _Counted(macs(made, sides), size(made).trainable, sum(kept.values()) // 2, norms or draws, math.prod(sides))


@dataclass(frozen=True)
class Setting:
    """What memory depends on besides the net.

    voxels   of all prepared cases together, which a training holds: a float32 a channel, and a label
    largest  voxels of the largest, of which a crop is made from one channel an image and a class
    """

    patch: Sequence[int]
    channels: int
    classes: int
    batch: int
    threads: int
    voxels: int
    largest: int


def training_bytes(work: Work, of: Setting) -> int:
    """Estimate of the most memory that a training takes: data, crops in work, weights in all their copies."""
    side_by_side = min(of.batch, of.threads)
    at_once = of.batch if work.together else side_by_side
    crop = math.prod(of.patch)
    drawing = side_by_side * 4 * (of.largest * (of.channels + of.classes - 1) + 12 * crop)
    scoring = at_once * 4 * of.classes * crop * 8  # softmax, one-hot, products, and their gradients
    # Net, average, two moments, gradients of each crop and their sum.
    weights = 4 * work.parameters * (5 + (1 if work.together else of.batch))
    held = (4 * of.channels + 1) * of.voxels
    return round(BASE_BYTES + held + SLACK * (at_once * work.kept + scoring + drawing + weights))


def passes(shape: Sequence[float], patch: Sequence[int]) -> int:
    """Windows that a prepared image of this shape is seen through."""
    whole = (max(1, round(shape[0])), max(1, round(shape[1])), max(1, round(shape[2])))
    return math.prod(len(axis.starts) for axis in windows(whole, tuple(patch), OVERLAP))


def answer_seconds(work: Work, shape: Sequence[float], patch: Sequence[int], machine: Machine) -> float:
    """The network's part of the answer to an image of this shape."""
    return passes(shape, patch) * work.macs / machine.answering


def step_seconds(work: Work, batch: int, threads: int, machine: Machine) -> float:
    """One step of training: forth, and back at twice that. Threads that have no crop of the batch wait."""
    busy = batch if work.together else math.ceil(batch / threads) * threads
    return 3 * busy * work.macs / machine.learning


def measured_machine(threads: int, cpu: str) -> Machine:
    """How fast this machine is, on a small net of the kind that is planned; takes about a second."""
    net = named("unet").make(channels=1, classes=3, features=(16, 32, 64))
    patch = (32, 32, 32)
    work = work_of("unet", {"features": (16, 32, 64)}, 1, 3, patch)
    image = torch.randn(1, 1, *patch, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in training, where each thread has a crop of its own
    try:
        with torch.inference_mode():
            answering = _best(lambda: net.eval()(image))
        learning = _best(lambda: net.train()(image).square().mean().backward())
    finally:
        torch.set_num_threads(before)
    rates = (threads * work.macs / answering, threads * 3 * work.macs / learning)
    return Machine(_two_figures(rates[0]), _two_figures(rates[1]), True, cpu)


def _best(once: Callable[[], object], seconds: float = 0.6) -> float:
    """The shortest of several times, since other work on a machine only makes it slower."""
    once()
    found: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found) < 3:
        began = time.perf_counter()
        once()
        found.append(time.perf_counter() - began)
    return min(found)


def _two_figures(rate: float) -> float:
    return float(f"{rate:.2g}")
