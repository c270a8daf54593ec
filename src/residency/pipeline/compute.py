"""From volumes to decided outputs: prepare, infer, decide. Results and golden cases come out of this alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Card
from residency.decide import segments
from residency.engine import Engine, Network, Precision
from residency.errors import ModelError
from residency.infer import infer
from residency.package import ModelPackage
from residency.prepare import prepare
from residency.volume import Volume


def compute(
    card: Card, network: Network, volumes: Mapping[str, Volume], progress: Callable[[int, int], None] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Volumes by input name -> decided outputs on the source's grid; the one way to results and golden cases."""
    prepared = {needs.name: prepare(volumes[needs.name], needs.recipe) for needs in card.inputs}
    return infer(prepared, network, card, progress)


def replay(
    volumes: Mapping[str, Volume], package: ModelPackage, engine: Engine, precision: Precision
) -> npt.NDArray[Any]:
    """The golden volumes through the model, as results are computed: what the card's first output makes of them.

    volumes  by input name

    Class indices (slices, rows, columns) for a segmentation, probabilities (classes,) for a classification. Raises
    ModelError for a card whose first output is a map.
    """
    card = package.card
    output = card.outputs[0]
    if output.kind == "map":
        raise ModelError("the golden case of a segmentation or classification can be replayed, and the card has a map")
    network = engine.load(package.with_role("graph").data, precision=precision)
    decided = compute(card, network, volumes)
    if output.kind == "classification":
        return decided[output.name]
    index_of = {kind.name: kind.index for kind in output.classes}
    grid = volumes[card.inputs[0].name].grid
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for segment in segments(decided[output.name], output, grid):
        labels[segment.mask] = index_of[segment.label]
    return labels
