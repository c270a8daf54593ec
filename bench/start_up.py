"""How long a user waits before anything happens: `import residency`, and the help of the command line.

    python bench/start_up.py [--quick] [--json FILE]

Each in interpreters of their own, medians; what the bare interpreter takes is measured in between and subtracted from
the import, not from the help, since a user waits for it too. The help of a single command is there for comparison: it
pays for the schema library that typer uses for arguments.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from contract import Claim, Report, main

IMPORT_GOAL_MS = 100.0
HELP_GOAL_MS = 300.0
STARTS = {
    "interpreter": ("-c", "pass"),
    "import residency": ("-c", "import residency"),
    "residency --help": ("-m", "residency", "--help"),
    "residency run --help": ("-m", "residency", "run", "--help"),
}


def bench(quick: bool) -> Report:
    """Time each start, one after the other in turns, so that a busy moment hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(5 if quick else 25):
        for name, arguments in STARTS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    rows = [{"start": name, "median ms": medians[name], "least ms": min(times)} for name, times in taken.items()]
    imported = medians["import residency"] - medians["interpreter"]
    helped = medians["residency --help"]
    claims = [
        Claim(
            claim="import residency, beyond the bare interpreter",
            source="highdicom 1.0 s, pynetdicom 0.7 s, attrs 0.07 s (measured on a busy two-core machine)",
            goal=f"under {IMPORT_GOAL_MS:.0f} ms",
            value=f"{imported:.0f} ms",
            holds=imported < IMPORT_GOAL_MS,
        ),
        Claim(
            claim="residency --help, interpreter included",
            source="none",
            goal=f"under {HELP_GOAL_MS:.0f} ms",
            value=f"{helped:.0f} ms",
            holds=helped < HELP_GOAL_MS,
        ),
    ]
    return Report("Start", rows, claims)


if __name__ == "__main__":
    main(bench, "Time the start of the package and of the command line.")
