"""The explained selection on the screen: why each model fits a series or does not, every gate once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from residency.cli.lines import folded
from residency.selection import Outcome, OutcomeKind, Row, Selection
from residency.selection.explain import misses, selection_data
from residency.selection.gates import NOTHING

_MOST_ROWS = 20
"""How many models that do not fit are shown for a series; JSON holds all."""


def selection_dict(selection: Selection) -> dict[str, Any]:
    """What `--explain --json` gives: every outcome and every row, as JSON-like data."""
    return selection_data(selection)


def explanation(selection: Selection, series_uid: str, width: int = 80) -> list[str]:
    """Lines that explain the choice for one series: the reasons, every gate of the chosen model, and of each other
    model the gates not passed. Nothing is said twice. Raises SelectionError for a series that was not given.
    """
    outcome = selection.outcome(series_uid)
    if outcome.labels.own_result:
        return folded(outcome.reasons[0], 4, width)
    others = [row for row in selection.rows(series_uid) if row.candidate != outcome.candidate]
    missed = {str(verdict) for row in others for verdict in misses(row)}
    reasons = [reason for reason in outcome.reasons if not reason.startswith(tuple(missed))]
    lines = [line for reason in reasons for line in folded(reason, 4, width)]
    for name, uid in outcome.inputs.items():
        if outcome.candidate is not None:
            lines += gate_lines(selection.row(uid, outcome.candidate.digest, name), width)
    if outcome.before is not None and outcome.before.candidate is not None:
        for name, uid in outcome.before.inputs.items():
            row = selection.row(uid, outcome.before.candidate.digest, name)
            lines += gate_lines(row, width, role=", the step before")
    lines += _other_lines(outcome, others, "\n".join(reasons), width)
    return lines


def gate_lines(row: Row, width: int = 80, role: str = "") -> list[str]:
    """Every gate of one series and one input of a model. role: what the model is taken for, after its name."""
    lines = folded(f"gates of {_model(row)}{role}:", 4, width)
    for verdict in row.verdicts:
        if verdict.rule != NOTHING:
            lines += folded(f"{verdict.status.name.lower():<9}{verdict}", 6, width, hanging=9)
    unasked = ", ".join(verdict.gate for verdict in row.verdicts if verdict.rule == NOTHING)
    return lines + (folded(f"the card asks nothing of: {unasked}", 6, width, hanging=9) if unasked else [])


def _other_lines(outcome: Outcome, others: list[Row], said: str, width: int) -> Iterator[str]:
    """Of each model that is not chosen what it misses, unless it was `said`; the nearest first."""
    ordered = sorted(others, key=lambda row: sum(1 for _ in misses(row)))
    shown = left = 0
    for row in ordered:
        missed = [str(verdict) for verdict in misses(row)]
        unsaid = [text for text in missed if text not in said]
        if (missed and not unsaid) or (not missed and outcome.kind is OutcomeKind.CHOSEN):
            continue
        shown += 1
        if shown > _MOST_ROWS:
            left += 1
            continue
        heading = f"{_model(row)} does not fit:" if missed else f"{_model(row)} passes every gate: {row.rank}"
        yield from folded(heading, 4, width)
        for text in unsaid:
            yield from folded(text, 6, width)
    if left:
        yield f"    and {left} more models that do not fit; --json holds all of them"


def _model(row: Row) -> str:
    several = len(row.candidate.card.inputs) > 1
    return row.candidate.name + (f", input {row.input}" if several else "")
