"""How many associations one door has at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from residency.errors import UnreachableError


class Slots:
    """Places for associations. Whoever holds one may take another where none is free: it cannot wait for itself."""

    def __init__(self, count: int, patience_s: float) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._held: Counter[int] = Counter()

    @contextmanager
    def taken(self, wanted: int = 1) -> Iterator[int]:
        """At least one, at most `wanted` of them until the block ends; how many. Raises UnreachableError."""
        thread = threading.get_ident()
        with self._lock:
            nested = self._held[thread] > 0
        got = int(self._free.acquire(blocking=not nested, timeout=None if nested else self._patience_s))
        if not got and not nested:
            raise UnreachableError(
                f"all associations of this archive were in use for {self._patience_s:g} s: set more associations",
                retry=True,
            )
        while got < wanted and self._free.acquire(blocking=False):
            got += 1
        with self._lock:
            self._held[thread] += 1
        try:
            yield max(got, 1)
        finally:
            with self._lock:
                self._held[thread] -= 1
                self._held += Counter()  # forget threads that hold none
            for _ in range(got):
                self._free.release()
