"""The folder that an import writes: new or empty, each file there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from residency.errors import UsageError
from residency.train.written import write_whole


def must_be_new(folder: Path) -> None:
    """Raises UsageError for a folder that is not empty, or cannot be one."""
    try:
        full = folder.exists() and any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to: {error.strerror}; give a new folder with --out") from None
    if full:
        raise UsageError(f"{folder} is not empty; give a folder of its own with --out")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """By name, in this order. Raises TrainingError where there is no room for them."""
    for name, content in files.items():
        write_whole(folder / name, content)
