"""A plan on paper: the training file with its reasons as comments, and plan.json for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from residency.datasets.fingerprint import Fingerprint
from residency.train.planning.plan import Plan

_WIDTH = 116
_FORM = 1


def training_file(plan: Plan, command: str) -> str:
    """YAML that `residency.train.config.read_config` takes; above each key stands why it is as it is."""
    why = {choice.key: choice.why for choice in plan.choices}
    lines = [*_comment(f"Planned by `{command}`. Change what you know better; `residency train` checks it.", "")]
    for warning in plan.warnings:
        lines += _comment(f"Look at this: {warning}", "")
    for key, value in plan.values.items():
        lines += [""] if isinstance(value, Mapping) or key == "patch" else []
        lines += _entry(key, value, why, "", key)
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, why: Mapping[str, str], indent: str, path: str) -> Iterator[str]:
    if path == "recipe":
        yield "recipe:"
        yield "  steps:"
        for step in value["steps"]:
            yield from _comment(why.get(f"recipe.{step['name']}", ""), "    ")
            yield f"    - {_flow({'name': step['name'], 'parameters': step['parameters']})}"
    elif isinstance(value, Mapping) and not indent:
        yield f"{key}:"
        for inner, content in value.items():
            yield from _entry(inner, content, why, "  ", f"{path}.{inner}")
    else:
        yield from _comment(why.get(path, ""), indent)
        yield f"{indent}{key}: {_flow(value)}"


def _comment(text: str, indent: str) -> list[str]:
    lead = f"{indent}# "
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False)


def _flow(value: Any) -> str:
    """One line, whatever its length: what begins a new line is a comment or a key."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
        .split("\n...")[0]
        .rstrip("\n")
    )


def plan_json(plan: Plan) -> str:
    """All of a plan, with the fingerprint that it was made from."""
    told = {
        "form": _FORM,
        "name": plan.name,
        "limits": asdict(plan.limits),
        "machine": asdict(plan.machine),
        "estimates": plan.estimates,
        "warnings": list(plan.warnings),
        "choices": [asdict(choice) for choice in plan.choices],
        "fingerprint": fingerprint_values(plan.found),
    }
    return json.dumps(told, indent=1, ensure_ascii=True) + "\n"


def fingerprint_values(found: Fingerprint) -> dict[str, Any]:
    """Plain values, with what is said of the set as a whole before its cases."""
    whole = {
        "persons": found.persons,
        "median_shape": list(found.shape),
        "median_spacing": list(found.spacing),
        "median_filled": round(found.filled, 4),
    }
    return whole | asdict(found) | {"space": str(found.space)}
