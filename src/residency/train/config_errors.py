"""What is wrong with a training file, in words that say what to write instead."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from residency.errors import ConfigError
from residency.train.config_keys import keys_of, model_in
from residency.train.part import SeveralError
from residency.wording import definitions, in_plain_words, wanted

MOST_SHOWN = 20
"""Problems that one error tells."""

_LONGEST = 600


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key, by its place from the top of the file, and what to do."""

    place: str
    reason: str

    @classmethod
    def of(cls, error: ConfigError) -> Problem:
        """That of a message that begins with the key."""
        return cls(re.split("[: ]", str(error), maxsplit=1)[0], str(error))

    def __str__(self) -> str:
        says_where = self.reason.startswith(("unknown key", f"{self.place}: ", f"{self.place} "))
        return self.reason if says_where else f"{self.place}: {self.reason}"


def told(file: Path, problems: Sequence[Problem]) -> str:
    """The first problem in a line of its own, with the file and the number of the others, which follow."""
    first, *others = (_printable(str(problem)) for problem in problems)
    if not others:
        return f"{file}: {first}"
    shown = others[: MOST_SHOWN - 1]
    left = [f"and {len(others) - len(shown)} more"] if len(others) > len(shown) else []
    return "\n  ".join([f"{file}: {first} (and {len(others)} more)", *shown, *left])


def _printable(text: str) -> str:
    """On one line, whatever a key may hold, and no longer than a person reads."""
    line = "".join(one if one.isprintable() else "?" for one in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def problems_of(error: ValidationError, model: type[BaseModel]) -> tuple[Problem, ...]:
    """What pydantic found, unknown keys first; a key that is misspelt is not told to be missing as well."""
    unknown: list[Problem] = []
    wrong: dict[str, list[Problem]] = {}
    meant = set()
    found = error.errors()
    for each in (each for each in found if each["type"] == "extra_forbidden"):
        place = [str(part) for part in each["loc"]]
        if len(unknown) >= MOST_SHOWN:  # they are counted, not shown
            unknown.append(Problem(".".join(place), "unknown key"))
            continue
        problem, near = _unknown(place, model)
        unknown.append(problem)
        meant.add((*each["loc"][:-1], near))
    for each in (each for each in found if each["type"] != "extra_forbidden"):
        if each["type"] != "missing" or each["loc"] not in meant:
            at = _place(each)
            wrong.setdefault(at, [Problem(at, reason) for reason in _reasons(each, at, model)])
    return (*unknown, *chain(*wrong.values()))


def _place(each: ErrorDetails) -> str:
    """Without the names of the kinds that a parameter might have been of, which pydantic adds."""
    parts = [str(part) for part in each["loc"]]
    if "parameters" in parts:
        parts = parts[: parts.index("parameters") + 2]
    return ".".join(parts)


HERE: Mapping[str, str] = (
    dict.fromkeys(("epochs", "num_epochs", "max_epochs"), "schedule.steps: a step is one batch")
    | dict.fromkeys(("lr", "learning_rate", "initial_lr"), "schedule.rate")
    | dict.fromkeys(("scheduler", "lr_scheduler"), "schedule.warmup, schedule.decay and schedule.restarts")
    | dict.fromkeys(("batch_size", "samples_per_gpu"), "schedule.batch")
    | dict.fromkeys(("early_stopping", "early_stop"), "schedule.patience")
    | dict.fromkeys(
        ("optimizer", "optimiser", "optim"),
        "always AdamW, set by schedule.rate, schedule.weight_decay and schedule.average",
    )
    | dict.fromkeys(("patch_size", "roi_size", "crop_size"), "patch")
    | dict.fromkeys(("loss_function", "criterion"), "loss")
    | dict.fromkeys(("metric", "metrics"), "judged_by")
    | dict.fromkeys(("model", "network"), "net")
    | dict.fromkeys(("architecture", "arch"), "net.name")
    | dict.fromkeys(("pretrained", "weights"), "net.start, a file of weights")
    | dict.fromkeys(("augmentation", "augmentations", "data_augmentation"), "augment")
    | dict.fromkeys(("preprocessing", "data_preprocessing"), "recipe")
    | dict.fromkeys(("num_workers", "workers"), "threads")
    | dict.fromkeys(("in_memory", "cache_rate"), "data.cache, a folder")
    | {
        "clip_grad": "schedule.largest_gradient",
        "ema": "schedule.average",
        "converter_type": "net.convert",
        "transforms": "recipe, and augment for what is drawn at random",
        "flip": "augment.mirror_axis",
        "spacing": "recipe.steps, a step `resample`",
        "class_list": "data.classes",
        "random_seed": "seed",
    }
)
"""What other trainers call a key -> where it stands in a training file."""


def _unknown(place: Sequence[str], model: type[BaseModel]) -> tuple[Problem, str]:
    """The problem, and the key beside it that was meant, if any."""
    *above, key = place
    known = list(_model_at(above, model).model_fields)
    near = (get_close_matches(key, known, n=1) or [""])[0]
    homes = [one.place for one in keys_of(model) if one.place.split(".")[-1] == key]
    if here := HERE.get(key.lower()):
        near, hint = here, f"; here that is {here}"
    elif homes:
        near, hint = "", f"; did you mean {' or '.join(homes)}?"
    elif near:
        hint = f", did you mean '{near}'?"
    else:
        hint = f"; known here: {', '.join(known)}"
    told_place = ".".join(place)
    return Problem(told_place, f"unknown key '{told_place}'{hint}"), near


def _model_at(place: Sequence[str], model: type[BaseModel]) -> type[BaseModel]:
    for part in place:
        if not part.isdigit():  # else an item of a list
            annotation: Any = model.model_fields[part].annotation
            inner = model_in(annotation) or next(filter(None, map(model_in, get_args(annotation))), None)
            assert inner is not None, "only models forbid keys"
            model = inner
    return model


_PATTERNS: Mapping[str, str] = {
    r"^[a-z0-9][a-z0-9-]{0,63}$": "1 to 64 of a-z, 0-9 and dash, such as 'liver-mr'",
    r"^[0-9a-f]{64}$": "a SHA-256 of 64 hexadecimal digits, as sha256sum prints it",
}


def _reasons(each: ErrorDetails, place: str, model: type[BaseModel]) -> tuple[str, ...]:
    error = each.get("ctx", {}).get("error")
    return error.reasons if isinstance(error, SeveralError) else (_reason(each, place, model),)


def _reason(each: ErrorDetails, place: str, model: type[BaseModel]) -> str:
    kind, context = each["type"], each.get("ctx", {})
    if kind == "missing":
        return _missing(place.split("."), model)
    if kind == "value_error":
        return str(context["error"])
    value = each["input"]
    if "parameters" in place.split("."):
        return wanted("a number, a word, true or false, or a list of numbers", value)
    if kind == "string_pattern_mismatch" and context["pattern"] in _PATTERNS:
        return wanted(_PATTERNS[context["pattern"]], value)
    return in_plain_words(each) + _hint(each)


def _hint(each: ErrorDetails) -> str:
    value = each["input"]
    if each["type"] == "literal_error":
        near = get_close_matches(str(value), re.findall(r"'([^']*)'", each["ctx"]["expected"]), n=1)
        return f"; did you mean '{near[0]}'?" if near else ""
    if each["type"] == "string_type" and isinstance(value, int | float | dt.date):
        return "; put quotes round it"
    return ""


def _missing(place: Sequence[str], model: type[BaseModel]) -> str:
    *above, key = place
    if key.isdigit():
        return "another entry is expected"
    holder = _model_at(above, model)
    inner = model_in(holder.model_fields[key].annotation)
    needed = [name for name, field in inner.model_fields.items() if field.is_required()] if inner else []
    meaning = f"it says {', '.join(needed)}" if needed else definitions(holder.__doc__).get(key, "")
    return f"{'.'.join(place)} is missing{f': {meaning}' if meaning else ''}"
