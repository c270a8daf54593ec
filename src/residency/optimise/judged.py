"""One case judged for the gate: what a form of a network says, against the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from residency.card import Card, Output
from residency.datasets import Case, read_images
from residency.datasets.case import read_reference
from residency.decide import segments
from residency.engine import Network
from residency.errors import EngineError, InputError, ModelError, TrainingError
from residency.findings import Mask
from residency.metrics import dice, hd95
from residency.pipeline.compute import compute
from residency.volume import Grid, Volume


@dataclass(frozen=True)
class Judged:
    """What was found in one case.

    dice, hd95_mm  of a segmentation, by class; a distance is infinite where a structure is missed or invented
    probabilities  of a classification, by class in the card's order; `truth` is the number of the case's class
    failure        why there is no answer; it counts as one that misses everything
    """

    case: str
    person: str
    dice: Mapping[str, float] = field(default_factory=dict)
    hd95_mm: Mapping[str, float] = field(default_factory=dict)
    probabilities: tuple[float, ...] = ()
    truth: int | None = None
    failure: str | None = None


def judged_output(card: Card) -> Output:
    """The output that is judged. Raises ModelError for several, for a map, and for a classification of one class."""
    output = card.outputs[0]
    if len(card.outputs) > 1:
        raise ModelError(f"the card has {len(card.outputs)} outputs; a network is judged by one, and ships whole")
    if output.kind == "map":
        raise ModelError(f"output '{output.name}' is a map: nothing is decided that could be compared with a reference")
    if output.kind == "classification" and len(output.classes) < 2:
        raise ModelError(f"output '{output.name}' has one class: it tells nothing apart that could be judged")
    return output


def judge(
    cases: Sequence[Case], card: Card, network: Network, progress: Callable[[int, int], None] | None = None
) -> tuple[Judged, ...]:
    """Every case, in order. `progress` is called with cases done and cases in all; what it raises ends the judging.

    Raises TrainingError, naming the case, for one that cannot be read or prepared or has no reference.
    """
    found = []
    for number, case in enumerate(cases, 1):
        found.append(_judge(case, card, network))
        if progress is not None:
            progress(number, len(cases))
    return tuple(found)


def _judge(case: Case, card: Card, network: Network) -> Judged:
    output = judged_output(card)
    volumes = tuple(read_images(case).values())
    if len(volumes) != len(card.inputs):
        raise TrainingError(f"case '{case.name}' has {len(volumes)} images, the network takes {len(card.inputs)}")
    named = {one.name: volume for one, volume in zip(card.inputs, volumes, strict=True)}
    if output.kind == "classification":
        return _classified(case, card, output, network, named)
    offset = 0 if output.decision.rule == "argmax" else 1  # of overlapping classes the background is none
    foreground = {kind.name: kind.index + offset for kind in output.classes if kind.index + offset > 0}
    grid = volumes[0].grid
    reference = read_reference(case, grid, max(foreground.values()) + 1)
    try:
        decided = _computed(case, card, network, named)[output.name]
    except EngineError as error:
        none, far = dict.fromkeys(foreground, 0.0), dict.fromkeys(foreground, math.inf)
        return Judged(case.name, case.person, none, far, failure=str(error))
    masks = {segment.label: segment.mask for segment in segments(decided, output, grid)}
    nothing = np.zeros(grid.shape, dtype=np.bool_)
    pairs = {name: (masks.get(name, nothing), reference == label) for name, label in foreground.items()}
    return Judged(
        case.name,
        case.person,
        {name: dice(said, wanted) for name, (said, wanted) in pairs.items()},
        {name: _distance(said, wanted, grid) for name, (said, wanted) in pairs.items()},
    )


def _classified(case: Case, card: Card, output: Output, network: Network, named: Mapping[str, Volume]) -> Judged:
    if len(case.labels) != 1:
        raise TrainingError(f"case '{case.name}' has a class in {len(case.labels)} columns; one is judged")
    (truth,) = case.labels.values()
    try:
        said = _computed(case, card, network, named)[output.name]
    except EngineError as error:
        return Judged(case.name, case.person, truth=truth, failure=str(error))
    return Judged(case.name, case.person, probabilities=tuple(float(value) for value in said), truth=truth)


def _computed(case: Case, card: Card, network: Network, named: Mapping[str, Volume]) -> dict[str, Any]:
    try:
        return compute(card, network, named)
    except InputError as error:
        raise TrainingError(f"case '{case.name}' cannot be prepared: {error}") from None


def _distance(said: Mask, wanted: Mask, grid: Grid) -> float:
    if grid.shape[0] == 1:  # one slice is a plane: as a volume, all of it would be surface
        return hd95(said[0], wanted[0], grid.spacing_mm[1:])
    return hd95(said, wanted, grid.spacing_mm)
