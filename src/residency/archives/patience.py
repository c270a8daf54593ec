"""How long to wait before something is tried again: longer each time, never in step with others, never for hours."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from residency.errors import ArchiveError

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0
LONGEST_ASKED_S = 60.0
"""What an archive may ask us to wait; one that asks for more is waited for no longer."""

Result = TypeVar("Result")
_chance = random.SystemRandom()


def wait(attempt: int, *, asked_s: float = 0.0) -> None:
    """Sleep before the next attempt: doubling from a tenth of a second, half of it by chance.

    attempt  how many were made, from 1
    asked_s  what the archive asked for, in seconds
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1))
    time.sleep(max(longest * _chance.uniform(0.5, 1.0), min(asked_s, LONGEST_ASKED_S)))


def patiently(action: Callable[[], Result], retries: int, *, but: tuple[type[ArchiveError], ...] = ()) -> Result:
    """What the action gives; where it raises an ArchiveError with `retry`, it is tried again, `retries` times.

    but  errors that are left to the caller all the same
    """
    attempt = 0
    while True:
        try:
            return action()
        except ArchiveError as error:
            attempt += 1
            if not error.retry or attempt > retries or isinstance(error, but):
                raise
            wait(attempt, asked_s=getattr(error, "after_s", 0.0))
