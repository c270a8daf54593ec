"""What a selection says of one series: how it ends, and of each pair of series and input what every gate found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from residency.labels import SeriesLabels
from residency.selection.candidates import Candidate
from residency.selection.gates import Status, Verdict


class OutcomeKind(StrEnum):
    """The five ends of a selection."""

    CHOSEN = "chosen"
    AMBIGUOUS = "ambiguous"
    NONE = "none"
    UNTRUSTED = "untrusted"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Outcome:
    """What is to happen with one series.

    labels     of the series, with what approved rules supplied
    reasons    never empty; the first is the one to tell
    candidate  the chosen model; None for any other kind
    inputs     for a chosen model: input name -> series UID
    gates      for a chosen model: every gate that demanded something, input by input, however the model was asked for
    approval   of the chosen model: the approvals of this site that hold for this series, in words; None where none does
    contenders for an ambiguous choice: the models between which nothing decides
    rules      names of the label rules that matched
    before     for a model that is given a crop of the series: the choice of the model that makes it
    """

    series_uid: str
    kind: OutcomeKind
    labels: SeriesLabels
    reasons: tuple[str, ...]
    candidate: Candidate | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    gates: tuple[Verdict, ...] = ()
    approval: str | None = None
    contenders: tuple[Candidate, ...] = ()
    rules: tuple[str, ...] = ()
    before: Outcome | None = None

    def __str__(self) -> str:
        what = self.candidate.name if self.candidate else self.kind.value
        return f"{self.labels.name}: {what}: {self.reasons[0]}"


@dataclass(frozen=True)
class Row:
    """Every gate of one series and one input of a model, and where the model stands among the others."""

    series_uid: str
    series_name: str
    candidate: Candidate
    input: str
    verdicts: tuple[Verdict, ...]
    rank: str

    @property
    def first_failing(self) -> Verdict | None:
        """The first gate that is not passed."""
        return next((v for v in self.verdicts if v.status is not Status.PASS), None)
