"""The steps that a recipe may name. Adding one: a file with the step, a line here, a class in its tests."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from residency.errors import ConfigError
from residency.prepare.clip import Clip
from residency.prepare.crop import Crop
from residency.prepare.normalise import Normalise
from residency.prepare.orient import Orient
from residency.prepare.pad import Pad
from residency.prepare.resample import Resample
from residency.prepare.resize import Resize
from residency.prepare.scale import Scale
from residency.prepare.step import Preparation
from residency.prepare.window import Window
from residency.recipe import Recipe, Step
from residency.wording import in_plain_words

STEPS: Mapping[str, type[BaseModel]] = {
    "orient": Orient,
    "resample": Resample,
    "resize": Resize,
    "window": Window,
    "clip": Clip,
    "scale": Scale,
    "normalise": Normalise,
    "crop": Crop,
    "pad": Pad,
}


def check_recipe(recipe: Recipe) -> tuple[Preparation, ...]:
    """The recipe's steps, ready to apply.

    Raises ConfigError, before any image is touched, naming the step and the parameter that is unknown (with the
    nearest known one), missing or out of range.
    """
    return tuple(_made(step, f"step {number} ('{step.name}')") for number, step in enumerate(recipe.steps, 1))


def _made(step: Step, where: str) -> Preparation:
    if step.name not in STEPS:
        raise ConfigError(f"the recipe's {where} is unknown{_hint(step.name, list(STEPS))}")
    kind = STEPS[step.name]
    try:
        made: Any = kind.model_validate(dict(step.parameters))
    except ValidationError as error:
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # it may be a misspelt one
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            reason = f"unknown parameter '{key}'{_hint(key, list(kind.model_fields))}"
        else:
            reason = f"{key}: {in_plain_words(first)}" if key else in_plain_words(first)
        raise ConfigError(f"the recipe's {where}: {reason}") from None
    step_made: Preparation = made
    return step_made


def _hint(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
