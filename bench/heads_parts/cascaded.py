"""The hippocampi of a head by the cascade of both shipped packages, against the regions of its reference.

The crops are found, asked the gates of the card, given to the network and put back as `residency.pipeline` does it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heads_parts.shown import LEFT, RIGHT, Head
from residency.card import Input
from residency.errors import CropError, TrainingError
from residency.labels import Evidence, SeriesLabels, Side, Weighting
from residency.metrics import dice
from residency.pipeline.crops import Crop, cut, locate, owned
from residency.selection import Status
from residency.selection.header_gates import header_verdicts
from residency.testing.studies import example_series
from residency.volume import Volume
from shipped import Mask, Row, Shipped

SIDES = {Side.LEFT: LEFT, Side.RIGHT: RIGHT}


def _of_side(side: str) -> dict[str, str]:
    return {
        f"Dice {side}": f"Dice coefficient of the {side} hippocampus, both parts together; 0 where it is not found",
        f"volume error {side}": f"Volume of the {side} hippocampus less that of the reference, per cent of the "
        "reference; -100 where it is not found",
        f"mL {side}": f"Volume of the {side} hippocampus, mL; 0 where it is not found",
        f"reference mL {side}": f"Volume of the {side} hippocampus in the reference, mL",
    }


FIGURES: Mapping[str, str] = {
    "both sides found": "Share of the images in which a left and a right hippocampus come out, their sides proven",
    **_of_side("left"),
    **_of_side("right"),
}
NOTHING: Row = dict.fromkeys(FIGURES, float("nan")) | {"cascade": "not tried"}
"""Of an image that the cascade is not shown."""


def cascade(head: Head, outlined: Mapping[str, Mask], second: Shipped) -> Row:
    """The figures of one head.

    outlined  what the head model outlines in it
    second    the package that is shown the crops

    "cascade" is why a side is missing, in the words of the crops or of the gates.
    """
    grid = head.volume.grid
    sides, said = _found(head.volume, outlined, second)
    row: Row = {"both sides found": float(len(sides) == len(SIDES)), "cascade": said}
    for side, label in SIDES.items():
        wanted = head.reference == label
        found = sides.get(side, np.zeros(grid.shape, np.bool_))
        has, should = (float(mask.sum()) * grid.voxel_mm3 / 1000 for mask in (found, wanted))
        name = side.name.lower()
        row[f"Dice {name}"] = dice(found, wanted)
        row[f"volume error {name}"] = 100 * (has / should - 1)
        row[f"mL {name}"], row[f"reference mL {name}"] = has, should
    return row


def _found(volume: Volume, outlined: Mapping[str, Mask], second: Shipped) -> tuple[dict[Side, Mask], str]:
    """Proven side -> all that the second package outlines there; and what stood in the way, or ""."""
    before, grid = second.card.step_before, volume.grid
    if before is None:
        raise TrainingError(f"the card of {second.card.identity.name} names no step before: there is no cascade")
    none = np.zeros(grid.shape, np.bool_)
    hippocampi, cavity = (outlined.get(name, none) for name in ("Hippocampus", "Intracranial"))
    try:
        located = locate(hippocampi, cavity, grid, paired=before.paired, margin_mm=before.margin_mm)
    except CropError as error:
        return {}, str(error)
    said = list(located.notes)
    crops: list[Crop] = []
    for box in located.boxes:
        crop = cut(volume, box, before.margin_mm)
        if refused := refusal(crop.volume, second.card.inputs[0]):
            said.append(f"{box.name}: {refused}")
        else:
            crops.append(crop)
    sides: dict[Side, Mask] = {}
    for crop in crops:
        found = second.masks(crop.volume)
        if crop.box.side is None or not found:
            said += [] if found else [f"{crop.box.name}: nothing is outlined in the crop"]
            continue
        whole = none.copy()
        mine = owned(crop, [other for other in crops if other is not crop], grid)
        whole[crop.box.slices] = np.logical_or.reduce(list(found.values())) & mine
        sides[crop.box.side] = whole
    return sides, "; ".join(said)


def refusal(volume: Volume, needs: Input) -> str:
    """The first header gate that an image of this grid does not pass as a T1 of what the card asks for, or ""."""
    verdicts = header_verdicts(_labels(volume, needs), needs)
    return next((str(verdict) for verdict in verdicts if verdict.status is not Status.PASS), "")


def _labels(volume: Volume, needs: Input) -> SeriesLabels:
    slices, rows, columns = volume.grid.shape
    return example_series(
        slices=slices,
        rows=rows,
        columns=columns,
        spacing_mm=volume.grid.spacing_mm,
        orientation=volume.grid.orientation,
        regions=Evidence(needs.regions, "the bench"),
        weighting=Evidence(Weighting.T1, "the bench"),
    )
