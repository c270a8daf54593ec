"""Files that are there whole or not at all, whenever a process is killed, and folders of one writer; no torch."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from residency.errors import TrainingError
from residency.files.whole import whole as whole_file

LOCK = ".lock"


def write_whole(file: Path, content: bytes) -> None:
    """A whole file under its name, or none. Its folder is made. Raises TrainingError where there is no room for it."""
    with whole(file) as stream:
        stream.write(content)


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """To write to, as `residency.files.whole`; raises what `write_whole` does."""
    with written_to(file), whole_file(file) as stream:
        yield stream


def check_writable(folder: Path) -> None:
    """Before anything that takes long is done for it; the folder is not made yet.

    Raises TrainingError where nothing can be written into it, or into the folder where it would be made.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    with written_to(folder), tempfile.TemporaryFile(dir=there):
        pass


@contextmanager
def written_to(file: Path) -> Iterator[None]:
    """An OSError becomes a TrainingError that names the file."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{file} cannot be written: {error.strerror or error}; what was there before is unharmed"
        ) from None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """No other process trains in this folder, which is made, while the context is open; a kill ends the claim.

    Raises TrainingError where one does already.
    """
    with written_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("wb")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another training is at work in {folder}; wait for its end, or give another run folder with --run"
            ) from None
        except OSError:
            pass  # a file system that knows no locks: nothing can be claimed there, and it is no reason not to train
        yield
