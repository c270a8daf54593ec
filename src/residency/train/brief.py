"""What a training file says, in a few lines; no torch."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from residency.train.config import TrainingConfig

_FOR_THE_CARD = {"name", "licence", "source", "labels"}
"""Of the data: nothing that a training depends on."""


def brief(config: TrainingConfig) -> Iterator[str]:
    """A line for each key at the top that is not what it would be if the file left it out."""
    said = config.model_dump(
        mode="json", exclude_defaults=True, exclude={"name": True, "data": _FOR_THE_CARD, "recipe": True}
    )
    said["recipe"] = [
        {step.name: dict(step.parameters)} if step.parameters else step.name for step in config.recipe.steps
    ]
    for key in type(config).model_fields:
        if key in said and said[key] != {}:
            yield _flow({key: said[key]})[1:-1]


def whole(config: TrainingConfig) -> str:
    """Every key with its value, those that the file leaves out too, as YAML."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _flow(value: object) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=True, width=float("inf"))
    return text.strip()
