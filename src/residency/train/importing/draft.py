"""A card that is not whole yet: what was found stands in it, what a person must say is listed, never guessed.

A person says it in a file of the same form as card.yaml, before (`completed`) or after (by filling in the lines).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from residency.card import Card
from residency.errors import CardError, UsageError
from residency.files.strict_yaml import LARGEST_FILE, read_yaml

TO_SAY: Mapping[str, str] = {
    "identity": "name, family, version, sequence, publisher {id, name}, created, summary",
    "licences": "code, weights (what the data demand of them), data",
    "inputs": "modalities and regions (coded), and the gates that keep other images out",
    "outputs": "category and type (coded) of each class",
    "tiling": "window: voxels of what the network sees at once, along its own axes",
    "intended_use": "statement, users, population, out_of_scope, oversight, role",
    "regulatory": "status, and the notice that every result carries",
    "training": "data sets, and how it was trained",
    "golden": "input, expected, source: golden-input.nii.gz, golden-expected.nii.gz; and licence.txt",
}
"""Part of a card, and what a person says there."""

_NOT_FOR_A_PERSON = ("schema_version", "parameters")


def read_given(file: Path) -> dict[str, Any]:
    """The card fields that a person gives. Raises UsageError or ConfigError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    return read_yaml(data, str(file))


def completed(draft: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The draft with what a person gives, which wins: keys by name, inputs, outputs and classes by their place."""
    made = dict(draft)
    for key, value in given.items():
        old = made.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            made[key] = completed(old, value)
        elif _entries(old) and _entries(value) and len(old) == len(value):  # type: ignore[arg-type]
            made[key] = [completed(one, more) for one, more in zip(old, value, strict=True)]  # type: ignore[arg-type]
        else:
            made[key] = value
    return made


def missing(draft: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands between the draft and a card, one line a part: its name, what a person says there, where.

    Raises CardError for a field that is there and wrong, or unknown.
    """
    asked: dict[str, list[str]] = {}
    try:
        Card.model_validate({**draft, "parameters": draft.get("parameters", 1)})
    except ValidationError as error:
        found = error.errors()
        for one in found:
            if one["type"] == "too_short" and any(more["loc"][:1] == one["loc"] != more["loc"] for more in found):
                continue  # entries that lack something are not counted
            place = ".".join(str(part) for part in one["loc"])
            if one["type"] == "missing":
                asked.setdefault(str(one["loc"][0]), []).append(place)
            elif one["type"] == "value_error" and "category and a type code" in one["msg"]:
                asked.setdefault("outputs", []).append(one["msg"].removeprefix("Value error, "))
            else:
                raise CardError(f"the model card is not valid: {place}: {one['msg']}") from None
    return tuple(
        f"{part}: {TO_SAY.get(part, '')}" + (f" ({', '.join(places)})" if places != [part] else "")
        for part, places in asked.items()
        if part not in _NOT_FOR_A_PERSON
    )


def card_text(title: str, draft: Mapping[str, Any], lacking: tuple[str, ...], notes: tuple[str, ...] = ()) -> str:
    """card.yaml: valid YAML, and no valid card before every line marked FILL IN has been filled in."""
    lines = [f"# {_said(title)}"]
    lines += [f"# Differs: {_said(note)}" for note in notes]
    if lacking:
        lines += ["# Codes are never guessed. `residency models build` names what is still missing."]
        lines += [f"# FILL IN {_said(line)}" for line in lacking]
    text: str = yaml.safe_dump(_plain(draft), sort_keys=False, allow_unicode=True, width=110)
    return "\n".join(lines) + "\n\n" + text


def _entries(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _said(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:500]
