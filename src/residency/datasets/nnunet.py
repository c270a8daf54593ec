"""Cases from a raw data set folder of nnU-Net version 2, as it lies there.

`dataset.json` names channels and labels; `imagesTr` holds CASE_0000 for the first channel, CASE_0001 for the next;
`labelsTr` holds CASE (nnU-Net's documentation, "dataset format"). It says nothing of persons.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.datasets import case as cases_of
from residency.datasets.case import MOST_CASES, NAME, Case, Gathered, in_order
from residency.datasets.table import read_rows
from residency.errors import TrainingError
from residency.files.bounded import read_bounded

LARGEST_DESCRIPTION = 16 * 1024**2
"""Most bytes of dataset.json that are read."""

ENDINGS = (".nii.gz", ".nii", ".png")
_MOST_CHANNELS = 64
_DESCRIPTION, _IMAGES, _LABELS = "dataset.json", "imagesTr", "labelsTr"


def read_nnunet(
    folder: Path,
    classes: Sequence[str],
    *,
    persons: str | None = None,
    columns: tuple[str, str] = ("name", "person"),
    pattern: str | None = None,
    split: str = "train",
) -> Gathered:
    """All training cases of the folder, in the order of their names, all of one split.

    classes  names of the labels 0, 1, ...; they must be those of dataset.json
    persons  CSV table in the folder that says whose each case is, by two `columns`: case and person
    pattern  or a regular expression whose first group, found in a case's name, is the person

    Without either, each case is taken for a person of its own, and a note says so. Raises TrainingError, naming the
    file, for a folder that is not of this form, or a case without its image, its reference or its person.
    """
    said, file = described(folder), folder / _DESCRIPTION
    if said.classes != tuple(classes):
        raise TrainingError(f"{file} has the labels {', '.join(said.classes)}; data.classes says {', '.join(classes)}")
    names = case_names(folder, said.ending)
    if len(names) != said.cases:
        raise TrainingError(f"{file} tells of {said.cases} training cases, {_IMAGES} holds {len(names)}")
    owners = _owners(names, folder, persons, columns, pattern)
    cases = [_case(folder, name, owners[name], split, said) for name in names]
    return Gathered(in_order(cases, str(folder)), _notes(cases, persons, pattern))


def _notes(cases: Sequence[Case], table: str | None, pattern: str | None) -> tuple[str, ...]:
    if table is None and pattern is None:
        return (
            f"nothing says whose the {len(cases)} cases are: each was taken for a person of its own. If a person has "
            "several, results will look better than they are; name data.persons or data.person_pattern",
        )
    return (f"{len(cases)} cases of {len(cases_of.persons(cases))} persons",)


@dataclass(frozen=True)
class Described:
    """What dataset.json tells.

    channels  the images of each case, in order
    classes   names of the labels 0, 1, ...
    ending    of all files
    cases     for training
    """

    channels: tuple[str, ...]
    classes: tuple[str, ...]
    ending: str
    cases: int


def described(folder: Path) -> Described:
    """What dataset.json of the folder tells. Raises TrainingError, naming the key, for what is not read."""
    file = folder / _DESCRIPTION
    try:
        found = json.loads(read_bounded(file, LARGEST_DESCRIPTION).decode("utf-8"))
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror}; is this a raw nnU-Net folder?") from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise TrainingError(f"{file} holds no keys and values")
    if "dataset" in found:
        raise TrainingError(f"{file} lists its files under 'dataset', which is not read; use imagesTr and labelsTr")
    channels = _numbered(found.get("channel_names"), f"{file}: 'channel_names'", _MOST_CHANNELS)
    labels = found.get("labels")
    if not isinstance(labels, dict) or not all(type(value) is int for value in labels.values()):
        raise TrainingError(f"{file}: 'labels' must give each name one whole number; regions of several are not read")
    if "ignore" in labels:
        raise TrainingError(f"{file} has voxels to ignore, which is not read: outline them, or leave the cases out")
    if len(set(labels.values())) != len(labels):
        raise TrainingError(f"{file}: 'labels' gives two names one number")
    classes = _numbered({str(value): name for name, value in labels.items()}, f"{file}: 'labels'", 255)
    ending, count = found.get("file_ending"), found.get("numTraining")
    if ending not in ENDINGS:
        raise TrainingError(f"{file}: files with the 'file_ending' {ending!r} are not read; {', '.join(ENDINGS)} are")
    if type(count) is not int or not 0 < count <= MOST_CASES:
        raise TrainingError(f"{file}: 'numTraining' is {str(count)[:80]}; 1 to {MOST_CASES} cases are read")
    return Described(channels, classes, ending, count)


def _numbered(value: Any, where: str, most: int) -> tuple[str, ...]:
    """Names under the keys "0", "1", ... in this order, each once."""
    keys = [str(k) for k in range(len(value))] if isinstance(value, dict) else []
    if not 0 < len(keys) <= most or set(keys) != set(value) or not all(isinstance(v, str) for v in value.values()):
        raise TrainingError(f"{where} must name 0, 1, ... without a gap, at most {most}")
    names = tuple(value[key] for key in keys)
    if len(set(names)) != len(names) or not all(name.isprintable() and name for name in names):
        raise TrainingError(f"{where} must give each a name of its own")
    return names


def case_names(folder: Path, ending: str) -> list[str]:
    """The training cases that have an image. Raises TrainingError for a file of another name."""
    form = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    found: set[str] = set()
    try:
        for file in (folder / _IMAGES).iterdir():
            if file.name.startswith("."):
                continue  # what desktops leave behind
            told = form.fullmatch(file.name)
            if told is None or not NAME.fullmatch(told[1]):
                raise TrainingError(
                    f"{file} is not called CASE_0000{ending}, the case of letters, digits, _ and -, at most 64"
                )
            found.add(told[1])
            if len(found) > MOST_CASES:
                raise TrainingError(f"{folder / _IMAGES} holds more than {MOST_CASES} cases")
    except OSError as error:
        raise TrainingError(f"{folder / _IMAGES} cannot be read: {error.strerror}") from None
    return sorted(found)


def _owners(
    names: Sequence[str], folder: Path, table: str | None, columns: tuple[str, str], pattern: str | None
) -> dict[str, str]:
    if table is not None:
        path = folder / table
        told = {row[columns[0]]: row[columns[1]] for row in read_rows(path, columns)}
        for name in names:
            if not told.get(name):
                raise TrainingError(f"{path} does not say whose case '{name}' is")
        return {name: told[name] for name in names}
    if pattern is None:
        return {name: name for name in names}
    owners = {}
    for name in names:
        found = re.search(pattern, name)
        if found is None or not found[1]:
            raise TrainingError(f"data.person_pattern {pattern!r} finds no person in the name of case '{name}'")
        owners[name] = found[1]
    return owners


def _case(folder: Path, name: str, person: str, split: str, said: Described) -> Case:
    images = {channel: folder / _IMAGES / f"{name}_{k:04d}{said.ending}" for k, channel in enumerate(said.channels)}
    reference = folder / _LABELS / f"{name}{said.ending}"
    for file in (*images.values(), reference):
        if not file.is_file():
            raise TrainingError(f"case '{name}': {file} is not there")
    return Case(name, person, split, images, reference)
