"""Whole files of a bounded size."""

from __future__ import annotations

import errno
from pathlib import Path


def read_bounded(file: Path, most: int) -> bytes:
    """The bytes of a file. Raises OSError where it cannot be read, and for one of more than `most` bytes."""
    with file.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than the {most} bytes that are read at most")
    return data
