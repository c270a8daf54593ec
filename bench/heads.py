"""How well the shipped head model extracts brains, and the cascade measures hippocampi, on heads it never saw.

Both committed packages, prepared, run, cropped and decided as a series from an archive is. T1 of the split `val`, of
the people with a FLAIR and of another source, none of which training or choosing read; the FLAIR of the same people;
the T1 of `val` in other storage, other resolutions and with faults; the same without a skull; and, in a table apart,
heads whose reference is a brain mask.

    python bench/heads.py [--quick] [--json FILE] [--work FOLDER] [--head FOLDER] [--record]

`--record` writes docs/results/heads.{json,md}, and evaluation.json for the card. The full form takes about ten minutes
on two quiet cores; what each image came to is kept in the work folder, so a bench that was stopped goes on. The data
lie in ../shared/data beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from contract import REPOSITORY, RESULTS, Report, code_digest, main
from heads_parts.findings import BARE, CHANGED, FLAIR, IXI, KEPT, MASKS, VAL, claims, evaluations
from heads_parts.judged import gated, judge
from heads_parts.pages import page
from heads_parts.registration import register
from heads_parts.shown import (
    BRAIN_MASKS,
    CHANGES,
    FAULTY,
    OF_VAL,
    OTHER_SOURCE,
    STRIPPED,
    UNCHANGED,
    WITH_FLAIR,
    Head,
    carried,
    changed,
    t1,
)
from residency.files.nifti import read_nifti, read_nifti_labels
from shipped import DATA, MODELS, Row, Shipped, once, write_evaluations

HEADS = DATA / "brain_extraction"
QUICK_CHANGE = "ten inserted lesions of up to 5 mm radius"

_BENCH, _SOURCE = REPOSITORY / "bench", REPOSITORY / "src" / "residency"
CODE = (
    *(_BENCH / name for name in ("heads.py", "shipped.py")),
    *(_BENCH / "heads_parts" / f"{name}.py" for name in ("cascaded", "judged", "registration", "shown")),
    *(_SOURCE / name for name in ("engines", "infer", "metrics", "prepare", "selection")),
    *(_SOURCE / name for name in ("decide.py", "pipeline/crops.py", "tiles.py", "volume.py")),
)
"""What a row depends on, beside the packages and the images."""

OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument(
    "--work", type=Path, default=REPOSITORY / "runs" / "heads", metavar="FOLDER", help="images judged so far"
)
OPTIONS.add_argument(
    "--head", type=Path, default=MODELS / "head", metavar="FOLDER", help="the head package  [default: models/head]"
)


@dataclass(frozen=True)
class Asked:
    """One image of the bench: whose, and how it is shown."""

    group: str
    case: str
    change: str = UNCHANGED


def bench(quick: bool) -> Report:
    """Every image; the quick form a few of them, from which no claim is judged."""
    own, _ = OPTIONS.parse_known_args()
    first, second = Shipped.opened(own.head), Shipped.opened(MODELS / "hippocampus")
    code = code_digest(*CODE, packages=("numpy", "scipy", "openvino", "connected-components-3d"))
    asked = list(_quick() if quick else _all())
    rows: list[Row] = []
    started = time.monotonic()
    for number, one in enumerate(asked, 1):
        files = [file.read_bytes() for file in sorted((HEADS / one.case).iterdir())]
        meant: list[str | bytes] = [code, first.meaning, second.meaning, repr(one), *files]
        rows.append(once(own.work, meant, partial(_row, one, first, second)))
        left = (time.monotonic() - started) / number * (len(asked) - number) / 60
        print(
            f"{number} of {len(asked)}, {left:.0f} min left: {one.group}, {one.case}, {one.change}",
            file=sys.stderr,
            flush=True,
        )
    return Report(
        f"The head model and the cascade on {len(rows)} images of {len({row['person'] for row in rows})} people",
        rows,
        claims(rows, judged=not quick),
        [
            *(package.told for package in (first, second)),
            "intervals: 95 %, bootstrap over persons; with three persons they are no more than a hint",
            "HD95 in mm on the grid of the image; a structure that is missed is as far away as two voxels can be",
            *dict.fromkeys(row["note"] for row in rows if row["note"]),
        ],
    )


def _quick() -> Iterator[Asked]:
    yield Asked(VAL, OF_VAL[0])
    yield Asked(IXI, OTHER_SOURCE[0])
    yield Asked(CHANGED, OF_VAL[0], QUICK_CHANGE)
    yield Asked(BARE, OF_VAL[0], STRIPPED)
    yield Asked(MASKS, BRAIN_MASKS[0])


def _all() -> Iterator[Asked]:
    for group, cases in ((VAL, OF_VAL), (KEPT, WITH_FLAIR), (IXI, OTHER_SOURCE), (FLAIR, WITH_FLAIR)):
        yield from (Asked(group, case) for case in cases)
    for case in OF_VAL:
        yield from (Asked(CHANGED, case, change) for change in CHANGES)
        yield Asked(BARE, case, STRIPPED)
    for case in BRAIN_MASKS:
        yield Asked(MASKS, case, "faulty reference" if case in FAULTY else UNCHANGED)


def _row(asked: Asked, first: Shipped, second: Shipped) -> Row:
    head, note = t1(HEADS, asked.case, asked.group), FAULTY.get(asked.case, "")
    if asked.group == FLAIR:
        head, note = _flair(head)
    if asked.change in (*CHANGES, STRIPPED):
        head = changed(head, asked.change)
    head = replace(head, change=asked.change)
    row = gated(head, first) if asked.group == BARE else judge(head, first, None if asked.group == FLAIR else second)
    return row | {"note": note}


def _flair(whole: Head) -> tuple[Head, str]:
    """The FLAIR of a case with the reference of its T1 carried there, and how far that can be relied upon.

    The lesions that another network outlined in the FLAIR itself lie in the white matter: how many of them lie inside
    the carried reference tells a registration that went astray.
    """
    place = HEADS / whole.case
    flair = read_nifti((place / "flair.nii.gz").read_bytes())
    found = register(flair, whole.volume)
    reference = carried(whole, flair.grid, found.map)
    lesions, grid = read_nifti_labels((place / "flair_wmlesions.nii.gz").read_bytes())
    inside = float(np.mean(reference[lesions > 0] > 0)) if grid.matches(flair.grid) and lesions.any() else float("nan")
    note = (
        f"{whole.case}: FLAIR brought to its T1 by up to {found.largest_mm:.0f} mm; mutual information "
        f"{found.before:.2f} before, {found.after:.2f} after; {inside:.1%} of the lesions outlined in the FLAIR lie "
        "inside the reference brought over"
    )
    return replace(whole, volume=flair, reference=reference), note


if __name__ == "__main__":
    main(
        bench,
        "The shipped head model and the cascade on heads they never saw",
        [OPTIONS],
        page,
        RESULTS / "heads.json",
        lambda report: write_evaluations(OPTIONS.parse_known_args()[0].head, evaluations(report.rows)),
    )
