"""Everything that a training run is at one moment, and how it survives being killed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from residency.errors import ConfigError, TrainingError
from residency.nets import build
from residency.nets.acs import convert
from residency.nets.net import Net
from residency.nets.sides import fit, in_words
from residency.nets.slices import Slices
from residency.nets.weights import load_weights
from residency.train.config import SchedulePart, TrainingConfig
from residency.train.device import CPU, Device
from residency.train.differing import differing
from residency.train.judge import Standing
from residency.train.sources import channels
from residency.train.task import task_of
from residency.train.written import whole

_FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """How a run ended, or where it stands: steps done, best validation figure and its step, seconds of work.

    history  step, mean loss since the last validation, and validation figure
    """

    finished: bool
    step: int
    best: float
    best_at: int
    seconds: float
    history: tuple[tuple[int, float, float], ...]


@dataclass
class State:
    """The net in training, its running average, the optimiser, and what has been found so far.

    scaler         of gradients in f16
    step           steps done
    best, best_at  highest validation figure of the average, and after which step
    second         what decides between equal figures, of the best; see `residency.train.judge.Standing`
    losses         of the steps since the last validation
    history        step, mean of these losses, validation figure for each validation
    seconds        of work, pauses left out
    data           digest of the cases, "" in checkpoints that knew none
    """

    net: Net
    average: Net
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    best: float = -1.0
    second: float = -math.inf
    best_at: int = 0
    seconds: float = 0.0
    data: str = ""
    losses: list[float] = field(default_factory=list)
    history: list[tuple[int, float, float]] = field(default_factory=list)

    @classmethod
    def fresh(cls, config: TrainingConfig, data: str = "", device: Device = CPU) -> State:
        """Step 0, determined by the seed and the weights to start with, if there are any."""
        state = cls._new(config, config.net.start, device)
        state.data = data
        return state

    @classmethod
    def _new(cls, config: TrainingConfig, start: Path | None, device: Device) -> State:
        torch.manual_seed(config.seed)
        net, average = make_net(config, start), make_net(config)
        for one in (net, average):
            _fastest_layout(one)
            one.to(device.place)
        average.load_state_dict(net.state_dict())
        average.eval()  # it is judged as it will be used: by its running statistics, and without dropout
        optimiser = torch.optim.AdamW(
            net.parameters(), lr=config.schedule.rate, weight_decay=config.schedule.weight_decay
        )
        return cls(net, average, optimiser, device.scaler())

    def follow(self, share: float) -> None:
        """Move the average towards the net: old * share + new * (1 - share), faster during the first steps.

        Running statistics move with the weights that made them.
        """
        share = min(share, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - share)
            for kept, new in zip(self.average.buffers(), self.net.buffers(), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(new, 1.0 - share)
                else:
                    kept.copy_(new)

    def note(self, standing: Standing) -> bool:
        """Keep the outcome of a validation; True if it is the best so far."""
        self.history.append((self.step, math.fsum(self.losses) / len(self.losses), standing.figure))
        self.losses.clear()
        better = standing > Standing(self.best, self.second)
        if better:
            self.best, self.second, self.best_at = standing.figure, standing.second, self.step
        return better

    def ended(self, schedule: SchedulePart) -> bool:
        """True after the last step, or once `patience` validations have passed without a better one."""
        without_better = sum(step > self.best_at for step, _, _ in self.history)
        return self.step >= schedule.steps or without_better >= schedule.patience

    def outcome(self, schedule: SchedulePart) -> Outcome:
        """What a run has come to."""
        return Outcome(self.ended(schedule), self.step, self.best, self.best_at, self.seconds, tuple(self.history))

    def save(self, file: Path, config: TrainingConfig) -> None:
        """Write a checkpoint: tensors, numbers and text only. A kill at any moment leaves the old or the new one."""
        write_atomically(
            {
                "format": _FORMAT,
                "config": config.learning_digest(),
                "schedule": config.schedule.model_dump(),
                "net": self.net.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "random": torch.get_rng_state(),  # for nets that draw by themselves, such as dropout
                "step": self.step,
                "best": self.best,
                "best_at": self.best_at,
                "second": self.second,
                "seconds": self.seconds,
                "data": self.data,
                "losses": self.losses,
                "history": self.history,
            }
            | ({} if self.scaler is None else {"scaler": self.scaler.state_dict()}),
            file,
        )

    @classmethod
    def resumed(cls, file: Path, config: TrainingConfig, data: str, device: Device = CPU) -> State:
        """The state in a checkpoint. Raises TrainingError where it is damaged, or of another training file or data.

        The number of steps alone may have changed, as long as every step so far would have been the same.

        data  digest of the cases (`residency.datasets.digest`)
        """
        saved = read_tensors(file)
        with _understood(file):
            continues = saved.get("format") == _FORMAT and _continues(saved, config)
        if not continues:
            keys = differing(config, file.parent, str(saved.get("config")))
            raise TrainingError(
                f"{file} was made with another training file{f': {keys}' if keys else ''}; give another run folder, or "
                "start anew with --fresh"
            )
        if saved.get("data", "") not in ("", data):
            raise TrainingError(
                f"{file} was made with other data: its cases have the digest {saved['data'][:12]}, those of the "
                f"training file {data[:12]}; give another run folder, or start anew with --fresh"
            )
        state = cls._new(config, None, device)
        state.data = data
        with _understood(file):
            state._take(saved)
        return state

    def _take(self, saved: dict[str, Any]) -> None:
        """What `save` wrote."""
        self.net.load_state_dict(saved["net"])
        self.average.load_state_dict(saved["average"])
        self.optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["random"])
        if self.scaler is not None and "scaler" in saved:
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best, self.best_at = saved["best"], saved["best_at"]
        self.second = saved.get("second", math.inf)  # a checkpoint without: the first of equal figures stays the best
        self.losses = saved["losses"]
        self.history = [tuple(entry) for entry in saved["history"]]


@contextmanager
def _understood(file: Path) -> Iterator[None]:
    """What the content of a checkpoint may raise becomes a TrainingError."""
    try:
        yield
    except torch.OutOfMemoryError:  # a RuntimeError too
        raise
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError):
        raise TrainingError(
            f"{file} was written by another version of Residency, or is damaged; go on with that version, or start "
            "anew with --fresh"
        ) from None


def _continues(saved: dict[str, Any], config: TrainingConfig) -> bool:
    then = SchedulePart.model_validate(saved["schedule"])
    now = config.schedule
    as_then = config.model_copy(update={"schedule": now.model_copy(update={"steps": then.steps})})
    return as_then.learning_digest() == saved["config"] and all(
        then.rate_at(step) == now.rate_at(step) for step in range(saved["step"])
    )


def make_net(config: TrainingConfig, start: Path | None = None) -> Net:
    """The net of a training file, drawn from torch's global generator; then the weights of `start`, strictly.

    A 2D net that is not converted sees volumes slice by slice. Raises ConfigError for a net that cannot take the
    training file's crops or does not go with its keys, ConversionError for one that cannot be made three-dimensional,
    TrainingError for weights that do not fit.
    """
    part = config.net
    task_of(config)
    given = {"channels", "classes"} & part.parameters.keys()
    if given:
        raise ConfigError(f"net.parameters.{min(given)} is not for the training file to say: it comes from the data")
    net = build(part.name, channels=channels(config), classes=len(config.data.classes), **part.parameters)
    by_slices = net.dimensions == 2 and part.convert is None
    if by_slices and config.patch[0] != 1:
        raise ConfigError(
            f"net '{part.name}' is two-dimensional: say how it is to see volumes, net.convert: acs, or give it a slice "
            f"at a time, patch: [1, {config.patch[1]}, {config.patch[2]}]"
        )
    sides = config.patch[1:] if by_slices else config.patch
    needed = net.sides if len(net.sides) == len(sides) else ((net.multiple, net.least),) * len(sides)
    if not fit(sides, needed):
        raise ConfigError(
            f"patch: net '{part.name}' takes {in_words(needed)}, got {' x '.join(map(str, config.patch))}"
        )
    if start is not None:
        load_weights(net, start, head=part.start_head, into=part.start_into)
    if by_slices:
        return Slices(net)
    if part.convert is None:
        return net
    made = convert(net, part.convert).model
    assert isinstance(made, Net)  # of the class that `net` has
    return made


def _fastest_layout(net: Net) -> None:
    """In place; convolutions of volumes are a quarter faster in it on a CPU. Weights of planes have no such layout."""
    for layer in net.modules():
        if all(one.ndim != 4 for one in layer.parameters()):
            layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def save_weights(weights: dict[str, Tensor], file: Path) -> None:
    """Weights alone, atomically."""
    write_atomically(weights, file)


def read_tensors(file: Path) -> dict[str, Any]:
    """What `write_atomically` wrote; nothing in the file is executed. Raises TrainingError where it is damaged."""
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{file} is not there; train first") from None
    except Exception as error:  # torch raises a wide range for damaged files
        raise TrainingError(f"{file} is damaged and cannot be read ({type(error).__name__}); start anew") from None
    if not isinstance(saved, dict):
        raise TrainingError(f"{file} holds no named tensors; start anew")
    return saved


def write_atomically(content: dict[str, Any], file: Path) -> None:
    """Tensors, numbers and text by name: a whole file under its name, or none."""
    with whole(file) as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # of torch's archive, which a write that failed leaves unfinished
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
