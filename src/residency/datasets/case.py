"""A case: one or more named images, an optional reference segmentation and optional class labels, of one person."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from residency.errors import InputError, TrainingError
from residency.files.nifti import LARGEST_IMAGE_BYTES, LARGEST_OFFSET, read_nifti
from residency.files.photograph import read_photograph
from residency.volume import Grid, Volume

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a case may be called: it becomes part of file names."""

MOST_CASES = 100_000
SINGLE = "image"
"""The name of an image that nobody named."""

Labels = npt.NDArray[np.uint8]
_LARGEST_FILE = LARGEST_IMAGE_BYTES + LARGEST_OFFSET
_T = TypeVar("_T")


class Held(Protocol):
    """Something that is not a file of its own; `digest` is SHA-256 of what determines its content, 32 bytes."""

    def digest(self) -> bytes:
        """SHA-256 of what determines the content."""
        ...


class Image(Held, Protocol):
    """An image that lies elsewhere than in a file."""

    def volume(self) -> Volume:
        """The image on its grid. Raises InputError or TrainingError."""
        ...


class Reference(Held, Protocol):
    """A reference segmentation that lies elsewhere than in a file."""

    def labels(self, grid: Grid) -> Labels:
        """Labels 0, 1, ... on the grid of the image. Raises InputError or TrainingError."""
        ...


@dataclass(frozen=True)
class Case:
    """One examination to learn from or to judge by.

    person     whose it is: what must stay together when cases are divided
    split      the part that the source of the data puts it in, such as `train`
    images     by name, in the order of a net's channels; all on one grid
    reference  the segmentation to learn, where there is one
    labels     number of the class by task, counted from 0; a task that is not known of this case is left out
    """

    name: str
    person: str
    split: str
    images: Mapping[str, Path | Image]
    reference: Path | Reference | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def image(self) -> Path | Image:
        """The first image; the only one of most cases."""
        return next(iter(self.images.values()))


@dataclass(frozen=True)
class Gathered:
    """The cases of a source in the order of their names, and what a person should know of how they were found."""

    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


def in_order(cases: Sequence[Case], where: str) -> tuple[Case, ...]:
    """The cases by name. Raises TrainingError where a name comes twice."""
    ordered = sorted(cases, key=lambda case: case.name)
    for one, other in pairwise(ordered):
        if one.name == other.name:
            raise TrainingError(f"{where}: case '{one.name}' comes twice")
    return tuple(ordered)


def persons(cases: Sequence[Case]) -> tuple[str, ...]:
    """The persons behind the cases, each once, in a fixed order."""
    return tuple(sorted({case.person for case in cases}))


def read_images(case: Case) -> dict[str, Volume]:
    """The images by name, in order, all on one grid.

    Raises TrainingError, naming case and file, for an image that cannot be read, one whose numbers are not all finite,
    or grids that differ.
    """
    found = {name: _told(case, image, partial(_volume, image)) for name, image in case.images.items()}
    first = next(iter(found))
    for name, volume in found.items():
        if not volume.grid.matches(found[first].grid):
            raise TrainingError(f"case '{case.name}': images '{first}' and '{name}' lie on different grids")
        if not np.isfinite(volume.array).all():
            raise TrainingError(f"case '{case.name}': image '{name}' holds numbers that are not finite")
    return found


def read_case(case: Case, classes: int) -> tuple[Volume, Labels]:
    """The only image of a case, and its reference labels 0 .. classes - 1 on the image's grid.

    Raises TrainingError, naming the case, where it has several images or no reference, one cannot be read, the two lie
    on different grids or a label is unknown.
    """
    if len(case.images) != 1:
        raise TrainingError(
            f"case '{case.name}' has {len(case.images)} images; one is read here: read_images reads all"
        )
    (volume,) = read_images(case).values()
    return volume, read_reference(case, volume.grid, classes)


def read_reference(case: Case, grid: Grid, classes: int) -> Labels:
    """Reference labels 0 .. classes - 1 on the grid of the case's images. Raises TrainingError as `read_case` does."""
    labels = reference_values(case, grid)
    found = np.unique(labels)
    if not set(found.tolist()) <= set(range(classes)):
        raise TrainingError(
            f"case '{case.name}': labels must be 0..{classes - 1}, got {found[:10].tolist()}; name the others in "
            "data.classes too, or say with data.merge which values mean which class"
        )
    return labels.astype(np.uint8)


def reference_values(case: Case, grid: Grid) -> npt.NDArray[np.uint8]:
    """What the reference holds, whatever it means: whole numbers 0 to 255 on the grid of the case's images.

    Raises TrainingError, naming the case, where there is none, it cannot be read, lies on another grid or holds others.
    """
    reference = case.reference
    if reference is None:
        raise TrainingError(f"case '{case.name}' has no reference segmentation")
    if not isinstance(reference, Path):
        return _told(case, reference, lambda: reference.labels(grid))
    held = _told(case, reference, lambda: _volume(reference))
    if not held.grid.matches(grid):
        raise TrainingError(f"case '{case.name}': image and reference lie on different grids")
    values = np.unique(held.array)
    strange = values[~((values >= 0) & (values <= 255) & (values == np.rint(values)))]
    if strange.size:
        raise TrainingError(f"case '{case.name}': labels must be whole numbers 0..255, got {strange[:10].tolist()}")
    return held.array.astype(np.uint8)


def content(case: Case) -> bytes:
    """SHA-256 over images and reference alone: equal for equal content, whatever the case is called."""
    whole = hashlib.sha256()
    for name, image in case.images.items():
        if tuple(case.images) != (SINGLE,):
            whole.update(f"{name}\n".encode())
        whole.update(_digest(case, image))
    if case.reference is not None:
        whole.update(b"reference\n" + _digest(case, case.reference))
    return whole.digest()


def image_digests(case: Case) -> tuple[bytes, ...]:
    """SHA-256 of each image alone, whatever it is called and whatever it is to teach."""
    return tuple(_digest(case, image) for image in case.images.values())


def digest(cases: Sequence[Case]) -> str:
    """SHA-256 over names, persons, splits, labels and the content of all images and references.

    What was trained on, exactly: of a file its bytes, of a series in an archive the UIDs of its instances.
    """
    whole = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.name):
        whole.update(f"{case.name}\n{case.person}\n{case.split}\n".encode())
        named = tuple(case.images) != (SINGLE,)
        for name, image in case.images.items():
            whole.update((f"{name}\n".encode() if named else b"") + _digest(case, image))
        if case.reference is not None:
            whole.update(_digest(case, case.reference))
        for task, label in case.labels.items():
            whole.update(f"{task}={label}\n".encode())
    return whole.hexdigest()


def _volume(source: Path | Image) -> Volume:
    if not isinstance(source, Path):
        return source.volume()
    data = whole_file(source)
    return read_photograph(data) if source.suffix.lower() in (".png", ".jpg", ".jpeg") else read_nifti(data)


def whole_file(file: Path) -> bytes:
    """The bytes of a file. Raises OSError, and InputError for one larger than any image that is read."""
    if (size := file.stat().st_size) > _LARGEST_FILE:
        raise InputError(f"it has {size} bytes; at most {_LARGEST_FILE} are read")
    return file.read_bytes()


def _digest(case: Case, source: Path | Held) -> bytes:
    if not isinstance(source, Path):
        return source.digest()
    return _told(case, source, lambda: hashlib.sha256(whole_file(source)).digest())


def _told(case: Case, source: Path | Held, read: Callable[[], _T]) -> _T:
    """What `read` gives; where it fails, the case and the file are named."""
    place = f" {source}" if isinstance(source, Path) else ""
    try:
        return read()
    except OSError as error:
        raise TrainingError(f"case '{case.name}':{place} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise TrainingError(f"case '{case.name}':{place} cannot be read: {error}") from None
