"""Choosing a model for each series of a study by its labels: gates, ranking, label rules, the explaining table."""

from residency.selection.candidates import Candidate, CandidateTable
from residency.selection.choice import PAIR_GATES, Selection, select
from residency.selection.gates import Status, Verdict
from residency.selection.outcome import Outcome, OutcomeKind, Row
from residency.selection.ranking import Policy
from residency.selection.rules import (
    LabelRule,
    RuleSet,
    Supplied,
    apply_rules,
    parse_rules,
    shipped_rules,
    suggestion,
)

__all__ = [
    "PAIR_GATES",
    "Candidate",
    "CandidateTable",
    "LabelRule",
    "Outcome",
    "OutcomeKind",
    "Policy",
    "Row",
    "RuleSet",
    "Selection",
    "Status",
    "Supplied",
    "Verdict",
    "apply_rules",
    "parse_rules",
    "select",
    "shipped_rules",
    "suggestion",
]
