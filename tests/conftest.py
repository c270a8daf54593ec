"""What all tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# Contract suites are shipped, not collected: without this their failures would show no values.
pytest.register_assert_rewrite("residency.testing")
pytest_plugins = ["residency.testing.publisher"]

Judge = Callable[[bytes], str]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images for tests, beside the checkout or where RESIDENCY_SHARED_DATA says; skips where they are absent."""
    folder = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test images: {folder} is not a folder; set RESIDENCY_SHARED_DATA")
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which programs were missing and how many tests did not run: none passes silently."""
    asked = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "system_packages.py")], capture_output=True, text=True, check=False
    )
    skipped = len(terminalreporter.stats.get("skipped", []))
    if asked.stdout or skipped:
        terminalreporter.section("what this run could not show")
        terminalreporter.write(asked.stdout)
        terminalreporter.write_line(f"{skipped} tests skipped; each says why above")


@pytest.fixture(scope="session")
def run_tool(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a program on bytes as a file; its whole output. Skips, saying what to install, where it is missing."""
    folder = tmp_path_factory.mktemp("judged")

    def run(package: str, command: Sequence[str], data: bytes) -> str:
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} missing: apt install {package}")
        file = folder / "judged.dcm"
        file.write_bytes(data)
        done = subprocess.run([*command, str(file)], capture_output=True, check=False, timeout=60)
        output = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1), output
        return output

    return run


@pytest.fixture(scope="session")
def dciodvfy(run_tool: Callable[..., str]) -> Callable[[bytes], list[str]]:
    """Judges an instance by its IOD; fails on any error and gives the warnings.

    Allowed without notice is one warning: the validator knows no private coding scheme, and ours is declared in Coding
    Scheme Identification Sequence.
    """

    def judge(data: bytes) -> list[str]:
        lines = run_tool("dicom3tools", ["dciodvfy"], data).splitlines()
        assert not [line for line in lines if "Error" in line], "\n".join(lines)
        return [line for line in lines if line.startswith("Warning") and "<99RESIDENCY>" not in line]

    return judge


@pytest.fixture(scope="session")
def dcmdump(run_tool: Callable[..., str]) -> Judge:
    """The instance as DCMTK reads it, text as UTF-8."""

    def judge(data: bytes) -> str:
        output = run_tool("dcmtk", ["dcmdump", "+U8", "+L"], data)
        assert not [line for line in output.splitlines() if line.startswith(("E:", "F:", "W:"))], output
        return output

    return judge


@pytest.fixture(scope="session")
def dsrdump(run_tool: Callable[..., str]) -> Judge:
    """The structured report as DCMTK renders it. That it checks no VRs in UTF-8 is a remark on itself."""

    def judge(data: bytes) -> str:
        output = run_tool("dcmtk", ["dsrdump", "+Pl"], data)
        faults = [line for line in output.splitlines() if line.startswith(("E:", "F:", "W:"))]
        assert not [line for line in faults if "VR checker does not support" not in line], output
        return output

    return judge
