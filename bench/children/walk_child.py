"""One process of bench/walk.py: walks two studies and prints, as JSON, when each step began.

    python bench/children/walk_child.py STUDY_FOLDER SECOND_STUDY_FOLDER

The archive and the site come from RESIDENCY_ARCHIVE and RESIDENCY_HOME. The first walk is that of a new process, the
second that of a warm one.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path

BEGUN = time.time()


def process_start() -> float:
    """When the kernel started this process, seconds since the epoch."""
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    boot = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text(encoding="ascii").splitlines() if "btime" in line
    )
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def import_everything() -> None:
    """What a walk imports, lazily imported packages too."""
    import cc3d  # noqa: F401
    import openvino  # noqa: F401
    import scipy.spatial  # noqa: F401

    import residency.archives.folder
    import residency.archives.loose
    import residency.assemble  # noqa: F401


def walk(folder: Path) -> dict[str, float]:
    """Seconds a step of the walk on one study."""
    from residency.archive import Level, Query
    from residency.assemble import open_archive, open_house, open_loose_files
    from residency.pipeline import Ending, read_study
    from residency.selection import Policy
    from residency.settings import read_settings

    marks = [("open", time.perf_counter())]

    def watch(_series: str, step: str, done: int, _total: int) -> None:
        if done == 0:
            marks.append((step, time.perf_counter()))

    settings = read_settings().settings
    archive = open_archive(None, settings, create=False)
    images = open_loose_files(folder)
    house = open_house(settings, images=images, models=archive)
    study = next(images.find(Level.STUDY, Query())).study_uid
    marks.append(("choose", time.perf_counter()))
    reading = read_study(study, house, Policy(allow_unapproved=True), watch=watch)
    marks.append(("end", time.perf_counter()))
    endings = [outcome.ending for outcome in reading.outcomes]
    if Ending.RESULT not in endings:
        raise SystemExit(f"the walk gave no result: {[str(e) for e in endings]}")
    return {step: then - now for (step, now), (_, then) in itertools.pairwise(marks)}


def main() -> None:
    """Walk, and print."""
    started = process_start()
    before = time.perf_counter()
    import_everything()
    imports = time.perf_counter() - before
    first = walk(Path(sys.argv[1]))
    whole = time.time() - started
    warm = walk(Path(sys.argv[2]))
    print(
        json.dumps({"interpreter": BEGUN - started, "imports": imports, "first": first, "whole": whole, "warm": warm})
    )


if __name__ == "__main__":
    main()
