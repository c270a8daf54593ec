"""Ctrl-C: one line and status 130, whenever it strikes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

AT_IMPORT = """
import os, sys

class Strikes:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            {strike}

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Strikes())
from residency.__main__ import main
main()
"""

PLAINLY = "os.kill(os.getpid(), 2)"

WRAPPED = """
            try:
                os.kill(os.getpid(), 2)
                for _ in range(1000): pass
            except KeyboardInterrupt as error:
                raise ImportError("initialisation failed") from error
"""

AT_THE_END = """
import atexit, os
atexit.register(lambda: [os.kill(os.getpid(), 2), [None for _ in range(1000)]])
from residency.__main__ import main
main()
"""


TWICE = """
import os
import residency.cli

def command_line():
    from residency.cli.train import stop_on_interrupt
    with stop_on_interrupt() as stopped:
        os.kill(os.getpid(), 2)
        print("stops at the next step:", stopped(), flush=True)
        os.kill(os.getpid(), 2)
        print("never reached")

residency.cli.main = command_line
from residency.__main__ import main
main()
"""


def ended(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that listens to Ctrl-C, even where the tests were begun by something that makes its children deaf."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("module", ["signal", "residency.cli", "typer", "residency.cli.validate", "residency.card"])
def test_while_something_is_imported(module):
    """The last is needed by the command itself alone."""
    done = ended(AT_IMPORT.format(strike=PLAINLY), module, "models", "verify", str(Path(__file__).parent))
    assert (done.returncode, done.stderr) == (130, "residency: cancelled\n")


def test_where_a_library_turns_it_into_an_error_of_its_own():
    done = ended(AT_IMPORT.format(strike=WRAPPED), "residency.card", "models", "verify", str(Path(__file__).parent))
    assert (done.returncode, done.stderr) == (130, "residency: cancelled\n")


def test_after_the_command_has_done_its_work():
    done = ended(AT_THE_END, "--version")
    assert (done.returncode, done.stderr) == (130, "residency: cancelled\n")
    assert done.stdout.startswith("residency ")


def test_a_process_that_was_made_deaf_to_it_stays_so():
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{AT_THE_END}"
    done = ended(code, "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_twice_where_the_first_asks_for_the_end_of_a_step():
    done = ended(TWICE)
    assert done.returncode == 130
    assert done.stdout == "stops at the next step: True\n"
    assert done.stderr.splitlines()[1:] == [
        "Stopping after what is at hand; once more stops at once and may lose it.",
        "residency: cancelled",
    ]
