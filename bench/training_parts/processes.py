"""A contender's process, and what it takes with all processes that it starts: memory and processor time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EVERY_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


def carried_out(command: Sequence[str], answer: Path, more: Mapping[str, str]) -> dict[str, Any]:
    """The JSON that the process left as `answer`, and what its whole tree took. What it said lies beside it, .log.

    peak_mb       sum over its processes of the peak of each (VmHWM); pages that they share count for each
    shared_mb     highest sum at one moment, shared pages counted once (proportional set size), seen each second
    processor_s   processor time of all of them

    Raises SystemExit where it fails.
    """
    log = answer.with_suffix(".log")
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **more})
        try:
            taken = _watched(process)
        except BaseException:
            process.terminate()  # so that a contender can end its own workers
            process.wait()
            raise
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed; see {log}")
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found | taken


def _watched(process: subprocess.Popen[bytes]) -> dict[str, float]:
    peaks: dict[int, float] = {}
    ticks: dict[int, int] = {}
    most = 0.0
    while process.poll() is None:
        together = 0.0
        for pid in _tree(process.pid):
            try:
                peaks[pid] = max(peaks.get(pid, 0.0), _field(pid, "status", "VmHWM"))
                together += _field(pid, "smaps_rollup", "Pss")
                ticks[pid] = max(ticks.get(pid, 0), _processor_ticks(pid))
            except (OSError, StopIteration):  # it has just ended
                continue
        most = max(most, together)
        time.sleep(EVERY_S)
    return {
        "peak_mb": sum(peaks.values()),
        "shared_mb": most,
        "processor_s": sum(ticks.values()) / _TICKS,
        "processes": len(peaks),
    }


def _tree(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, task.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def _field(pid: int, file: str, name: str) -> float:
    """A size in MB."""
    lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _processor_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return int(after_name[11]) + int(after_name[12])
