"""Prepared cases kept on disk, so that a training that begins again need not prepare them again.

A file is a line of JSON and bare numbers behind it, found under a hash of everything that they depend on: the bytes of
the images, the recipe, and the code that reads and prepares. Nothing in it is ever executed. A file that is damaged is
noticed by its hash and made anew. The folder holds people's images: only its owner may look into it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import residency.files.nifti
import residency.files.photograph
import residency.prepare
from residency.datasets.case import Case, Labels, content, read_images, read_reference
from residency.errors import InputError, TrainingError
from residency.prepare import labels_on, prepare
from residency.recipe import Recipe

_FORM = "residency-prepared-1"
_ENDING = ".prepared"
_LONGEST_LINE = 4096
_ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """What a net learns from.

    images  float32, (channels, slices, rows, columns): in the order of the case's images
    labels  uint8, (slices, rows, columns); None where the case has no reference
    """

    images: npt.NDArray[np.float32]
    labels: Labels | None


def read_prepared(case: Case, recipe: Recipe, classes: int, kept: PreparedCache | None = None) -> PreparedCase:
    """A case as the recipe prepares it, exactly as a hospital's series is prepared; from the cache where it is there.

    Raises TrainingError, naming the case, for what cannot be read or prepared.
    """
    key = None if kept is None else _key(case, recipe, classes)
    found = None if kept is None or key is None else kept.get(key)
    if found is None:
        found = _prepared(case, recipe, classes)
        if kept is not None and key is not None:
            kept.put(key, found)
    return found


def _prepared(case: Case, recipe: Recipe, classes: int) -> PreparedCase:
    volumes = read_images(case)
    try:
        made = [prepare(volume, recipe) for volume in volumes.values()]
        first = made[0]
        if not all(one.volume.grid.matches(first.volume.grid) for one in made):
            raise TrainingError(f"case '{case.name}': the recipe puts its images on different grids")
        labels = None
        if case.reference is not None:
            labels = labels_on(read_reference(case, first.source, classes), first.source, first.volume.grid)
    except InputError as error:
        raise TrainingError(f"case '{case.name}' cannot be prepared: {error}") from None
    return PreparedCase(np.stack([one.volume.array for one in made]), labels)


class PreparedCache:
    """A folder of prepared cases. Several trainings may use it at once.

    folder      made if it is not there
    most_bytes  what has not been used for longest goes first
    found, damaged  how many cases were there, and how many of the others were there but damaged
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self.found = self.damaged = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in folder.glob("*.part"):
                if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:  # of a process that was killed
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from None

    def get(self, key: str) -> PreparedCase | None:
        """The case under a key, or None where it is not there, or not whole."""
        file = self._folder / (key + _ENDING)
        try:
            found = _decoded(file, key)
            os.utime(file)  # used last
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.damaged += 1
            return None
        self.found += 1
        return found

    def put(self, key: str, made: PreparedCase) -> None:
        """Keep a case; others go where there is no room. Raises TrainingError where the folder cannot be written."""
        arrays: list[npt.NDArray[Any]] = [made.images, *([] if made.labels is None else [made.labels])]
        payload = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
        whole = hashlib.sha256()
        for block in payload:
            whole.update(block)
        shapes = [list(array.shape) for array in arrays]
        line = json.dumps({"form": _FORM, "key": key, "shapes": shapes, "sha256": whole.hexdigest()}).encode() + b"\n"
        size = len(line) + sum(block.nbytes for block in payload)
        if size > self._most:
            return
        file = self._folder / (key + _ENDING)
        part = self._folder / f"{key}.{os.getpid()}.part"
        try:
            self._make_room(self._most - size, file)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                stream.write(line)
                for block in payload:
                    stream.write(block)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._unusable(error) from None

    def _make_room(self, most: int, besides: Path) -> None:
        held = []
        for file in self._folder.glob("*" + _ENDING):
            try:
                there = file.stat()
            except FileNotFoundError:
                continue  # another training has made room
            if file != besides:
                held.append((there.st_mtime_ns, there.st_size, file))
        total = sum(size for _, size, _ in held)
        for _, size, file in sorted(held):
            if total <= most:
                break
            file.unlink(missing_ok=True)
            total -= size

    def _unusable(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"the cache of prepared cases {self._folder} cannot be used: {error.strerror}; make room or name another "
            "folder under data.cache"
        )


def _decoded(file: Path, key: str) -> PreparedCase:
    """Raises ValueError, KeyError or TypeError for a file that is not what was written under the key."""
    with file.open("rb") as stream:
        told = json.loads(stream.readline(_LONGEST_LINE))
        shapes: list[tuple[int, ...]] = [tuple(shape) for shape in told["shapes"]]
        if told["form"] != _FORM or told["key"] != key or [len(shape) for shape in shapes] not in ([4], [4, 3]):
            raise ValueError("another file")
        sizes = [_size(shape, width) for shape, width in zip(shapes, (4, 1), strict=False)]
        if file.stat().st_size - stream.tell() != sum(sizes):
            raise ValueError("another length")
        blocks = [bytearray(size) for size in sizes]
        whole = hashlib.sha256()
        for block in blocks:
            stream.readinto(block)
            whole.update(block)
        if whole.hexdigest() != told["sha256"]:
            raise ValueError("damaged")
    images = np.frombuffer(blocks[0], np.float32).reshape(shapes[0])
    return PreparedCase(images, np.frombuffer(blocks[1], np.uint8).reshape(shapes[1]) if len(blocks) > 1 else None)


def _size(shape: Sequence[Any], width: int) -> int:
    if not all(type(n) is int and n > 0 for n in shape):
        raise ValueError("no shape")
    return width * math.prod(int(n) for n in shape)


def _key(case: Case, recipe: Recipe, classes: int) -> str:
    told = [_FORM, _code(), np.__version__, recipe.model_dump(mode="json"), classes, content(case).hex()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """SHA-256 over the code that reads and prepares: what another version has prepared is not taken for ours."""
    readers = [Path(module.__file__ or "") for module in (residency.files.nifti, residency.files.photograph)]
    steps = sorted(Path(residency.prepare.__file__ or "").parent.glob("*.py"))
    here = [Path(__file__), Path(__file__).with_name("case.py")]
    whole = hashlib.sha256()
    for file in (*readers, *steps, *here):
        whole.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
