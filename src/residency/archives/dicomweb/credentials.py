"""Who we are to an archive: read from its file or variable for each request, kept nowhere, shown nowhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Generator, Mapping
from pathlib import Path

import httpx

from residency.errors import CredentialsError
from residency.settings import ArchiveSettings

_LARGEST_SECRET = 16384
"""Bytes; a bearer token with many claims is some 4,000."""


class Credentials(httpx.Auth):
    """Puts basic or bearer credentials on requests, as the settings name them; without any it adds nothing.

    A secret that is renewed in its file, as tokens are, is used from the next request on.
    """

    def __init__(self, settings: ArchiveSettings, environment: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._environment = os.environ if environment is None else environment

    def __repr__(self) -> str:
        return "Credentials(...)"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Raises CredentialsError where the secret cannot be read."""
        said = self._authorization()
        if said:
            request.headers["Authorization"] = said
        yield request

    def _authorization(self) -> str:
        settings = self._settings
        token = self._secret(settings.token_file, settings.token_env)
        if token is not None:
            return f"Bearer {token}"
        password = self._secret(settings.password_file, settings.password_env)
        if password is None:
            return ""
        return "Basic " + base64.b64encode(f"{settings.user}:{password}".encode()).decode("ascii")

    def _secret(self, file: Path | None, variable: str | None) -> str | None:
        """The first line of the file, or the variable's value. What is wrong with it is said without repeating it."""
        if file is not None:
            try:
                with file.expanduser().open("rb") as opened:
                    raw = opened.read(_LARGEST_SECRET)
            except OSError as error:
                raise CredentialsError(f"the secret in {file} cannot be read: {error.strerror}") from None
            lines = raw.splitlines()
            text, where = (lines[0].decode("utf-8", "replace").strip() if lines else ""), str(file)
        elif variable is not None:
            text, where = self._environment.get(variable, "").strip(), f"the environment variable {variable}"
        else:
            return None
        if not text:
            raise CredentialsError(f"{where} holds no secret: put it there, on one line")
        if not text.isprintable() or "\ufffd" in text:
            raise CredentialsError(f"{where} holds characters that no secret has: write it as UTF-8 text on one line")
        return text
