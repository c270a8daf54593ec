"""What is installed in the environment of this interpreter, as JSON; needs nothing but Python."""

from __future__ import annotations

import json
from importlib.metadata import distributions

OF_EVERY_ENVIRONMENT = {"pip", "setuptools"}
"""What `python -m venv` puts there itself."""


def installed() -> dict[str, dict[str, object]]:
    """Each package with its version and the bytes of its files; bytecode is left out: it depends on what was run."""
    found: dict[str, dict[str, object]] = {}
    for package in distributions():
        name = package.metadata["Name"].lower().replace("_", "-")
        if name in OF_EVERY_ENVIRONMENT:
            continue
        files = (package.locate_file(file) for file in package.files or () if file.suffix != ".pyc")
        size = sum(file.stat().st_size for file in files if file.is_file())  # type: ignore[attr-defined]
        found[name] = {"version": package.version, "bytes": size}
    return found


print(json.dumps(installed()))
