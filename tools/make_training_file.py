"""docs/reference/training-file.md: every key of a training file, from the models that read it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from residency.train.config_keys import ELSEWHERE, Key
from residency.train.loss_part import LossPart
from residency.train.task import ONLY

HEAD = """# The training file

What `residency train` reads, in YAML or, where the name ends in `.toml`, in TOML. Unknown keys are refused with the key
that was probably meant; see [what is refused](refused-training-files.md). The file is checked whole before PyTorch is
imported. Paths are beside the training file unless absolute. How it is used:
[train and publish](../how-to/train-and-publish.md).

A whole file, with no more than what must be there:

```yaml
name: liver
seed: 1
threads: 2
data:
  folder: data/liver                  # cases.csv, images/NAME.nii.gz, labels/NAME.nii.gz
  name: Livers of our hospital
  licence: not to be passed on
  source: PACS, 2024 to 2026
  labels: one radiologist
  classes: [background, liver]
recipe:
  steps:
    - {name: orient, parameters: {letters: SPL}}
    - {name: resample, parameters: {spacing_mm: 2.0}}
    - {name: normalise}
net: {name: unet, parameters: {features: [16, 32, 64]}}
patch: [64, 64, 64]
schedule: {steps: 2000, batch: 2, rate: 0.002}
```

The same in TOML:

```toml
name = "liver"
seed = 1
threads = 2
patch = [64, 64, 64]

[data]
folder = "data/liver"
name = "Livers of our hospital"
licence = "not to be passed on"
source = "PACS, 2024 to 2026"
labels = "one radiologist"
classes = ["background", "liver"]

[[recipe.steps]]
name = "orient"
parameters = {letters = "SPL"}

[[recipe.steps]]
name = "resample"
parameters = {spacing_mm = 2.0}

[[recipe.steps]]
name = "normalise"

[net]
name = "unet"
parameters = {features = [16, 32, 64]}

[schedule]
steps = 2000
batch = 2
rate = 0.002
```

The last column names the nets that a key is for, where not all have it.
"""

_TOP = "Keys of the file itself; the others stand in parts of their own."
_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "names with values",
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def page() -> str:
    """The introduction, then a table for each part of the file."""
    from residency.train.config import TrainingConfig
    from residency.train.config_keys import keys_of

    schema = TrainingConfig.model_json_schema()
    parts: dict[str, list[Key]] = {"": []}
    for key in keys_of(TrainingConfig):
        parts.setdefault(key.place.rpartition(".")[0], []).append(key)
    return HEAD + "".join(_section(title, keys, schema) for title, keys in parts.items())


def _section(title: str, keys: list[Key], schema: Mapping[str, Any]) -> str:
    head = f"`{title}`\n\n{_prose(keys[0].part)}" if title else f"At the top\n\n{_TOP}"
    rows = "".join(_row(key, schema) for key in keys)
    return f"\n## {head}\n\n| key | value | default | meaning | for |\n|---|---|---|---|---|\n{rows}"


def _prose(part: type[BaseModel]) -> str:
    """The paragraphs of a docstring that define no keys."""
    paragraphs = inspect.cleandoc(part.__doc__ or "").split("\n\n")
    return "\n\n".join(one for one in paragraphs if not re.match(r"\w+(, \w+)* {2,}", one))


def _row(key: Key, schema: Mapping[str, Any]) -> str:
    name = key.place.rpartition(".")[2]
    if key.place in ELSEWHERE:
        value = f"see [{ELSEWHERE[key.place].removesuffix('.md').replace('-', ' ')}]({ELSEWHERE[key.place]})"
    else:
        holder = schema["$defs"][key.part.__name__] if "." in key.place else schema
        value = _value(holder["properties"][name], schema)
    default = "must be given" if key.required else _shown(key.default)
    meaning = key.meaning[:1].upper() + key.meaning[1:]
    return f"| `{name}` | {_cell(value)} | {default} | {_cell(meaning)} | {_kinds(key.place)} |\n"


def _kinds(place: str) -> str:
    """Whom a key is for, where a task or its part stands in the table of the code."""
    task = ONLY.get(place) or ONLY.get(place.partition(".")[0])
    return {"segmentation": "nets that segment", "classification": "nets that classify"}.get(task or "", "")


def _value(kind: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in kind:
        return _value(schema["$defs"][kind["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in kind:  # null is told as the default
        told = dict.fromkeys(_value(one, schema) for one in kind["anyOf"] if one.get("type") != "null")
        return " or ".join(told)
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    bounds = "".join(f", {word} {kind[bound]:g}" for bound, word in _BOUNDS.items() if bound in kind)
    if kind.get("type") == "array":
        return _list(kind, schema)
    if kind.get("format") == "path":
        return "path"
    inner = kind.get("additionalProperties")
    if kind.get("type") == "object" and isinstance(inner, dict):
        return f"names, each with {_value(inner, schema)}"
    return _WORDS.get(kind.get("type", ""), "any") + bounds


def _list(kind: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "prefixItems" in kind:
        return f"{len(kind['prefixItems'])} of: {_value(kind['prefixItems'][0], schema)}"
    least = f", {kind['minItems']} or more" if "minItems" in kind else ""
    return f"list of: {_value(kind.get('items', {}), schema)}{least}"


def _shown(default: Any) -> str:
    if isinstance(default, LossPart):
        default = default.model_dump(mode="json")
    if default is None or default in ((), {}):
        return "none"
    return f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
