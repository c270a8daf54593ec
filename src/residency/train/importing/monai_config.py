"""A bundle's configuration, read as text: values, and references to values. Nothing in it is ever evaluated.

MONAI's language: "@a::b" (older: "@a#b") is the value under that id, "$..." is Python, "%file::id" another file,
"_target_" a class. Of "$" only what needs no Python is understood: a literal, a reference alone, and the foreground of
CropForeground. Anything else becomes `Expression`, and is refused by whatever needs it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from residency.errors import InputError

_DEEPEST = 32
_MOST_VALUES = 100_000
"""Values that following references may make: a few lines that name each other could grow without end."""

_LONGEST_LITERAL = 2000
_REFERENCE = re.compile(r"@([A-Za-z_]\w*(?:(?:::|#)\w+)*)")
_POSITIVE = re.compile(r"lambda (\w+): ?\1 ?> ?0(?:\.0*)?")

POSITIVE = "above 0"
"""What stands for `$lambda x: x > 0`."""


@dataclass(frozen=True)
class Expression:
    """Python text that is not evaluated."""

    text: str

    def __str__(self) -> str:
        return f"the expression '{self.text[:80]}'"


@dataclass(frozen=True)
class Described:
    """Something that a configuration makes: the last name of its class, and its arguments, resolved."""

    kind: str
    arguments: Mapping[str, Any]


class Config:
    """A configuration by its ids."""

    def __init__(self, held: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._held = held
        self._made = 0

    def described(self, names: Iterable[str]) -> Described | None:
        """What the first of these ids that is there makes; None where none is there. Raises InputError."""
        for name in names:
            value = self._resolved(self._held.get(name), 0)
            if isinstance(value, Expression):
                value = self._made_of(value)
            if isinstance(value, Mapping) and "_target_" in value:
                return self.one(value, name)
        return None

    def one(self, value: object, name: str) -> Described:
        """One entry that makes something. Raises InputError."""
        if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
            raise InputError(f"{self.where}: '{name[:80]}' makes nothing that has a name: no '_target_'")
        arguments = {key: one for key, one in value.items() if not (key.startswith("_") and key.endswith("_"))}
        return Described(value["_target_"].rpartition(".")[2][:80], arguments)

    def transforms(self, names: Iterable[str]) -> tuple[Described, ...]:
        """The transforms of a Compose under the first of these ids that is there, but for disabled ones."""
        found = self.described(names)
        if found is None:
            return ()
        listed = (
            found.arguments.get("transforms")
            if found.kind == "Compose"
            else [{"_target_": found.kind, **found.arguments}]
        )
        if not isinstance(listed, list):
            raise InputError(f"{self.where}: the transforms are {str(listed)[:80]}, no list that can be read")
        kept = [one for one in listed if not (isinstance(one, Mapping) and one.get("_disabled_") in (True, "true"))]
        return tuple(self.one(one, f"transform {number}") for number, one in enumerate(kept))

    def _made_of(self, value: Expression) -> object:
        """`$@network_def.to(@device)`, the one form in which bundles put a network onto a machine."""
        match = re.fullmatch(r"@(\w+)\.to\(@device\)", value.text.strip())
        return self._resolved(self._held.get(match[1]), 0) if match else None

    def _resolved(self, value: object, depth: int) -> Any:
        self._made += 1
        if depth > _DEEPEST or self._made > _MOST_VALUES:
            raise InputError(f"{self.where}: references or lists nest deeper than {_DEEPEST} levels, or without end")
        if isinstance(value, Mapping):
            return {str(key): self._resolved(one, depth + 1) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolved(one, depth + 1) for one in value]
        if not isinstance(value, str):
            return value
        if value.startswith("%"):
            return Expression(value)
        text = value.removeprefix("$").strip()
        match = _REFERENCE.fullmatch(text)
        if match:
            return self._resolved(self._under(re.split("::|#", match[1])), depth + 1)
        return _literal(text) if value.startswith("$") else value

    def _under(self, path: list[str]) -> Any:
        value: Any = self._held
        for part in path:
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return Expression("@" + "::".join(path))
        return value


def _literal(text: str) -> Any:
    """A number, word, list or table of Python's; `POSITIVE`; else the expression."""
    if _POSITIVE.fullmatch(text):
        return POSITIVE
    if len(text) <= _LONGEST_LITERAL:
        try:
            found = ast.literal_eval(text)  # literals alone: no name, call or operation is ever carried out
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return Expression(text)
        if _is_plain(found):
            return found
    return Expression(text)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, bool | int | float | str)
