"""Nothing speaks to the outside: libraries' telemetry is off, and the walk succeeds without any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WATCH = Path(__file__).parent / "watch"

RUN_AN_ENGINE = """
import sys
import numpy as np
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.testing.engine import scaling_graph

network = OpenVino(threads=1).load(scaling_graph(), precision=Precision.F32)
scores = network.collect(network.submit({"image": np.ones((1, 1, 4, 4, 4), np.float32)}))
assert scores["scores"].shape == (1, 2, 4, 4, 4)
assert sys.modules["openvino_telemetry"] is None
"""

CONNECT = """
import socket
try:
    socket.create_connection(("192.0.2.1", 9), timeout=1)
except OSError:
    pass
"""


@pytest.fixture
def watched(tmp_path: Path):
    """Run Python with every outside connection refused and written down; returns the process and what was tried."""
    log = tmp_path / "attempts"
    home = tmp_path / "home"
    home.mkdir()

    def run(*arguments: str, before: tuple[str, ...] = ()) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RESIDENCY_")},
            "PYTHONPATH": str(WATCH),
            "RESIDENCY_WATCH": str(log),
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
        }
        # Continuous integration switches some libraries' telemetry off; a hospital's machine is no CI.
        environment.pop("CI", None)
        done = subprocess.run(
            [*before, sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done, log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    return run


@pytest.fixture
def empty_network() -> tuple[str, ...]:
    """The command that gives a process a network namespace with nothing in it, not even a loopback that is up."""
    for command in (("unshare", "-n"), ("unshare", "-rn")):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.skip("unshare (util-linux) is not installed, or this user may not make a network namespace")


def test_the_watch_sees_an_attempt_that_the_program_hides(watched):
    done, attempts = watched("-c", CONNECT)
    assert done.returncode == 0, done.stderr
    assert attempts
    assert "192.0.2.1" in attempts[0]


def test_the_engine_runs_without_telemetry(watched):
    """Without a consent file the telemetry package of OpenVINO counts as allowed."""
    done, attempts = watched("-c", RUN_AN_ENGINE)
    assert done.returncode == 0, done.stderr
    assert attempts == []


def test_the_whole_walk_succeeds_in_an_empty_network(watched, empty_network):
    """Publish, choose, run, store, report: a hospital's machine that reaches nothing outside loses nothing."""
    done, attempts = watched("-m", "residency", "demo", "--no-head", before=empty_network)
    assert done.returncode == 0, done.stderr
    assert "mL" in done.stdout
    assert attempts == []
