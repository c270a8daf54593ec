"""What all tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
