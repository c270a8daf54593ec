"""The training loop. `train` is the whole of it; what it calls stands below it in the order of the calls.

Seeded: the random numbers of a crop are a function of the seed and the crop's number alone, so a run that was stopped
or killed and taken up again ends with the same bits as one that was not. Each crop of a batch is computed by a thread
of its own, and their gradients are added in a fixed order: the bits depend on the kind of processor, not on the number
of threads, and other work on the machine slows one crop down, not every single operation.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from residency.datasets import Case
from residency.datasets.cache import PreparedCache, read_prepared
from residency.errors import ConfigError, TrainingError
from residency.nets.net import Net
from residency.train.augment import channels_of, random_crop
from residency.train.config import TrainingConfig
from residency.train.judge import Exam, judge
from residency.train.losses import loss_function
from residency.train.state import Outcome, State, save_weights


@dataclass(frozen=True)
class Progress:
    """What the loop reports: after each step, and with `figure` (mean Dice) after each validation."""

    step: int
    loss: float
    figure: float | None = None
    best: bool = False


def train(
    config: TrainingConfig,
    learning: Sequence[Case],
    judging: Sequence[Case],
    run: Path,
    report: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Outcome:
    """Train on `learning`, choose the best running average on `judging`; leaves `best.pt` and `checkpoint.pt` in `run`.

    Takes up a checkpoint that it finds. `cancelled` is asked after each step; True saves and returns. Raises
    TrainingError for data that cannot be trained on, a foreign checkpoint or a loss that is no longer a number.
    """
    to_learn, to_judge = load(learning, config), load(judging, config)
    checkpoint = run / "checkpoint.pt"
    state = State.resumed(checkpoint, config) if checkpoint.exists() else State.fresh(config)
    schedule = config.schedule
    # What a net draws by itself, it draws from one generator: in the order of the crops only if they come one by one.
    with workers(1 if _draws(state.net, config) else config.threads) as pool:
        while state.step < schedule.steps and not state.stalled(schedule):
            started = time.monotonic()
            loss = learn(state, to_learn, config, pool)
            figure, better = None, False
            done = state.step == schedule.steps
            if done or state.step % schedule.validate_every == 0:
                figure = judge(state.average, to_judge, len(config.data.classes), config.patch, pool)
                better = state.note(figure)
                if better:
                    save_weights(state.average.state_dict(), run / "best.pt")
            state.seconds += time.monotonic() - started
            report(Progress(state.step, loss, figure, better))
            stop = cancelled()
            if done or stop or state.step % schedule.save_every == 0:
                state.save(checkpoint, config)
            if stop:
                break
    return state.outcome(schedule)


@contextmanager
def workers(threads: int) -> Iterator[Executor]:
    """Threads that each compute one crop or one exam at a time, with operations that give the same bits every time."""
    within_one_operation = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(within_one_operation)


def load(cases: Sequence[Case], config: TrainingConfig) -> tuple[Exam, ...]:
    """Read and prepare all cases, exactly as a hospital's series is prepared."""
    data = config.data
    kept = None if data.cache is None else PreparedCache(data.cache, round(data.cache_gib * 2**30))
    exams = []
    for case in cases:
        if len(case.images) != 1 or case.reference is None:
            raise TrainingError(f"case '{case.name}': a net is trained on cases of one image with a reference")
        made = read_prepared(case, config.recipe, len(data.classes), kept)
        assert made.labels is not None
        exams.append(Exam(case.name, torch.from_numpy(made.images[0]), torch.from_numpy(made.labels.astype(np.int64))))
    if not exams:
        raise TrainingError("there is no case to train on or none to choose by; check the splits in the table")
    return tuple(exams)


def learn(state: State, exams: Sequence[Exam], config: TrainingConfig, pool: Executor) -> float:
    """One step of the optimiser on a batch of crops; returns the mean loss.

    A layer with running statistics normalises each crop by the crop's own, whatever the batch; they move by their mean.
    """
    schedule, parameters = config.schedule, list(state.net.parameters())
    loss_of = loss_function(config.loss, len(config.data.classes))

    def gradients(number: int) -> tuple[float, tuple[Tensor, ...], tuple[Tensor, ...]]:
        image, labels = crop(exams, config, number)
        # Running statistics of its own: crops are computed at the same time, and their order must not matter.
        net = copy.deepcopy(state.net, {id(parameter): parameter for parameter in parameters})
        loss = loss_of(net(image), labels)
        return float(loss.detach()), _gradients(loss, state.net), tuple(net.buffers())

    first = state.step * schedule.batch
    losses, found, noted = zip(*pool.map(gradients, range(first, first + schedule.batch)), strict=True)
    for buffer, of_each_crop in zip(state.net.buffers(), zip(*noted, strict=True), strict=True):
        buffer.copy_(torch.stack(of_each_crop).mean(0) if buffer.is_floating_point() else of_each_crop[0])
    for parameter, of_each_crop in zip(parameters, zip(*found, strict=True), strict=True):
        parameter.grad = torch.stack(of_each_crop).mean(0)
    torch.nn.utils.clip_grad_norm_(parameters, schedule.largest_gradient)
    for group in state.optimiser.param_groups:
        group["lr"] = schedule.rate_at(state.step)
    state.optimiser.step()
    state.step += 1
    state.follow(schedule.average)
    mean = math.fsum(losses) / len(losses)
    state.losses.append(mean)
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is {mean} at step {state.step}; lower schedule.rate and start anew")
    return mean


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


def _draws(net: Net, config: TrainingConfig) -> bool:
    """True if the net draws random numbers in training, as dropout does.

    Raises ConfigError where a crop is too small to learn from: a norm cannot take the statistics of one voxel.
    """
    before = torch.get_rng_state()
    try:
        with torch.no_grad():
            copy.deepcopy(net)(torch.zeros(1, net.channels, *config.patch))
    except ValueError as error:
        raise ConfigError(f"patch: net '{config.net.name}' cannot learn from such crops: {error}") from None
    drawn = not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)
    return drawn


def crop(exams: Sequence[Exam], config: TrainingConfig, number: int) -> tuple[Tensor, Tensor]:
    """The training crop of a number, counted from 0: image (1, 1, *patch) and labels (1, 1, *patch).

    Each exam is seen once before any is seen again.
    """
    epoch, position = divmod(number, len(exams))
    order = torch.randperm(len(exams), generator=_generator(config.seed, "epoch", epoch))
    exam = exams[int(order[position])]
    generator = _generator(config.seed, "crop", number)
    bounds, step = config.augment, number // config.schedule.batch
    # Drawn only where it matters, so that the steps before are the same whatever comes after them.
    sharp = step >= bounds.sharp_from and bool(torch.rand(1, generator=generator) < bounds.sharp_share)
    channels = channels_of(exam.image, exam.labels, len(config.data.classes))
    image, labels = random_crop(channels, config.patch, bounds, generator, sharp=sharp)
    return image[None].to(memory_format=torch.channels_last_3d), labels[None]


def _generator(seed: int, use: str, number: int) -> Generator:
    hashed = hashlib.sha256(f"{seed}:{use}:{number}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(hashed[:8], "big") >> 1)
