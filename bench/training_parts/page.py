"""The report of bench/training.py as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract import Report

SHIPPED = "as it ships"


def page(report: Report, command: str) -> str:
    """Markdown: what was asked, what was found, and how."""
    shipped = [row for row in report.rows if row["what"] == SHIPPED]
    paced = [row for row in report.rows if row["what"] != SHIPPED]
    dice = [key for key in report.rows[0] if key.startswith("Dice")]
    told = ["patches a second", "waiting for data", "processor s / s", "processes", "peak MB", "peak MB, shared once"]
    verdicts = [
        f"- {claim.claim}; goal: {claim.goal}. Measured: {claim.value}. **{_verdict(claim.holds, claim.evaluated)}**"
        for claim in report.claims
    ]
    lines = [
        "# Our trainer beside nnU-Net and MONAI",
        "",
        f"{report.title}. Made by `{command}`; each trainer in a process of its own, one after the other, two cores.",
        "",
        *verdicts,
        "",
        "## Each as it ships",
        "",
        *_table(shipped, ["trainer", "parameters", "steps", *dice, *told, "set-up s"]),
        "",
        "## The same net in each",
        "",
        *_table(paced, ["what", "trainer", "parameters", "steps", *told]),
        "",
        "## How it was measured",
        "",
        *(f"- {note}" for note in report.notes),
    ]
    return "\n".join(lines) + "\n"


def _verdict(holds: bool, evaluated: bool) -> str:
    if not evaluated:
        return "not judged by the quick form"
    return "holds" if holds else "does not hold"


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    return [
        f"| {' | '.join(keys)} |",
        f"|{'---|' * len(keys)}",
        *(f"| {' | '.join(str(row[key]) for key in keys)} |" for row in rows),
    ]
