"""The upper layer's PDUs over one socket (DICOM PS3.8 9.3): every length bounded, every wait with an end, no threads.

pynetdicom reads a PDU of whatever length is announced and drops responses when many are awaited in a row; so what
goes over the wire is read and written here, and pynetdicom's codecs serve for the negotiation.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from residency.archives.patience import Pace
from residency.errors import AnswerError, ArchiveError, CredentialsError, UnreachableError

LARGEST_PDU = 131072
"""What we take and announce; DCMTK's and Orthanc's own maximum. Larger ones gain nothing."""
_LARGEST_NEGOTIATION = 2**18
_SMALLEST_PDU = 4096
_SENT_AT_ONCE = 2**18

_GOODBYE_S = 2.0
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""DCMTK writes a response in two pieces and waits for the first one's acknowledgement, which systems delay by 40 ms.
Linux acknowledges at once where it is asked to, each time anew.
"""

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


@dataclass(frozen=True)
class Fragment:
    """One presentation data value: part of a command set or of a data set (PS3.8 9.3.5.1, annex E.2).

    data is valid until the next one is asked for.
    """

    context_id: int
    command: bool
    last: bool
    data: memoryview


class Wire:
    """One connection. After an error nothing more can be expected of it: abort it."""

    def __init__(self, connected: socket.socket, timeout_s: float, peer: str) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._timeout_s = timeout_s
        self._peer = peer
        self._buffer = memoryview(bytearray(LARGEST_PDU + 6))
        self._left = memoryview(b"")
        self.largest_pdu = LARGEST_PDU
        self.closed = False
        self.heard = time.monotonic()
        self._silent = True
        self._pace = Pace(timeout_s)

    def send(self, kind: int, body: bytes) -> None:
        """One PDU that is no data."""
        self._send(struct.pack(">BxI", kind, len(body)) + body)

    def limit(self, largest: int) -> None:
        """Keep to the length of PDU that the peer takes; 0 is no limit (PS3.8 D.1)."""
        if 0 < largest < _SMALLEST_PDU:
            raise AnswerError(f"{self._peer} takes PDUs of at most {largest} bytes: fewer than any message needs")
        self.largest_pdu = min(largest or LARGEST_PDU, LARGEST_PDU)

    def send_data(self, context_id: int, data: bytes | memoryview, *, command: bool) -> None:
        """A whole command set or data set, in as many PDUs as it needs."""
        room = self.largest_pdu - 6
        view, size = memoryview(data), 0
        waiting: list[bytes | memoryview] = []
        for start in range(0, max(len(view), 1), room):
            piece = view[start : start + room]
            control = command | (2 if start + room >= len(view) else 0)
            waiting += [struct.pack(">BxIIBB", P_DATA, len(piece) + 6, len(piece) + 2, context_id, control), piece]
            size += len(piece)
            if size >= _SENT_AT_ONCE:
                self._send(b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            self._send(b"".join(waiting))

    def negotiation(self) -> tuple[int, bytes]:
        """The next PDU while an association is being made or ended: its kind and its body."""
        kind, length = self._header(time.monotonic() + self._timeout_s)
        if length > _LARGEST_NEGOTIATION:
            raise AnswerError(f"{self._peer} announces {length} bytes of negotiation: that is no DICOM service")
        body = memoryview(bytearray(length))
        self._fill(body, time.monotonic() + self._timeout_s)
        return kind, bytes(body)

    def fragment(self) -> Fragment | None:
        """The next piece of a message, or None where the peer asks to end the association (which is granted)."""
        while not self._left:
            kind, length = self._header(time.monotonic() + self._timeout_s)
            if kind == RELEASE_RQ:
                self.send(RELEASE_RP, bytes(4))
                self._await_close()
                return None
            if kind == ABORT:
                raise UnreachableError(f"{self._peer} ended the association in the middle of its work", retry=True)
            if kind != P_DATA or not 0 < length <= LARGEST_PDU:
                raise AnswerError(f"{self._peer} sends a PDU of type {kind} and {length} bytes where data belong")
            self._left = self._buffer[:length]
            self._fill(self._left, time.monotonic() + self._timeout_s)
        if len(self._left) < 6:
            raise AnswerError(f"{self._peer} sends a PDU that ends in the middle of a message's header")
        length, context_id, control = struct.unpack_from(">IBB", self._left)
        if not 2 <= length <= len(self._left) - 4:
            raise AnswerError(f"{self._peer} sends a message fragment that is longer than its PDU")
        data, self._left = self._left[6 : 4 + length], self._left[4 + length :]
        if control & 2:
            self._pace = Pace(self._timeout_s)
        elif not data:
            raise AnswerError(f"{self._peer} sends an empty fragment of a message that goes on")
        return Fragment(context_id, bool(control & 1), bool(control & 2), data)

    def readable(self, within_s: float) -> bool:
        """Whether something has come, or the connection has ended, within that time."""
        if self._left or self.closed or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
            return True
        with suppress(OSError, ValueError):
            return bool(select.select([self._socket], [], [], within_s)[0])
        return True

    def release(self) -> None:
        """End the association as both sides should; whatever the peer does about it, the connection closes."""
        if not self.closed:
            with suppress(ArchiveError):
                self._timeout_s = min(self._timeout_s, 5.0)
                self.send(RELEASE_RQ, bytes(4))
                self.negotiation()
        self.close()

    def abort(self) -> None:
        """End the association at once."""
        if not self.closed:
            with suppress(ArchiveError):
                self._timeout_s = min(self._timeout_s, 1.0)
                self.send(ABORT, bytes(4))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _await_close(self) -> None:
        """Whoever asked for the end closes the connection (PS3.8 9.2.3, state 13), or is waited for no longer."""
        with suppress(OSError):
            self._socket.settimeout(min(self._timeout_s, _GOODBYE_S))
            self._socket.recv(1)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except TimeoutError:
            raise UnreachableError(
                f"{self._peer} took nothing more for {self._timeout_s:g} s; see whether it is overloaded", retry=True
            ) from None
        except OSError:
            raise self._cut() from None

    def _header(self, deadline: float) -> tuple[int, int]:
        header = memoryview(bytearray(6))
        self._fill(header, deadline)
        kind, length = struct.unpack(">BxI", header)
        return kind, length

    def _fill(self, view: memoryview, deadline: float) -> None:
        """Read exactly as many bytes as there is room, in time: this PDU, and the message that it is part of."""
        place = 0
        while place < len(view):
            began = time.monotonic()
            try:
                if began >= deadline:
                    raise TimeoutError
                self._socket.settimeout(deadline - began)
                count = self._socket.recv_into(view[place:])
                if self._pace.too_slow(time.monotonic() - began, count):
                    raise TimeoutError
                if _QUICK_ACK is not None:
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            except TimeoutError:
                raise UnreachableError(
                    f"{self._peer} did not answer within {self._timeout_s:g} s; see whether it is overloaded, "
                    "or set a longer timeout_s",
                    retry=True,
                ) from None
            except OSError:
                raise self._cut() from None
            if count == 0:
                raise self._cut()
            place += count
            self._silent = False
        self.heard = time.monotonic()

    def _cut(self) -> UnreachableError | CredentialsError:
        if self._silent and isinstance(self._socket, ssl.SSLSocket):
            # With TLS 1.3 a client learns only now that its certificate was refused, or missed.
            return CredentialsError(
                f"{self._peer} closes the TLS connection without an answer: see client_certificate and client_key",
                retry=True,
            )
        return UnreachableError(f"{self._peer} closed the connection in the middle of its work", retry=True)
