"""The card of a network from nnU-Net, as far as plans tell it. Codes are never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from residency.train.export import INPUT, OUTPUT
from residency.train.importing.plans import Planned

_OVERLAP = 0.5
"""With which nnU-Net predicts."""


def draft_card(planned: Planned, letters: str, averaged: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are known.

    letters   of the network's own axes, after nnU-Net's transposition
    averaged  what the graph averages over, and how many passes of the network a window costs for it
    """
    rule: dict[str, Any] = {"activation": "softmax", "rule": "argmax"}
    if planned.regions:
        rule = {"activation": "sigmoid", "rule": "threshold", "threshold": 0.5}
    return {
        "task": "segmentation",
        "inputs": [_input(planned, number, letters) for number in range(len(planned.channels))],
        "outputs": [
            {
                "name": "segments",
                "tensor": OUTPUT,
                "kind": "segmentation",
                "classes": [{"index": number, "name": name} for number, name in enumerate(planned.classes)],
                "decision": rule,
            }
        ],
        "tiling": {"window": list(planned.window), "overlap": _OVERLAP},
        "evaluation": [],  # what its makers publish was not measured on this graph
        "extensions": {
            "nnunet": {"plans": planned.plans, "configuration": planned.configuration, "averages": dict(averaged)}
        },
    }


def _input(planned: Planned, number: int, letters: str) -> dict[str, Any]:
    steps = [("orient", {"letters": letters}), *planned.steps[number]]
    return {
        "name": f"channel{number}",
        "tensor": INPUT,
        "channel": planned.channels[number],
        "recipe": {"steps": [{"name": name, "parameters": dict(values)} for name, values in steps]},
    }
