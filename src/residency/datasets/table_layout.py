"""A table of cases beside files: its columns by what people call them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.datasets.case import NAME, SINGLE
from residency.datasets.layout import (
    ENDINGS,
    IMAGE_FOLDERS,
    REFERENCE_FOLDERS,
    TABLE,
    Hints,
    Layout,
    left_out,
    modality_named,
    plain_names,
)
from residency.datasets.owners import Owner, guess_owner
from residency.datasets.table import read_rows
from residency.errors import TrainingError

_NAME_COLUMNS = ("name", "case", "case_id", "id", "image_id", "study", "scan")
_PERSON_COLUMNS = (
    *("person", "person_id", "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid"),
    *("participant", "participant_id"),
)
_GROUP_COLUMNS = ("pair", "group")
"""What tools for cross-validation call a person, and studies an arm."""
_SPLIT_COLUMNS = ("split", "part", "set", "subset", "partition")
"""But for the first they may mean another part, of a body say, and are taken only where one holds a value of these."""
_TRAIN = ("train", "training", "trainval", "tr", "development")
_IMAGE_COLUMNS = ("image", "image_path", "image_file", "file", "filename", "path", "img", "scan_path", "channel_0")
_CHANNEL = re.compile(r"channel_\d+", re.IGNORECASE)
"""GaNDLF's name of a column for one of several images."""
_REFERENCE_COLUMNS = ("reference", "label", "labels", "mask", "segmentation", "seg", "mask_path", "label_path")
_CLASS_COLUMNS = ("class", "target", "diagnosis", "finding", "outcome", "category", "label", "labels")
_MOST_CLASSES = 255
_PROBED = 50
"""Rows whose files are looked for, to find out where they lie."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class _Read:
    """A table.

    rows           all
    name           column that names each case
    person, split  columns, where there are any
    train          value of `split` to learn from
    """

    folder: Path
    rows: Sequence[Row]
    name: str
    person: str | None
    split: str | None
    train: str

    @property
    def chosen(self) -> list[Row]:
        return [row for row in self.rows if self.split is None or row[self.split] == self.train]

    def path(self, pattern: str, row: Row) -> str:
        """What a pattern means for a row. Raises TrainingError for a column that is not there."""
        known = {**row, "name": row[self.name]}

        def put(found: re.Match[str]) -> str:
            if found[1] not in known:
                raise TrainingError(f"'{pattern}' asks for column '{found[1]}', which the table has not")
            return known[found[1]]

        return re.sub(r"\{([^{}]*)\}", put, pattern)

    def there(self, pattern: str, row: Row) -> bool:
        path = self.path(pattern, row)
        inside = bool(path) and ".." not in Path(path).parts and not path.startswith("/")
        return inside and (self.folder / path).is_file()


def of_table(folder: Path, hints: Hints) -> Layout:
    """Raises TrainingError where cases, images, or references and classes are not found."""
    read, notes = _read(folder, hints)
    images = _images(read, hints.images)
    reference, target = _wanted(read, hints)
    owner = _owner(read)
    patterns = [pattern for pattern in (*images.values(), reference) if pattern is not None]
    there = {row[read.name] for row in read.chosen if all(read.there(pattern, row) for pattern in patterns)}
    missing = [row[read.name] for row in read.chosen if row[read.name] not in there]
    if missing:
        notes = (*notes, left_out(missing, len(read.chosen), "have no file"))
    said = hints.modality or _said_modality(read.chosen)
    modalities = {name: said or (modality_named(name) if len(images) > 1 else None) for name in images}
    classes = hints.classes or (_classes(read.chosen, target) if target else ())
    reasons = {
        "case_column": f"column '{read.name}' names each case once",
        "person_column": owner.why,
        "image": f"'{images.get(SINGLE)}' leads from the table to a file",
        "images": "patterns that lead from the table to the files of each image",
    }
    if read.split is not None:
        reasons["split_column"] = f"column '{read.split}' divides the cases; only '{read.train}' is looked at"
    whole = all(read.there(pattern, row) for row in read.rows for pattern in patterns)
    if whole and None not in (read.person, read.split) and all(NAME.fullmatch(row[read.name]) for row in read.rows):
        named = {name: _by_name(pattern, read.name) for name, pattern in images.items()}
        columns = {"case_column": read.name, "person_column": read.person, "split_column": read.split}
        data = {"kind": "table", **columns, "train": read.train, **_fed(named)}
        data["reference"] = None if reference is None else _by_name(reference, read.name)
        return Layout(folder, "table", data, (), target, classes, modalities, reasons, notes)
    kept = [row for row in read.chosen if row[read.name] in there]
    if not kept:
        pattern = next(iter(images.values()))
        raise TrainingError(f"{folder}: no case has all its files: {read.path(pattern, read.chosen[0])} is not there")
    places = {name: name if len(images) == 1 else f"image_{k}" for k, name in enumerate(images)}
    made = []
    for row, case in zip(kept, plain_names([row[read.name] for row in kept]), strict=True):
        entry = {"name": case, "person": owner.of[row[read.name]], "split": "train"}
        entry |= {places[name]: read.path(pattern, row) for name, pattern in images.items()}
        if reference is not None:
            entry["reference"] = read.path(reference, row)
        if target is not None:
            entry[target] = row[target]
        made.append(entry)
    data = {"kind": "table", **_fed({name: f"{{{place}}}" for name, place in places.items()})}
    data["reference"] = None if reference is None else "{reference}"
    return Layout(folder, "table", data, tuple(made), target, classes, modalities, reasons, (*notes, *owner.warnings))


def _fed(images: Mapping[str, str]) -> dict[str, Any]:
    """The keys of `data` that say where images are."""
    return {"image": images[SINGLE]} if tuple(images) == (SINGLE,) else {"images": dict(images)}


def _by_name(pattern: str, column: str) -> str:
    return pattern.replace(f"{{{column}}}", "{name}")


def _read(folder: Path, hints: Hints) -> tuple[_Read, tuple[str, ...]]:
    told = folder / TABLE
    rows = read_rows(told, ())
    columns = list(rows[0])
    name = _column(columns, _NAME_COLUMNS) or _first_unique(rows)
    if name is None:
        raise TrainingError(f"{told} has no column that names each case; call one 'name'")
    person = _named_column(columns, hints.person, _PERSON_COLUMNS, told)
    if person is None and (group := _column(columns, _GROUP_COLUMNS)) is not None:
        person = group if 4 * len({row[group] for row in rows}) >= len(rows) else None
    split = _named_column(columns, hints.split, _SPLIT_COLUMNS[:1], told) or _column(
        [column for column in columns if any(row[column].lower() in _TRAIN for row in rows)], _SPLIT_COLUMNS
    )
    train, notes = _training_split(rows, split, told)
    return _Read(folder, rows, name, person, split, train), notes


def _images(read: _Read, said: Mapping[str, str]) -> dict[str, str]:
    """Patterns by the name of the image."""
    if said:
        return dict(said)
    channels = [column for column in read.rows[0] if _CHANNEL.fullmatch(column)]
    if len(channels) > 1:
        return {column: f"{{{column}}}" for column in channels}
    found = _files(read, read.rows, _IMAGE_COLUMNS, IMAGE_FOLDERS)
    if found is None:
        raise TrainingError(
            f"{read.folder}: the images are not found from the table; say where, such as "
            f"--image 'images/{{{read.name}}}.nii.gz'"
        )
    return {SINGLE: found}


def _wanted(read: _Read, hints: Hints) -> tuple[str | None, str | None]:
    """(pattern of the references, column of the class): one of them."""
    told = read.folder / TABLE
    reference = None
    if hints.target is None:
        reference = hints.reference or _files(read, read.chosen, _REFERENCE_COLUMNS, REFERENCE_FOLDERS)
    target = None if reference is not None else _target(read.rows, hints.target, told)
    if reference is None and target is None:
        raise TrainingError(
            f"{read.folder}: neither references nor a column with a class are found; say --reference "
            f"'labels/{{{read.name}}}.nii.gz', or --target COLUMN"
        )
    return reference, target


def _owner(read: _Read) -> Owner:
    names = [row[read.name] for row in read.chosen]
    if read.person is None:
        return guess_owner(names)
    of = {row[read.name]: row[read.person] or row[read.name] for row in read.chosen}
    return Owner(of, f"column '{read.person}' says whose each case is: {len(set(of.values()))} persons", None)


def _training_split(rows: Sequence[Row], split: str | None, told: Path) -> tuple[str, tuple[str, ...]]:
    if split is None:
        return "train", (f"{told.name} divides no cases off: all are taken for training, none is left for a test",)
    found = Counter(row[split] for row in rows)
    for value in _TRAIN:
        for said in found:
            if said.lower() == value:
                others = ", ".join(f"'{other}' ({n})" for other, n in found.items() if other != said)
                return said, (f"left unread: {others}",) if others else ()
    raise TrainingError(f"{told}: column '{split}' has no part called 'train'; it has {', '.join(sorted(found)[:8])}")


def _named_column(columns: Sequence[str], said: str | None, known: Sequence[str], told: Path) -> str | None:
    if said is None:
        return _column(columns, known)
    if said not in columns:
        raise TrainingError(f"{told} has no column '{said}'; it has: {', '.join(columns)}")
    return said


def _column(columns: Sequence[str], known: Sequence[str]) -> str | None:
    lower = {column.lower().strip(): column for column in columns}
    return next((lower[name] for name in known if name in lower), None)


def _first_unique(rows: Sequence[Row]) -> str | None:
    return next((column for column in rows[0] if len({row[column] for row in rows}) == len(rows)), None)


def _files(read: _Read, rows: Sequence[Row], columns: Sequence[str], folders: Sequence[str]) -> str | None:
    """The pattern that leads to most files; None where none leads to any."""
    named = _column(list(rows[0]), columns)
    patterns = [f"{{{column}}}" for column in ([named] if named else [])]
    patterns += [f"{where}/{{{named}}}" for where in folders if named]
    patterns += [f"{where}/{{{read.name}}}{ending}" for where in folders for ending in ENDINGS]
    patterns += [f"{{{read.name}}}/{where}{ending}" for where in folders for ending in ENDINGS]
    counted = [(sum(read.there(pattern, row) for row in rows[:_PROBED]), pattern) for pattern in patterns]
    most, best = max(counted, key=lambda one: one[0])
    return best if most else None


def _target(rows: Sequence[Row], said: str | None, told: Path) -> str | None:
    column = _named_column(list(rows[0]), said, _CLASS_COLUMNS, told)
    if column is None:
        return None
    found = len({row[column] for row in rows} - {""})
    if 2 <= found <= min(_MOST_CLASSES, max(2, len(rows) // 2)):
        return column
    if said is None:
        return None
    raise TrainingError(f"{told}: column '{said}' has {found} different values; 2 to {_MOST_CLASSES} make classes")


def _classes(rows: Sequence[Row], target: str) -> tuple[str, ...]:
    found = {row[target] for row in rows} - {""}
    whole = all(value.isdigit() for value in found)
    return tuple(sorted(found, key=lambda value: (int(value) if whole else 0, value)))


def _said_modality(rows: Sequence[Row]) -> str | None:
    column = _column(list(rows[0]), ("modality",))
    said = {row[column] for row in rows} if column else set()
    return modality_named(said.pop()) if len(said) == 1 else None
