"""A cascade to test with: a head with a structure on each side, a model that finds them, and one that parts each.

Both networks are real graphs that tell voxels by their value: 0 is outside, CAVITY inside the head, FRONT and BACK are
the two parts of a structure. No one was ever scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from residency.files.nifti import write_nifti
from residency.geometry import Affine
from residency.package import ModelPackage, Payload, build_package
from residency.testing.cards import example_card
from residency.testing.graphs import nearest_level_graph
from residency.volume import Grid, Volume

CAVITY, FRONT, BACK = 100.0, 200.0, 300.0

LEFT, RIGHT = (20.0, 5.0, -10.0), (-20.0, 5.0, -10.0)
"""Centres of the two structures, LPS mm."""
SIZES = ((6.0, 12.0, 6.0), (6.0, 9.0, 6.0))
"""Half axes of the left and the right structure, mm: the left one is the larger."""

_BRAIN = {"scheme": "SCT", "value": "12738006", "meaning": "Brain"}
_HIPPOCAMPUS = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
_INTRACRANIAL = {"scheme": "SCT", "value": "1101003", "meaning": "Intracranial"}
_ANATOMY = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical structure"}
_ANTERIOR = {"scheme": "SCT", "value": "255549009", "meaning": "Anterior"}
_POSTERIOR = {"scheme": "SCT", "value": "255551008", "meaning": "Posterior"}

Place = tuple[float, float, float]


def head(
    structures: Sequence[tuple[Place, Place]] = ((LEFT, SIZES[0]), (RIGHT, SIZES[1])),
    *,
    spacing_mm: Place = (2.0, 2.0, 2.0),
    turn: Affine | None = None,
) -> Volume:
    """A head of 92 x 112 x 100 mm (LR, PA, SI), axes "SPL", with structures in it: (centre, half axes) in LPS mm.

    spacing_mm  (slice, row, column)
    turn        4 x 4, LPS mm to LPS mm: moves the head and the grid with it
    """
    extent = (104.0, 120.0, 104.0)
    shape = [round(mm / step) for mm, step in zip((extent[2], extent[1], extent[0]), spacing_mm, strict=True)]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    affine[:3, 3] = -(affine[:3, :3] @ ((np.array(shape) - 1) / 2))
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    array = np.where((points**2 / np.array((46.0, 56.0, 50.0)) ** 2).sum(-1) <= 1, CAVITY, 0.0)
    for centre, half in structures:
        inside = (((points - np.array(centre)) / np.array(half)) ** 2).sum(-1) <= 1
        array[inside] = np.where(points[inside][:, 1] < centre[1], FRONT, BACK)
    place = affine if turn is None else turn @ affine
    return Volume(array.astype(np.float32), Grid((shape[0], shape[1], shape[2]), place))


def localiser(changes: Mapping[str, Any] | None = None) -> ModelPackage:
    """Family "localiser": what is intracranial, and in it the structures, of a whole head."""
    classes = [
        {"index": 0, "name": "background"},
        {"index": 1, "name": "Intracranial", "category": _ANATOMY, "type": _INTRACRANIAL},
        {"index": 2, "name": "Hippocampus", "category": _ANATOMY, "type": _HIPPOCAMPUS, "region": _BRAIN},
    ]
    fields: dict[str, Any] = {
        "identity.family": "localiser",
        "identity.name": "Head localiser",
        "inputs.0.regions": [_BRAIN],
        "inputs.0.larger_region": True,
        "inputs.0.spacing_mm": {axis: {"least": 0.5, "most": 4} for axis in ("LR", "PA", "SI")},
        "inputs.0.field_of_view_mm": {axis: {"least": 80} for axis in ("LR", "PA", "SI")},
        "outputs.0.name": "regions",
    }
    golden = head(spacing_mm=(4.0, 4.0, 4.0))
    return _package(fields | dict(changes or {}), classes, (0.0, CAVITY, (FRONT + BACK) / 2), golden)


def crop_model(changes: Mapping[str, Any] | None = None) -> ModelPackage:
    """Family "parts": the front and the back of one structure, in a crop round it. It needs the localiser before."""
    part = {"category": _ANATOMY, "type": _HIPPOCAMPUS, "region": _BRAIN}
    classes = [
        {"index": 0, "name": "background"},
        {"index": 1, "name": "Front", **part, "modifiers": [_ANTERIOR]},
        {"index": 2, "name": "Back", **part, "modifiers": [_POSTERIOR]},
    ]
    fields: dict[str, Any] = {
        "identity.family": "parts",
        "identity.name": "Parts of the hippocampus",
        "inputs.0.regions": [_HIPPOCAMPUS],
        "inputs.0.spacing_mm": {axis: {"least": 0.5, "most": 4} for axis in ("LR", "PA", "SI")},
        "inputs.0.field_of_view_mm": {axis: {"least": 10, "most": 60} for axis in ("LR", "PA", "SI")},
        "inputs.0.rows": {"least": 4, "most": 60},
        "outputs.0.name": "parts",
        "step_before": {"family": "localiser", "output": "regions", "margin_mm": 6, "paired": True},
    }
    whole = head(((((0.0, 0.0, 0.0)), SIZES[0]),), spacing_mm=(4.0, 4.0, 4.0))
    return _package(fields | dict(changes or {}), classes, (CAVITY, FRONT, BACK), whole)


def _package(
    fields: dict[str, Any], classes: list[dict[str, Any]], levels: Sequence[float], golden: Volume
) -> ModelPackage:
    """A package whose golden case is what its graph says of a volume: the nearest level, the first of equals."""
    distances = np.abs(golden.array[None] - np.array(levels, np.float32).reshape(-1, 1, 1, 1))
    expected = np.argmin(distances, axis=0).astype(np.uint8)
    fields |= {"outputs.0.classes": classes, "parameters": 2 * len(levels), "tiling": {"window": [32, 32, 32]}}
    graph = nearest_level_graph(levels)
    nifti = "application/x-nifti+gzip"
    return build_package(
        example_card(fields),
        [
            Payload("graph", "graph.onnx", "application/onnx", graph),
            Payload("golden/input", "golden-input.nii.gz", nifti, write_nifti(golden.array, golden.grid)),
            Payload("golden/expected", "golden-expected.nii.gz", nifti, write_nifti(expected, golden.grid)),
        ],
    )
