"""From scores to findings by the card's decision rule, which is text that can be read and audited."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from residency.card import Decision, Output, OutputClass
from residency.codes import Code
from residency.errors import CardError, GeometryError, GraphError
from residency.findings import ClassScore, Mask, ScoreMap, Segment
from residency.labels import Side
from residency.volume import Grid

MOST_EXCLUSIVE_CLASSES = 256
"""Exclusive classes are held as one uint8 label a voxel."""

PROBABILITY = Code(scheme="DCM", value="122157", meaning="Probability")
SCORE = Code(scheme="99RESIDENCY", value="SCORE", meaning="Score of the network")
NO_UNITS = Code(scheme="UCUM", value="1", meaning="no units")

Scores = npt.NDArray[np.float32]


def activate(scores: Scores, decision: Decision) -> Scores:
    """The card's activation over the first axis (classes); float32, the shape of the scores."""
    if decision.activation == "none":
        return scores
    # Shifted by the largest, resp. mirrored at 0: exp never overflows.
    if decision.activation == "softmax":
        powers: Scores = np.exp(scores - scores.max(axis=0, keepdims=True))
        powers /= powers.sum(axis=0, keepdims=True)
        return powers
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0 / (1.0 + small), small / (1.0 + small)).astype(np.float32, copy=False)


def decide_scores(scores: Scores, decision: Decision) -> npt.NDArray[np.uint8] | Mask:
    """Scores of any spatial shape, (classes, ...), decided voxel by voxel.

    rule "argmax": uint8, (...): the class with the largest score, the first of equals
    rule "threshold": bool, (classes, ...): classes may overlap; the activated score reaches the threshold
    """
    if decision.rule == "threshold":
        return np.asarray(activate(scores, decision) >= np.float32(decision.threshold), dtype=np.bool_)
    if scores.shape[0] > MOST_EXCLUSIVE_CLASSES:
        raise CardError(f"{scores.shape[0]} exclusive classes; at most {MOST_EXCLUSIVE_CLASSES} are supported")
    # Every activation keeps the order of scores, so that the largest can be found without it.
    largest: npt.NDArray[np.uint8] = np.argmax(scores, axis=0).astype(np.uint8)
    return largest


def check_channels(scores: Scores, output: Output) -> None:
    """Raises GraphError unless the first axis has one channel for each class of the card's output."""
    if scores.ndim < 1 or scores.shape[0] != len(output.classes):
        raise GraphError(
            f"output '{output.tensor}' of the network gives scores of shape {list(scores.shape)}, "
            f"the card lists {len(output.classes)} classes: graph and card do not belong together"
        )


def segments(
    decided: npt.NDArray[np.uint8] | Mask,
    output: Output,
    grid: Grid,
    *,
    side: Side | None = None,
    first_number: int = 1,
) -> tuple[Segment, ...]:
    """Segments of a decided output, small components removed as the card says.

    decided       of the whole grid, as `decide_scores` gives it: uint8 labels, or bool masks (classes, ...)
    side          a proven side, stated in every segment
    first_number  number of the first segment; the others count on

    A class of which nothing is left makes no segment. A voxel whose component is dropped becomes background.
    """
    found: list[Segment] = []
    for kind, mask in _masks(decided, output, grid):
        cleaned = clean(mask, output.decision, grid, largest_only=kind.largest_only)
        if not cleaned.any():
            continue
        if kind.category is None or kind.type is None:
            raise CardError(f"class '{kind.name}' of output '{output.name}' has no category and type code")
        found.append(
            Segment(
                number=first_number + len(found),
                label=kind.name,
                category=kind.category,
                type=kind.type,
                mask=cleaned,
                modifiers=kind.modifiers,
                region=kind.region,
                side=side,
                colour=kind.colour,
            )
        )
    return tuple(found)


def class_scores(
    probabilities: npt.NDArray[np.float32], output: Output, *, side: Side | None = None
) -> tuple[ClassScore, ...]:
    """Probabilities (classes,) of a classification with the classes' codes, and what the card's rule says of each.

    side  a proven side of the images, stated of every class

    rule "argmax": the largest is found, the first of equals; rule "threshold": what reaches it. Classes without a code
    are left out; `uncoded` names them.
    """
    check_channels(probabilities, output)
    decision = output.decision
    if decision.rule == "argmax":
        found = np.arange(len(probabilities)) == int(np.argmax(probabilities))
    else:
        found = probabilities >= np.float32(decision.threshold)
    return tuple(
        ClassScore(kind.type, float(p), kind.name, bool(hit), kind.category, kind.region, side)
        for kind, p, hit in zip(output.classes, probabilities, found, strict=True)
        if kind.type is not None
    )


def uncoded(output: Output) -> tuple[str, ...]:
    """Names of the classes of a classification that no report can name, since the card gives them no code."""
    return tuple(kind.name for kind in output.classes if output.kind == "classification" and kind.type is None)


def score_maps(
    values: Scores, output: Output, grid: Grid, *, side: Side | None = None, first_number: int = 1
) -> tuple[ScoreMap, ...]:
    """The maps of an output of that kind, one for each class.

    values  activated, float32 (classes, slices, rows, columns) on the whole grid

    Where classes have codes, one without them is the background and makes no map. Raises GeometryError for values of
    another shape.
    """
    if values.shape != (len(output.classes), *grid.shape):
        raise GeometryError(f"the map '{output.name}' has shape {values.shape}, the grid is {grid.shape}")
    coded = any(kind.type is not None for kind in output.classes)
    activated = output.decision.activation != "none"
    kinds = [kind for kind in output.classes if kind.type is not None or not coded]
    return tuple(
        ScoreMap(
            quantity=output.quantity or (PROBABILITY if activated else SCORE),
            unit=output.unit or NO_UNITS,
            array=values[kind.index],
            number=number,
            label=kind.name,
            category=kind.category,
            type=kind.type,
            modifiers=kind.modifiers,
            region=kind.region,
            side=side,
            colour=kind.colour,
            fractional=output.stored_as == "probabilities",
        )
        for number, kind in enumerate(kinds, start=first_number)
    )


def clean(mask: Mask, decision: Decision, grid: Grid, *, largest_only: bool = False) -> Mask:
    """The mask without components (26 neighbours) below the card's smallest volume, or only the largest one.

    largest_only  the largest one, though the decision leaves the others

    On a radiograph, whose slice has no thickness, the volume is an area in mm2 (in pixels where it has no spacing).
    """
    largest_only = largest_only or decision.largest_only
    if not mask.any() or not (largest_only or decision.smallest_component_mm3 > 0):
        return mask
    import cc3d

    box = tuple(_extent(mask, axis) for axis in range(3))
    components = cc3d.connected_components(np.ascontiguousarray(mask[box]), connectivity=26)
    voxels = np.bincount(components.ravel())
    voxels[0] = 0
    # A component exactly as large as the smallest stays, whatever the rounding of the voxel volume.
    keep = voxels >= max(1, math.ceil(decision.smallest_component_mm3 / grid.voxel_mm3 - 1e-6))
    keep[0] = False
    if largest_only:
        keep &= np.arange(len(voxels)) == int(np.argmax(voxels))
    cleaned = np.zeros_like(mask)
    cleaned[box] = keep[components]
    return cleaned


def output_in_words(output: Output) -> str:
    """What becomes of an output's scores, as a result states it."""
    if output.kind != "map":
        alone = [kind.name for kind in output.classes if kind.largest_only]
        return in_words(output.decision) + (f"; largest component only of {', '.join(alone)}" if alone else "")
    activation = output.decision.activation
    return f"map of {'scores' if activation == 'none' else activation + ' of scores'}, nothing decided"


def in_words(decision: Decision) -> str:
    """The rule as a result states it."""
    rule = "largest score" if decision.rule == "argmax" else f"{decision.activation} >= {decision.threshold:g}"
    if decision.smallest_component_mm3 > 0:
        rule += f"; components below {decision.smallest_component_mm3:g} mm3 dropped"
    return rule + ("; largest component only" if decision.largest_only else "")


def _masks(decided: npt.NDArray[np.uint8] | Mask, output: Output, grid: Grid) -> Iterator[tuple[OutputClass, Mask]]:
    exclusive = output.decision.rule == "argmax"
    expected = grid.shape if exclusive else (len(output.classes), *grid.shape)
    if decided.shape != expected or (decided.dtype == np.bool_) is exclusive:
        raise GeometryError(
            f"the decided output '{output.name}' is {decided.dtype} {decided.shape}, expected {expected} on its grid"
        )
    for kind in output.classes:
        if not exclusive:
            yield kind, decided[kind.index].astype(np.bool_, copy=False)
        elif kind.index > 0:
            yield kind, np.asarray(decided == kind.index, dtype=np.bool_)


def _extent(mask: Mask, axis: int) -> slice:
    hit = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
    return slice(int(hit[0]), int(hit[-1]) + 1)
