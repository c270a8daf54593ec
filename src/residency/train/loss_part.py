"""The losses that a training file may name, their parameters, and what a card says of them. Without torch.

Four forms, from the shortest to the longest:

    loss: dice-cross-entropy
    loss: {dice: 1.0, focal: 0.5}
    loss: {name: tversky, parameters: {alpha: 0.2, beta: 0.8}}
    loss:
      - {name: dice, parameters: {squared: true}}
      - {name: boundary, weight: 0.01}

No label is ignored: every voxel of a crop counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from residency.errors import ConfigError
from residency.wording import in_plain_words

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Task = Literal["segmentation", "classification"]


class Parameters(BaseModel):
    """Those of one loss. What they do is told in `residency.train.losses`, where the loss is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    def check(self, classes: int) -> str | None:
        """What is wrong with them for that many classes."""
        return None

    def told(self) -> str:
        """The loss, for a card."""
        raise NotImplementedError


class DiceCrossEntropy(Parameters):
    def told(self) -> str:
        return "soft Dice of the foreground classes plus cross-entropy"


class Dice(Parameters):
    background: bool = False
    squared: bool = False
    smooth: Positive = 1e-5

    def told(self) -> str:
        return f"soft Dice {_of(self.background)}{', squared denominator' if self.squared else ''}"


class CrossEntropy(Parameters):
    weights: Annotated[tuple[Positive, ...], Field(strict=False)] = ()
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def check(self, classes: int) -> str | None:
        needed = max(2, classes)
        if len(self.weights) in (0, needed):
            return None
        return f"weights: one for each of {needed} classes is needed, the background first, got {len(self.weights)}"

    def told(self) -> str:
        weighted = f", classes weighted {' : '.join(f'{one:g}' for one in self.weights)}" if self.weights else ""
        return f"cross-entropy{weighted}{f', labels smoothed by {self.smoothing:g}' if self.smoothing else ''}"


class BinaryCrossEntropy(Parameters):
    positive_weight: Positive = 1.0

    def told(self) -> str:
        weighted = f", positives weighted {self.positive_weight:g}" if self.positive_weight != 1 else ""
        return f"binary cross-entropy of each class{weighted}"


class Focal(Parameters):
    gamma: Annotated[float, Field(ge=0)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _has_a_slope(self) -> Self:
        if 0 < self.gamma < 1:  # its slope is infinite where a voxel is certain, and a training ends there
            raise ValueError("gamma is 0, or at least 1")
        return self

    def told(self) -> str:
        weighted = f", foreground weighted {self.alpha:g}" if self.alpha is not None else ""
        return f"focal cross-entropy (gamma {self.gamma:g}{weighted})"


class Tversky(Parameters):
    alpha: Positive = 0.3
    beta: Positive = 0.7
    background: bool = False
    smooth: Positive = 1e-5

    def told(self) -> str:
        return f"Tversky {_of(self.background)} (false positives {self.alpha:g}, false negatives {self.beta:g})"


class FocalTversky(Tversky):
    gamma: Annotated[float, Field(ge=1)] = 4 / 3

    def told(self) -> str:
        return f"focal {super().told()[:-1]}, gamma {self.gamma:.4g})"


class Boundary(Parameters):
    def told(self) -> str:
        return "boundary loss of the foreground classes"


LOSSES: Mapping[str, type[Parameters]] = {
    "dice-cross-entropy": DiceCrossEntropy,
    "dice": Dice,
    "cross-entropy": CrossEntropy,
    "binary-cross-entropy": BinaryCrossEntropy,
    "focal": Focal,
    "tversky": Tversky,
    "focal-tversky": FocalTversky,
    "boundary": Boundary,
}
"""Name in a training file -> its parameters."""

OF_CASES = ("cross-entropy", "binary-cross-entropy", "focal")
"""Losses of classification; all are of segmentation."""


class Term(BaseModel):
    """One loss of a sum."""

    model_config = ConfigDict(frozen=True)

    name: str
    weight: float
    parameters: SerializeAsAny[Parameters]


class LossPart(BaseModel):
    """A sum of losses. It dumps as its name alone where that says all."""

    model_config = ConfigDict(frozen=True)

    terms: tuple[Term, ...]

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return {"terms": _terms(value)}

    @model_serializer
    def _plain(self) -> Any:
        (first, *others) = self.terms
        if not others and first.weight == 1 and not type(first.parameters).model_fields:
            return first.name
        return [
            {"name": term.name, "weight": term.weight, "parameters": term.parameters.model_dump(mode="json")}
            for term in self.terms
        ]

    def check(self, classes: int, task: Task = "segmentation") -> None:
        """Raise ConfigError unless the losses can be computed for that many classes."""
        for term in self.terms:
            if task == "classification" and term.name not in OF_CASES:
                raise ConfigError(f"loss: '{term.name}' compares masks; classification has {', '.join(OF_CASES)}")
            if wrong := term.parameters.check(classes):
                raise ConfigError(f"loss: parameters of '{term.name}': {wrong}")

    def told(self) -> str:
        """One line for a card."""
        if len(self.terms) == 1:  # a weight of its own changes nothing but the rate
            return f"{self.terms[0].name}: {self.terms[0].parameters.told()}"
        return "; ".join(f"{term.weight:g} x {term.name}: {term.parameters.told()}" for term in self.terms)


def _of(background: bool) -> str:
    return "of all classes" if background else "of the foreground classes"


def _terms(value: Any) -> tuple[Term, ...]:
    if isinstance(value, str):
        value = [{"name": value}]
    elif isinstance(value, Mapping):
        value = [value] if "name" in value else [{"name": name, "weight": weight} for name, weight in value.items()]
    if not isinstance(value, Sequence) or not value:
        raise ConfigError(f"loss: a name, names with their weights, or a list of losses is expected, got {value!r}")
    found = tuple(_term(item) for item in value)
    names = [term.name for term in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"loss: named twice: {', '.join(sorted({one for one in names if names.count(one) > 1}))}")
    if names == ["boundary"]:
        raise ConfigError("loss: 'boundary' alone cannot tell where a structure is; add one, {dice: 1, boundary: 0.01}")
    return found


def _term(item: Any) -> Term:
    if isinstance(item, str):
        item = {"name": item}
    if not isinstance(item, Mapping) or "name" not in item:
        raise ConfigError(f"loss: each of a list has a name, and may have a weight and parameters, got {item!r}")
    for key in item:
        _known("key", key, ("name", "weight", "parameters"))
    name = _known("loss", item["name"], tuple(LOSSES))
    try:
        weight = TypeAdapter(Positive).validate_python(item.get("weight", 1.0), strict=True)
    except ValidationError:
        raise ConfigError(f"loss: the weight of '{name}' is a number above 0, got {item['weight']!r}") from None
    given, kind = item.get("parameters", {}), LOSSES[name]
    if not isinstance(given, Mapping):
        raise ConfigError(f"loss: parameters of '{name}': names with their values are expected, got {given!r}")
    for key in given:
        _known(f"parameter of '{name}'", key, tuple(kind.model_fields))
    try:
        return Term(name=name, weight=weight, parameters=kind.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"][:1])
        raise ConfigError(f"loss: parameters of '{name}': {place}{in_plain_words(first)}") from None


def _known(what: str, name: Any, known: Sequence[str]) -> str:
    if isinstance(name, str) and name in known:
        return name
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known) or 'none'}"
    raise ConfigError(f"loss: unknown {what} {name!r}, {hint}")


DEFAULT = LossPart.model_validate("dice-cross-entropy")
