"""Files that are there whole or not at all, whenever a process is killed; no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_whole(file: Path, content: bytes) -> None:
    """A whole file under its name, or none. Its folder is made."""
    with whole(file) as stream:
        stream.write(content)


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """To write to: written beside the file, flushed to the disk, then renamed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    with part.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
