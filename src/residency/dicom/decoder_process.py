"""The process in which compressed pixels are decoded: requests on its input, answers on its output.

Decoders are native code that reads hostile bytes. Here a stream that makes one crash, spin or ask for all memory costs
this process and nothing else: the one that asked gets an error that says so. Run by `residency.dicom.decoders`; imports
no pydicom, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from residency.dicom.codecs import Expected, decode
from residency.errors import PixelError

REQUEST = struct.Struct(">4I d I H")
"""Rows, columns, samples, bits allocated; seconds of CPU; length of the stream, then of the transfer syntax UID."""

DONE, REFUSED = b"\x00", b"\x01"
"""First byte of an answer. The words of the frame follow, as many as it has, or the reason."""

REASON = struct.Struct(">H")
"""Length of the reason, in UTF-8."""

IDLE_SECONDS = 60
"""How long a process without work holds its memory."""

MEMORY = 512 * 1024 * 1024
"""Bytes that a decoder may use for its books, beside WORKING_COPIES of the image."""

WORKING_COPIES = 24
"""Images of 8 bits a sample that fit into the rest: JPEG 2000 works in several planes of 32 bits."""


def main() -> None:
    """Answers requests until the input ends."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what a decoder prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts whoever asked; then the input ends
    held, most, fresh = _memory_held(), 0, True
    while head := _next_request(requests):
        rows, columns, samples, bits, seconds, length, name = REQUEST.unpack(head)
        expected = Expected(rows, columns, samples, bits)
        try:
            syntax, stream = requests.read(name).decode("ascii"), requests.read(length)
            # Never lowered: what decoders hold on to from a large image must not starve the small one after it.
            most = max(most, held + MEMORY + WORKING_COPIES * expected.words)
            if held:
                _limit_memory(most)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process, native code or not
            answer = _answer(syntax, stream, expected)
        except MemoryError:
            if not fresh:
                return  # unanswered: memory may have leaked before, so a fresh process is asked
            answer = _refusal("its decoder needs more memory than an image of this size may")
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        for part in answer:
            answers.write(part)
        answers.flush()
        fresh = False


def _next_request(requests: BinaryIO) -> bytes:
    """The head of the next request; none for IDLE_SECONDS ends the process, and whoever asks next starts another."""
    signal.alarm(IDLE_SECONDS)
    head = requests.read(REQUEST.size)
    signal.alarm(0)
    return head


def _answer(syntax: str, stream: bytes, expected: Expected) -> tuple[bytes, ...]:
    try:
        return DONE, decode(syntax, stream, expected).words.tobytes()
    except PixelError as error:
        return _refusal(str(error))


def _refusal(reason: str) -> tuple[bytes, ...]:
    said = reason.encode()
    return REFUSED, REASON.pack(len(said)), said


def _memory_held() -> int:
    """Bytes of address space in use, which the limit counts; 0 where the system does not tell, and sets no limit."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit_memory(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)  # a site may have set one: it can be kept below, never raised
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
