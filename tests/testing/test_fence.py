"""A server behind the fence is reached through its door and by nobody else, and never outlives the test."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from residency.testing.fence import NoFenceError, fenced, free_port
from residency.testing.orthanc import Orthanc, running_orthanc

SERVER = """
import http.server, sys, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        port = self.path.strip("/")
        said = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read() if port else b"x" * 3_000_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *said): pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def answer(port: int, path: str = "/") -> bytes:
    with httpx.Client(trust_env=False, timeout=20) as client:
        return client.get(f"http://127.0.0.1:{port}{path}").raise_for_status().content


def answers(port: int) -> bool:
    try:
        answer(port)
    except httpx.HTTPError:
        return False
    return True


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """(port inside, door outside, way out) of a server that binds every address."""
    port, way_out = free_port(), free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    try:
        with fenced(command, doors=[port], ways_out=[way_out], log=tmp_path / "log") as doors:
            until(lambda: answers(doors[port]))
            yield port, doors[port], way_out
    except NoFenceError as error:
        pytest.skip(str(error))


def test_only_the_door_leads_in(inside):
    port, door, _ = inside
    assert len(answer(door)) == 3_000_000
    with closing(socket.socket()) as outside:
        assert outside.connect_ex(("127.0.0.1", port)) != 0, "it can be reached without the door"


def test_the_server_reaches_what_it_is_given_and_nothing_else(inside):
    _, door, way_out = inside
    listener = subprocess.Popen([sys.executable, "-c", SERVER, str(way_out)])
    try:
        until(lambda: answers(way_out))
        assert len(answer(door, f"/{way_out}")) == 3_000_000
        other = free_port()
        with pytest.raises(httpx.HTTPError):
            answer(door, f"/{other}")
    finally:
        listener.kill()
        listener.wait()


def test_a_server_ends_even_if_the_test_is_killed(tmp_path: Path):
    pid_file = tmp_path / "pid"
    held = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    test = (
        "import sys, time, pathlib\nfrom residency.testing.fence import fenced\n"
        f"with fenced([sys.executable, '-c', {held!r}], doors=[1], log=pathlib.Path({str(tmp_path / 'log')!r})):\n"
        "    print('ready', flush=True)\n    time.sleep(600)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", test], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stderr is not None
    try:
        if not killed.stdout.readline():
            pytest.skip(killed.stderr.read().decode().splitlines()[-1])
        until(lambda: pid_file.exists() and bool(pid_file.read_text()))
        server = int(pid_file.read_text())
        killed.send_signal(signal.SIGKILL)
        until(lambda: not alive(server))
    finally:
        killed.kill()
        killed.wait()
        killed.stdout.close()
        killed.stderr.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False


def test_orthanc_asks_who_is_there():
    try:
        with running_orthanc() as orthanc:
            assert httpx.get(f"{orthanc.web_url}/dicom-web/studies", trust_env=False).status_code == 401
            assert holds_nothing(orthanc)
    except NoFenceError as error:
        pytest.skip(str(error))


def holds_nothing(orthanc: Orthanc) -> bool:
    with orthanc.rest() as client:
        return client.get("/dicom-web/studies").json() == []


def test_a_measurement_stands_behind_the_fence_itself(tmp_path: Path):
    """It starts anew in a network of its own, and its servers need no door there."""
    program = tmp_path / "measure.py"
    program.write_text(
        "import socket, sys\nfrom pathlib import Path\nfrom residency.testing.fence import alone, enter, fenced\n"
        "enter()\n"
        "with fenced(['true'], doors=[7], log=Path(sys.argv[1])) as doors:\n"
        "    print(alone(), doors, sys.argv[1:])\n"
        "socket.create_server(('0.0.0.0', 8042)).close()\n"
    )
    command = [sys.executable, str(program), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "NoFenceError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stdout == f"True {{7: 7}} {[str(tmp_path / 'log')]}\n", done.stderr
