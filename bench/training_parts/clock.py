"""The wall clock of one contender's training; imports nothing, so that each environment can read it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


class Worked:
    """Seconds of the wall clock, without those in which a trainer was stopped at a mark and taken up again.

    A trainer that is told of after each step says how long the step took; where it begins, the pause ends.
    """

    def __init__(self, wall: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._aside, self._left = wall, 0.0, wall()
        self._paused = True

    def __call__(self) -> float:
        """The time."""
        return self._wall() - self._aside

    def resumed(self, took_s: float) -> None:
        """A step ended now that took so long; the first one after a pause ends the pause."""
        if self._paused:
            self._aside += self._wall() - took_s - self._left
            self._paused = False

    def paused(self) -> None:
        """The trainer stops now."""
        self._left, self._paused = self._wall(), True


class Clock:
    """Counts patches and time from the first batch on; `marks` are shares of the budget at which weights are kept.

    Steps before `warm_s` are not counted: queues are still full of what was made before the clock ran.
    """

    def __init__(
        self,
        budget_s: float,
        marks: Sequence[float],
        keep: Callable[[float], None],
        warm_s: float = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget, self._warm, self._keep, self._now = budget_s, warm_s, keep, now
        self._marks = sorted(marks)
        self._began = now()
        self._counted_from: float | None = None if warm_s else 0.0
        self._kept_s = 0.0
        self.patches, self.steps, self.waiting_s, self.losses = 0, 0, 0.0, list[float]()
        self.at_marks: dict[str, dict[str, float]] = {}

    @property
    def spent(self) -> float:
        """Seconds, without those in which weights were kept."""
        return self._now() - self._began - self._kept_s

    @property
    def over(self) -> bool:
        """The budget is spent."""
        return self.spent >= self._budget

    @property
    def share(self) -> float:
        """How much of the budget is spent, at most 1."""
        return min(1.0, self.spent / self._budget)

    def after_step(self, patches: int, waiting_s: float, loss: float) -> None:
        """Count a step, and keep the weights of each mark that it has reached."""
        if self.spent >= self._warm:
            if self._counted_from is None:
                self._counted_from = self.spent
            else:
                self.patches += patches
                self.waiting_s += waiting_s
        self.steps += 1
        self.losses.append(loss)
        while self._marks and self.spent >= self._marks[0] * self._budget:
            mark, began = self._marks.pop(0), self._now()
            self.at_marks[str(mark)] = {"seconds": self.spent, "steps": self.steps}
            self._keep(mark)
            self._kept_s += self._now() - began

    def told(self) -> dict[str, Any]:
        """What is reported of the training."""
        counted = self.spent - (self._counted_from or 0.0)
        last = self.losses[-50:]
        return {
            "steps": self.steps,
            "patches": self.patches,
            "counted_s": counted,
            "patches_second": self.patches / max(counted, 1e-9),
            "waiting_s": self.waiting_s,
            "waiting_share": self.waiting_s / max(counted, 1e-9),
            "seconds": self.spent,
            "loss": sum(last) / max(len(last), 1),
            "at_marks": self.at_marks,
        }
