"""One step of the optimiser on a batch of crops.

A net that treats each crop by itself is given one crop a thread, and their gradients are added in a fixed order: the
bits depend on the kind of processor, not on the number of threads or processes, and other work on the machine slows one
crop down, not every single operation. A net whose answer to one crop depends on the others (batch normalisation) or on
what was drawn before (dropout) is given the whole batch at once, and torch divides each operation between the threads;
so is every net on a GPU.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from residency.errors import ConfigError, TrainingError
from residency.nets.net import Net
from residency.train.ahead import Ahead
from residency.train.channels_last import ChannelsLast
from residency.train.config import TrainingConfig
from residency.train.crops import crop
from residency.train.device import CPU, Device
from residency.train.judge import Exam
from residency.train.losses import DeepSupervision, Loss, loss_function, loss_of_tasks, supervision_weights
from residency.train.state import State
from residency.train.task import groups_of, task_of
from residency.train.team import ALONE, Team, share_statistics

Crop = tuple[Tensor, Tensor]
"""Image and labels."""


@dataclass(frozen=True)
class Learnt:
    """A step: its mean loss, and how much of it what computes had to wait for crops, 0 to 1."""

    loss: float
    waiting_share: float


@dataclass(frozen=True)
class _Found:
    """Of each crop, or of each process where a batch is computed at once: loss and gradients of each parameter."""

    losses: Sequence[float]
    gradients: Sequence[Sequence[Tensor]]
    waited: float
    took: float


class Learner:
    """Takes the steps of a run, one after the other; crops of the next are made while the present one computes.

    Raises ConfigError where a batch is too small for the net, or cannot be divided among the processes of the team.
    """

    def __init__(
        self,
        state: State,
        exams: Sequence[Exam],
        config: TrainingConfig,
        pool: Executor,
        device: Device = CPU,
        team: Team = ALONE,
    ) -> None:
        team.check(config.schedule.batch)
        self.whole = batches_are_whole(state.net, config) or device.place.type != "cpu"
        share_statistics(state.net, team)
        self._state, self._config, self._pool, self._device, self._team = state, config, pool, device, team
        self._parameters = list(state.net.parameters())
        self._loss = _taught(state.net, _asked(config), device)
        self._crops: Ahead[Crop] = Ahead(lambda number: crop(exams, config, number), pool)

    def step(self) -> Learnt:
        """The next step.

        Raises TrainingError for a loss that is no longer a number, parameters that nothing would teach, and another
        process that is gone.
        """
        state, schedule = self._state, self._config.schedule
        self._draw_anew()
        found = self._together() if self.whole else self._one_by_one()
        losses, gradients = self._of_all(found)
        for parameter, of_each in zip(self._parameters, zip(*gradients, strict=True), strict=True):
            alone = self.whole and len(of_each) == 1  # of one batch, a mean already
            parameter.grad = of_each[0] if alone else torch.stack(of_each).mean(0)
        self._follow_gradients()
        state.step += 1
        state.follow(schedule.average)
        mean = math.fsum(losses) / len(losses)
        state.losses.append(mean)
        if not math.isfinite(mean):
            raise TrainingError(f"the loss is {mean} at step {state.step}; lower schedule.rate and start anew")
        return Learnt(mean, found.waited / max(found.took, 1e-9))

    def _follow_gradients(self) -> None:
        """One step of the optimiser; none where a gradient of f16 is no number, as its scaling expects now and then."""
        state, schedule, scaler = self._state, self._config.schedule, self._state.scaler
        if scaler is not None:
            scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(self._parameters, schedule.largest_gradient)
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.rate_at(state.step)
        if scaler is None:
            state.optimiser.step()
        else:
            scaler.step(state.optimiser)
            scaler.update()

    def _draw_anew(self) -> None:
        """The first process draws on, and its checkpoints know where; the others draw other numbers, step by step.

        So does a GPU, whose generator no checkpoint knows.
        """
        if self._team.rank > 0 or self._device.place.type != "cpu":
            told = f"{self._config.seed}:process {self._team.rank}:{self._state.step}"
            torch.manual_seed(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") >> 1)

    def _numbers(self, step: int) -> Sequence[int]:
        """Of this process's crops in a step."""
        batch = self._config.schedule.batch
        return self._team.share(range(step * batch, (step + 1) * batch))

    def _begin_next(self) -> None:
        if self._state.step + 1 < self._config.schedule.steps:
            self._crops.begin(self._numbers(self._state.step + 1))

    def _one_by_one(self) -> _Found:
        net, scale = self._state.net, self._scale()

        def of(made: Future[Crop]) -> tuple[float, tuple[Tensor, ...], float, float]:
            started = time.monotonic()
            image, labels = made.result()
            waited = time.monotonic() - started
            with ChannelsLast():
                loss = self._loss(image, labels)
            return float(loss.detach()), _gradients(scale(loss), net), waited, time.monotonic() - started

        computing = [self._pool.submit(of, made) for made in self._crops.take(self._numbers(self._state.step))]
        self._begin_next()  # behind what computes, so that it is done where a thread is idle
        losses, gradients, waited, took = zip(*(one.result() for one in computing), strict=True)
        return _Found(losses, gradients, sum(waited), sum(took))

    def _together(self) -> _Found:
        started, scale, place = time.monotonic(), self._scale(), self._device.place
        made = self._crops.take(self._numbers(self._state.step))
        images, labels = zip(*(one.result() for one in made), strict=True)
        waited = time.monotonic() - started
        self._begin_next()
        with _within_an_operation(self._config.threads):
            loss = self._loss(torch.cat(images).to(place), torch.cat(labels).to(place))
            gradients = _gradients(scale(loss), self._state.net)
            return _Found([float(loss.detach())], [gradients], waited, time.monotonic() - started)

    def _scale(self) -> Callable[[Tensor], Tensor]:
        scaler = self._state.scaler
        if scaler is None:
            return lambda loss: loss
        scaler.scale(torch.zeros((), device=self._device.place))  # its first call makes what all threads will read
        return scaler.scale

    def _of_all(self, found: _Found) -> tuple[Sequence[float], Sequence[Sequence[Tensor]]]:
        """What the whole team found, in order of the crops, so that one process and several add alike."""
        if self._team.size == 1:
            return found.losses, found.gradients
        flat = [torch.cat([one.reshape(-1) for one in of_each]) for of_each in found.gradients]
        losses = torch.tensor(found.losses, dtype=torch.float32, device=flat[0].device)  # as they were computed
        every = self._team.gathered(torch.cat([losses[:, None], torch.stack(flat)], dim=1))
        shapes = [one.shape for one in self._parameters]
        sizes = [one.numel() for one in self._parameters]
        gradients = [
            [part.reshape(shape) for part, shape in zip(row[1:].split(sizes), shapes, strict=True)] for row in every
        ]
        return every[:, 0].tolist(), gradients


def batches_are_whole(net: Net, config: TrainingConfig) -> bool:
    """True if the net must see a batch at once: it normalises by the batch, keeps statistics, or draws numbers.

    Raises ConfigError where a batch is too small to learn from: a norm cannot take the statistics of one voxel.
    """
    before, probe = torch.get_rng_state(), copy.deepcopy(net)
    try:
        with torch.no_grad():
            image = torch.zeros(config.schedule.batch, net.channels, *config.patch)
            probe(image.to(next(probe.parameters()).device))
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


def _asked(config: TrainingConfig) -> Loss:
    if task_of(config) == "classification":
        return loss_of_tasks(config.loss, tuple(groups_of(config).values()))
    return loss_function(config.loss, len(config.data.classes))


def _taught(net: Net, loss_of: Loss, device: Device) -> Callable[[Tensor, Tensor], Tensor]:
    """Image and labels -> loss; at every resolution that the net has scores for (`deep_scores`)."""
    deep = getattr(net, "deep_scores", None)
    if deep is None:

        def plain(image: Tensor, labels: Tensor) -> Tensor:
            with device.precision():
                answer = net(image)
            return loss_of(answer, labels)

        return plain
    over_all = DeepSupervision(loss_of)

    def loss(image: Tensor, labels: Tensor) -> Tensor:
        with device.precision():
            scores: list[Tensor] = deep(image)
        weights = supervision_weights(len(scores))
        # A head whose scores do not count has a gradient all the same: 0.
        return over_all(scores, labels) + sum(0 * one.sum() for one, w in zip(scores, weights, strict=True) if not w)

    return loss


@contextmanager
def _within_an_operation(threads: int) -> Iterator[None]:
    """For this thread alone: those of the pool keep what they began with, and compute each operation by one."""
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
