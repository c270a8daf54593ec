"""One step of the optimiser on a batch of crops.

A net that treats each crop by itself is given one crop a thread, and their gradients are added in a fixed order: the
bits depend on the kind of processor, not on the number of threads, and other work on the machine slows one crop down,
not every single operation. A net whose answer to one crop depends on the others (batch normalisation) or on what was
drawn before (dropout) is given the whole batch at once, and torch divides each operation between the threads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from residency.errors import ConfigError, TrainingError
from residency.nets.net import Net
from residency.train.config import TrainingConfig
from residency.train.convolutions import SmallConvolutions
from residency.train.crops import crop
from residency.train.judge import Exam
from residency.train.losses import DeepSupervision, Loss, loss_function, supervision_weights
from residency.train.state import State

Found = tuple[float, Sequence[Tensor]]
"""Mean loss, and the gradient of each parameter."""


def learn(state: State, exams: Sequence[Exam], config: TrainingConfig, pool: Executor, *, together: bool) -> float:
    """One step; returns the mean loss. `together`: as `batches_are_whole` says.

    Raises TrainingError for a loss that is no longer a number, and for parameters that nothing would teach.
    """
    schedule, parameters = config.schedule, list(state.net.parameters())
    loss_of = _taught(state.net, loss_function(config.loss, len(config.data.classes)))
    numbers = range(state.step * schedule.batch, (state.step + 1) * schedule.batch)
    mean, gradients = (_together if together else _one_by_one)(state.net, loss_of, exams, config, pool, numbers)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(parameters, schedule.largest_gradient)
    for group in state.optimiser.param_groups:
        group["lr"] = schedule.rate_at(state.step)
    state.optimiser.step()
    state.step += 1
    state.follow(schedule.average)
    state.losses.append(mean)
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is {mean} at step {state.step}; lower schedule.rate and start anew")
    return mean


def batches_are_whole(net: Net, config: TrainingConfig) -> bool:
    """True if the net must see a batch at once: it normalises by the batch, keeps statistics, or draws numbers.

    Raises ConfigError where a batch is too small to learn from: a norm cannot take the statistics of one voxel.
    """
    before, probe = torch.get_rng_state(), copy.deepcopy(net)
    try:
        with torch.no_grad():
            probe(torch.zeros(config.schedule.batch, net.channels, *config.patch))
    except ValueError as error:
        raise ConfigError(
            f"patch: net '{config.net.name}' cannot learn from such crops: {_why(error, config)}"
        ) from None
    draws = not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    keeps = any(not torch.equal(old, new) for old, new in zip(net.buffers(), probe.buffers(), strict=True))
    return draws or keeps or any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())


def _why(error: ValueError, config: TrainingConfig) -> str:
    said = str(error)
    if "more than 1 value per channel" in said:  # torch's words, of a batch normalisation
        return (
            f"a batch of {config.schedule.batch} leaves one voxel in all to normalise by at its coarsest; take larger "
            "crops, or schedule.batch: 2 or more"
        )
    if "more than 1 spatial element" in said:  # of an instance normalisation
        return "they leave one voxel to normalise by at its coarsest; take larger crops"
    return said


def _taught(net: Net, loss_of: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Image and labels -> loss; at every resolution that the net has scores for (`deep_scores`)."""
    deep = getattr(net, "deep_scores", None)
    if deep is None:
        return lambda image, labels: loss_of(net(image), labels)
    over_all = DeepSupervision(loss_of)

    def loss(image: Tensor, labels: Tensor) -> Tensor:
        scores: list[Tensor] = deep(image)
        weights = supervision_weights(len(scores))
        # A head whose scores do not count has a gradient all the same: 0.
        return over_all(scores, labels) + sum(0 * one.sum() for one, w in zip(scores, weights, strict=True) if not w)

    return loss


def _one_by_one(
    net: Net,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    exams: Sequence[Exam],
    config: TrainingConfig,
    pool: Executor,
    numbers: Sequence[int],
) -> Found:
    def of(number: int) -> tuple[float, tuple[Tensor, ...]]:
        image, labels = crop(exams, config, number)
        with SmallConvolutions():
            loss = loss_of(image, labels)
        return float(loss.detach()), _gradients(loss, net)

    losses, found = zip(*pool.map(of, numbers), strict=True)
    return math.fsum(losses) / len(losses), [torch.stack(of_each).mean(0) for of_each in zip(*found, strict=True)]


def _together(
    net: Net,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    exams: Sequence[Exam],
    config: TrainingConfig,
    pool: Executor,
    numbers: Sequence[int],
) -> Found:
    images, labels = zip(*pool.map(lambda number: crop(exams, config, number), numbers), strict=True)
    with _within_an_operation(config.threads):
        loss = loss_of(torch.cat(images), torch.cat(labels))
        return float(loss.detach()), _gradients(loss, net)


@contextmanager
def _within_an_operation(threads: int) -> Iterator[None]:
    """For this thread alone, and only while the pool rests: its threads compute each operation by one."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _gradients(loss: Tensor, net: Net) -> tuple[Tensor, ...]:
    """Of each parameter. Raises TrainingError for parameters that the scores do not depend on: they would not learn."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, parameters, allow_unused=True)
    unused = [name for name, gradient in zip(names, found, strict=True) if gradient is None]
    if unused:
        raise TrainingError(
            f"the net's scores do not use its {len(unused)} parameters {', '.join(unused[:3])}: nothing would teach "
            "them; see the net's settings"
        )
    return tuple(gradient for gradient in found if gradient is not None)
