"""Every key of a training file, as the models say it: place, kind of value, default, meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from residency.train.loss_part import LossPart
from residency.wording import definitions

ELSEWHERE: Mapping[str, str] = {
    "loss": "losses.md",
    "recipe": "recipe-steps.md",
}
"""Keys whose own keys another page tells."""


@dataclass(frozen=True)
class Key:
    """One key that holds a value, no further keys.

    place    from the top of the file, joined by dots
    part     the model that holds it
    field    its pydantic field
    meaning  from the docstring of its part; "" where that says nothing
    """

    place: str
    part: type[BaseModel]
    field: FieldInfo
    meaning: str

    @property
    def required(self) -> bool:
        """A file without it is refused, unless the part that holds it may be left out and is."""
        return self.field.is_required()

    @property
    def default(self) -> Any:
        """The value of a file that leaves it out."""
        value = self.field.get_default(call_default_factory=True)
        return None if value is PydanticUndefined else value


def keys_of(model: type[BaseModel], above: str = "") -> Iterator[Key]:
    """The keys of a model and of those that it holds, in their order."""
    meanings = definitions(model.__doc__)
    for name, field in model.model_fields.items():
        place, inner = f"{above}{name}", model_in(field.annotation)
        if inner is not None and place not in ELSEWHERE:
            yield from keys_of(inner, f"{place}.")
        else:
            yield Key(place, model, field, meanings.get(name, ""))


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that the value of a field is, if it is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not LossPart:
        return annotation
    return None
