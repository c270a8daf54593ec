"""How the walk ends for each series, and how it tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from residency.errors import ResidencyError
from residency.findings import Findings
from residency.selection import Outcome as Choice
from residency.selection import Selection

Watch = Callable[[str, str, int, int], None]
"""Called with (series UID, step, done, total) as a step begins (done 0) and goes on; what it raises ends the run."""


class Ending(StrEnum):
    """How the walk ended for one series. Nothing is silent."""

    RESULT = "result"
    PRESENT = "result, computed before"
    WOULD_RUN = "would run"
    NONE = "none"
    AMBIGUOUS = "ambiguous"
    UNTRUSTED = "untrusted"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """One series and what became of it.

    reasons   never empty: names the attribute, the rule or the instance
    stored    SOP Instance UIDs of the results by role: "seg", "sr"
    error     the error behind REFUSED, FAILED, and UNTRUSTED found after selection
    own       the series holds results or model objects of ours, which no model reads
    """

    series_uid: str
    name: str
    ending: Ending
    reasons: tuple[str, ...]
    model: str | None = None
    digest: str | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    findings: Findings | None = None
    error: ResidencyError | None = None
    own: bool = False


@dataclass(frozen=True)
class Reading:
    """What became of a study: the explained choice, and one Outcome a series."""

    selection: Selection
    outcomes: tuple[Outcome, ...]


def outcome_of(
    choice: Choice,
    ending: Ending,
    *,
    stored: Mapping[str, str] | None = None,
    findings: Findings | None = None,
    error: ResidencyError | None = None,
    reason: str | None = None,
) -> Outcome:
    candidate = choice.candidate
    return Outcome(
        series_uid=choice.series_uid,
        name=choice.labels.name,
        ending=ending,
        reasons=(*([str(error)] if error else [reason] if reason else []), *choice.reasons),
        model=candidate.name if candidate else None,
        digest=candidate.digest if candidate else None,
        stored=stored or {},
        findings=findings,
        error=error,
        own=choice.labels.own_result,
    )


class Steps:
    """Tells the watcher which step of a series has begun, and how far it is."""

    def __init__(self, series_uid: str, watch: Watch | None) -> None:
        self._series_uid = series_uid
        self._watch = watch
        self._step = ""

    def __call__(self, step: str) -> None:
        self._step = step
        self.progress(0, 1)

    def progress(self, done: int, total: int) -> None:
        if self._watch is not None:
            self._watch(self._series_uid, self._step, done, total)
