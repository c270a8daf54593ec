"""What is written of the figures: the page for people, and the lines of the card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from contract import Report
from heads_parts.judged import FIGURES, HIPPOCAMPUS, INTRACRANIAL
from residency.card import Evaluation
from residency.metrics import Interval, bootstrap

SEED = 2026
_COHORTS = {
    "T1, split val": "NiChart demonstration data set, split val: T1, 2 mm, never used in training",
    "T1, people with a FLAIR": "NiChart demonstration data set: T1, 2 mm, of people kept out of training",
    "T1, another source": "IXI (Hammersmith Hospital): one T1, 2 mm; no head of this source was used in training",
    "FLAIR": "NiChart demonstration data set: FLAIR, 2 mm, of people kept out of training; reference of their T1 "
    "brought over by a rigid registration",
    "T1, split val, changed": "NiChart demonstration data set, split val: T1 changed by code",
    "T1, reference is a brain mask": "Open MS data (Ljubljana): T1, 0.9 x 0.9 x 3 mm; the reference is a brain mask, "
    "which leaves out fluid that the model takes in",
}
_OF_CARD = (INTRACRANIAL, "HD95 intracranial", HIPPOCAMPUS)

Rows = Sequence[Mapping[str, Any]]


def interval_of(rows: Rows, figure: str) -> Interval:
    """Mean and interval over persons."""
    by_person: dict[str, list[float]] = {}
    for row in rows:
        by_person.setdefault(row["case"], []).append(row[figure])
    return bootstrap(by_person, seed=SEED)


def evaluations(report: Report) -> list[Evaluation]:
    """Three figures of each group, and of each change."""
    found = []
    for (group, change), rows in _kinds(report.rows).items():
        for figure in _OF_CARD:
            if all(math.isnan(row[figure]) for row in rows):
                continue
            interval = interval_of(rows, figure)
            found.append(
                Evaluation(
                    metric=figure,
                    definition=FIGURES[figure] + "; 95 % interval by bootstrap over persons",
                    cohort=_COHORTS[group],
                    persons=interval.persons,
                    cases=interval.cases,
                    value=round(interval.mean, 4),
                    low=round(interval.low, 4),
                    high=round(interval.high, 4),
                    subgroup=None if change == "as it is" else change,
                )
            )
    return found


def page(report: Report) -> str:
    """The page of results."""
    rows = report.rows
    ranked = sorted((row for row in rows if row["group"] != "T1, reference is a brain mask"), key=_by_dice)
    lines = [
        "# Heads: the shipped model on heads it never saw",
        "",
        "Made by `python bench/heads.py --record` from the package in `models/head`. Each image goes through the "
        "recipe, the windows, the network on OpenVINO (f32) and the card's decision rule, and is compared on its own "
        "grid. The references of T1 and FLAIR are labels of another network (DLMUSE): agreement with it is measured, "
        "not truth. Tumours: not tested. Research use only.",
        "",
        *(
            f"- {claim.claim}, goal {claim.goal}: **{claim.value}**, {'holds' if claim.holds else 'FAILS'}"
            for claim in report.claims
        ),
        "",
        "Means with 95 % intervals, by bootstrap over persons; HD95 in mm, volume error in per cent.",
        "",
        f"| heads | change | people | {' | '.join(FIGURES)} |",
        f"|---|---|---|{'---|' * len(FIGURES)}",
        *(_line(group, change, own) for (group, change), own in _kinds(rows).items()),
        "",
        "What the columns mean:",
        "",
        *(f"- {name}: {told}" for name, told in FIGURES.items()),
        "",
        "## Where a group comes from",
        "",
        *(f"- {group}: {told}" for group, told in _COHORTS.items()),
        "",
        "## Worst ten of the images with a reference of the same kind",
        "",
        "| case | heads | change | Dice intracranial | HD95 intracranial |",
        "|---|---|---|---|---|",
        *(
            f"| {row['case']} | {row['group']} | {row['change']} | {row[INTRACRANIAL]:.4f} | "
            f"{row['HD95 intracranial']:.2f} |"
            for row in ranked[:10]
        ),
        "",
        "## Each image",
        "",
        f"| case | heads | change | {' | '.join(FIGURES)} |",
        f"|---|---|---|{'---|' * len(FIGURES)}",
        *(f"| {row['case']} | {row['group']} | {row['change']} | {_figures(row)} |" for row in rows),
        "",
        *(f"- {note}" for note in report.notes),
    ]
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """A value that JSON has."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _kinds(rows: Rows) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["group"], row["change"]), []).append(row)
    return kinds


def _by_dice(row: Mapping[str, Any]) -> float:
    return float(row[INTRACRANIAL])


def _line(group: str, change: str, rows: Rows) -> str:
    cells = [_cell(rows, figure) for figure in FIGURES]
    return f"| {group} | {change} | {len({row['case'] for row in rows})} | {' | '.join(cells)} |"


def _cell(rows: Rows, figure: str) -> str:
    if all(math.isnan(row[figure]) for row in rows):
        return "not told"
    found = interval_of(rows, figure)
    return f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


def _figures(row: Mapping[str, Any]) -> str:
    return " | ".join(_shown(row[name]) for name in FIGURES)


def _shown(value: float) -> str:
    return "not told" if math.isnan(value) else f"{value:.4f}"
