"""The report of bench/training.py as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract import claims_told, measured_on, paragraph

SHIPPED = "as it ships"


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    shipped = [row for row in body["rows"] if row["what"] == SHIPPED]
    paced = [row for row in body["rows"] if row["what"] != SHIPPED]
    dice = [key for key in body["rows"][0] if key.startswith("Dice")]
    told = ["patches a second", "waiting for data", "processor s / s", "processes", "peak MB", "peak MB, shared once"]
    lines = [
        "# Our trainer beside nnU-Net and MONAI",
        "",
        paragraph(
            f"{body['title']}.",
            measured_on(body),
            "Each trainer in a process of its own, one after the other, two cores.",
        ),
        "",
        *claims_told(body["claims"]),
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
        *(f"- {note}" for note in body["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    return [
        f"| {' | '.join(keys)} |",
        f"|{'---|' * len(keys)}",
        *(f"| {' | '.join(str(row[key]) for key in keys)} |" for row in rows),
    ]
