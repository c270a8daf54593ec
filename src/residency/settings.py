"""Settings: one frozen tree, read once from a TOML file and the environment; unknown keys are refused."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from residency.engine import Precision
from residency.errors import ConfigError

ENVIRONMENT_PREFIX = "RESIDENCY_"


def _default_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "residency"


def _ae_title(value: str) -> str:
    if not re.fullmatch(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters, no backslash, no space at its ends")
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
"""An application entity's title: 1 to 16 printable ASCII characters without backslash (PS3.5 6.2)."""

Summary = Literal["auto", "always", "never"]


def _no_credentials(value: str | None) -> str | None:
    """A URL as it is. The one that is refused is not repeated in the error: it would show the password."""
    if value and "://" in value and "@" in urlsplit(value).netloc:
        raise ValueError(
            "credentials do not belong into a URL: use user with password_file or password_env, in a table "
            "[archives.NAME]"
        )
    return value


class ArchiveSettings(BaseModel):
    """One archive, as the table [archives.NAME] describes it.

    url                 a folder; https://HOST/PATH of a DICOMweb service; dimse://HOST:PORT/AE_TITLE, or dimses:// for
                        TLS
    user                DICOMweb: the user's name for basic credentials; the password stands elsewhere
    password_file       a file whose first line is the password
    password_env        the environment variable that holds the password
    token_file          a file whose first line is a bearer token
    token_env           the environment variable that holds a bearer token
    ca_file             PEM file of the authorities that may have signed the archive's certificate
    client_certificate  PEM file of our certificate, where the archive asks for one
    client_key          PEM file of its private key
    proxy               DICOMweb: URL of an HTTP proxy; without one none is used
    timeout_s           how long an answer may take to begin or to go on, in seconds
    retries             how often a request that may be repeated is tried again
    ae_title            DIMSE: our own AE title
    associations        DIMSE: how many at the same time; DICOMweb: how many requests
    retrieve            DIMSE: fetch by C-GET, or by C-MOVE to us, for which the archive must know our AE title
    move_host           DIMSE: the address on which we receive what C-MOVE sends
    move_port           DIMSE: the port of it
    read_back           after storing, ask for what was stored and compare it; false for a destination that only stores
    summary             pictures beside each result: auto writes them where the archive is not known to show
                        Segmentations
    shows_segmentations the archive's viewers show DICOM Segmentations
    label_map           write non-overlapping segments as a Label Map Segmentation where the archive takes one
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    user: str | None = None
    password_file: Path | None = None
    password_env: str | None = None
    token_file: Path | None = None
    token_env: str | None = None
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    ae_title: AeTitle = "RESIDENCY"
    associations: Annotated[int, Field(ge=1, le=16)] = 4
    retrieve: Literal["get", "move"] = "get"
    move_host: str = "127.0.0.1"
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    read_back: bool = True
    summary: Summary = "auto"
    shows_segmentations: bool = False
    label_map: bool = False

    @field_validator("url", "proxy")
    @classmethod
    def _without_credentials(cls, value: str | None) -> str | None:
        return _no_credentials(value)

    @model_validator(mode="after")
    def _one_way_in(self) -> ArchiveSettings:
        passwords = [self.password_file, self.password_env]
        tokens = [self.token_file, self.token_env]
        if sum(given is not None for given in (*passwords, *tokens)) > 1:
            raise ValueError("give one of password_file, password_env, token_file and token_env")
        if any(given is not None for given in passwords) != (self.user is not None):
            raise ValueError("user and a password (password_file or password_env) belong together")
        if (self.client_key is None) != (self.client_certificate is None):
            raise ValueError("client_certificate and client_key belong together")
        return self


class Settings(BaseModel):
    """What a site can set. Each key but `archives` is also an environment variable, RESIDENCY_ and the key in capitals.

    home            keys trusted, rules approved, admissions, caches of this site
    archive         the archive for everything that no key below gives another one, and that the command does not
                    name: NAME of a table [archives.NAME], a folder, or a URL
    images          the archive that images are read from
    models          the archive that models live in
    results         the archive that results go to
    archives        tables [archives.NAME]
    threads         inference threads; 0: as many as this process may use
    precision       what networks compute in
    allow_research  use weights whose licence allows research only
    preferred       families that stand before others that fit as well, first to last; with commas in the environment
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(default_factory=_default_home)
    archive: str | None = None
    images: str | None = None
    models: str | None = None
    results: str | None = None
    archives: Mapping[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ArchiveSettings] = {}
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    precision: Precision = Precision.F32
    allow_research: bool = False
    preferred: tuple[str, ...] = ()

    @field_validator("archive", "images", "models", "results")
    @classmethod
    def _without_credentials(cls, value: str | None) -> str | None:
        return _no_credentials(value)

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
        if variable.startswith(ENVIRONMENT_PREFIX) and key in known and key != "archives":
            values[key], origins[key] = value, variable
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_in_words(error, origins)) from None
    return Origins(settings=settings, origins=origins)


_OF_ARCHIVES = ("archive", "images", "models", "results", "archives")
"""What belongs to an archive may be a secret that someone wrote in the wrong place."""


def _in_words(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place)
    where = f"{key} (from {origins.get(place[0], '?')})"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(place[-1], list(ArchiveSettings.model_fields), n=1)
        return f"{where}: unknown key '{place[-1]}'" + (f", did you mean '{near[0]}'?" if near else "")
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" + ("" if place[0] in _OF_ARCHIVES else f", got {first['input']!r}")


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
