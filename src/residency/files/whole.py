"""Files that are there whole or not at all, whenever a process is killed."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FORGOTTEN = 3600
"""Seconds after which a part that nobody writes to is what a killed process left."""


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """To write to: written beside the file, flushed to the disk, then renamed. Its folder is made. Raises OSError.

    Of several writers at once each has a part of its own, never through a link, and the last to end is what stays.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    stream = part.open("xb")  # a part that is there, or a link, is not written to
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sweep(file)


def _sweep(file: Path) -> None:
    """Removes what killed writers of this file left: each may be as large as the file."""
    form = re.compile(re.escape(file.name) + r"\.\d+-[0-9a-f]{8}\.part")
    for part in file.parent.iterdir():
        try:
            if form.fullmatch(part.name) and time.time() - part.lstat().st_mtime > _FORGOTTEN:
                part.unlink()
        except OSError:
            continue  # another process sweeps too
