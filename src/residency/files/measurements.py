"""Measurements of a result as CSV for spreadsheets and as JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

FORMAT = "residency-measurements-1"


@dataclass(frozen=True)
class MeasurementRow:
    """One number with what it is about. quantity and unit also as codes ("SCT:118565006"); side "" where unknown."""

    label: str
    segment: int | None
    side: str
    quantity: str
    quantity_code: str
    value: float
    unit: str
    tracking_uid: str = ""


def to_csv(rows: Sequence[MeasurementRow]) -> str:
    """One line a measurement, a heading line first; lines end as RFC 4180 wants them.

    A text that a spreadsheet would run as a formula gets an apostrophe in front: labels come from anywhere.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    names = [field.name for field in fields(MeasurementRow)]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(value) for value in asdict(row).values()])
    return stream.getvalue()


def to_json(rows: Sequence[MeasurementRow], about: dict[str, Any]) -> str:
    """`about` (UIDs, model, notice ...) and the measurements, indented; a value that is not a number becomes null."""
    content = {
        "format": FORMAT,
        **about,
        "measurements": [{**asdict(row), "value": row.value if math.isfinite(row.value) else None} for row in rows],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
