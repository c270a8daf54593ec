"""TOML for people, read as strictly as YAML is: plain values only, bounded. TOML itself has no key twice."""

from __future__ import annotations

import tomllib
from typing import Any

from residency.errors import ConfigError
from residency.files.strict_yaml import DEEPEST, LARGEST_FILE


def read_toml(data: bytes, where: str) -> dict[str, Any]:
    """A mapping of plain values. Raises ConfigError naming `where` and the line."""
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{where} has {len(data)} bytes, at most {LARGEST_FILE} are read")
    try:
        found = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{where} is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:  # ValueError: a number of too many digits
        raise ConfigError(f"{where} is not valid: {' '.join(str(error).split())[:300]}") from None
    if not found:
        raise ConfigError(f"{where} holds no keys and values")
    if _deep(found):
        raise ConfigError(f"{where} is not valid: nested deeper than {DEEPEST} levels")
    return found


def _deep(value: Any, depth: int = 1) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > DEEPEST or any(_deep(one, depth + 1) for one in inner)
