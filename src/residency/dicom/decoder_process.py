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
    held = _memory_held()
    while head := _next_request(requests):
        rows, columns, samples, bits, seconds, length, name = REQUEST.unpack(head)
        syntax = requests.read(name).decode("ascii")
        stream = requests.read(length)
        expected = Expected(rows, columns, samples, bits)
        if held:
            _limit_memory(held + MEMORY + WORKING_COPIES * expected.words)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process, native code or not
        answer = _answer(syntax, stream, expected)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        for part in answer:
            answers.write(part)
        answers.flush()


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
        said = str(error).encode()
        return REFUSED, REASON.pack(len(said)), said


def _memory_held() -> int:
    """Bytes of address space in use, which the limit counts; 0 where the system does not tell, and sets no limit."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit_memory(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
