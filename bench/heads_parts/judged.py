"""One head through the shipped packages, as a series of an archive goes through them, against its reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heads_parts.cascaded import NOTHING, cascade, refusal
from heads_parts.shown import LEFT, RIGHT, Head
from residency.card import Input
from residency.errors import CropError
from residency.labels import Side
from residency.metrics import dice
from residency.pipeline.crops import cut, locate
from residency.selection.content import skull_present
from residency.volume import Volume
from shipped import Mask, Row, Shipped, distance_mm

ACCEPTED = "accepted"
INTRACRANIAL, HD95 = "Dice intracranial", "HD95 intracranial"
HIPPOCAMPUS, IN_CROPS = "Dice hippocampi", "hippocampi in their crops"
MARGIN_MM = 6.0
"""Round what is found, as the hippocampus package asks for; a test holds the two together."""

FIGURES: Mapping[str, str] = {
    INTRACRANIAL: "Dice coefficient of what is inside the skull: both classes together",
    HD95: "95th percentile of the surface distance of the same, mm, the larger direction",
    "volume error intracranial": "Predicted minus reference volume of the same, per cent of the reference",
    HIPPOCAMPUS: "Dice coefficient of both hippocampi together, as the head model outlines them to find the crops",
    IN_CROPS: "Share of the reference hippocampus inside the crop of its side, the worse side; 0 "
    "where no side is proven",
    ACCEPTED: "Share of the images that the card's gates on size, spacing and skull let through",
}


def judge(head: Head, first: Shipped, second: Shipped | None) -> Row:
    """Figures of one head; a figure that its reference cannot tell is nan.

    first   the head package; it is shown images that its card refuses too
    second  the package that is shown the crops; None where the image is none that it takes
    """
    outlined = first.masks(head.volume)
    row = gated(head, first) | _extracted(outlined, head)
    if head.reference.max() > 1:
        row |= _located(outlined, head)
        row |= cascade(head, outlined, second) if second else {}
    return row


def gated(head: Head, first: Shipped) -> Row:
    """What the gates of the card say of the image; all other figures are nan."""
    reasons = _refusals(head.volume, first.card.inputs[0])
    return {
        "group": head.group,
        "change": head.change,
        "case": head.case,
        "person": head.case,
        **dict.fromkeys(FIGURES, float("nan")),
        ACCEPTED: float(not reasons),
        "refused because": "; ".join(reasons),
        **NOTHING,
    }


def _refusals(volume: Volume, needs: Input) -> list[str]:
    said = [refusal(volume, needs)]
    for condition in needs.content:
        seen = skull_present(volume)
        if seen != condition.value:
            said.append("skull: " + ("cannot be told" if seen is None else "seen" if seen else "not seen"))
    return [one for one in said if one]


def _extracted(outlined: Mapping[str, Mask], head: Head) -> Row:
    inside, wanted = _inside(outlined, head), head.reference > 0
    return {
        INTRACRANIAL: dice(inside, wanted),
        HD95: distance_mm(inside, wanted, head.volume.grid),
        "volume error intracranial": 100 * (int(inside.sum()) / int(wanted.sum()) - 1),
    }


def _inside(outlined: Mapping[str, Mask], head: Head) -> Mask:
    """What is inside the skull: the hippocampi are a class of their own, and lie in there."""
    none = np.zeros(head.volume.grid.shape, np.bool_)
    found: Mask = outlined.get("Intracranial", none) | outlined.get("Hippocampus", none)
    return found


def _located(outlined: Mapping[str, Mask], head: Head) -> Row:
    none = np.zeros(head.volume.grid.shape, np.bool_)
    hippocampi, cavity = (outlined.get(name, none) for name in ("Hippocampus", "Intracranial"))
    return {
        HIPPOCAMPUS: dice(hippocampi, head.reference > 1),
        IN_CROPS: _in_crops(hippocampi, cavity, head),
    }


def _in_crops(hippocampi: Mask, cavity: Mask, head: Head) -> float:
    try:
        boxes = locate(hippocampi, cavity, head.volume.grid, paired=True, margin_mm=MARGIN_MM).boxes
    except CropError:
        return 0.0
    crops = {box.side: cut(head.volume, box, MARGIN_MM).box.slices for box in boxes}
    held = []
    for label, side in ((RIGHT, Side.RIGHT), (LEFT, Side.LEFT)):
        wanted = head.reference == label
        held.append(float(wanted[crops[side]].sum() / wanted.sum()) if side in crops else 0.0)
    return min(held)
