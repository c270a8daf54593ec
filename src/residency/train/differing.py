"""In which keys a training file differs from the one that a run was begun with; no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from residency.files.bounded import read_bounded
from residency.files.strict_yaml import LARGEST_FILE
from residency.train.config import TrainingConfig

SETTINGS = "config.json"
"""What a run folder keeps of its training file; see `residency.train.report.effective`."""

_MOST_TOLD = 3
_LONGEST = 40
_ABSENT = object()
_PLACES = {"precision": "device.precision"}
"""Names in a digest -> keys of the training file, where they differ."""


def differing(config: TrainingConfig, run: Path, digest: str) -> str:
    """`KEY (was VALUE, is VALUE), ...` of the first keys that decide the weights; "" where that is not known.

    digest  of the training file of the run's checkpoint: what lies beside it may be of another run
    """
    try:
        told = json.loads(read_bounded(run / SETTINGS, LARGEST_FILE))
        then = TrainingConfig.model_validate(told["config"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, ValidationError):
        return ""
    if then.learning_digest() != digest:
        return ""
    before, now = dict(_leaves(then.decisive())), dict(_leaves(config.decisive()))
    changed = [
        f"{_PLACES.get(place, place)} (was {_said(before, place)}, is {_said(now, place)})"
        for place in {**before, **now}
        if before.get(place, _ABSENT) != now.get(place, _ABSENT)
    ]
    more = f" and {len(changed) - _MOST_TOLD} more" if len(changed) > _MOST_TOLD else ""
    return ", ".join(changed[:_MOST_TOLD]) + more


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that holds no further keys, by its place from the top; a loss is written as its name or as a list."""
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif place != "loss" and isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        inner = list(enumerate(value))
    else:
        yield place, value
        return
    for key, one in inner:
        yield from _leaves(one, f"{place}.{key}" if place else str(key))


def _said(values: Mapping[str, Any], place: str) -> str:
    if place not in values:
        return "left out"
    text = json.dumps(values[place], ensure_ascii=True)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
