"""`log.jsonl` in the run folder: what happened at each step, a line of JSON a step, in the order of the steps.

    {"step": 12, "loss": 1.76, "rate": 0.002, "figure": null, "crops_second": 21.3, "waiting_share": 0.01,
     "seconds": 1.9}

step           steps done, from 1; each comes once, none is left out from the first line on
loss           mean over the step's crops
rate           learning rate of the step
figure         on the persons held out, where the step was followed by a validation; else null
crops_second   crops learnt from in a second, validations included, lately
waiting_share  of the step: how much of it what computes had to wait for crops, 0 to 1
seconds        of work on the run so far, pauses left out

A run that is taken up again makes its steps after the last checkpoint anew: their lines are taken out first, and so is
one that a kill left half written. No torch.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from residency.errors import TrainingError
from residency.train.progress import Progress
from residency.train.written import write_whole, written_to

LOG = "log.jsonl"

_LONGEST_LINE = 4096


class RunLog:
    """Open for a run that stands at `step`. `folder` is that of the run, made if it is not there."""

    def __init__(self, folder: Path, step: int) -> None:
        self._file = folder / LOG
        kept = [line for line in _lines(self._file) if line["step"] <= step]
        write_whole(self._file, "".join(map(_line, kept)).encode())
        self._stream = self._file.open("a", encoding="utf-8")

    def __call__(self, done: Progress) -> None:
        """Tell of a step. A kill of this process leaves the line in the file; see `keep`."""
        told = {
            "step": done.step,
            "loss": done.loss,
            "rate": done.rate,
            "figure": done.figure,
            "crops_second": round(done.crops_second, 3),
            "waiting_share": round(done.waiting_share, 4),
            "seconds": round(done.seconds, 3),
        }
        with written_to(self._file):
            self._stream.write(_line(told))
            self._stream.flush()

    def keep(self) -> None:
        """To the disk, before a checkpoint: the log is never behind it, even after a power cut."""
        with written_to(self._file):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Nothing more is told."""
        with suppress(OSError):  # of a line that found no room, which has been told
            self._stream.close()


def read_log(folder: Path) -> tuple[dict[str, Any], ...]:
    """The lines of a run's log; none where it has none. Raises TrainingError where it cannot be read."""
    return tuple(_lines(folder / LOG))


def _line(told: dict[str, Any]) -> str:
    return json.dumps(told) + "\n"


def _lines(file: Path) -> list[dict[str, Any]]:
    """Those up to the first that is not whole or does not come after the one before."""
    found: list[dict[str, Any]] = []
    try:
        with file.open("rb") as stream:
            while line := stream.readline(_LONGEST_LINE):
                told = _told(line)
                if told is None or (found and told["step"] <= found[-1]["step"]):
                    break
                found.append(told)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise TrainingError(f"the log {file} cannot be read: {error.strerror}") from None
    return found


def _told(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    whole = line.endswith(b"\n") and isinstance(told, dict) and type(told.get("step")) is int
    return told if whole else None
