"""Crops of the next step, made while the present one computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """What `make` makes of numbers, begun before it is asked for.

    A crop is a function of its number, so when it is made changes nothing. Whatever waits for one in a thread of the
    pool must have been handed to the pool after it, or both would wait for ever.
    """

    def __init__(self, make: Callable[[int], T], pool: Executor) -> None:
        self._make, self._pool = make, pool
        self._begun: dict[int, Future[T]] = {}

    def begin(self, numbers: Sequence[int]) -> None:
        """Behind all that the pool has to do already."""
        for number in numbers:
            if number not in self._begun:
                self._begun[number] = self._pool.submit(self._make, number)

    def take(self, numbers: Sequence[int]) -> list[Future[T]]:
        """Each once; begun now where they were not."""
        self.begin(numbers)
        return [self._begun.pop(number) for number in numbers]
