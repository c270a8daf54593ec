"""The steps that a recipe may name. Adding one: a file with the step, a line here, a class in its tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

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
from residency.recipe import Recipe
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

    Raises ConfigError, before any image is touched, with the first of `faults_of` and the number of the others.
    """
    made, faults = _read(recipe)
    if faults:
        raise ConfigError(faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""))
    return made


def faults_of(recipe: Recipe) -> tuple[str, ...]:
    """What is wrong with the steps, a line each; () of a sound recipe.

    A line names the step and the parameter that is unknown (with the nearest known one), missing or out of range.
    """
    return _read(recipe)[1]


def _read(recipe: Recipe) -> tuple[tuple[Preparation, ...], tuple[str, ...]]:
    """The steps that can be made, and the faults of the others."""
    made: list[Any] = []
    faults: list[str] = []
    for number, step in enumerate(recipe.steps, 1):
        where = f"the recipe's step {number} ('{step.name}')"
        if step.name not in STEPS:
            faults.append(f"{where} is unknown{_hint(step.name, list(STEPS))}")
            continue
        kind = STEPS[step.name]
        try:
            made.append(kind.model_validate(dict(step.parameters)))
        except ValidationError as error:
            faults += [f"{where}: {reason}" for reason in _reasons(error, kind, step.parameters)]
    return tuple(made), tuple(faults)


def _reasons(error: ValidationError, kind: type[BaseModel], given: Mapping[str, Any]) -> Iterator[str]:
    """One of each parameter, unknown ones first; one that is misspelt is not told to be missing as well."""
    found: dict[str, list[ErrorDetails]] = {}
    for each in error.errors():
        found.setdefault(str(each["loc"][0]) if each["loc"] else "", []).append(each)
    known = list(kind.model_fields)
    unknown = [key for key, errors in found.items() if errors[0]["type"] == "extra_forbidden"]
    for key in unknown:
        yield f"unknown parameter '{key}'{_hint(key, known)}"
    meant = {near for key in unknown for near in get_close_matches(key, known, n=1)}
    for key, errors in found.items():
        if key in unknown or (key in meant and key not in given):
            continue
        if key:
            yield f"{key}: {_reason(errors, kind.model_fields[key].annotation, given.get(key))}"
        else:
            yield in_plain_words(errors[0])


def _reason(errors: Sequence[ErrorDetails], annotation: Any, value: Any) -> str:
    """Of a parameter that may be one number or a list of them, pydantic tells what is wrong with it as either."""
    if not isinstance(value, list | tuple):
        return in_plain_words(errors[0])
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    lengths = [len(get_args(kind)) for kind in kinds if get_origin(kind) is tuple]
    if lengths and len(value) not in lengths:
        alone = any(get_origin(kind) is not tuple and kind is not NoneType for kind in kinds)
        expected = _NUMBERS[lengths[0]] + (", or one for all," if alone else "")
        return f"{expected} is expected, got [{', '.join(f'{number:g}' for number in value)}]"
    as_list = [each for each in errors if any("tuple" in str(part) for part in each["loc"])]
    return in_plain_words((as_list or errors)[0])


_NUMBERS = {2: "a list of two numbers", 3: "a list of three numbers (slice, row, column)", 6: "a list of six numbers"}
"""How many numbers a parameter has -> what is expected."""


def _hint(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
