"""A card that is not whole yet: what was found stands in it, what a person must say is listed, never guessed.

A person says it in a file of the same form as card.yaml, before (`completed`) or after (by filling in the lines).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from residency.card import Card
from residency.errors import CardError, UsageError
from residency.files.bounded import read_bounded
from residency.files.strict_yaml import LARGEST_FILE, read_yaml
from residency.train.importing.reading import plain_text

_CODES = "category and type (coded) of each class"

TO_SAY: Mapping[str, str] = {
    "identity": "name, family, version, sequence, publisher {id, name}, created, summary",
    "licences": "code, weights (what the data demand of them)",
    "inputs": "modalities and regions (coded)",
    "outputs": _CODES,
    "tiling": "window: voxels of what the network sees at once, along its own axes",
    "intended_use": "statement, users, population, out_of_scope, oversight, role",
    "regulatory": "status, and the notice that every result carries",
    "training": "data sets, and how it was trained",
    "golden": "input, expected, source: golden-input.nii.gz, golden-expected.nii.gz; and licence.txt",
}
"""Part of a card, and what a person says there where nothing of it is known."""

_WORDS: Mapping[str, str] = {
    "identity.publisher": "publisher {id, name}",
    "licences.weights": "weights (what the data demand of them)",
    "inputs.regions": "regions (coded)",
}
"""What a person says in a field that is not told by its name."""

_LONGEST = 500
_NOT_FOR_A_PERSON = ("schema_version", "parameters")


def read_given(file: Path) -> dict[str, Any]:
    """The card fields that a person gives. Raises UsageError or ConfigError."""
    try:
        data = read_bounded(file, LARGEST_FILE)
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
    """What stands between the draft and a card, no more: a line for each part, with what a person says there.

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
            part, *way = one["loc"] or ("",)
            if one["type"] == "missing":
                said = _field(str(part), way, draft) if way else TO_SAY.get(str(part), "")
            elif one["type"] == "value_error" and "category and a type code" in one["msg"]:
                said = _CODES
            else:
                place = ".".join(map(str, one["loc"]))
                raise CardError(f"the model card is not valid: {place}: {one['msg']}") from None
            asked.setdefault(str(part), []).append(said)
    return tuple(
        f"{part}: {', '.join(dict.fromkeys(said))}" for part, said in asked.items() if part not in _NOT_FOR_A_PERSON
    )


def _field(part: str, way: Sequence[int | str], draft: Mapping[str, Any]) -> str:
    """In words; of several inputs or outputs with the number of the one that is meant."""
    name = ".".join(str(step) for step in way if not isinstance(step, int))
    said = _WORDS.get(f"{part}.{name}", name)
    several = isinstance(way[0], int) and len(draft[part]) > 1
    return f"{said} of {part}.{way[0]}" if several else said


def card_text(title: str, draft: Mapping[str, Any], lacking: tuple[str, ...], notes: tuple[str, ...] = ()) -> str:
    """card.yaml: valid YAML, and no valid card before every line marked FILL IN has been filled in."""
    lines = [f"# {plain_text(title, _LONGEST)}"]
    lines += [f"# Differs: {plain_text(note, _LONGEST)}" for note in notes]
    if lacking:
        lines += ["# Codes are never guessed. `residency models build` names what is still missing."]
        lines += [f"# FILL IN {plain_text(line, _LONGEST)}" for line in lacking]
    text: str = yaml.safe_dump(_plain(draft), sort_keys=False, allow_unicode=True, width=110)
    return "\n".join(lines) + "\n\n" + text


def _entries(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
