"""JSON from outside: bounded, and every value asked for by name and kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeVar, overload

from residency.errors import InputError, UsageError
from residency.files.bounded import read_bounded

MOST_SEEN = 2**28
"""Numbers in the largest window that is taken, all channels together: 1 GiB."""

LARGEST_JSON = 16 * 1024**2
"""Bytes of the largest JSON file that is read; nnU-Net's plans of large sets have some 100 kB."""

_WORDS = {dict: "keys and values", list: "a list", str: "a word", int: "a whole number", float: "a number"}

Kind = TypeVar("Kind")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file. Raises UsageError for a missing file, InputError for one that is no bounded JSON object."""
    try:
        data = read_bounded(file, LARGEST_JSON)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    return parse_json(data, str(file))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """As `read_json`, of bytes that are already here."""
    if len(data) > LARGEST_JSON:
        raise InputError(f"{where} is longer than the {LARGEST_JSON} bytes that are read")
    try:
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is no JSON that can be read: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise InputError(f"{where} holds no keys and values")
    return found


@overload
def asked(held: Mapping[str, Any], key: str, kind: type[Kind], where: str) -> Kind: ...
@overload
def asked(held: Mapping[str, Any], key: str, kind: type[Kind], where: str, default: Kind) -> Kind: ...
def asked(held: Mapping[str, Any], key: str, kind: type[Any], where: str, default: Any = None) -> Any:
    """The value under a key. Raises InputError, naming key and file, where it is missing or of another kind."""
    value = held.get(key, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if value is None or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        told = "is missing" if key not in held else f"is not {_WORDS.get(kind, kind.__name__)}"
        raise InputError(f"{where}: '{key}' {told}")
    return value


def numbers(value: object, what: str, kind: type[int] | type[float], length: int | None = None) -> list[Any]:
    """A flat list of numbers. Raises InputError naming it."""
    fits = isinstance(value, list) and all(
        isinstance(each, (int, kind)) and not isinstance(each, bool) for each in value
    )
    if not fits or (length is not None and len(value) != length):  # type: ignore[arg-type]
        raise InputError(f"{what} is not a list of {length or 'some'} {_WORDS[kind].removeprefix('a ')}s")
    return [kind(each) for each in value]  # type: ignore[attr-defined]


def must_be_seen_at_once(window: Sequence[int], channels: int, where: str) -> None:
    """Raises InputError for a window that nobody could see at once: a proof of the graph holds one."""
    if prod(window) * channels > MOST_SEEN:
        shape = " x ".join(map(str, window))
        raise InputError(
            f"{where}: a window of {shape[:80]} with {channels} channels is too large; {MOST_SEEN} numbers are"
        )


def plain_text(value: object, most: int) -> str:
    """On one line, printable, bounded: it comes from strangers and is shown on terminals."""
    said = value if isinstance(value, str) else str(value)
    return "".join(one if one.isprintable() else " " for one in said)[:most].strip()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is given twice")
    return made


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no number")
