"""A card with everything in it that was measured; what only a person can say is left out, and listed."""

from __future__ import annotations

from typing import Any

import yaml

from residency.card import Card
from residency.train.config import TrainingConfig
from residency.train.evidence.found import Evidence, evaluations

TO_FILL_IN = (
    ("identity", "name, family, version, sequence, publisher {id, name}, created, summary"),
    ("licences", "code, weights (what the data demand of them), data"),
    ("inputs", "modalities, regions (coded), and the gates that keep other images out, such as weightings and spacing"),
    ("outputs", "category and type (coded) of each class; smallest_component_mm3, if small pieces are to be dropped"),
    ("intended_use", "statement, users, population, out_of_scope, oversight, role"),
    ("regulatory", "status, and the notice that every result carries"),
    ("failure_modes", "what is known to go wrong, each in a line; look at the worst cases"),
    ("monitoring", "plausible_mm3 of each class"),
    ("golden", "input, expected, source: a template or a phantom, never a person's scan; and licence.txt"),
)
"""Field of a card, and what a person must say there."""


def draft(config: TrainingConfig, contract: Card, evidence: Evidence) -> str:
    """The text of card.yaml: valid YAML, and no valid card before every line marked FILL IN has been filled in."""
    known: dict[str, Any] = {
        "task": contract.outputs[0].kind,
        "inputs": [_input(one, evidence) for one in contract.inputs],
        "outputs": [_output(one) for one in contract.outputs],
        "tiling": contract.tiling.model_dump(mode="json"),
        "evaluation": [one.model_dump(mode="json", exclude_none=True) for one in evaluations(evidence)],
    }
    if evidence.training is not None:
        known["training"] = evidence.training.model_dump(mode="json", exclude_none=True)
    if evidence.statistics is not None:
        known["statistics"] = evidence.statistics.model_dump(mode="json", exclude_none=True)
    missing = "\n".join(f"# FILL IN {field}: {said}" for field, said in TO_FILL_IN)
    text: str = yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=110)
    return (
        f"# A card for '{_line(config.name)}', with what was measured. Copy it to card.yaml beside graph.onnx and\n"
        "# fill in what only a person can say: every line marked FILL IN. `residency models build` names the rest.\n"
        f"# Codes are never guessed.\n\n{missing}\n\n{text}"
    )


def _input(one: Any, evidence: Evidence) -> dict[str, Any]:
    told: dict[str, Any] = {"name": one.name, "tensor": one.tensor, "recipe": one.recipe.model_dump(mode="json")}
    if one.channel is not None:
        told["channel"] = one.channel
    seen = evidence.statistics
    if seen is not None and seen.spacing_mm:  # what it was trained on: a person may allow more, and must then test it
        told["spacing_mm"] = {axis: limits.model_dump(mode="json") for axis, limits in seen.spacing_mm.items()}
        told["field_of_view_mm"] = {
            axis: limits.model_dump(mode="json") for axis, limits in seen.field_of_view_mm.items()
        }
    return told


def _output(one: Any) -> dict[str, Any]:
    return {
        "name": one.name,
        "tensor": one.tensor,
        "kind": one.kind,
        "classes": [{"index": kind.index, "name": kind.name} for kind in one.classes],
        "decision": one.decision.model_dump(mode="json"),
    }


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
