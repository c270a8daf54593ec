"""Which model reads which series of a study, and why; nothing is guessed and nothing is silent.

Every series gets one of five outcomes: chosen, ambiguous, none, untrusted, unsupported. A choice is an assignment of
series to the named inputs of a card; the series that gets the outcome is the one taken for the first input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from residency.card import ContentCondition
from residency.errors import SelectionError
from residency.labels import SeriesLabels
from residency.selection.assignment import Assigner, Assignment
from residency.selection.candidates import APART, PARTLY, Candidate, CandidateTable, Statuses
from residency.selection.cascade import STEP_GATE, Step, misses_in_words, missing_output, step_verdict
from residency.selection.gates import NOTHING, Status, Verdict
from residency.selection.header_gates import GATE_NAMES, header_verdicts
from residency.selection.measured import Contents, Holds
from residency.selection.outcome import Outcome, OutcomeKind, Row
from residency.selection.ranking import Policy, Ranked, preference_ranks, rank, wanted_diseases
from residency.selection.request import requested
from residency.selection.rules import Ruled, RuleSet, apply_rules, suggestion
from residency.selection.standing import STANDING_GATES, standing_status, standing_verdicts, what_to_do

PAIR_GATES: tuple[str, ...] = (*GATE_NAMES, "label rules", "content", STEP_GATE, *STANDING_GATES)
"""All gates of a pair of series and input, in the order in which the first one not passed is told."""

_RULES = len(GATE_NAMES)
_CONTENT = _RULES + 1
_STEP = _CONTENT + 1
_NAMES: tuple[str | None, ...] = (*PAIR_GATES, None)
"""By index of the first gate not passed; index -1, none, is the last."""
_RULES_GIVE = frozenset({"region", "weighting"})
"""Gates that fail for want of a label which a rule of the site could give."""
_MOST_NAMED = 5
"""How many models a reason names before it counts the rest."""


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
        self.table, self.rules, self.policy = table, rules, policy
        self.ruled: list[Ruled] = [apply_rules(labels, rules) for labels in series]
        self.series = [ruled.labels for ruled in self.ruled]
        self._contents = Contents(content)
        self._requested = requested(table, policy)
        self._uses = [policy.use_of(labels) for labels in self.series]
        self._standing = [standing_status(table, policy, use, self._requested) for use in self._uses]
        self._preference = preference_ranks(table, policy)
        self._header = [table.header_status(labels) for labels in self.series]
        self._passes = self._all_passes(table, self._header)
        self._assigner = Assigner(table, self.series, self._passes)
        self._cropping, self._crops = table.cropped
        self._crop_header = [self._crops.header_status(labels) for labels in self.series]
        self._crop_passes = self._all_passes(self._crops, self._crop_header)
        self._steps = [self._steps_before(s) for s in range(len(self.series))]
        self._first = [self._first_gates(s) for s in range(len(self.series))]

    def place(self, series_uid: str) -> int:
        found = self._places.get(series_uid)
        if found is None:
            raise SelectionError(f"series {series_uid} is not among the {len(self.series)} of this selection")
        return found

    def _all_passes(self, table: CandidateTable, header: Sequence[Statuses]) -> npt.NDArray[np.bool_]:
        """(series, rows of the table): header gates and content conditions are all passed."""
        passes = [self._input_passes(s, table, header[s]) for s in range(len(self.series))]
        return np.array(passes, dtype=bool).reshape(len(self.series), len(table.inputs))

    def _input_passes(self, s: int, table: CandidateTable, header: Statuses) -> npt.NDArray[np.bool_]:
        passes: npt.NDArray[np.bool_] = np.logical_not(header.any(axis=0))
        if self.ruled[s].conflict is not None:
            passes[:] = False
        for conditions, rows in table.contents:
            if (passes & rows).any():
                status = self._contents.status(self.series[s].series_uid, conditions)
                passes &= ~rows if status is not Status.PASS else True
        return passes

    def _steps_before(self, s: int) -> dict[int, Step]:
        """By place, of every model that can only be given a crop of the series: which model makes it."""
        passes = self._passes[s][self.table.first_row]
        wanting = [c for c, fits in zip(self._cropping, self._crop_passes[s], strict=True) if fits and not passes[c]]
        return {c: self._step_before(s, c) for c in wanting}

    def _step_before(self, s: int, c: int) -> Step:
        """The model of the named family that ordinary selection takes for the whole series, whatever was asked for."""
        card, candidates = self.table.candidates[c].card, self.table.candidates
        family = card.step_before.family if card.step_before is not None else ""
        places = np.array([p for p, (_, name) in enumerate(self.table.families) if name == family], dtype=np.int64)
        if not len(places):
            return Step(None, f"no model of family '{family}' is in the archive")
        passes = self._passes[s][self.table.first_row[places]]
        fitting = places[passes & self.table.single[places]]
        if not len(fitting):
            misses = (self._header[s][:, self.table.first_row[places]] > 0).sum(axis=0)
            nearest = int(places[np.lexsort((places, misses))[0]])
            words = misses_in_words(self._input_verdicts(s, nearest, 0)) or "it reads several series"
            return Step(None, f"{candidates[nearest].name} does not fit: {words}")
        refused = np.asarray(self._standing[s][1:].any(axis=0))
        allowed = fitting[~refused[fitting]]
        ranked = self._rank(s, allowed if len(allowed) else fitting, {})
        best = candidates[ranked.order[0]]
        if ranked.equals:
            both = " and ".join(candidates[p].name for p in (ranked.order[0], *ranked.equals))
            return Step(None, f"{both} fit equally well, and nothing decides between them")
        missing = missing_output(best.card, card)
        if missing is not None:
            return Step(None, f"{best.name} {missing}")
        if not len(allowed):
            words = misses_in_words(self._standing_verdicts(s, ranked.order[0])[1:])
            return Step(ranked.order[0], f"{best.name} fits, but {words}", trusted=False)
        return Step(ranked.order[0], f"{best.name} fits the whole series")

    def _first_gates(self, s: int) -> npt.NDArray[np.int16]:
        """(candidates,): index in PAIR_GATES of the first gate that the first input does not pass; -1 if none."""
        beyond = _CONTENT if self.ruled[s].conflict is None else _RULES
        first = _first_of(self._header[s][:, self.table.first_row], self._passes[s][self.table.first_row], beyond)
        of_crops = _first_of(self._crop_header[s], self._crop_passes[s], beyond)
        for c, at in zip(self._cropping, of_crops, strict=True):
            if first[c] >= 0:
                first[c] = at if at >= 0 or self._steps[s][c].usable else _STEP
        standing = self._standing[s].any(axis=0)
        at = self._standing[s].argmax(axis=0) + _STEP + 1
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
        """Of a series that is no crop, a model with a step before asks what is left to be asked."""
        needs = self.table.candidates[c].card.inputs[k]
        cropped = c in self._cropping and not self._passes[s][self.table.first_row[c]]
        if cropped:
            needs = self._crops.inputs[self._cropping.index(c)]
        headers = header_verdicts(self.series[s], needs)
        if any(v.status is not Status.PASS for v in headers):
            return headers
        conflict = self.ruled[s].conflict
        if conflict is not None:
            rule = "headers and approved rules that agree"
            return (*headers, Verdict("label rules", Status.FAIL, "label rules", conflict, rule, "label rules"))
        contents = self._contents.verdicts(self.series[s].series_uid, needs.content)
        step = self._steps[s].get(c) if cropped else None
        return (*headers, *contents, *([step_verdict(self.table.candidates[c].card, step)] if step else []))

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
        steps = {c: step for c, step in self._steps[s].items() if step.place is not None and self._requested[c]}
        found = [*single.tolist(), *(c for c, a in assigned.items() if a.found), *steps]
        fitting = np.array(sorted(found), dtype=np.int64)
        refused = np.asarray(self._standing[s].any(axis=0))
        refused[[c for c, step in steps.items() if not step.trusted]] = True
        allowed = fitting[~refused[fitting]]
        if len(allowed):
            return self._decide(s, self._rank(s, allowed, steps), assigned)
        unregistered = [f"{self.table.candidates[c].name}: {a.problem}" for c, a in assigned.items() if a.unregistered]
        if unregistered:
            return self._end(s, OutcomeKind.UNSUPPORTED, unregistered[:_MOST_NAMED])
        if len(fitting):
            return self._end(s, OutcomeKind.UNTRUSTED, list(self._untrusted(s, self._rank(s, fitting, steps))))
        return self._end(s, OutcomeKind.NONE, list(self._nearest(s, assigned)))

    def _end(self, s: int, kind: OutcomeKind, reasons: Sequence[str], contenders: Sequence[Candidate] = ()) -> Outcome:
        rules = tuple(rule.name for rule in self.ruled[s].hits)
        labels = self.series[s]
        return Outcome(labels.series_uid, kind, labels, tuple(reasons), contenders=tuple(contenders), rules=rules)

    def _rank(self, s: int, fitting: npt.NDArray[np.int64], steps: Mapping[int, Step]) -> Ranked:
        """The order of fitting models. One that is given a crop stands with its step: no better approved, as near to
        the region; where the two stand equal, the step is a part of it and stands behind.
        """
        table = self.table
        wanted, _ = wanted_diseases(self.series[s], self.policy)
        approval = (~table.approved_for(self._uses[s])).astype(np.int64)
        region = table.region_ranks(self.series[s])[table.first_row]
        for c, step in steps.items():
            if step.place is not None:
                approval[c] = max(int(approval[c]), int(approval[step.place]))
                region[c] = region[step.place]
        keys = (approval, region, table.disease_ranks(frozenset(wanted)), self._preference)
        ranked = rank(table, fitting, keys)
        top = (ranked.order[0], *ranked.equals)
        places = [steps[c].place for c in top if c in steps]
        parts = {table.families[place] for place in places if place is not None}
        if not parts:
            return ranked
        rest = np.array([c for c in fitting.tolist() if table.families[c] not in parts], dtype=np.int64)
        first = rank(table, rest, keys)
        return Ranked((*first.order, *(c for c in ranked.order if c not in first.order)), first.equals)

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
        step = self._steps[s].get(ranked.order[0])
        chosen = self._chosen(s, ranked.order[0], inputs, self._why(s, ranked))
        if step is None or step.place is None:
            return chosen
        name = table.candidates[step.place].card.inputs[0].name
        reasons = (f"{step.words}: {self._rank_text(s, step.place)}",)
        return replace(chosen, before=self._chosen(s, step.place, {name: s}, reasons))

    def _chosen(self, s: int, c: int, inputs: Mapping[str, int], reasons: Iterable[str]) -> Outcome:
        best = self.table.candidates[c]
        gates = [v for k, t in enumerate(inputs.values()) for v in self._input_verdicts(t, c, k)]
        gates += (v for v in self._standing_verdicts(s, c) if v.gate != "request")
        return Outcome(
            self.series[s].series_uid,
            OutcomeKind.CHOSEN,
            self.series[s],
            tuple(reasons),
            candidate=best,
            inputs={name: self.series[t].series_uid for name, t in inputs.items()},
            gates=tuple(verdict for verdict in gates if verdict.rule != NOTHING),
            approval=best.standing.granted(self._uses[s]),
            rules=tuple(rule.name for rule in self.ruled[s].hits),
        )

    def _why(self, s: int, ranked: Ranked) -> Iterator[str]:
        best, *others = ranked.order
        yield f"{self.table.candidates[best].name} passes every gate: {self._rank_text(s, best)}"
        step = self._steps[s].get(best)
        if step is not None and step.place is not None:
            first = self.table.candidates[step.place].name
            yield f"it is given a crop round what {first} finds in the series; its field of view is asked of the crop"
            others = [c for c in others if c != step.place]
        unread = self.table.candidates[best].standing.unread
        if unread:
            yield f"warning: of the statements beside it {unread} cannot be read, see 'residency models history'"
        yield from self._crops_not_taken(s, ranked)
        for rule in self.ruled[s].hits:
            yield f"labels supplied by {rule.name}"
        for c in others[:_MOST_NAMED]:
            yield f"{self.table.candidates[c].name} also fits and stands behind: {self._rank_text(s, c)}"
        if len(others) > _MOST_NAMED:
            yield f"{len(others) - _MOST_NAMED} more models fit and stand behind"

    def _crops_not_taken(self, s: int, ranked: Ranked) -> Iterator[str]:
        """Models that would be given crops of what the chosen one finds, and why they do not take the series."""
        best, told = self.table.candidates[ranked.order[0]], set[str]()
        for c in sorted(self._cropping, key=lambda c: -self.table.candidates[c].card.identity.sequence):
            candidate = self.table.candidates[c]
            card = candidate.card
            family = card.step_before.family if card.step_before is not None else ""
            known = c in ranked.order or card.identity.family in told or not self._requested[c]
            if known or family != best.card.identity.family:
                continue
            told.add(card.identity.family)
            verdicts = self._input_verdicts(s, c, 0)
            words = misses_in_words(verdicts) or misses_in_words(self._standing_verdicts(s, c))
            yield f"{candidate.name}, which takes crops of what {best.name} finds, does not fit: {words}"
            yield from self._rule_that_helps(s, verdicts)

    def _untrusted(self, s: int, ranked: Ranked) -> Iterator[str]:
        advice: dict[str, None] = {}
        for c in ranked.order[:_MOST_NAMED]:
            candidate, step = self.table.candidates[c], self._steps[s].get(c)
            before = [step_verdict(candidate.card, step)] if step else []
            failing = [v for v in (*before, *self._standing_verdicts(s, c)) if v.status is not Status.PASS]
            yield f"{candidate.name} fits, but {'; '.join(str(v) for v in failing)}"
            for place in (c, step.place if step else None):
                advice |= dict.fromkeys(self._advice(s, place) if place is not None else ())
        yield from advice

    def _advice(self, s: int, c: int) -> Iterator[str]:
        """What a person can do about what the site has not allowed."""
        for verdict in self._standing_verdicts(s, c):
            if verdict.status is not Status.PASS:
                text = what_to_do(self.table.candidates[c], verdict.gate, self._uses[s])
                yield from () if text is None else (text,)

    def _nearest(self, s: int, assigned: Mapping[int, Assignment]) -> Iterator[str]:
        """Why nothing fits: what the nearest model misses, and what a person could do about it."""
        table = self.table
        places = np.flatnonzero(self._requested)
        if not len(places):
            yield "there is no model in the archive; publish one with residency models publish"
            return
        missed = (self._header[s] > 0).sum(axis=0)[self.table.first_row]
        missed[list(self._cropping)] = (self._crop_header[s] > 0).sum(axis=0)
        missed = missed[places]
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
        yield from self._rule_that_helps(s, failing)

    def _rule_that_helps(self, s: int, failing: Sequence[Verdict]) -> Iterator[str]:
        """What a person could do about labels that the headers lack."""
        asked = [v.gate for v in failing if v.gate in _RULES_GIVE and v.status is Status.UNKNOWN]
        text = suggestion(self.series[s], self.rules, asked) if asked else None
        yield from () if text is None else (text,)


def _nearness(rank: int) -> str:
    if rank == 0:
        return "exact region"
    if rank < PARTLY:
        return f"containing region, {rank} {'step' if rank == 1 else 'steps'} up"
    return "region covered in part" if rank < APART else "other region"


def _first_of(header: Statuses, passes: npt.NDArray[np.bool_], beyond: int) -> npt.NDArray[np.int64]:
    """(columns,): the first header gate that is not passed, `beyond` where another one is not, -1 if none."""
    failing = header > 0
    first = np.where(failing.any(axis=0), failing.argmax(axis=0), -1)
    return np.where((first < 0) & ~passes, beyond, first)
