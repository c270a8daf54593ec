"""Which of several fitting models comes first, by a fixed order that never depends on how they are listed.

Approved here, then admitted only; exactly the region, then the nearest containing it; the wanted disease; the site's
preference; then, within a family alone, what nobody superseded, the newest, and digest order last. Where two families
are left at the top, nothing is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.codes import Code
from residency.labels import SeriesLabels
from residency.selection.candidates import CandidateTable, Ranks
from residency.standing import Use


@dataclass(frozen=True)
class Policy:
    """What the site and the user decide.

    allow_unapproved  take models that nobody here approved; the result says so
    allow_research    take weights whose licence allows research only
    diseases          what is looked for (`--for`); stands before the coded reasons of the order
    model             family, name or digest (or how it begins) of the model to consider (`--model`)
    preferred         families that the site prefers, first to last
    ae_title          who sent the study (calling AE), for approvals that name application entities; None: not known
    purpose           what the result is for, as approvals of this site word it; None: not stated
    """

    allow_unapproved: bool = False
    allow_research: bool = False
    diseases: tuple[Code, ...] = ()
    model: str | None = None
    preferred: tuple[str, ...] = ()
    ae_title: str | None = None
    purpose: str | None = None

    def use_of(self, labels: SeriesLabels) -> Use:
        """What a model that reads this series is used for."""
        return Use(labels.modality or None, self.ae_title, self.purpose)


@dataclass(frozen=True)
class Ranked:
    """Candidates (places in the table) best first, and those of other families that stand equal to the first."""

    order: tuple[int, ...]
    equals: tuple[int, ...]


def preference_ranks(table: CandidateTable, policy: Policy) -> Ranks:
    """(candidates,): place of the family in the site's preference, all others equal behind them."""
    places = {family: i for i, family in enumerate(policy.preferred)}
    return np.array([places.get(family, len(places)) for _, family in table.families], dtype=np.int64)


def rank(table: CandidateTable, fitting: npt.NDArray[np.int64], keys: Sequence[Ranks]) -> Ranked:
    """Order fitting candidates by keys over all candidates, first key weightiest, smaller first.

    fitting  int64, places in the table, not empty
    """
    chosen = [key[fitting] for key in keys]
    sequence = -table.sequences[fitting]
    # numpy sorts by its last key first; places are in digest order, so the place itself decides last.
    order = np.lexsort((fitting, sequence, table.superseded[fitting], *reversed(chosen)))
    best = int(order[0])
    equal = np.ones(len(fitting), dtype=bool)
    for key in chosen:
        equal &= key == key[best]
    family = table.families[int(fitting[best])]
    others = [int(fitting[i]) for i in order if equal[i] and table.families[int(fitting[i])] != family]
    return Ranked(tuple(int(fitting[i]) for i in order), _one_a_family(table, others))


def wanted_diseases(labels: SeriesLabels, policy: Policy) -> tuple[tuple[Code, ...], str]:
    """The diseases looked for and where they were said; empty where nobody said."""
    if policy.diseases:
        return policy.diseases, "--for"
    if labels.reasons is not None:
        return labels.reasons.value, labels.reasons.source
    return (), "not said"


def _one_a_family(table: CandidateTable, places: Sequence[int]) -> tuple[int, ...]:
    found: dict[tuple[str, str], int] = {}
    for place in places:
        found.setdefault(table.families[place], place)
    return tuple(found.values())
