"""Models with a step before: what is asked of a series that they see only a crop of, and of the model that makes it.

A crop is smaller than its series and shows one structure in it. So field of view, rows, columns and slices are asked
of the crop, when it is cut; of the series only that it is no smaller than the crop may be. The region is asked of the
crop as well; the series must show a region around it. Everything else is asked of the series as ever: whether it is
original too, since cutting derives nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from residency.card import Card, Input, OutputClass, Range
from residency.codes import canonical
from residency.selection.gates import Status, Verdict

STEP_GATE = "step before"

_MOST_MISSES = 3
"""How many gates a reason names that the model of the step before does not pass."""


def asked_of_series(needs: Input) -> Input:
    """The demands of an input, as they are asked of a series of which it is given a crop."""
    fields = {axis: _at_least(demand) for axis, demand in needs.field_of_view_mm.items()}
    return needs.model_copy(
        update={
            "larger_region": True,
            "field_of_view_mm": {axis: demand for axis, demand in fields.items() if demand is not None},
            "rows": _at_least(needs.rows),
            "columns": _at_least(needs.columns),
            "slices": _at_least(needs.slices),
        }
    )


def located(first: Card, second: Card) -> tuple[OutputClass, ...]:
    """The classes of the named output of the first model that are what the second one needs a crop of."""
    before = second.step_before
    wanted = {canonical(code) for code in second.inputs[0].regions}
    return tuple(
        kind
        for output in first.outputs
        if before is not None and output.name == before.output and output.kind == "segmentation"
        for kind in output.classes
        if kind.type is not None and canonical(kind.type) in wanted
    )


@dataclass(frozen=True)
class Step:
    """The model that makes a crop, and how that was found.

    place    of the model in the table; None where there is none that fits
    words    which model, or what is missing
    trusted  it may be used; without, it fits, but nobody here allows it
    """

    place: int | None
    words: str
    trusted: bool = True

    @property
    def usable(self) -> bool:
        """There is one, and it may be used."""
        return self.place is not None and self.trusted


def step_verdict(second: Card, step: Step) -> Verdict:
    """What a model with a step before demands of the other models, and what was found."""
    before = second.step_before
    if before is None:
        raise ValueError("a card without a step before asks for none")
    shown = " and ".join(str(code) for code in second.inputs[0].regions)
    rule = f"a model of family '{before.family}' that fits, may be used and outlines {shown} as '{before.output}'"
    status = Status.PASS if step.usable else Status.FAIL
    return Verdict(STEP_GATE, status, STEP_GATE, step.words, rule, f"{STEP_GATE} = {step.words}")


def missing_output(first: Card, second: Card) -> str | None:
    """Why the output of the first model cannot give the second one its crop; None where it can."""
    before = second.step_before
    found = located(first, second)
    if before is None:
        return None
    if not found:
        shown = " or ".join(str(code) for code in second.inputs[0].regions)
        return f"has no segmentation '{before.output}' with a class of the type {shown}"
    kinds = [kind for output in first.outputs if output.kind == "segmentation" for kind in output.classes]
    if before.paired and all(kind in found for kind in kinds if kind.type is not None):
        return "outlines nothing else by which sides could be told"
    return None


def misses_in_words(verdicts: Sequence[Verdict]) -> str:
    """The gates among these that are not passed."""
    failing = [str(verdict) for verdict in verdicts if verdict.status is not Status.PASS]
    more = [f"and {len(failing) - _MOST_MISSES} more"] if len(failing) > _MOST_MISSES else []
    return "; ".join([*failing[:_MOST_MISSES], *more])


def _at_least(demand: Range | None) -> Range | None:
    return None if demand is None or demand.least is None else Range(least=demand.least)
