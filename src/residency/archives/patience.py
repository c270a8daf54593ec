"""How long to wait for a peer, and before something is tried again: longer each time, never in step, never for ever."""

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

SLOWEST = 16 * 2**10
"""Bytes a second that an exchange must make in the long run; an ISDN line makes as much."""
_PAUSES = 4

Result = TypeVar("Result")
_chance = random.SystemRandom()


def wait(attempt: int, *, asked_s: float = 0.0) -> None:
    """Sleep before the next attempt: doubling from a tenth of a second, half of it by chance.

    attempt  how many were made, from 1
    asked_s  what the archive asked for, in seconds
    """
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1))
    time.sleep(max(longest * _chance.uniform(0.5, 1.0), min(asked_s, LONGEST_ASKED_S)))


class Pace:
    """How long one exchange may wait for its peer: a few times `timeout_s`, and longer the more bytes have come.

    Each wait by itself ends after `timeout_s`; but a peer that sends a byte before each end would never be done.
    """

    def __init__(self, timeout_s: float) -> None:
        self._left_s = _PAUSES * timeout_s

    def too_slow(self, waited_s: float, size: int) -> bool:
        """Count a wait and what came of it; whether the peer has used up its time."""
        self._left_s += size / SLOWEST - waited_s
        return self._left_s < 0


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
