"""Recipe: an ordered list of preparation steps as names and numbers, the form in which a card stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Parameter = bool | int | float | str | tuple[float, ...] | tuple[int, ...]


class Step(BaseModel):
    """One preparation step by its registered name (see `residency.prepare`), with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)


class Recipe(BaseModel):
    """The steps from a source volume to the network's input, first to last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = ()


def recipe(*steps: tuple[str, Mapping[str, Any]] | str) -> Recipe:
    """A recipe from plain Python: `recipe(("orient", {"letters": "SPL"}), "normalise")`."""
    made = [Step(name=s) if isinstance(s, str) else Step(name=s[0], parameters=s[1]) for s in steps]
    return Recipe(steps=tuple(made))
