"""Settings: one frozen tree, read once from a TOML file and the environment; unknown keys are refused."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from residency.engine import Precision
from residency.errors import ConfigError

ENVIRONMENT_PREFIX = "RESIDENCY_"


def _default_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "residency"


class Settings(BaseModel):
    """What a site can set. Each key is also an environment variable, RESIDENCY_ and the key in capitals.

    home            keys trusted, rules approved, admissions, caches of this site
    archive         folder (or its file:// URL) of the archive that is used where the command names none
    threads         inference threads; 0: as many as this process may use
    precision       what networks compute in
    allow_research  use weights whose licence allows research only
    preferred       families that stand before others that fit as well, first to last; with commas in the environment
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=_default_home)
    archive: str | None = None
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    precision: Precision = Precision.F32
    allow_research: bool = False
    preferred: tuple[str, ...] = ()

    @field_validator("home")
    @classmethod
    def _of_the_user(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("preferred", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class Origins(BaseModel):
    """The effective settings and where each value came from: "default", the file, or the environment variable."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    origins: Mapping[str, str]


def read_settings(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Origins:
    """Defaults, then the TOML file (RESIDENCY_CONFIG where none is given), then the environment.

    Raises ConfigError for a missing or malformed file, an unknown key (with the nearest known one) or a wrong value.
    """
    environment = os.environ if environment is None else environment
    known = list(Settings.model_fields)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    named = environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    path = file or (Path(named) if named else None)
    if path is not None:
        for key, value in _read_toml(path).items():
            _check_known(key, known, str(path))
            values[key], origins[key] = value, str(path)
    for variable, value in sorted(environment.items()):
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and key in known:
            values[key], origins[key] = value, variable
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigError(f"{key} (from {origins.get(key, '?')}): {first['msg']}, got {first['input']!r}") from None
    return Origins(settings=settings, origins=origins)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is not valid TOML: {error}") from None


def _check_known(key: str, known: list[str], where: str) -> None:
    if key not in known:
        near = get_close_matches(key, known, n=1)
        hint = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
        raise ConfigError(f"{where}: unknown key '{key}'{hint}")
