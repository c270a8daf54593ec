"""Which model reads which series of a study, and why; nothing is guessed and nothing is silent.

Every series gets one of five outcomes: chosen, ambiguous, none, untrusted, unsupported. A choice is an assignment of
series to the named inputs of a card; the series that gets the outcome is the one taken for the first input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from residency.card import ContentCondition
from residency.errors import SelectionError
from residency.labels import SeriesLabels
from residency.selection.assignment import Assigner, Assignment
from residency.selection.candidates import APART, PARTLY, Candidate, CandidateTable
from residency.selection.gates import NOTHING, Status, Verdict
from residency.selection.header_gates import GATE_NAMES, header_verdicts
from residency.selection.measured import Contents, Holds
from residency.selection.ranking import Policy, Ranked, preference_ranks, rank, wanted_diseases
from residency.selection.request import requested
from residency.selection.rules import Ruled, RuleSet, apply_rules
from residency.selection.standing import STANDING_GATES, standing_status, standing_verdicts, what_to_do

PAIR_GATES: tuple[str, ...] = (*GATE_NAMES, "label rules", "content", *STANDING_GATES)
"""All gates of a pair of series and input, in the order in which the first one not passed is told."""

_RULES = len(GATE_NAMES)
_CONTENT = _RULES + 1
_NAMES: tuple[str | None, ...] = (*PAIR_GATES, None)
"""By index of the first gate not passed; index -1, none, is the last."""
_MOST_NAMED = 5
"""How many models a reason names before it counts the rest."""


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


class Selection:
    """The outcomes of a study, and the table of everything that was considered, made row by row when asked for."""

    def __init__(self, study: _Study, outcomes: tuple[Outcome, ...]) -> None:
        self._study = study
        self.outcomes = outcomes

    def outcome(self, series_uid: str) -> Outcome:
        """Of one series. Raises SelectionError for a series that was not given."""
        return self.outcomes[self._study.place(series_uid)]

    def first_failing(self, series_uid: str, digest: str) -> str | None:
        """Name of the first gate that a series does not pass for the first input of a model; None if it passes all."""
        return self._study.first_failing(self._study.place(series_uid), self._study.table.index(digest))

    def first_failing_of_all(self) -> Iterator[tuple[str, tuple[str | None, ...]]]:
        """(series UID, for every model in digest order: what `first_failing` says of the pair)."""
        for s, labels in enumerate(self._study.series):
            yield labels.series_uid, self._study.first_failing_of(s)

    def row(self, series_uid: str, digest: str, input_name: str | None = None) -> Row:
        """Every gate of one pair; of the model's first input unless another is named."""
        table = self._study.table
        candidate = table.index(digest)
        names = [needs.name for needs in table.candidates[candidate].card.inputs]
        if input_name is not None and input_name not in names:
            raise SelectionError(f"the model has no input '{input_name}', only {', '.join(names)}")
        at = names.index(input_name) if input_name else 0
        return self._study.row(self._study.place(series_uid), candidate, at)

    def table(self) -> Iterator[Row]:
        """Every series with every input of every model."""
        for labels in self._study.series:
            yield from self.rows(labels.series_uid)

    def rows(self, series_uid: str) -> Iterator[Row]:
        """One series with every input of every model."""
        s = self._study.place(series_uid)
        for c, candidate in enumerate(self._study.table.candidates):
            for k in range(len(candidate.card.inputs)):
                yield self._study.row(s, c, k)


def select(
    series: Sequence[SeriesLabels],
    candidates: CandidateTable,
    *,
    rules: RuleSet,
    policy: Policy,
    content: Callable[[str, ContentCondition], bool | None],
) -> Selection:
    """Hold every series of a study against every model.

    series   all series of the study, one SeriesLabels each, in any order
    content  whether a condition holds for the pixels of a series (by UID), or None where it cannot be told; asked only
             for candidates whose header gates are all passed

    Raises SelectionError if a series is given twice, UsageError if the policy names a model that there is not.
    """
    study = _Study(series, candidates, rules, policy, content)
    outcomes = tuple(study.outcome(s) for s in range(len(study.series)))
    return Selection(study, tuple(_with_use(outcome, outcomes) for outcome in outcomes))


def _with_use(outcome: Outcome, outcomes: Sequence[Outcome]) -> Outcome:
    """A series that no model reads for itself, but that is another series' further input, says so first."""
    uses = [
        f"taken as input '{name}' of {chosen.candidate.name} together with {chosen.labels.name}"
        for chosen in outcomes
        if chosen.candidate is not None and chosen is not outcome
        for name, uid in chosen.inputs.items()
        if uid == outcome.series_uid
    ]
    return replace(outcome, reasons=(*uses, *outcome.reasons)) if uses else outcome


class _Study:
    """The results of all gates of one study, as arrays over (series, rows); rows are inputs of candidates."""

    def __init__(
        self, series: Sequence[SeriesLabels], table: CandidateTable, rules: RuleSet, policy: Policy, content: Holds
    ) -> None:
        self._places = {labels.series_uid: s for s, labels in enumerate(series)}
        if len(self._places) != len(series):
            raise SelectionError("a series is given twice; give each series of the study once")
        self.table, self.policy = table, policy
        self.ruled: list[Ruled] = [apply_rules(labels, rules) for labels in series]
        self.series = [ruled.labels for ruled in self.ruled]
        self._contents = Contents(content)
        self._requested = requested(table, policy)
        self._uses = [policy.use_of(labels) for labels in self.series]
        self._standing = [standing_status(table, policy, use, self._requested) for use in self._uses]
        self._preference = preference_ranks(table, policy)
        self._header = [table.header_status(labels) for labels in self.series]
        self._passes = np.array([self._input_passes(s) for s in range(len(self.series))], dtype=bool).reshape(
            len(self.series), len(table.inputs)
        )
        self._assigner = Assigner(table, self.series, self._passes)
        self._first = [self._first_gates(s) for s in range(len(self.series))]

    def place(self, series_uid: str) -> int:
        found = self._places.get(series_uid)
        if found is None:
            raise SelectionError(f"series {series_uid} is not among the {len(self.series)} of this selection")
        return found

    def _input_passes(self, s: int) -> npt.NDArray[np.bool_]:
        """(rows,): header gates and content conditions are all passed."""
        passes: npt.NDArray[np.bool_] = np.logical_not(self._header[s].any(axis=0))
        if self.ruled[s].conflict is not None:
            passes[:] = False
        for conditions, rows in self.table.contents:
            if (passes & rows).any():
                status = self._contents.status(self.series[s].series_uid, conditions)
                passes &= ~rows if status is not Status.PASS else True
        return passes

    def _first_gates(self, s: int) -> npt.NDArray[np.int16]:
        """(candidates,): index in PAIR_GATES of the first gate that the first input does not pass; -1 if none."""
        failing = self._header[s][:, self.table.first_row] > 0
        first = np.where(failing.any(axis=0), failing.argmax(axis=0), -1)
        beyond = _CONTENT if self.ruled[s].conflict is None else _RULES
        first = np.where((first < 0) & ~self._passes[s][self.table.first_row], beyond, first)
        standing = self._standing[s].any(axis=0)
        at = self._standing[s].argmax(axis=0) + _CONTENT + 1
        return np.where((first < 0) & standing, at, first).astype(np.int16)

    def first_failing(self, s: int, c: int) -> str | None:
        return _NAMES[int(self._first[s][c])]

    def first_failing_of(self, s: int) -> tuple[str | None, ...]:
        return tuple(_NAMES[index] for index in self._first[s].tolist())

    def row(self, s: int, c: int, k: int) -> Row:
        candidate, labels = self.table.candidates[c], self.series[s]
        return Row(
            labels.series_uid,
            labels.name,
            candidate,
            candidate.card.inputs[k].name,
            (*self._input_verdicts(s, c, k), *self._standing_verdicts(s, c)),
            self._rank_text(s, c),
        )

    def _standing_verdicts(self, s: int, c: int) -> tuple[Verdict, ...]:
        return standing_verdicts(self.table.candidates[c], self.policy, self._uses[s], bool(self._requested[c]))

    def _input_verdicts(self, s: int, c: int, k: int) -> tuple[Verdict, ...]:
        needs = self.table.candidates[c].card.inputs[k]
        headers = header_verdicts(self.series[s], needs)
        if any(v.status is not Status.PASS for v in headers):
            return headers
        conflict = self.ruled[s].conflict
        if conflict is not None:
            rule = "headers and approved rules that agree"
            return (*headers, Verdict("label rules", Status.FAIL, "label rules", conflict, rule, "label rules"))
        return (*headers, *self._contents.verdicts(self.series[s].series_uid, needs.content))

    def _rank_text(self, s: int, c: int) -> str:
        """Where the model stands, in the order of the ranking."""
        standing, card = self.table.candidates[c].standing, self.table.candidates[c].card
        region = int(self.table.region_ranks(self.series[s])[self.table.first_row[c]])
        wanted, source = wanted_diseases(self.series[s], self.policy)
        own = ", ".join(str(code) for code in card.diseases) or "no disease"
        match = int(self.table.disease_ranks(frozenset(wanted))[c])
        approval = str(standing.approval) + (", superseded" if standing.superseded else "")
        parts = [approval, _nearness(region)]
        if wanted:
            asked = f"{', '.join(map(str, wanted))} ({source})"
            parts.append(f"{('is for', f'is for {own}, not', f'contradicts: is for {own}, not')[match]} {asked}")
        return "; ".join([*parts, f"sequence {card.identity.sequence}"])

    def outcome(self, s: int) -> Outcome:
        if self.ruled[s].conflict is not None:
            return self._end(s, OutcomeKind.AMBIGUOUS, [str(self.ruled[s].conflict)])
        primary = np.flatnonzero(self._passes[s][self.table.first_row] & self._requested)
        single = primary[self.table.single[primary]]
        assigned = {int(c): self._assigner.assign(s, int(c)) for c in primary[~self.table.single[primary]]}
        fitting = np.array(sorted([*single.tolist(), *(c for c, a in assigned.items() if a.found)]), dtype=np.int64)
        refused = self._standing[s].any(axis=0)
        allowed = fitting[~np.asarray(refused)[fitting]]
        if len(allowed):
            return self._decide(s, self._rank(s, allowed), assigned)
        unregistered = [f"{self.table.candidates[c].name}: {a.problem}" for c, a in assigned.items() if a.unregistered]
        if unregistered:
            return self._end(s, OutcomeKind.UNSUPPORTED, unregistered[:_MOST_NAMED])
        if len(fitting):
            return self._end(s, OutcomeKind.UNTRUSTED, list(self._untrusted(s, self._rank(s, fitting))))
        return self._end(s, OutcomeKind.NONE, list(self._nearest(s, assigned)))

    def _end(self, s: int, kind: OutcomeKind, reasons: Sequence[str], contenders: Sequence[Candidate] = ()) -> Outcome:
        rules = tuple(rule.name for rule in self.ruled[s].hits)
        labels = self.series[s]
        return Outcome(labels.series_uid, kind, labels, tuple(reasons), contenders=tuple(contenders), rules=rules)

    def _rank(self, s: int, fitting: npt.NDArray[np.int64]) -> Ranked:
        table = self.table
        wanted, _ = wanted_diseases(self.series[s], self.policy)
        keys = (
            (~table.approved_for(self._uses[s])).astype(np.int64),
            table.region_ranks(self.series[s])[table.first_row],
            table.disease_ranks(frozenset(wanted)),
            self._preference,
        )
        return rank(table, fitting, keys)

    def _decide(self, s: int, ranked: Ranked, assigned: Mapping[int, Assignment]) -> Outcome:
        table = self.table
        best = table.candidates[ranked.order[0]]
        if ranked.equals:
            contenders = [best, *(table.candidates[c] for c in ranked.equals)]
            named = " and ".join(c.name for c in contenders[:_MOST_NAMED])
            how = "decide with --model and a family or digest"
            if len({table.diseases[c] for c in (ranked.order[0], *ranked.equals)}) > 1:
                how += ", or with --for CODE where the disease decides"
            return self._end(s, OutcomeKind.AMBIGUOUS, [f"{named} fit equally well; {how}"], contenders)
        assignment = assigned.get(ranked.order[0])
        if assignment is not None and assignment.problem:
            return self._end(s, OutcomeKind.AMBIGUOUS, [f"{best.name}: {assignment.problem}"], [best])
        inputs = assignment.inputs if assignment else {best.card.inputs[0].name: s}
        gates = [v for k, t in enumerate(inputs.values()) for v in self._input_verdicts(t, ranked.order[0], k)]
        gates += (v for v in self._standing_verdicts(s, ranked.order[0]) if v.gate != "request")
        return Outcome(
            self.series[s].series_uid,
            OutcomeKind.CHOSEN,
            self.series[s],
            tuple(self._why(s, ranked)),
            candidate=best,
            inputs={name: self.series[t].series_uid for name, t in inputs.items()},
            gates=tuple(verdict for verdict in gates if verdict.rule != NOTHING),
            approval=best.standing.granted(self._uses[s]),
            rules=tuple(rule.name for rule in self.ruled[s].hits),
        )

    def _why(self, s: int, ranked: Ranked) -> Iterator[str]:
        best, *others = ranked.order
        yield f"{self.table.candidates[best].name} passes every gate: {self._rank_text(s, best)}"
        unread = self.table.candidates[best].standing.unread
        if unread:
            yield f"warning: of the statements beside it {unread} cannot be read, see 'residency models history'"
        for rule in self.ruled[s].hits:
            yield f"labels supplied by {rule.name}"
        for c in others[:_MOST_NAMED]:
            yield f"{self.table.candidates[c].name} also fits and stands behind: {self._rank_text(s, c)}"
        if len(others) > _MOST_NAMED:
            yield f"{len(others) - _MOST_NAMED} more models fit and stand behind"

    def _untrusted(self, s: int, ranked: Ranked) -> Iterator[str]:
        advice: dict[str, None] = {}
        for c in ranked.order[:_MOST_NAMED]:
            candidate = self.table.candidates[c]
            failing = [v for v in self._standing_verdicts(s, c) if v.status is not Status.PASS]
            yield f"{candidate.name} fits, but {'; '.join(str(v) for v in failing)}"
            advice |= dict.fromkeys(text for v in failing if (text := what_to_do(candidate, v.gate, self._uses[s])))
        yield from advice

    def _nearest(self, s: int, assigned: Mapping[int, Assignment]) -> Iterator[str]:
        """Why nothing fits: what the nearest model misses, and what a person could do about it."""
        table = self.table
        places = np.flatnonzero(self._requested)
        if not len(places):
            yield "there is no model in the archive; publish one with residency models publish"
            return
        first = table.first_row[places]
        missed = (self._header[s][:, first] > 0).sum(axis=0)
        order = np.lexsort((places, -self._first[s][places], missed))
        nearest = int(places[order[0]])
        candidate = table.candidates[nearest]
        failing = [v for v in self._input_verdicts(s, nearest, 0) if v.status is not Status.PASS]
        if self.series[s].own_result:
            yield str(failing[0])
            return
        for number, verdict in enumerate(failing):
            yield f"{verdict} (nearest model: {candidate.name})" if number == 0 else str(verdict)
        if not failing:
            yield f"{candidate.name}: {assigned[nearest].problem}"
        region = failing and any(v.gate == "region" and v.status is Status.UNKNOWN for v in failing)
        if region and self.ruled[s].suggestion:
            yield str(self.ruled[s].suggestion)


def _nearness(rank: int) -> str:
    if rank == 0:
        return "exact region"
    if rank < PARTLY:
        return f"containing region, {rank} {'step' if rank == 1 else 'steps'} up"
    return "region covered in part" if rank < APART else "other region"
