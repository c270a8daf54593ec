"""Measurements of a result as CSV for spreadsheets and as JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

FORMAT = "residency-measurements-1"
NO_UNIT = "1"
"""Unit of a ratio or a probability; people are shown none."""
_IN_EVERY_LINE = ("study", "source_series", "notices")


@dataclass(frozen=True)
class MeasurementRow:
    """One number with what it is about. quantity and unit also as codes ("SCT:118565006"); side is "L", "R" or
    "both", "" where unknown.

    evaluation  of a probability, what the model's rule makes of it: "Detected", "Not detected" or ""
    """

    label: str
    segment: int | None
    side: str
    quantity: str
    quantity_code: str
    value: float
    unit: str
    tracking_uid: str = ""
    evaluation: str = ""


def decimals(unit: str) -> int:
    """Digits after the point that people are shown: ratios and shares are small."""
    return 3 if unit in (NO_UNIT, "%") else 2


def to_csv(rows: Sequence[MeasurementRow], about: Mapping[str, str | list[str]]) -> str:
    """One line a measurement, a heading line first; lines end as RFC 4180 wants them.

    about  "study", "source_series" and "notices" stand in every line: a line is often all that is kept of a table

    A text that a spreadsheet would run as a formula gets an apostrophe in front: labels come from anywhere.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow([*(field.name for field in fields(MeasurementRow)), "study_uid", "series_uid", "notice"])
    last = [" ".join([said] if isinstance(said := about.get(key, ""), str) else said) for key in _IN_EVERY_LINE]
    for row in rows:
        writer.writerow([_cell(value) for value in (*_said(row).values(), *last)])
    return stream.getvalue()


def to_json(rows: Sequence[MeasurementRow], about: dict[str, Any]) -> str:
    """`about` (UIDs, model, notice ...) and the measurements, indented; a value that is not a number becomes null."""
    content = {
        "format": FORMAT,
        **about,
        "measurements": [_said(row) for row in rows],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _said(row: MeasurementRow) -> dict[str, Any]:
    """A row as files say it: no digits that nobody measured, and an unknown side by name."""
    return {**asdict(row), "side": row.side or "unknown", "value": _rounded(row.value)}


def _rounded(value: float) -> float | None:
    """Three decimals, or where that would leave fewer, four digits that count. None for what is not a number."""
    if not math.isfinite(value):
        return None
    return round(value, 3) if abs(value) >= 1 else float(f"{value:.4g}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
