"""One head through the package, as a series of an archive goes through it, against its reference on its own grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from heads_parts.shown import Head
from residency.card import Card
from residency.decide import segments
from residency.engine import Network
from residency.errors import CropError
from residency.infer import infer
from residency.labels import Side
from residency.metrics import dice, hd95
from residency.pipeline.crops import cut, locate
from residency.prepare import prepare
from residency.volume import Volume

MARGIN_MM = 8.0
"""As the hippocampus model asks for round what is found."""

INTRACRANIAL, HIPPOCAMPUS = "Dice intracranial", "Dice hippocampi"
FIGURES: Mapping[str, str] = {
    INTRACRANIAL: "Dice coefficient of what is inside the skull: both classes together",
    "HD95 intracranial": "95th percentile of the surface distance of the same, mm, the larger direction",
    "volume error intracranial": "Predicted minus reference volume of the same, per cent of the reference",
    HIPPOCAMPUS: "Dice coefficient of both hippocampi together",
    "hippocampi in their crops": "Share of the reference hippocampus inside the crop of its side, the worse side; 0 "
    "where no side is proven",
}

Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]


def judge(head: Head, network: Network, card: Card) -> Row:
    """Figures of one head; a figure that its reference cannot tell is nan."""
    volume, output = head.volume, card.outputs[0]
    name = card.inputs[0].name
    decided = infer({name: prepare(volume, card.inputs[0].recipe)}, network, card)[output.name]
    found = {segment.label: segment.mask for segment in segments(decided, output, volume.grid)}
    none = np.zeros(volume.grid.shape, dtype=np.bool_)
    hippocampi = found.get("Hippocampus", none)
    inside = found.get("Intracranial", none) | hippocampi
    wanted = head.reference > 0
    row: Row = {"group": head.group, "change": head.change, "case": head.case}
    row[INTRACRANIAL] = dice(inside, wanted)
    row["HD95 intracranial"] = hd95(inside, wanted, volume.grid.spacing_mm)
    row["volume error intracranial"] = 100 * (int(inside.sum()) / int(wanted.sum()) - 1)
    told = head.reference.max() > 1
    row[HIPPOCAMPUS] = dice(hippocampi, head.reference > 1) if told else float("nan")
    row["hippocampi in their crops"] = _in_crops(hippocampi, inside, head) if told else float("nan")
    return row


def _in_crops(hippocampi: Mask, inside: Mask, head: Head) -> float:
    grid = head.volume.grid
    try:
        boxes = locate(hippocampi, inside & ~hippocampi, grid, paired=True, margin_mm=MARGIN_MM).boxes
    except CropError:
        return 0.0
    image = Volume(np.zeros(grid.shape, np.float32), grid)
    crops = {box.side: cut(image, box, MARGIN_MM).box.slices for box in boxes}
    held = []
    for label, side in ((2, Side.RIGHT), (3, Side.LEFT)):
        wanted = head.reference == label
        held.append(float(wanted[crops[side]].sum() / wanted.sum()) if side in crops else 0.0)
    return min(held)
