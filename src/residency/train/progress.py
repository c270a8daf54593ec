"""What a training tells of itself after each step, and an export of its parts, and how fast it goes; no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""

_T = TypeVar("_T")


def silent(_what: str, _done: int, _of: int) -> None:
    """Tells nobody."""


def watched(what: str, items: Sequence[_T], tell: Tell) -> Iterator[_T]:
    """The items, and word of each that is done."""
    tell(what, 0, len(items))
    for done, item in enumerate(items, 1):
        yield item
        tell(what, done, len(items))


@dataclass(frozen=True)
class Progress:
    """What the loop reports: after each step, and with `figure` after each validation.

    rate           learning rate of the step
    figure         by which weights are chosen: mean Dice, or what `judged_by` says
    best           it is the best so far
    crops_second   crops learnt from in a second, validations included, lately
    seconds_left   at this pace
    waiting_share  of the step: how much of it what computes had to wait for crops, 0 to 1
    seconds        of work on the run so far, pauses left out
    notes          what a person should know of the prepared data, once, with the first step
    """

    step: int
    loss: float
    figure: float | None = None
    best: bool = False
    crops_second: float = 0.0
    seconds_left: float = 0.0
    rate: float = 0.0
    waiting_share: float = 0.0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class Pace:
    """How fast it goes: a running mean over some hundred steps, so that it follows what else the machine does."""

    def __init__(self, steps: int, batch: int) -> None:
        self._steps, self._batch, self._seconds, self._count = steps, batch, 0.0, 0

    def after(self, step: int, seconds: float) -> tuple[float, float]:
        """(crops a second, seconds left), after a step that took so long."""
        self._count = min(self._count + 1, 100)
        self._seconds += (seconds - self._seconds) / self._count
        return self._batch / max(self._seconds, 1e-9), self._seconds * (self._steps - step)


def started() -> bool:
    """True in a process that another one has started to train with it: it writes nothing and says nothing."""
    return os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ
