"""Image and reference cases from a table, kept together by person; no torch.

Two scans, or two sides, of one person are alike in a way that no second person is. A split that parts them shows the
network its exam beforehand. So whatever is divided here is divided by person.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residency.errors import TrainingError
from residency.files.nifti import read_nifti
from residency.volume import Volume

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST_CASES = 100_000


@dataclass(frozen=True)
class Case:
    """One image with its reference, by path; `person` and `split` as the table says."""

    name: str
    person: str
    split: str
    image: Path
    reference: Path


@dataclass(frozen=True)
class Table:
    """How a CSV table and the folder it lies in name their cases.

    name, person, split  columns; `image` and `reference` are paths below the folder in which {name} stands for the case
    """

    file: str = "cases.csv"
    name: str = "name"
    person: str = "person"
    split: str = "split"
    image: str = "images/{name}.nii.gz"
    reference: str = "labels/{name}.nii.gz"


def read_cases(folder: Path, table: Table = Table()) -> tuple[Case, ...]:
    """All cases of a table, in the order of their names.

    Raises TrainingError where the table or a column is missing, a name is not plain letters and digits or comes twice,
    or a file is absent; the message names the first such case.
    """
    path = folder / table.file
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise TrainingError(f"the table of cases {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"the table of cases {path} is not CSV in UTF-8: {error}") from None
    if not 0 < len(rows) <= _MOST_CASES:
        raise TrainingError(f"the table of cases {path} has {len(rows)} rows; 1 to {_MOST_CASES} are read")
    for column in (table.name, table.person, table.split):
        if column not in rows[0]:
            raise TrainingError(f"{path} has no column '{column}'; it has: {', '.join(map(str, rows[0]))}")
    cases = sorted((_case(folder, table, row, path) for row in rows), key=lambda case: case.name)
    for one, other in pairwise(cases):
        if one.name == other.name:
            raise TrainingError(f"{path}: case '{one.name}' comes twice")
    return tuple(cases)


def _case(folder: Path, table: Table, row: dict[str, str | None], path: Path) -> Case:
    name, person, split = (row[column] or "" for column in (table.name, table.person, table.split))
    if not _NAME.fullmatch(name) or not person or not split:
        raise TrainingError(f"{path}: a case needs a name of letters, digits, _ and -, a person and a split; got {row}")
    case = Case(name, person, split, folder / table.image.format(name=name), folder / table.reference.format(name=name))
    for file in (case.image, case.reference):
        if not file.is_file():
            raise TrainingError(f"case '{name}': {file} is not there")
    return case


def persons(cases: Sequence[Case]) -> tuple[str, ...]:
    """The persons behind the cases, each once, in a fixed order."""
    return tuple(sorted({case.person for case in cases}))


def held_out(cases: Sequence[Case], share: float, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(kept, held out): about `share` of the persons, at least one, with all their cases.

    The choice depends on the persons' names and the seed alone: a hash ranks them, so that adding a person moves no
    other one across, whatever the order of the table or the version of a random generator.
    """
    everyone = persons(cases)
    if len(everyone) < 2:
        raise TrainingError(f"{len(everyone)} persons cannot be divided into two groups; at least two are needed")
    ranked = sorted(everyone, key=lambda person: hashlib.sha256(f"{seed}:{person}".encode()).digest())
    out = set(ranked[: min(max(1, round(share * len(ranked))), len(ranked) - 1)])
    return tuple(c for c in cases if c.person not in out), tuple(c for c in cases if c.person in out)


def read_case(case: Case, classes: int) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """The image, and its reference labels 0 .. classes - 1 on the image's grid.

    Raises TrainingError where the two lie on different grids or a label is unknown.
    """
    volume, reference = read_nifti(case.image.read_bytes()), read_nifti(case.reference.read_bytes())
    if not reference.grid.matches(volume.grid):
        raise TrainingError(f"case '{case.name}': image and reference lie on different grids")
    found = np.unique(reference.array)
    if not set(found.tolist()) <= set(range(classes)):
        raise TrainingError(f"case '{case.name}': labels must be 0..{classes - 1}, got {found[:10].tolist()}")
    return volume, reference.array.astype(np.uint8)


def digest(cases: Sequence[Case]) -> str:
    """SHA-256 over names, persons, splits and the bytes of all images and references: what was trained on, exactly."""
    whole = hashlib.sha256()
    for case in sorted(cases, key=lambda case: case.name):
        whole.update(f"{case.name}\n{case.person}\n{case.split}\n".encode())
        for file in (case.image, case.reference):
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
