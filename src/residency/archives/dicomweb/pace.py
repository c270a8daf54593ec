"""Connections with an end to every exchange: httpx bounds each wait, and a peer that drips bytes renews it for ever."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from residency.archives.patience import Pace

_AT_ONCE = 2**20
"""Bytes that are taken from a connection at most; httpcore's 64 KiB cost more in calls than in copying."""


class PacedBackend(httpcore.NetworkBackend):
    """TCP connections on which a request and its answer may take as long as `Pace` allows."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """As httpcore has it."""
        opened = self._plain.connect_tcp(host, port, timeout, local_address, socket_options)
        return _PacedStream(opened, self._timeout_s)

    def sleep(self, seconds: float) -> None:
        """As httpcore has it."""
        self._plain.sleep(seconds)


class _PacedStream(httpcore.NetworkStream):
    def __init__(self, opened: httpcore.NetworkStream, timeout_s: float) -> None:
        self._opened = opened
        self._timeout_s = timeout_s
        self._pace = Pace(timeout_s)
        self._answering = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._answering = True
        began = time.monotonic()
        data = self._opened.read(max(max_bytes, _AT_ONCE), timeout)
        if self._pace.too_slow(time.monotonic() - began, len(data)):
            raise httpcore.ReadTimeout
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._answering:  # the next request
            self._pace, self._answering = Pace(self._timeout_s), False
        began = time.monotonic()
        self._opened.write(buffer, timeout)
        if self._pace.too_slow(time.monotonic() - began, len(buffer)):
            raise httpcore.WriteTimeout

    def close(self) -> None:
        self._opened.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _PacedStream(self._opened.start_tls(ssl_context, server_hostname, timeout), self._timeout_s)

    def get_extra_info(self, info: str) -> Any:
        return self._opened.get_extra_info(info)
