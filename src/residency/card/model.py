"""The card as a whole, and how it is read.

The fields follow Model Cards (Mitchell et al. 2019), MONAI's bundle metadata, the FDA's transparency principles for
machine-learning devices (2024), the EU's rules for devices and AI, and DICOM's vocabularies. Every coded label that
selects a model is in `inputs` and `diseases`; nothing is ever selected by free text.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from residency.card.contract import Golden, Input, Output, StepBefore, Tiling
from residency.card.record import (
    Compression,
    Evaluation,
    Identity,
    InputStatistics,
    IntendedUse,
    Licences,
    Lineage,
    Monitoring,
    Regulatory,
    Runtime,
    Training,
)
from residency.card.value import Digest, Line, Value
from residency.codes import Code
from residency.errors import CardError


class Card(Value):
    """The whole card. Serialised as canonical JSON inside the manifest; see `residency.package`."""

    schema_version: Literal[1] = 1
    identity: Identity
    licences: Licences
    task: Literal["segmentation", "classification", "detection", "regression", "saliency"]
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    diseases: tuple[Code, ...] = ()
    step_before: StepBefore | None = None
    tiling: Tiling
    intended_use: IntendedUse
    regulatory: Regulatory
    training: Training
    evaluation: tuple[Evaluation, ...]
    failure_modes: tuple[Line, ...] = ()
    statistics: InputStatistics = InputStatistics()
    monitoring: Monitoring = Monitoring()
    compression: Compression | None = None
    runtime: Runtime = Runtime()
    golden: Golden
    parameters: Annotated[int, Field(ge=1)]
    supersedes: Digest | None = None
    lineage: tuple[Lineage, ...] = ()
    extensions: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _cascade(self) -> Card:
        if self.step_before is None:
            return self
        if self.step_before.family == self.identity.family:
            raise ValueError(f"step_before.family: '{self.step_before.family}' is this model's own family")
        if len(self.inputs) != 1:
            raise ValueError("step_before: a crop is given to one input; this card has several")
        if any(output.kind == "map" for output in self.outputs):
            raise ValueError("step_before: a map of a crop says nothing of the rest of the series; leave the map out")
        return self

    @model_validator(mode="after")
    def _names(self) -> Card:
        for kind, names in (("input", [i.name for i in self.inputs]), ("output", [o.name for o in self.outputs])):
            if len(set(names)) != len(names):
                raise ValueError(f"two {kind}s share a name: {names}")
        if self.golden.more and self.golden.more.keys() != {one.name for one in self.inputs[1:]}:
            raise ValueError("golden.more names an image for each input but the first, and for nothing else")
        classes = {c.name for o in self.outputs for c in o.classes}
        unknown = sorted(set(self.monitoring.plausible_mm3) - classes)
        if unknown:
            raise ValueError(f"monitoring.plausible_mm3 names the class '{unknown[0]}', which no output has")
        return self


def parse_card(data: Mapping[str, Any]) -> Card:
    """A card from JSON-like data. Raises CardError naming wrong fields, with the nearest name for unknown ones."""
    try:
        return Card.model_validate_json(_as_json(data))
    except ValidationError as error:
        raise CardError("the model card is not valid: " + "; ".join(_explain(e) for e in error.errors()[:5])) from None


def card_schema() -> dict[str, Any]:
    """JSON Schema of the card, for editors and other programs."""
    return Card.model_json_schema()


def _as_json(data: Mapping[str, Any]) -> str:
    import json

    return json.dumps(data, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    raise CardError(f"the model card holds a {type(value).__name__}, which JSON cannot express")


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "card"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    unknown = str(error["loc"][-1])
    near = get_close_matches(unknown, _known_names(), n=1)
    return f"{where}: unknown field" + (f", did you mean '{near[0]}'?" if near else "")


def _known_names() -> set[str]:
    names: set[str] = set()
    waiting: list[Any] = [Card]
    seen: set[Any] = set()
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.update(kind.model_fields)
            waiting.extend(f.annotation for f in kind.model_fields.values())
        else:
            waiting.extend(a for a in get_args(kind) if not isinstance(a, str))
    return names
