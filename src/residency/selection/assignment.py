"""Series for all inputs of a model with several: of one study, in one frame of reference, each taken once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from residency.labels import SeriesLabels
from residency.selection.candidates import CandidateTable

_MOST_NAMED = 5
"""How many series a reason names."""
_MOST_TRIED = 10_000
"""A card of many inputs alike must not keep the selection busy for ever; no real one comes near."""


@dataclass(frozen=True)
class Assignment:
    """Series (places) by input name; or why there is none, or why it is not the only one.

    unregistered  every input has a series, but they share no frame of reference
    """

    inputs: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    unregistered: bool = False

    @property
    def found(self) -> bool:
        """True where every input has a series."""
        return bool(self.inputs)


class Assigner:
    """Assigns the series of one study. What many models ask alike is answered once."""

    def __init__(self, table: CandidateTable, series: Sequence[SeriesLabels], passes: npt.NDArray[np.bool_]) -> None:
        """passes  bool, (series, rows): which series passes the gates of which input."""
        self._series = series
        self._known: dict[tuple[int, int], Assignment] = {}
        places: dict[tuple[tuple[str, tuple[int, ...]], ...], int] = {}
        self._wanted_of: dict[int, int] = {}
        for c in np.flatnonzero(~table.single).tolist():
            inputs = zip(table.candidates[c].card.inputs, table.rows_of(c), strict=True)
            wanted = tuple((needs.name, tuple(np.flatnonzero(passes[:, row]).tolist())) for needs, row in inputs)
            self._wanted_of[c] = places.setdefault(wanted, len(places))
        self._wanted = tuple(places)

    def assign(self, first: int, candidate: int) -> Assignment:
        """Series for the further inputs of a candidate that takes series `first` for its first input."""
        wanted = self._wanted_of[candidate]
        known = self._known.get((first, wanted))
        if known is None:
            known = self._known[first, wanted] = self._find(first, self._wanted[wanted])
        return known

    def _find(self, first: int, wanted: Sequence[tuple[str, tuple[int, ...]]]) -> Assignment:
        main, series = self._series[first], self._series
        frame = main.frame_of_reference
        apart = ""
        choices: list[list[int]] = [[first]]
        for name, passing in wanted[1:]:
            others = [t for t in passing if t != first and series[t].study_uid == main.study_uid]
            if not others:
                return Assignment(problem=f"input '{name}': no other series of the study passes its gates")
            choices.append([t for t in others if frame is not None and series[t].frame_of_reference == frame])
            if not choices[-1]:
                named = ", ".join(series[t].name for t in others[:_MOST_NAMED])
                apart = apart or f"{named}, which fits input '{name}'"
        if apart:
            problem = (
                f"not registered: {main.name} (Frame of Reference UID {frame or 'missing'}) shares none with {apart}"
            )
            return Assignment(problem=problem, unregistered=True)
        return self._pick([name for name, _ in wanted], choices)

    def _pick(self, names: Sequence[str], choices: Sequence[Sequence[int]]) -> Assignment:
        found = list(_distinct_picks(choices, 2))
        if not found:
            return Assignment(problem=f"too few series for the inputs {', '.join(names)}")
        problem = ""
        if len(found) > 1:
            at = next(k for k in range(len(names)) if found[0][k] != found[1][k])
            both = " and ".join(self._series[pick[at]].name for pick in found)
            problem = f"several series fit input '{names[at]}': {both}; leave one of them out"
        return Assignment(dict(zip(names, found[0], strict=True)), problem)


def _distinct_picks(choices: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, ...]]:
    """The first picks of one place out of each list, no place twice; gives up after a bounded number of tries."""
    waiting: list[tuple[int, ...]] = [()]
    given = tried = 0
    while waiting and given < most and tried < _MOST_TRIED:
        picked = waiting.pop()
        tried += 1
        if len(picked) == len(choices):
            given += 1
            yield picked
        else:
            waiting += [(*picked, t) for t in reversed(choices[len(picked)]) if t not in picked]
