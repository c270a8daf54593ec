"""Cards and packages to test with: whole and valid, any field changed by its path."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from residency.card import Card, parse_card
from residency.package import ModelPackage, Payload, build_package

_BRAIN = {"scheme": "SCT", "value": "12738006", "meaning": "Brain"}
_HIPPOCAMPUS = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
_ANATOMY = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical structure"}

EXAMPLE: Mapping[str, Any] = {
    "identity": {
        "name": "Example segmenter",
        "family": "example",
        "version": "1.0.0",
        "sequence": 1,
        "publisher": {"id": "example.org", "name": "Example"},
        "created": "2026-01-01T00:00:00Z",
        "summary": "A card to test with.",
    },
    "licences": {"code": "Apache-2.0", "weights": "CC-BY-SA-4.0"},
    "task": "segmentation",
    "inputs": [
        {
            "name": "image",
            "tensor": "image",
            "modalities": ["MR"],
            "regions": [_HIPPOCAMPUS],
            "recipe": {"steps": []},
            "derived": "accepted",
        }
    ],
    "outputs": [
        {
            "name": "segmentation",
            "tensor": "scores",
            "kind": "segmentation",
            "classes": [
                {"index": 0, "name": "background"},
                {"index": 1, "name": "hippocampus", "category": _ANATOMY, "type": _HIPPOCAMPUS, "region": _BRAIN},
            ],
            "decision": {"activation": "softmax", "rule": "argmax"},
        }
    ],
    "tiling": {"window": [32, 32, 32], "overlap": 0.5},
    "intended_use": {
        "statement": "Testing.",
        "users": "Developers",
        "population": "Phantoms",
        "out_of_scope": ["Patients"],
        "oversight": "None needed",
        "role": "demonstration",
    },
    "regulatory": {"status": "research only", "notice": "Research use only. Not a medical device."},
    "training": {
        "datasets": [],
        "split": "none",
        "seed": 0,
        "augmentation": "none",
        "loss": "none",
        "optimiser": "none",
        "steps": 0,
        "hardware": "none",
        "duration_minutes": 0,
    },
    "evaluation": [],
    "golden": {"input": "golden-input.nii.gz", "expected": "golden-expected.nii.gz", "source": "phantom"},
    "parameters": 1,
}


def example_card(changes: Mapping[str, Any] | None = None) -> Card:
    """A valid card; `changes` maps dotted paths to values, such as {"inputs.0.modalities": ["CT"]}."""
    data: Any = copy.deepcopy(dict(EXAMPLE))
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        at = data
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    return parse_card(data)


def example_package(changes: Mapping[str, Any] | None = None, *, graph: bytes = b"graph") -> ModelPackage:
    """A whole package around `example_card`. Its graph runs only if a real one is given."""
    return build_package(
        example_card(changes),
        [
            Payload("graph", "graph.onnx", "application/onnx", graph),
            Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", b"input"),
            Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", b"expected"),
        ],
    )
