"""The explained selection on the screen: what becomes of every series, and why each model fits or does not."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from residency.selection import OutcomeKind, Row, Selection, Status
from residency.selection.explain import misses, selection_data

_COLOURS = {
    OutcomeKind.CHOSEN: "green",
    OutcomeKind.AMBIGUOUS: "yellow",
    OutcomeKind.NONE: "dim",
    OutcomeKind.UNTRUSTED: "red",
    OutcomeKind.UNSUPPORTED: "yellow",
}

_MOST_MISSED = 3
"""How many gates not passed a row shows; `print_gates` and JSON show all."""


def show_selection(selection: Selection, console: Console | None = None) -> None:
    """What `--explain` shows: the outcome of every series, then everything that was considered."""
    console = console or Console()
    print_outcomes(console, selection)
    print_explanation(console, selection)


def selection_dict(selection: Selection) -> dict[str, Any]:
    """What `--explain --json` gives: every outcome and every row, as JSON-like data."""
    return selection_data(selection)


def print_outcomes(console: Console, selection: Selection) -> None:
    """One line a series, with every reason under it."""
    table = Table("Series", "Outcome", "Why", title="Choice of model", title_justify="left")
    for outcome in selection.outcomes:
        kind = Text(outcome.kind.value, style=_COLOURS[outcome.kind])
        table.add_row(Text(outcome.labels.name), kind, Text("\n".join(outcome.reasons)))
    console.print(table)


def print_explanation(console: Console, selection: Selection, *, most_rows: int = 200) -> None:
    """Every series with every model: what fits, or the gates not passed. Cut after `most_rows` rows, and said so."""
    table = Table("Series", "Model", "Result", "Gates not passed, or rank", title="Considered", title_justify="left")
    left = 0
    for number, row in enumerate(selection.table()):
        if number < most_rows:
            table.add_row(Text(row.series_name), Text(_model(row)), _result(row), Text(_why(row)))
        else:
            left += 1
    console.print(table)
    if left:
        console.print(f"{left} more rows; --json holds all of them")


def print_gates(console: Console, row: Row) -> None:
    """Every gate of one series and one model."""
    table = Table("Gate", "Result", "Attribute", "Value", "Needed", "Source", title=_model(row), title_justify="left")
    for v in row.verdicts:
        table.add_row(v.gate, _status(v.status), *(Text(cell) for cell in (v.attribute, v.value, v.rule, v.source)))
    console.print(table)


def _model(row: Row) -> str:
    several = len(row.candidate.card.inputs) > 1
    return row.candidate.name + (f", input {row.input}" if several else "")


def _result(row: Row) -> Text:
    failing = row.first_failing
    if failing is None:
        return _status(Status.PASS)
    return Text.assemble(_status(failing.status), f" {failing.gate}")


def _why(row: Row) -> str:
    missed = [str(verdict) for verdict in misses(row)]
    if len(missed) > _MOST_MISSED:
        missed[_MOST_MISSED:] = [f"and {len(missed) - _MOST_MISSED} more"]
    return "\n".join(missed) or row.rank


def _status(status: Status) -> Text:
    return Text(status.name, style={Status.PASS: "green", Status.UNKNOWN: "yellow", Status.FAIL: "red"}[status])
