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


def assign(
    table: CandidateTable, series: Sequence[SeriesLabels], passes: npt.NDArray[np.bool_], first: int, candidate: int
) -> Assignment:
    """Series for the further inputs of a candidate that takes series `first` for its first input.

    passes  bool, (series, rows): which series passes the gates of which input
    """
    rows, card, name = table.rows_of(candidate), table.candidates[candidate].card, table.candidates[candidate].name
    main = series[first]
    choices: list[list[int]] = [[first]]
    for needs, row in zip(card.inputs[1:], rows[1:], strict=True):
        others = [t for t in np.flatnonzero(passes[:, row]).tolist() if t != first]
        passing = [t for t in others if series[t].study_uid == main.study_uid]
        if not passing:
            return Assignment(problem=f"input '{needs.name}': no other series of the study passes its gates")
        frame = main.frame_of_reference
        together = [t for t in passing if frame is not None and series[t].frame_of_reference == frame]
        if not together:
            named = ", ".join(series[t].name for t in passing[:_MOST_NAMED])
            problem = (
                f"not registered: {main.name} (Frame of Reference UID {frame or 'missing'}) shares no frame of "
                f"reference with {named}, which fits input '{needs.name}' of {name}"
            )
            return Assignment(problem=problem, unregistered=True)
        choices.append(together)
    names = [needs.name for needs in card.inputs]
    found = list(_distinct_picks(choices, 2))
    if not found:
        return Assignment(problem=f"too few series for the inputs {', '.join(names)}")
    problem = ""
    if len(found) > 1:
        at = next(k for k in range(len(names)) if found[0][k] != found[1][k])
        both = " and ".join(series[pick[at]].name for pick in found)
        problem = f"several series fit input '{names[at]}': {both}; leave one of them out"
    return Assignment(dict(zip(names, found[0], strict=True)), problem)


def _distinct_picks(choices: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, ...]]:
    """The first picks of one place out of each list, no place twice."""
    waiting: list[tuple[int, ...]] = [()]
    given = 0
    while waiting and given < most:
        picked = waiting.pop()
        if len(picked) == len(choices):
            given += 1
            yield picked
        else:
            waiting += [(*picked, t) for t in reversed(choices[len(picked)]) if t not in picked]
