"""Put on PYTHONPATH by a test: writes down, then refuses, every attempt to speak to anything outside this process.

The file named by RESIDENCY_WATCH gets one line an attempt, so that an attempt whose error a library swallows (as a
telemetry thread would) is seen too. Only sockets of the file system (AF_UNIX) pass.
"""

import os
import sys

_WATCHED = {"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _WATCHED:
        return
    address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    if event == "socket.connect" and isinstance(address, (str, bytes)):
        return
    with open(os.environ["RESIDENCY_WATCH"], "a", encoding="utf-8") as file:  # noqa: PTH123 (nothing else is loaded yet)
        file.write(f"{event} {address!r}\n")
    raise PermissionError(f"a test watches this process: {event} {address!r} is not allowed")


sys.addaudithook(_watch)
