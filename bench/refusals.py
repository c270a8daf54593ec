"""How long a user waits for the refusal of a wrong training file, and whether it names the key and what to write.

    python bench/refusals.py [--quick] [--json FILE]

`residency train FILE` on each wrong file of `residency.testing.bad_training_files`, in processes of their own; quick:
on the eleven that another trainer took or found late.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contract import Claim, Report, main
from residency.testing.bad_training_files import BAD, OF_A_PEER, Bad, write_data

GOAL_SECONDS = 2.0


def bench(quick: bool) -> Report:
    """Refuse each file in turn. Where other work waits for the cores, processor seconds are judged."""
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)
    judged = "processor seconds" if busy else "seconds"
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder))
        rows = [_refused(bad, Path(folder)) for bad in (OF_A_PEER if quick else BAD)]
    slowest = max(rows, key=lambda row: float(row[judged]))
    silent = [str(row["mistake"]) for row in rows if not row["says all"]]
    claims = [
        Claim(
            claim=f"each of {len(rows)} wrong training files is refused at once",
            source="none",
            goal=f"under {GOAL_SECONDS:.0f} s, interpreter included",
            value=f"{slowest[judged]:.2f} {judged} for the slowest ({slowest['mistake']})",
            holds=float(slowest[judged]) < GOAL_SECONDS,
        ),
        Claim(
            claim="each refusal is one line that names the key and what to write",
            source="none",
            goal="all",
            value=f"{len(rows) - len(silent)} of {len(rows)}",
            holds=not silent,
        ),
    ]
    notes = ["The machine was busy with other work: processor seconds are judged, not the clock's."] if busy else []
    return Report("Refusals", rows, claims, notes)


def _refused(bad: Bad, folder: Path) -> dict[str, Any]:
    file, used, began = bad.write(folder), _processor_seconds(), time.perf_counter()
    command = [sys.executable, "-m", "residency", "train", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    seconds = time.perf_counter() - began
    said = done.stderr.strip()
    return {
        "mistake": bad.what,
        "seconds": seconds,
        "processor seconds": _processor_seconds() - used,
        "says all": done.returncode != 0 and said.count("\n") == 0 and bad.key in said and bad.instead in said,
    }


def _processor_seconds() -> float:
    of_children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return of_children.ru_utime + of_children.ru_stime


if __name__ == "__main__":
    main(bench, "Time the refusal of wrong training files.")
