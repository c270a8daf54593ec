"""A server in a network namespace of its own, reached through loopback ports: for servers that bind every address.

    test process -> 127.0.0.1:PORT (outside) -> Unix socket -> 127.0.0.1:DOOR (inside) -> server

A Unix socket lies in the file system and not in a network, so it leads from one namespace into the other. Two small
processes carry the bytes; both, and the server, end when their standard input closes, so none outlives the test.

A measurement, which those two would distort, stands behind the fence itself (`enter`), and its servers beside it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_CHUNK = 2**18
_PATIENCE_S = 20.0
_GOODBYE_S = 0.5
"""What a server is given to end by itself: nothing that it holds is wanted any more."""

_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class NoFenceError(Exception):
    """This user may not make a network namespace here; a test that needs one is skipped with these words."""


@contextmanager
def fenced(
    command: Sequence[str], *, doors: Sequence[int], ways_out: Sequence[int] = (), log: Path
) -> Iterator[Mapping[int, int]]:
    """Run a server behind the fence until the block ends; each door's port inside -> its port on 127.0.0.1 outside.

    ways_out  ports on 127.0.0.1 outside that the server reaches under the same number
    log       takes what the server prints

    The server may still be starting when this returns. Raises NoFenceError.
    """
    if alone():
        with log.open("ab") as printed, _server(command, printed):
            yield {door: door for door in doors}
        return
    enter = _unshare()
    with tempfile.TemporaryDirectory(prefix="fence-") as folder:
        plan = json.dumps({"folder": folder, "doors": list(doors), "ways_out": list(ways_out)})
        this = [sys.executable, "-m", "residency.testing.fence"]
        with log.open("ab") as printed, _helper([*enter, *this, "inside", plan, *command], printed) as inside:
            _line(inside)
            with _helper([*this, "outside", plan], printed) as outside:
                yield {int(door): int(port) for door, port in json.loads(_line(outside)).items()}


def alone() -> bool:
    """True in a network namespace that holds nothing but its own loopback."""
    devices = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in devices] == ["lo"]


def enter() -> None:
    """Go behind the fence: start this program again, with its arguments, in a network of its own.

    Returns at once where it stands there already. Raises NoFenceError.
    """
    if alone():
        _loopback_up()
        return
    command = [*_unshare(), sys.executable, *sys.argv]
    os.execvp(command[0], command)


def free_port() -> int:
    """A port on 127.0.0.1 that nothing uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _unshare() -> list[str]:
    """The command that gives what follows it a network of its own, as root or as any user that may."""
    if shutil.which("unshare") is None:
        raise NoFenceError("unshare missing: apt install util-linux")
    for command in (["unshare", "-n"], ["unshare", "-rn"]):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise NoFenceError("this user may not make a network namespace")


@contextmanager
def _server(command: Sequence[str], printed: IO[bytes]) -> Iterator[None]:
    process = subprocess.Popen(_tied(command), stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tied(command: Sequence[str]) -> list[str]:
    """The command, ended by the kernel when its parent ends."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


@contextmanager
def _helper(command: Sequence[str], printed: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed)
    try:
        yield process
    finally:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """The first line that a helper prints, once it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise NoFenceError("the fence could not be set up; see its log")
    return line


# The two processes


async def _inside(folder: Path, doors: Sequence[int], ways_out: Sequence[int], command: Sequence[str]) -> None:
    _loopback_up()
    for door in doors:
        await asyncio.start_unix_server(_carry_to_port(door), folder / f"door-{door}")
    for port in ways_out:
        await asyncio.start_server(_carry_to_file(folder / f"out-{port}"), "127.0.0.1", port)
    server = await asyncio.create_subprocess_exec(*_tied(command), stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr)
    _tell("ready")
    ended = asyncio.create_task(server.wait())
    await asyncio.wait([ended, asyncio.create_task(_stdin_closed())], return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        server.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(ended), _GOODBYE_S)
        except TimeoutError:
            server.kill()


async def _outside(folder: Path, doors: Sequence[int], ways_out: Sequence[int]) -> None:
    for port in ways_out:
        await asyncio.start_unix_server(_carry_to_port(port), folder / f"out-{port}")
    ports = {}
    for door in doors:
        server = await asyncio.start_server(_carry_to_file(folder / f"door-{door}"), "127.0.0.1", 0)
        ports[door] = server.sockets[0].getsockname()[1]
    _tell(json.dumps(ports))
    await _stdin_closed()


def _carry_to_port(port: int) -> _Served:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _carry(reader, writer, asyncio.open_connection("127.0.0.1", port, limit=_CHUNK))

    return carry


def _carry_to_file(path: Path) -> _Served:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _carry(reader, writer, asyncio.open_unix_connection(path, limit=_CHUNK))

    return carry


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opening: Awaitable[_Ends]) -> None:
    """Both directions until both ends are done; where nothing listens the caller sees its connection close."""
    try:
        other_reader, other_writer = await opening
    except OSError:
        writer.close()
        return
    await asyncio.gather(_pump(reader, other_writer), _pump(other_reader, writer))
    for end in (writer, other_writer):
        end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        return
    # One side is gone without a goodbye; the other shall see it so too.
    with suppress(ConnectionError):
        writer.transport.abort()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _stdin_closed() -> None:
    await asyncio.to_thread(sys.stdin.buffer.read)


def _loopback_up() -> None:
    """What `ip link set lo up` does (netdevice(7)): a new namespace begins with its loopback down."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, get_flags, asked))[1]
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def _main(side: str, plan: str, *command: str) -> None:
    planned = json.loads(plan)
    folder, doors, ways_out = Path(planned["folder"]), planned["doors"], planned["ways_out"]
    side_runs = _inside(folder, doors, ways_out, command) if side == "inside" else _outside(folder, doors, ways_out)
    asyncio.run(side_runs)


if __name__ == "__main__":
    _main(*sys.argv[1:])
