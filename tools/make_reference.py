"""Write docs/reference from the code: commands, settings, the card, steps of recipes, errors.

python tools/make_reference.py           write the pages
python tools/make_reference.py --check   are the committed pages those that the code gives? (a test asks this too)
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tools"))
REFERENCE = REPOSITORY / "docs" / "reference"
HEAD = "<!-- Generated from the code by `make docs`; do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """File name -> text of every generated page, and of the one table that the code reads."""
    import make_nets
    import make_training_file

    return {
        "cli.md": HEAD + commands_page(),
        "settings.md": HEAD + settings_page(),
        "card.md": HEAD + card_page(),
        "card.schema.json": json.dumps(_card_schema(), indent=2) + "\n",
        "recipe-steps.md": HEAD + steps_page(),
        "errors.md": HEAD + errors_page(),
        "../conformance.md": HEAD + conformance_page(),
        "model-object.md": HEAD + model_object_page(),
        "nets.md": HEAD + make_nets.page(),
        "training-file.md": HEAD + make_training_file.page(),
        "../../src/residency/nets/counted.json": make_nets.counts(),
        "../../src/residency/nets/known.json": make_nets.known(),
    }


def outdated(folder: Path) -> list[str]:
    """The generated pages that differ from the committed ones."""
    made = pages()
    return [n for n, text in made.items() if not (folder / n).exists() or (folder / n).read_text("utf-8") != text]


# Typer's own classes change between versions; only the attributes that all of them share are used.
def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the command line by its full name, groups before what they hold."""
    from residency.cli import app

    yield from _walk("residency", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, child in sorted(getattr(command, "commands", {}).items()):
        yield from _walk(f"{name} {inner}", child)


def commands_page() -> str:
    parts = ["# Commands\n\nEvery command answers `--help`. Exit statuses: see [errors](errors.md).\n"]
    for name, command in commands():
        parts.append(f"\n## {name}\n\n{_paragraphs(command.help)}\n")
        if children := sorted(getattr(command, "commands", {})):
            parts.append("\n" + "".join(f"- [`{name} {c}`](#{f'{name} {c}'.replace(' ', '-')})\n" for c in children))
        rows = [_parameter_row(p) for p in command.params if not getattr(p, "hidden", False)]
        if rows:
            parts.append("\n| argument or option | default | meaning |\n|---|---|---|\n" + "".join(rows))
    return "".join(parts)


def _parameter_row(parameter: Any) -> str:
    meaning = _cell(getattr(parameter, "help", None) or "")
    if parameter.param_type_name == "argument":
        name = f"`{_cell(parameter.metavar or (parameter.name or '').upper())}`"
        default = "required" if parameter.required else "none"
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        default = "required" if parameter.required else _plain_default(parameter.default)
    if parameter.multiple:
        meaning += " May be given several times."
    return f"| {name} | {default} | {meaning.strip()} |\n"


def _plain_default(value: Any) -> str:
    if value is None or value == () or value is False or callable(value) or "UNSET" in repr(value).upper():
        return ""
    return f"`{value.value if isinstance(value, enum.Enum) else value}`"


def settings_page() -> str:
    from residency.settings import ENVIRONMENT_PREFIX, ArchiveSettings, Settings

    meanings = _meanings(Settings)
    rows = []
    for key, field in Settings.model_fields.items():
        default = _home_default() if key == "home" else _default_cell(field.default)
        variable = "none" if key == "archives" else f"`{ENVIRONMENT_PREFIX}{key.upper()}`"
        rows.append(f"| `{key}` | {variable} | {default} | {_cell(meanings[key])} |\n")
    meanings = _meanings(ArchiveSettings)
    archive = [
        f"| `{key}` | {'required' if each.is_required() else _default_cell(each.default)} | {_cell(meanings[key])} |\n"
        for key, each in ArchiveSettings.model_fields.items()
    ]
    return (
        "# Settings\n\n"
        "A value comes from the environment, else from the TOML file that `RESIDENCY_CONFIG` names, else from its\n"
        "default. An unknown key in the file is refused, with the nearest known one. `residency config show` prints\n"
        "the effective values and where each came from.\n\n"
        "| key | environment variable | default | meaning |\n|---|---|---|---|\n" + "".join(rows) + "\n## Archives\n\n"
        "Each archive that has a name is a table `[archives.NAME]` in the file. Credentials stand in a file of their\n"
        "own or in an environment variable that the table names, never in the table, the URL or a command.\n\n"
        "```toml\n"
        'archive = "pacs"       # images, models and results, unless a key of its own says otherwise\n'
        'models = "library"\n\n'
        "[archives.pacs]\n"
        'url = "https://pacs.example/dicom-web"\n'
        'user = "residency"\n'
        'password_file = "/etc/residency/pacs-password"\n\n'
        "[archives.library]\n"
        'url = "dimse://library.example:4242/LIBRARY"\n'
        "```\n\n"
        "| key | default | meaning |\n|---|---|---|\n" + "".join(archive)
    )


def _meanings(of: type) -> dict[str, str]:
    """The aligned definitions of a docstring; a line that is indented further goes on with the one before."""
    found: dict[str, str] = {}
    key = ""
    for line in (inspect.getdoc(of) or "").splitlines():
        begun = re.match(r"(\w+) +(\S.*)$", line)
        if begun and begun[1] in of.model_fields:  # type: ignore[attr-defined]
            key = begun[1]
            found[key] = begun[2]
        elif line.startswith("  ") and key:
            found[key] += " " + line.strip()
    return found


def _home_default() -> str:
    return "`$XDG_DATA_HOME/residency`, else `~/.local/share/residency`"


def _default_cell(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{json.dumps(value.value if isinstance(value, enum.Enum) else value, default=dict)}`"


def card_page() -> str:
    schema = _card_schema()
    definitions: dict[str, Any] = schema.pop("$defs")
    parts = [
        "# The model card\n\n"
        "What a network is, needs, gives and is good for. The machine's form is [card.schema.json](card.schema.json)\n"
        "(JSON Schema). Unknown fields are refused, with the nearest known one.\n"
    ]
    for name, part in [("Card", schema), *sorted(definitions.items())]:
        parts.append(f"\n## {name}\n\n{_described(part.get('description'))}")
        if "enum" in part:
            parts.append("One of " + ", ".join(f"`{value}`" for value in part["enum"]) + ".\n")
        if "properties" not in part:
            continue
        parts.append("| field | type | required |\n|---|---|---|\n")
        required = part.get("required", [])
        for field, kind in part["properties"].items():
            parts.append(f"| `{field}` | {_type_cell(kind)} | {'yes' if field in required else 'no'} |\n")
    return "".join(parts)


def _card_schema() -> dict[str, Any]:
    from residency.card import card_schema

    return card_schema()


def _described(text: str | None) -> str:
    """A docstring as Markdown: paragraphs as prose, lists of aligned definitions as they stand."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n") if text else []
    aligned = re.compile(r"^\S+(, \S+)* {2,}", re.MULTILINE)
    return "".join(f"```text\n{p}\n```\n\n" if aligned.search(p) else f"{p}\n\n" for p in paragraphs)


def _type_cell(kind: dict[str, Any]) -> str:
    if "$ref" in kind:
        name = kind["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in kind:
        return " or ".join(_type_cell(choice) for choice in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    if kind.get("type") == "array":
        inner = kind.get("items") or (kind.get("prefixItems") or [{}])[0]
        return f"list of {_type_cell(inner)}" if inner else "list"
    if kind.get("type") == "object" and isinstance(kind.get("additionalProperties"), dict):
        return f"map to {_type_cell(kind['additionalProperties'])}"
    limits = [f"{word} {kind[key]:g}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in kind]
    if "pattern" in kind:
        limits.append(f"like `{kind['pattern'].replace('|', chr(92) + '|')}`")
    return ", ".join([kind.get("type", "any"), *limits])


def steps_page() -> str:
    from residency.prepare import STEPS

    parts = [
        "# Steps of a recipe\n\n"
        "A recipe is an ordered list of steps by name, with parameters. Training and inference run the same\n"
        "functions. Axes are ordered (slice, row, column).\n"
    ]
    for name, step in STEPS.items():
        parts.append(f"\n## {name}\n\n{_described(inspect.getdoc(step))}")
        if step.model_fields:
            parts.append("| parameter | default |\n|---|---|\n")
            parts += [f"| `{key}` | {_field_default(step, key)} |\n" for key in step.model_fields]
        else:
            parts.append("It takes no parameters.\n")
    return "".join(parts)


def _field_default(step: type[BaseModel], key: str) -> str:
    default = step.model_fields[key].get_default(call_default_factory=True)
    return "required" if default is PydanticUndefined else _default_cell(default)


def conformance_page() -> str:
    from make_conformance import page

    return page()


def errors_page() -> str:
    from residency import errors

    rows: list[str] = []

    def add(kind: type[errors.ResidencyError], depth: int) -> None:
        indent = "&nbsp;" * 4 * depth
        meaning = _cell((inspect.getdoc(kind) or "").replace("\n", " "))
        rows.append(f"| {indent}`{kind.__name__}` | {kind.exit_status} | {meaning} |\n")
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                add(child, depth + 1)

    add(errors.ResidencyError, 0)
    return (
        "# Errors and exit statuses\n\n"
        "The command line turns an error into one line on standard error and the exit status of its class (a training\n"
        "file with several faults into a line for each, the first with their number). Status 0 is success, 130\n"
        "a cancelled command. A traceback is a defect of Residency: please report it.\n\n"
        "| error | exit status | meaning |\n|---|---|---|\n" + "".join(rows)
    )


def model_object_page() -> str:
    """The prose of tools/model-object.md with the tables of the code in the places that it names."""
    from residency.dicom import model_object
    from residency.dicom.model_attributes import KINDS, PRIVATE_ATTRIBUTES
    from residency.package import PART_BYTES

    block = [
        "| offset | name | VR | VM | " + " | ".join(k.lower() for k in KINDS[:3]) + " | holds |\n" + "|---" * 8 + "|\n"
    ]
    for one in PRIVATE_ATTRIBUTES:
        vr, name, _ = model_object.ELEMENTS[one.offset]
        types = " | ".join(one.types.get(kind, "") for kind in KINDS[:3])
        block.append(f"| {one.offset:02X} | {name} | {vr} | 1 | {types} | {_cell(one.content)} |\n")
    given = {
        "attributes": _standard_attributes(),
        "private": "".join(block),
        "group": f"{model_object.PRIVATE_GROUP:04X}",
        "creator": model_object.PRIVATE_CREATOR,
        "patient": model_object.LIBRARY_PATIENT_ID,
        "creator_version": model_object.CREATOR_VERSION_UID,
        "part_mib": str(PART_BYTES // 2**20),
    }
    text = (REPOSITORY / "tools" / "model-object.md").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: given[found[1]], text)


def _standard_attributes() -> str:
    """One table a module, in the order of the code; the types in the columns of the kinds that have the attribute."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    from residency.dicom.model_attributes import ATTRIBUTES, KINDS

    modules = dict.fromkeys(one.module for one in ATTRIBUTES)
    parts = []
    for module in modules:
        parts.append(f"\n### {module}\n\n| attribute | tag | " + " | ".join(k.lower() for k in KINDS) + " | holds |\n")
        parts.append("|---" * (3 + len(KINDS)) + "|\n")
        for one in (a for a in ATTRIBUTES if a.module == module):
            *nesting, keyword = one.path.split(">")
            tag = tag_for_keyword(keyword) or 0
            shown = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            types = " | ".join(one.type if kind in one.kinds else "" for kind in KINDS)
            name = ">" * len(nesting) + dictionary_description(tag)
            parts.append(f"| {name} | {shown} | {types} | {_cell(one.content)} |\n")
    return "".join(parts).lstrip("\n")


def _paragraphs(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\f", "").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        stale = outdated(REFERENCE)
        if stale:
            print(f"docs/reference: {', '.join(stale)} not as the code says; run make docs", file=sys.stderr)
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
