"""multipart/related (RFC 2387, RFC 2046 5.1), read from a stream part by part and written without a copy.

Only one part is in memory, and none may be larger than the reader says.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from email.message import Message

from residency.errors import AnswerError

_LONGEST_LINE = 8192
_MOST_HEADER_LINES = 64
_LONGEST_PREAMBLE = 65536
_PIECE = 2**18


def parts(chunks: Iterable[bytes], content_type: str, *, largest: int, most: int) -> Iterator[bytes]:
    """The bodies of the parts. An answer of another media type is one part: some servers send a single one so.

    largest  bytes that a part may have
    most     parts that there may be
    Raises AnswerError for what is malformed, beyond its bounds, or ends before its last boundary.
    """
    stream = _Stream(chunks)
    described = Message()
    described["Content-Type"] = content_type[:_LONGEST_LINE]
    if described.get_content_maintype() != "multipart":
        yield stream.rest(largest)
        return
    boundary = described.get_param("boundary")
    if not isinstance(boundary, str) or not 1 <= len(boundary) <= 200 or not boundary.isascii():
        raise AnswerError("the archive's answer names no boundary between its parts")
    mark = b"\r\n--" + boundary.encode("ascii")
    stream.until(mark, _LONGEST_PREAMBLE)
    for _ in range(most):
        if not _another(stream):
            stream.rest(_LONGEST_PREAMBLE)
            return
        _skip_headers(stream)
        yield stream.until(mark, largest)
    if _another(stream):
        raise AnswerError(f"the archive's answer has more than {most} parts")
    stream.rest(_LONGEST_PREAMBLE)


def _another(stream: _Stream) -> bool:
    """Behind a boundary: whether a part follows, or the two hyphens that end everything."""
    line = stream.until(b"\r\n", _LONGEST_LINE, end=b"--")
    if line.strip(b" \t"):
        raise AnswerError("the archive's answer is malformed: something stands behind a boundary")
    return not stream.ended


def _skip_headers(stream: _Stream) -> None:
    for _ in range(_MOST_HEADER_LINES):
        if not stream.until(b"\r\n", _LONGEST_LINE):
            return
    raise AnswerError(f"a part of the archive's answer has more than {_MOST_HEADER_LINES} header lines")


class LargerError(AnswerError):
    """A part is larger than what is taken; `beginning` is what of it was read."""

    def __init__(self, largest: int, beginning: bytes) -> None:
        super().__init__(f"a part of the archive's answer is larger than the {largest} bytes that are taken")
        self.beginning = beginning


class _Stream:
    """Bytes as they come, cut at marks. A line break is put before the first, so that every boundary has one."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray(b"\r\n")
        self.ended = False

    def until(self, mark: bytes, largest: int, *, end: bytes | None = None) -> bytes:
        """What stands before the mark, which is passed over. Where the stream goes on with `end`, it has ended."""
        if end is not None:
            while len(self._held) < len(end):
                self._more()
            if self._held.startswith(end):
                self.ended = True
                return b""
        found: list[bytes] = []
        size = 0
        while (place := self._held.find(mark)) < 0:
            ready = len(self._held) - len(mark) + 1
            if ready > 0:
                found.append(bytes(memoryview(self._held)[:ready]))
                del self._held[:ready]
                size += ready
            if size > largest:
                raise LargerError(largest, b"".join(found))
            self._more()
        found.append(bytes(memoryview(self._held)[:place]))
        del self._held[: place + len(mark)]
        if size + place > largest:
            raise LargerError(largest, b"".join(found))
        return b"".join(found)

    def rest(self, largest: int) -> bytes:
        """Everything to the end."""
        found = bytearray()
        for chunk in self._chunks:
            found += chunk
            if len(found) > largest:
                raise LargerError(largest, bytes(found))
        return bytes(found)

    def _more(self) -> None:
        for chunk in self._chunks:
            if chunk:
                self._held += chunk
                return
        raise AnswerError("the archive cut its answer short: the last boundary is missing", retry=True)


class Body:
    """Parts on their way out: content type, length, and the bytes in pieces. Made anew for every attempt."""

    def __init__(self, contents: Sequence[bytes], media_type: str) -> None:
        # Drawn anew: a boundary that a content could know might be written into it.
        self._boundary = secrets.token_hex(16)
        self._contents = contents
        self._head = f"--{self._boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode("ascii")
        self._tail = f"--{self._boundary}--\r\n".encode("ascii")
        self.content_type = f'multipart/related; type="{media_type}"; boundary={self._boundary}'
        self.length = sum(len(self._head) + len(content) + 2 for content in contents) + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """In order; a large content in slices, since a socket takes only so much at a time."""
        for content in self._contents:
            yield self._head
            for start in range(0, len(content), _PIECE):
                yield content[start : start + _PIECE]
            yield b"\r\n"
        yield self._tail
