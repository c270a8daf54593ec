"""What a training file may say of each net, without torch: its task, its settings, the sides that it takes.

The table lies in known.json beside this file; `make docs` writes it from the registry, and a test says that it is what
the code gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any, Literal

from residency.errors import ConfigError
from residency.nets.sides import Side, of_strides

_TABLE = "known.json"
_SIDES = ("depth", "features", "strides", "stem")
"""Settings that sides depend on, in nets that have them."""

_DEEPEST = 32


@dataclass(frozen=True)
class Known:
    """A net as it is known without being built.

    settings         name of each parameter -> default; `channels` and `classes` among them
    multiple, least  of the defaults; see `residency.nets.net.Net`
    """

    name: str
    task: Literal["segmentation", "classification"]
    dimensions: int
    settings: Mapping[str, Any]
    multiple: int
    least: int

    def sides(self, parameters: Mapping[str, Any], axes: int | None = None) -> tuple[Side, ...] | None:
        """Of each axis with these parameters; None where only the net itself can tell.

        axes  of the grid, where a net of two dimensions is made three-dimensional
        """
        found = self._sides(parameters)
        return found if found is None or len(found) > 1 else found * (axes or self.dimensions)

    def _sides(self, parameters: Mapping[str, Any]) -> tuple[Side, ...] | None:
        """One for all axes where they are alike."""
        changed = [key for key in _SIDES if key in self.settings and key in parameters]
        if not changed or "stem" in changed:
            return None if changed else ((self.multiple, self.least),)
        if "depth" in changed:
            return ((2**depth, self.least),) if 1 <= (depth := parameters["depth"]) <= _DEEPEST else None
        if "strides" in self.settings:
            features, strides = ({**self.settings, **parameters}[key] for key in ("features", "strides"))
            return _planned(len(features), strides)
        if isinstance(self.settings["features"], int):  # a width, not one number a level
            return ((self.multiple, self.least),)
        levels = len(parameters["features"])
        return ((2 ** (levels - 1), self.least),) if 1 <= levels <= _DEEPEST else None


def known_net(name: str) -> Known:
    """The net of that name. Raises ConfigError, with the nearest known name, for an unknown one."""
    return Known(name=name, **_table()[must_be_known("net", name, _table())])


def known_nets() -> tuple[str, ...]:
    """The names of all nets, in the order of the registry."""
    return tuple(_table())


def check_parameters(name: str, parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a net with these settings takes the parameters: names, and values of the right kind."""
    for key, value in parameters.items():
        must_be_known(f"parameter of net '{name}'", key, defaults)
        kind = _kind(defaults[key])
        if not (_kind(value) == kind or (kind, _kind(value)) == (_NUMBER, _WHOLE)):
            nested = isinstance(value, list | tuple) and any(isinstance(each, list | tuple) for each in value)
            flat = " (numbers one after the other, without lists inside)" if nested and kind == _LIST else ""
            raise ConfigError(f"parameter '{key}' of net '{name}' is {kind}{flat}, got {short(value)}")


def must_be_known(what: str, name: str, known: Mapping[str, Any]) -> str:
    """The name. Raises ConfigError, with the nearest known name, for one that is not there.

    Where several begin with what was written, all of them are named.
    """
    if name not in known:
        begun = [one for one in known if name and one.startswith(name)]
        near = begun or get_close_matches(name, known, n=1)
        hint = f", did you mean {_either(near)}?" if near else f"; known: {', '.join(known)}"
        raise ConfigError(f"unknown {what} '{name}'{hint}")
    return name


def _either(names: Sequence[str]) -> str:
    *first, last = map("'{}'".format, names)
    return f"{', '.join(first)} or {last}" if first else last


def short(value: object) -> str:
    """A value for an error."""
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


@cache
def _table() -> Mapping[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath(_TABLE).read_text(encoding="utf-8"))
    return found


def _planned(stages: int, strides: tuple[int, ...]) -> tuple[Side, ...] | None:
    if stages < 1 or len(strides) not in {stages, 3 * stages} or min(strides) < 1:
        return None  # the net itself says what is wrong
    axes = [strides] * 3 if len(strides) == stages else [strides[axis::3] for axis in range(3)]
    return of_strides([prod(axis) for axis in axes])


_NUMBER, _WHOLE, _LIST = "a number", "a whole number", "a list of whole numbers"


def _kind(value: object) -> str:
    """What a parameter's value is, for an error: Python would take "no" for true, and True for 1."""
    match value:
        case bool():
            return "true or false"
        case int():
            return _WHOLE
        case float():
            return _NUMBER
        case str():
            return "a word"
        case tuple() | list() if all(_kind(each) == _WHOLE for each in value):
            return _LIST
    return "something else"
