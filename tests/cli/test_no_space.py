"""Where nothing more can be written, that is said in one line."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")

FAILING = """
import sys
from residency import cli

def app():
    print("made so far")
    raise OSError({number}, "what the system says", "out.dcm")

cli.app = app
cli.main()
"""


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [("--version",), ("config", "show")])
def test_output_without_room_is_said_in_one_line(words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "residency", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == "residency: there is no space left: make room, and repeat the command\n"
    assert done.returncode == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_was_printed_before_a_file_found_no_room_is_kept(number: int) -> None:
    code = FAILING.format(number=number)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "made so far\n"
    assert done.stderr == "residency: there is no space left for out.dcm: make room, and repeat the command\n"
    assert done.returncode == 1
