"""References whose values are put together to fewer classes, as an atlas of many regions to the few that are learnt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from residency.datasets.case import Case, Labels, read_reference, whole_file
from residency.errors import InputError, PixelError, TrainingError
from residency.files.nifti import read_nifti_labels
from residency.volume import Grid

Values = Mapping[str, tuple[int, ...] | Literal["rest"]]
"""Class -> the values that mean it; "rest": all that no other class has, but 0."""


@dataclass(frozen=True)
class Merged:
    """A reference in a file, with the class of each of the values 0 to 255 that it may hold."""

    file: Path
    classes: bytes

    def digest(self) -> bytes:
        """SHA-256 of the file and of how its values are put together."""
        return hashlib.sha256(hashlib.sha256(whole_file(self.file)).digest() + self.classes).digest()

    def labels(self, grid: Grid) -> Labels:
        """Classes on the grid of the image. Raises InputError as `values` does."""
        found: Labels = np.frombuffer(self.classes, np.uint8)[self.values(grid)]
        return found

    def values(self, grid: Grid) -> Labels:
        """The values as they stand. Raises InputError for another grid, and for what is no label image up to 255."""
        try:
            held, own = read_nifti_labels(whole_file(self.file))
        except OSError as error:
            raise InputError(f"reference {self.file}: {error.strerror}") from None
        if not own.matches(grid):
            raise InputError("image and reference lie on different grids")
        if held.max() > np.iinfo(np.uint8).max:
            raise PixelError(f"the reference has values up to {held.max()}; values up to 255 are put together")
        return held.astype(np.uint8)


def classes_of(values: Values, classes: Sequence[str]) -> bytes:
    """The class of each of the values 0 to 255, the background for those that no class has.

    Raises ValueError for a class that is none of `classes` or the background, a value that is no label or comes twice,
    and for two classes that have the rest.
    """
    table, rest = [0] * 256, 0
    for name, own in values.items():
        if name not in classes[1:]:
            raise ValueError(f"'{name}' is none of the classes {', '.join(classes[1:])}")
        number = list(classes).index(name)
        if isinstance(own, str):
            if rest:
                raise ValueError(f"'{classes[rest]}' and '{name}' cannot both have the rest")
            rest = number
            continue
        for value in own:
            if not 0 < value < 256:
                raise ValueError(f"'{name}' has the value {value}; values are 1 to 255, and 0 is the background")
            if table[value]:
                raise ValueError(f"the value {value} is of '{classes[table[value]]}' and of '{name}'")
            table[value] = number
    return bytes(number or (rest if value else 0) for value, number in enumerate(table))


def read_regions(case: Case, grid: Grid, classes: int) -> Labels:
    """The reference as finely as it is divided: before its values are put together, where they are.

    Raises TrainingError as `read_case` does.
    """
    if not isinstance(case.reference, Merged):
        return read_reference(case, grid, classes)
    try:
        return case.reference.values(grid)
    except InputError as error:
        raise TrainingError(f"case '{case.name}' cannot be read: {error}") from None
