"""YAML for people, read strictly: plain values only, no key twice, no aliases, bounded. It never makes an object."""

from __future__ import annotations

from typing import Any

import yaml

from residency.errors import ConfigError

LARGEST_FILE = 1 << 20
DEEPEST = 32


def read_yaml(data: bytes, where: str) -> dict[str, Any]:
    """A mapping of plain values. Raises ConfigError naming `where` and the line."""
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{where} has {len(data)} bytes, at most {LARGEST_FILE} are read")
    try:
        found = yaml.load(data.decode("utf-8"), Loader=_StrictLoader)  # noqa: S506  a SafeLoader, made stricter
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{where} is not valid: {_on_a_line(error)}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where} holds no keys and values")
    return found


def _on_a_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace(' in "<unicode string>", line', ", line")[:300]


class _StrictLoader(yaml.SafeLoader):
    """Refuses aliases (a few lines can grow to gigabytes), deep nesting, keys given twice and keys that are no text."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not taken", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {DEEPEST} levels", None)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
