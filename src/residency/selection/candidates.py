"""Candidates: cards with their standing, compiled so that a study is held against a thousand of them at once.

The gates are those of `header_gates`: a categorical gate is judged once for each distinct demand and each distinct
thing it looks at; number ranges are compared as arrays. Nothing is decided here that the gates would decide otherwise
(a property test holds the two against each other).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from residency.card import Card, ContentCondition, Input
from residency.codes import Code, Kind, canonical
from residency.errors import SelectionError
from residency.labels import SeriesLabels
from residency.selection.cascade import asked_of_series
from residency.selection.gates import Gate, Status
from residency.selection.header_gates import FIRST_GATES, HEADER_GATES, RANGE_GATES, relation
from residency.standing import Standing, Use

Statuses = npt.NDArray[np.uint8]
Ranks = npt.NDArray[np.int64]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_MEMORY = 4096
"""How many judged columns are remembered; a service meets many studies, most of them alike."""

PARTLY = 1_000
"""Added to the rank of a region that is only partly covered: behind every containing one."""
APART = 1_000_000
"""Rank of a region that does not fit, or is not known."""


@dataclass(frozen=True)
class Candidate:
    """A model that could be chosen: its card, and what trust has found out about it."""

    card: Card
    standing: Standing

    @property
    def digest(self) -> str:
        """The version's identity."""
        return self.standing.digest

    @property
    def name(self) -> str:
        """What a person calls it: name, version and the first digits of the digest."""
        identity = self.card.identity
        return f"{identity.name} {identity.version} ({self.digest[:15]})"


class CandidateTable:
    """Candidates in digest order, with their demands compiled. Make it once with `of`, use it for every study.

    Rows are the inputs of all candidates: row `first_row[c] + k` is input k of candidate c.
    """

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self.candidates = candidates
        self.inputs: tuple[Input, ...] = tuple(needs for c in candidates for needs in c.card.inputs)
        counts = [len(c.card.inputs) for c in candidates]
        self.first_row: Ranks = np.concatenate([[0], np.cumsum(counts)])[:-1].astype(np.int64)
        self.single: npt.NDArray[np.bool_] = np.array(counts, dtype=np.int64) == 1
        self._columns = [_Column(gate, self.inputs) for gate in FIRST_GATES]
        bounds = [[gate.demand(needs) for needs in self.inputs] for gate in RANGE_GATES]
        shape = (len(RANGE_GATES), len(self.inputs))
        self._least = np.array(
            [-math.inf if d is None or d.least is None else d.least for ds in bounds for d in ds], dtype=np.float64
        ).reshape(shape)
        self._most = np.array(
            [math.inf if d is None or d.most is None else d.most for ds in bounds for d in ds], dtype=np.float64
        ).reshape(shape)
        self._demanded = np.array([d is not None for ds in bounds for d in ds], dtype=bool).reshape(shape)
        self._regions, self._region_of_row = _distinct([frozenset(needs.regions) for needs in self.inputs])
        self._region_ranks: dict[Hashable, Ranks] = {}
        self._disease_ranks: dict[frozenset[Code], Ranks] = {}
        self._approved: dict[Use, npt.NDArray[np.bool_]] = {}

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> CandidateTable:
        """Compile. The order of listing is irrelevant; the same version listed twice counts once.

        Raises SelectionError if one digest stands for two different cards.
        """
        found: dict[str, Candidate] = {}
        for candidate in candidates:
            other = found.setdefault(candidate.digest, candidate)
            if other is not candidate and other.card != candidate.card:
                raise SelectionError(f"{candidate.digest} stands for two different cards; list the models again")
        return cls(tuple(found[digest] for digest in sorted(found)))

    def __len__(self) -> int:
        return len(self.candidates)

    def index(self, digest: str) -> int:
        """Place of a version. Raises SelectionError for one that is not in the table."""
        found = self._places.get(digest)
        if found is None:
            raise SelectionError(f"no model with digest {digest} is among the {len(self)} candidates")
        return found

    def rows_of(self, candidate: int) -> range:
        """The rows of one candidate's inputs, in their order; the first is the primary input."""
        start = int(self.first_row[candidate])
        return range(start, start + len(self.candidates[candidate].card.inputs))

    def header_status(self, labels: SeriesLabels) -> Statuses:
        """uint8, (gates, rows): the result of every header gate for one series, gates in the order of GATE_NAMES."""
        statuses = np.empty((len(HEADER_GATES), len(self.inputs)), dtype=np.uint8)
        for i, column in enumerate(self._columns):
            statuses[i] = column.status(labels)
        values = np.array([math.nan if (v := g.measure(labels)) is None else v for g in RANGE_GATES])[:, None]
        outside = (values < self._least) | (values > self._most)
        ranges = np.where(outside, np.uint8(Status.FAIL), np.uint8(Status.PASS))
        statuses[len(FIRST_GATES) :] = np.where(self._demanded & np.isnan(values), np.uint8(Status.UNKNOWN), ranges)
        return statuses

    def region_ranks(self, labels: SeriesLabels) -> Ranks:
        """(rows,): 0 for exactly the region, then by part-of steps to the containing one; partial cover last."""
        key = labels.regions and frozenset(labels.regions.value)
        ranks = self._region_ranks.get(key)
        if ranks is None:
            distinct = np.array([_region_rank(labels, regions) for regions in self._regions], dtype=np.int64)
            ranks = distinct[self._region_of_row] if len(distinct) else np.zeros(0, dtype=np.int64)
            _remember(self._region_ranks, key, ranks)
        return ranks

    def disease_ranks(self, wanted: frozenset[Code]) -> Ranks:
        """(candidates,): 0 names a wanted disease, 1 names none, 2 names only others; all 1 where none is wanted."""
        ranks = self._disease_ranks.get(wanted)
        if ranks is None:
            ranks = np.array([_disease_rank(own, wanted) for own in self.diseases], dtype=np.int64)
            _remember(self._disease_ranks, wanted, ranks)
        return ranks

    @cached_property
    def families(self) -> tuple[tuple[str, str], ...]:
        """(publisher id, family) of every candidate: two publishers may well call a family alike."""
        return tuple((c.card.identity.publisher.id, c.card.identity.family) for c in self.candidates)

    @cached_property
    def sequences(self) -> Ranks:
        """Sequence number of every candidate within its family."""
        return np.array([c.card.identity.sequence for c in self.candidates], dtype=np.int64)

    @cached_property
    def trusted(self) -> npt.NDArray[np.bool_]:
        """Signed by a trusted publisher, whole, not withdrawn."""
        return np.array([c.standing.trusted for c in self.candidates], dtype=bool)

    def approved_for(self, use: Use) -> npt.NDArray[np.bool_]:
        """(candidates,): approved here, and the approval is known to hold for this use."""
        approved = self._approved.get(use)
        if approved is None:
            approved = np.array([c.standing.approved_for(use) is True for c in self.candidates], dtype=bool)
            _remember(self._approved, use, approved)
        return approved

    @cached_property
    def superseded(self) -> Ranks:
        """(candidates,): 1 where the site put other versions of the family first."""
        return np.array([c.standing.superseded for c in self.candidates], dtype=np.int64)

    @cached_property
    def research_only(self) -> npt.NDArray[np.bool_]:
        """The licence of the weights allows research only."""
        return np.array([c.card.licences.research_only for c in self.candidates], dtype=bool)

    @cached_property
    def contents(self) -> tuple[tuple[tuple[ContentCondition, ...], npt.NDArray[np.bool_]], ...]:
        """The different sets of content conditions, none left out, each with the rows (bool) that have it."""
        distinct, of_row = _distinct([needs.content for needs in self.inputs])
        return tuple((needs, of_row == i) for i, needs in enumerate(distinct) if isinstance(needs, tuple) and needs)

    @cached_property
    def cropped(self) -> tuple[tuple[int, ...], CandidateTable]:
        """Places of the models that can be given a crop, and these models as they ask of a series that is cropped."""
        places = tuple(i for i, c in enumerate(self.candidates) if c.card.step_before is not None)
        cards = [self.candidates[i].card for i in places]
        asked = [c.model_copy(update={"inputs": tuple(asked_of_series(needs) for needs in c.inputs)}) for c in cards]
        standings = [self.candidates[i].standing for i in places]
        return places, CandidateTable(tuple(Candidate(*one) for one in zip(asked, standings, strict=True)))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {candidate.digest: i for i, candidate in enumerate(self.candidates)}

    @cached_property
    def diseases(self) -> tuple[frozenset[Code], ...]:
        """The diseases that every candidate names, in the present coding."""
        return tuple(frozenset(canonical(code) for code in c.card.diseases) for c in self.candidates)


class _Column:
    """One categorical gate over all rows: distinct demands, and which of them each row has."""

    def __init__(self, gate: Gate, inputs: tuple[Input, ...]) -> None:
        self._gate = gate
        self._demands, self._demand_of_row = _distinct([gate.demand(needs) for needs in inputs])
        self._known: dict[Hashable, Statuses] = {}

    def status(self, labels: SeriesLabels) -> Statuses:
        key = self._gate.looks(labels)
        statuses = self._known.get(key)
        if statuses is None:
            judged = np.array([self._gate.status(labels, demand) for demand in self._demands], dtype=np.uint8)
            statuses = judged[self._demand_of_row] if len(judged) else np.zeros(0, dtype=np.uint8)
            _remember(self._known, key, statuses)
        return statuses


def _distinct(demands: list[Hashable | None]) -> tuple[list[Hashable | None], Ranks]:
    places: dict[Hashable | None, int] = {}
    of_row = np.array([places.setdefault(demand, len(places)) for demand in demands], dtype=np.int64)
    return list(places), of_row


def _remember(memory: dict[Key, Value], key: Key, value: Value) -> None:
    if len(memory) >= _MEMORY:
        memory.clear()
    memory[key] = value


def _region_rank(labels: SeriesLabels, regions: Hashable | None) -> int:
    if not isinstance(regions, frozenset):
        return APART
    how = relation(labels, regions)
    if how is None or how.kind in (Kind.DISJOINT, Kind.UNSURE):
        return APART
    return how.hops + (PARTLY if how.kind is Kind.PARTIAL else 0)


def _disease_rank(own: frozenset[Code], wanted: frozenset[Code]) -> int:
    if not wanted or not own:
        return 1
    return 0 if own & wanted else 2
