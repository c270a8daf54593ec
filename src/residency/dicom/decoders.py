"""Compressed frames are decoded in processes of their own, several at once, each within bounds of time and memory.

Native decoders hold Python's lock, so threads alone would not run them side by side; and damaged streams make them
spin or crash (docs/decisions/0015). The processes start with the first compressed frame, are used again and end by
themselves when there is no more work. Nothing of the environment but what Python needs to start is handed to them.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from residency.dicom.codecs import Decoded, Expected, Words, check_stream, word_type
from residency.dicom.decoder_process import DONE, REASON, REQUEST
from residency.errors import PixelError

LEAST_SECONDS = 2.0
"""CPU seconds that any frame may take, and besides:"""
SECONDS_A_MEGAPIXEL = 1.0
"""The slowest decoder takes 0.1 s a megapixel on two cores of a server of 2020."""

WALL_SECONDS_A_CPU_SECOND = 30.0
"""How much longer a busy machine may take before a process is given up."""

PROCESSES = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
"""Frames that are decoded at once; it bounds memory to as many frames."""

_TRIES = 3
"""How many processes in a row may end themselves unasked."""

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL")


def decode_apart(syntax: str, stream: bytes, expected: Expected) -> Decoded:
    """One compressed frame, decoded in another process.

    Raises PixelError where the stream is damaged, is another image than expected, or is more than its decoder survives.
    """
    header = check_stream(syntax, stream, expected)
    seconds = LEAST_SECONDS + SECONDS_A_MEGAPIXEL * header.rows * header.columns * header.samples / 1e6
    for _ in range(_TRIES):
        with _processes.one() as process, suppress(_EndedError):
            return Decoded(process.decode(syntax, stream, expected, np.dtype(word_type(header)), seconds), header)
    raise PixelError("its decoders end before they begin; see whether memory is short")


class _EndedError(Exception):
    """The process ended itself, for want of work just when it was asked, or because others had used up its memory."""


class _Process:
    """One decoder process. Whatever it answers beyond what was asked for is not read."""

    def __init__(self) -> None:
        # -P: no module is taken from the folder in which somebody happens to stand.
        self._running = subprocess.Popen(
            [sys.executable, "-P", "-m", "residency.dicom.decoder_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: os.environ[k] for k in _ENVIRONMENT if k in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._running.stdin and self._running.stdout  # noqa: PT018 (both are pipes)
        self._requests, self._answers = self._running.stdin, self._running.stdout
        self._seconds = self._until = 0.0
        self.settled = True
        """Every question is answered: what comes next answers the next one. Else a frame would be taken for another."""

    @property
    def alive(self) -> bool:
        return self._running.poll() is None

    def decode(
        self, syntax: str, stream: bytes, expected: Expected, kind: np.dtype[np.unsignedinteger], seconds: float
    ) -> Words:
        """One frame. Raises PixelError where it cannot be decoded, _EndedError where it should be asked for again."""
        name = syntax.encode("ascii")
        sides = expected.rows, expected.columns, expected.samples, expected.bits_allocated
        self._seconds, self._until = seconds, time.monotonic() + seconds * WALL_SECONDS_A_CPU_SECOND
        self.settled = False
        with suppress(BrokenPipeError):  # told when the answer is read
            self._requests.write(REQUEST.pack(*sides, seconds, len(stream), len(name)) + name)
            self._requests.write(stream)
            self._requests.flush()
        if self._read(1) != DONE:
            reason = self._read(REASON.unpack(self._read(REASON.size))[0]).decode(errors="replace")
            self.settled = True
            raise PixelError(reason)
        words: Words = np.frombuffer(self._read(expected.words * kind.itemsize), kind)
        self.settled = True
        return words.reshape(expected.rows, expected.columns, expected.samples)

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        while count:
            left_ms = max(0.0, self._until - time.monotonic()) * 1000
            part = os.read(self._answers.fileno(), min(count, 1 << 20)) if waiting.poll(left_ms) else b""
            if not part:
                self.close()
                if self._running.returncode in (0, -signal.SIGALRM):
                    raise _EndedError
                raise PixelError(self._end())
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _end(self) -> str:
        """Why the process ended, in words."""
        status = self._running.returncode
        if status in (-signal.SIGPROF, -signal.SIGKILL):
            return f"its decoder did not come to an end within {self._seconds:.0f} s"
        return f"its decoder crashed ({signal.Signals(-status).name if status < 0 else f'exit status {status}'})"

    def close(self) -> None:
        """Ends the process, if need be with force."""
        with suppress(OSError):  # a request that nobody read
            self._requests.close()
        try:
            self._running.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._answers.close()


class _Processes:
    """As many processes as frames are decoded at once, at most PROCESSES; started when wanted, used again."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(PROCESSES)
        self._idle: list[_Process] = []
        self._owner = os.getpid()
        self._inherited: list[_Process] = []

    @contextmanager
    def one(self) -> Iterator[_Process]:
        """A process for the caller alone."""
        if self._owner != os.getpid():  # a fork: they are the parent's, and are kept unused so that nothing closes them
            self._inherited, self._idle, self._owner = self._idle, [], os.getpid()
            self._free = threading.BoundedSemaphore(PROCESSES)
        with self._free:
            process = self._take()
            try:
                yield process
            finally:
                if process.settled and process.alive:
                    self._idle.append(process)
                else:
                    process.close()

    def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            process.close()
        return _Process()

    def close(self) -> None:
        """Ends all of them."""
        while self._owner == os.getpid() and self._idle:
            self._idle.pop().close()


_processes = _Processes()
atexit.register(_processes.close)
