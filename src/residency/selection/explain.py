"""A selection as plain data, for `--json`, the audit and other programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from residency.selection.choice import Selection
from residency.selection.gates import Status, Verdict
from residency.selection.outcome import Outcome, Row


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """One outcome as JSON-like data."""
    data = {
        "series": outcome.series_uid,
        "name": outcome.labels.name,
        "outcome": outcome.kind.value,
        "model": outcome.candidate.card.identity.name if outcome.candidate else None,
        "version": outcome.candidate.card.identity.version if outcome.candidate else None,
        "digest": outcome.candidate.digest if outcome.candidate else None,
        "inputs": dict(outcome.inputs),
        "reasons": list(outcome.reasons),
        "contenders": [candidate.digest for candidate in outcome.contenders],
        "rules": list(outcome.rules),
        "gates": [verdict_data(verdict) for verdict in outcome.gates],
    }
    return data | ({"before": outcome_data(outcome.before)} if outcome.before else {})


def verdict_data(verdict: Verdict) -> dict[str, str]:
    """One gate as JSON-like data."""
    return {
        "gate": verdict.gate,
        "status": verdict.status.name,
        "attribute": verdict.attribute,
        "value": verdict.value,
        "rule": verdict.rule,
        "source": verdict.source,
    }


def row_data(row: Row) -> dict[str, Any]:
    """One row of the table: every gate of one series and one input of a model."""
    failing = row.first_failing
    return {
        "series": row.series_uid,
        "digest": row.candidate.digest,
        "model": row.candidate.card.identity.name,
        "input": row.input,
        "fits": failing is None,
        "first_failing": failing.gate if failing else None,
        "rank": row.rank,
        "gates": [verdict_data(verdict) for verdict in row.verdicts],
    }


def selection_data(selection: Selection, *, table: bool = True) -> dict[str, Any]:
    """All outcomes; with `table`, every row as well, which for many models is long."""
    data: dict[str, Any] = {"outcomes": [outcome_data(outcome) for outcome in selection.outcomes]}
    if table:
        data["table"] = [row_data(row) for row in selection.table()]
    return data


def misses(row: Row) -> Iterable[Verdict]:
    """The gates of a row that are not passed."""
    return (verdict for verdict in row.verdicts if verdict.status is not Status.PASS)
