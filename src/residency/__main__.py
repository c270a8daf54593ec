"""The command `residency`. Ctrl-C is answered in one line and with status 130, whenever it strikes."""

from __future__ import annotations

import os  # the interpreter has these two before any code of ours runs; Ctrl-C may strike while others are imported
import sys

CANCELLED = 130
"""Status of a command that Ctrl-C ended."""

_struck: list[int] = []
"""Signals that have cancelled this process."""


def main() -> None:
    """Run the command line; nothing is imported before Ctrl-C can be answered."""
    try:
        import signal

        deaf = signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # as `nohup` and `&` make it
        if not deaf:
            signal.signal(signal.SIGINT, _cancel)
        try:
            from residency.cli import main as command_line

            command_line()
        finally:
            if not deaf:
                signal.signal(signal.SIGINT, _end)  # what is left to do takes no KeyboardInterrupt without a traceback
    except BaseException as error:  # some libraries turn one that strikes in their import into another error
        if not _struck and not isinstance(error, KeyboardInterrupt):
            raise
        _say()
        sys.exit(CANCELLED)


def _cancel(number: int, _frame: object) -> None:
    """The first time: tidy up on the way out. The next time ends the process at once."""
    import signal

    signal.signal(number, _end)
    _say()
    _struck.append(number)
    raise KeyboardInterrupt


def _end(_number: int, _frame: object) -> None:
    _say()
    os._exit(CANCELLED)


def _say() -> None:
    if not _struck:
        os.write(2, b"\nresidency: cancelled\n" if os.isatty(2) else b"residency: cancelled\n")


if __name__ == "__main__":
    main()
