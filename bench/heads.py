"""How well the shipped head model extracts brains, and finds hippocampi, on heads it never saw.

The committed package, prepared, run and decided as a series from an archive is. T1 of the split `val`, of the people
with a FLAIR and of another source, none of which training or choosing read; the FLAIR of the same people; the T1 of
`val` in other storage, other resolutions and with faults; and, apart, heads whose reference is a brain mask.

    python bench/heads.py              the table
    python bench/heads.py --record     also docs/results/heads.{md,json}, and evaluation.json for the card

The data lie in ../shared/data beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from contract import REPOSITORY, Claim, Report, machine, main
from heads_parts.judged import INTRACRANIAL, Row, judge
from heads_parts.pages import evaluations, interval_of, page, plain
from heads_parts.registration import register
from heads_parts.shown import BRAIN_MASKS, KEPT, OTHER_SOURCE, VAL, Head, carried, changed, t1
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import TrainingError
from residency.files.nifti import read_nifti
from residency.models.folder import read_folder

MODEL = REPOSITORY / "models" / "head"
RESULTS = REPOSITORY / "docs" / "results"
DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data")) / "brain_extraction"

LEAST_DICE, AIM, MOST_HD95_MM = 0.965, 0.975, 4.0
SOURCE = "deepbet on T1 of 1 mm: median Dice 0.990, worst 0.969 (arXiv 2308.07003), other data"
UNTOUCHED = "as it is"


def bench(quick: bool) -> Report:
    """Every head; the quick form three of them, from which no claim is judged."""
    package = read_folder(MODEL)
    graph = package.with_role("graph").data
    network = OpenVino().load(graph, precision=Precision.F32)
    rows, notes = [], []
    for head, note in _quick() if quick else _heads():
        rows.append(judge(head, network, package.card))
        notes += [note] if note else []
        print(f"{head.group}, {head.case}, {head.change}: {rows[-1][INTRACRANIAL]:.4f}", file=sys.stderr, flush=True)
    return Report(
        f"The head model on {len(rows)} images of {len({row['case'] for row in rows})} people",
        rows,
        _claims(rows, evaluated=not quick),
        [
            f"graph sha256 {hashlib.sha256(graph).hexdigest()}; window {list(package.card.tiling.window)}",
            "intervals: 95 %, bootstrap over persons; HD95 in mm on the grid of the image",
            *notes,
        ],
    )


def _quick() -> Iterator[tuple[Head, str]]:
    first = t1(DATA, VAL[0], "T1, split val")
    yield first, ""
    yield t1(DATA, OTHER_SOURCE[0], "T1, another source"), ""
    yield next(changed(first)), ""


def _heads() -> Iterator[tuple[Head, str]]:
    """Each head with what a reader should know of it."""
    for case in VAL:
        yield t1(DATA, case, "T1, split val"), ""
    for case in KEPT:
        yield t1(DATA, case, "T1, people with a FLAIR"), ""
    for case in OTHER_SOURCE:
        yield t1(DATA, case, "T1, another source"), ""
    for case in KEPT:
        yield _flair(case)
    for case in VAL:
        for head in changed(t1(DATA, case, "T1, split val, changed")):
            yield head, ""
    for case in BRAIN_MASKS:
        head = t1(DATA, case, "T1, reference is a brain mask")
        if case == "ms_03":
            yield replace(head, change="faulty reference"), f"{case}: its reference leaves out the frontal lobes"
        else:
            yield head, ""


def _flair(case: str) -> tuple[Head, str]:
    """The FLAIR of a case, with the reference of its T1 carried there."""
    whole = t1(DATA, case, "FLAIR")
    flair = read_nifti((DATA / case / "flair.nii.gz").read_bytes())
    found = register(flair, whole.volume)
    note = (
        f"{case}: FLAIR brought to its T1 by up to {found.largest_mm:.0f} mm; mutual information {found.before:.2f} "
        f"before, {found.after:.2f} after"
    )
    return Head(case, "FLAIR", UNTOUCHED, flair, carried(whole, flair.grid, found.map)), note


def _claims(rows: Sequence[Row], *, evaluated: bool) -> list[Claim]:
    of_val = [row for row in rows if row["group"] == "T1, split val"]
    elsewhere = [row for row in rows if row["group"] == "T1, another source"]
    mean = interval_of(of_val, INTRACRANIAL)
    worst = max(row["HD95 intracranial"] for row in of_val)
    (other,) = elsewhere
    return [
        Claim(
            "mean Dice of the intracranial mask, T1 heads of val",
            SOURCE,
            f"at least {LEAST_DICE}, aim {AIM}",
            f"{mean.mean:.4f} ({mean.low:.4f} to {mean.high:.4f})",
            mean.mean >= LEAST_DICE,
            evaluated,
        ),
        Claim(
            "HD95 of the intracranial mask, the worst T1 head of val",
            "none",
            f"at most {MOST_HD95_MM} mm",
            f"{worst:.2f} mm",
            worst <= MOST_HD95_MM,
            evaluated,
        ),
        Claim(
            "a head of another source (IXI), which training never saw",
            "none",
            f"Dice at least {LEAST_DICE}, HD95 at most {MOST_HD95_MM} mm",
            f"{other[INTRACRANIAL]:.4f}, {other['HD95 intracranial']:.2f} mm",
            other[INTRACRANIAL] >= LEAST_DICE and other["HD95 intracranial"] <= MOST_HD95_MM,
            evaluated,
        ),
    ]


def record(report: Report) -> None:
    """The result for people and for programs, and the figures for the card."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "heads.md").write_text(page(report), encoding="utf-8")
    body = {
        "title": report.title,
        "command": "python bench/heads.py --record",
        "quick": False,
        "machine": machine(),
        "rows": [{key: plain(value) for key, value in row.items()} for row in report.rows],
        "claims": [asdict(claim) for claim in report.claims],
        "notes": list(report.notes),
    }
    (RESULTS / "heads.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    figures = {"evaluation": [figure.model_dump(mode="json") for figure in evaluations(report)]}
    (MODEL / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _bench_and_record(quick: bool) -> Report:
    if quick:
        raise TrainingError("what is recorded is a full run; leave --quick out")
    report = bench(quick)
    record(report)
    return report


if __name__ == "__main__":
    recorded = "--record" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--record"]
    main(_bench_and_record if recorded else bench, "The shipped head model on heads it never saw")
