"""A card with everything in it that was measured; what only a person can say is left out, and listed."""

from __future__ import annotations

from typing import Any

import yaml

from residency.card import Card, Range
from residency.train.config import TrainingConfig
from residency.train.evidence.found import Evidence, evaluations

TO_FILL_IN = (
    ("identity", "name, family, version, sequence, publisher {id, name}, created, summary"),
    ("licences", "code, weights (what the data demand of them)"),
    ("inputs", "modalities, regions (coded)"),
    ("outputs", "category and type (coded) of each class"),
    ("intended_use", "statement, users, population, out_of_scope, oversight, role"),
    ("regulatory", "status, and the notice that every result carries"),
    ("golden", "input, expected, source: a template or a phantom, never a person's scan; and licence.txt"),
)
"""Field of a card, and what a person must say there."""

_MAY_ADD = (
    ("licences", "data"),
    (
        "inputs",
        "gates that keep other images out, such as weightings; spacing and field of view are those of the training "
        "images, a tenth wider: what lies beyond them was not tested",
    ),
    ("outputs", "smallest_component_mm3, if small pieces are to be dropped"),
    ("failure_modes", "what is known to go wrong, each in a line; look at the worst cases"),
    ("monitoring", "plausible_mm3 of each class"),
)
"""Field of a card, and what a person may say there as well."""


BEYOND = 0.1
"""Share by which a series may lie beyond spacing and extent of the training images. Gates that end where these do would
refuse 0.99 mm after a training on 1 mm; what is resampled, turned and scaled in training bears so much."""


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
    lines = [f"# FILL IN {field}: {said}" for field, said in TO_FILL_IN]
    missing = "\n".join([*lines, *(f"# MAY ADD {field}: {said}" for field, said in _MAY_ADD)])
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
    if seen is not None:  # a person may allow more, and must then test it
        for gate, limits in (("spacing_mm", seen.spacing_mm), ("field_of_view_mm", seen.field_of_view_mm)):
            if limits:
                told[gate] = {axis: _beyond(one) for axis, one in limits.items()}
    return told


def _beyond(seen: Range) -> dict[str, float]:
    ends = (("least", seen.least, 1 - BEYOND), ("most", seen.most, 1 + BEYOND))
    return {name: float(f"{end * factor:.4g}") for name, end, factor in ends if end is not None}


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
