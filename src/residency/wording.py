"""Words for people: what is wrong with a value that they wrote, and what a docstring says of a name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

EXPECTED: Mapping[str, str] = (
    dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number")
    | dict.fromkeys(("float_type", "float_parsing"), "a number")
    | dict.fromkeys(("bool_type", "bool_parsing"), "true or false")
    | dict.fromkeys(("string_type", "string_too_short"), "text")
    | dict.fromkeys(("tuple_type", "list_type"), "a list")
    | dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "mapping_type"), "a mapping of keys to values")
    | {
        "finite_number": "a finite number",
        "path_type": "a path",
        "greater_than": "a number above {gt:g}",
        "greater_than_equal": "a number of at least {ge:g}",
        "less_than": "a number below {lt:g}",
        "less_than_equal": "a number of at most {le:g}",
        "too_short": "a list of at least {min_length}",
        "too_long": "a list of at most {max_length}",
        "literal_error": "one of {expected}",
    }
)
"""Kind of pydantic's error -> what is expected in plain words."""

_LONGEST = 80


def in_plain_words(error: ErrorDetails) -> str:
    """One of the errors of a pydantic.ValidationError, without its place: what is expected, and what was found."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return "missing; it must be given"
    if kind == "value_error":
        return str(context["error"])
    if kind in EXPECTED:
        return wanted(EXPECTED[kind].format(**context), error["input"])
    return f"{error['msg']}, got {_short(error['input'])}"


def wanted(expected: str, value: Any) -> str:
    """That something else is expected than this value."""
    return f"{expected} is expected, got {_short(value)}"


def _short(value: Any) -> str:
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."


@cache
def definitions(text: str | None) -> Mapping[str, str]:
    """The aligned definitions of a docstring; a line that is indented further goes on with the one before."""
    found: dict[str, str] = {}
    open_keys: list[str] = []
    for line in inspect.cleandoc(text or "").splitlines():
        if begun := re.match(r"((?:\w+, )*\w+) {2,}(\S.*)$", line):
            open_keys = begun[1].split(", ")
            found |= dict.fromkeys(open_keys, begun[2])
        elif line.startswith("  ") and open_keys:
            found |= {key: f"{found[key]} {line.strip()}" for key in open_keys}
        else:
            open_keys = []
    return found
