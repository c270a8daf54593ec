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
from residency.errors import TrainingError, UsageError

_NAME_COLUMNS = ("name", "case", "case_id", "id", "image_id", "study", "scan")
_PERSON_COLUMNS = (
    *("person", "person_id", "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid"),
    *("participant", "participant_id"),
)
_GROUP_COLUMNS = ("pair", "group")
"""What tools for cross-validation call a person, and studies an arm."""
_ARMS = re.compile(r"arm(?:[ _-].*)?|\D*(?:placebo|control|treat|drug|healthy|disease|patient)\D*")
"""Of a study. With a number, such as 'patient 7', it is a person."""
_FEW_GROUPS = 3
_SPLIT_COLUMNS = ("split", "part", "set", "subset", "partition")
"""But for the first they may mean another part, of a body say, and are taken only where a value means training."""
_PARTS = re.compile(r"train|test(?!i[sc])|(?<!inter)val(?!v|u)")
"""In a value that seems to name a part of the cases; not testis, interval, valve, value."""
_MOST_PARTS = 5
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
    train          values of `split` to learn from
    """

    folder: Path
    rows: Sequence[Row]
    name: str
    person: str | None
    split: str | None
    train: tuple[str, ...]

    @property
    def chosen(self) -> list[Row]:
        return [row for row in self.rows if self.split is None or row[self.split] in self.train]

    @property
    def plain(self) -> bool:
        """Whether a training can read the table as it is: it compares values as they stand, and wants all of them."""
        if self.person is None or self.split is None or len(self.train) > 1 or self.train[0] != self.train[0].strip():
            return False
        return all(NAME.fullmatch(row[self.name]) and row[self.person] and row[self.split] for row in self.rows)

    def path(self, pattern: str, row: Row) -> str:
        """What a pattern means for a row. Raises UsageError for a column that is not there."""
        known = {**row, "name": row[self.name]}

        def put(found: re.Match[str]) -> str:
            if found[1] not in known:
                raise UsageError(f"'{pattern}' asks for column '{found[1]}', which the table has not")
            return known[found[1]]

        return re.sub(r"\{([^{}]*)\}", put, pattern)

    def there(self, pattern: str, row: Row) -> bool:
        path = self.path(pattern, row)
        inside = bool(path) and ".." not in Path(path).parts and not path.startswith("/")
        return inside and (self.folder / path).is_file()


def of_table(folder: Path, hints: Hints) -> Layout:
    """Raises TrainingError where cases, images, or references and classes are not found; UsageError for hints that name
    columns which are not there.
    """
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
        reasons["split_column"] = f"column '{read.split}' divides the cases; only {_listed(read.train)} is looked at"
    whole = all(read.there(pattern, row) for row in read.rows for pattern in patterns)
    if whole and read.plain:
        named = {name: _by_name(pattern, read.name) for name, pattern in images.items()}
        columns = {"case_column": read.name, "person_column": read.person, "split_column": read.split}
        data = {"kind": "table", **columns, "train": read.train[0], **_fed(named)}
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
    person, ignored = _person_column(rows, hints.person, told)
    split, parts = _split_column(rows, hints.split, told)
    train, notes = _training_split(rows, split, told)
    return _Read(folder, rows, name, person, split, train), (*ignored, *parts, *notes)


def _person_column(rows: Sequence[Row], said: str | None, told: Path) -> tuple[str | None, tuple[str, ...]]:
    """(column, what a person should know): a group is a person, but for the few arms of a study."""
    person = _named_column(list(rows[0]), said, _PERSON_COLUMNS, told)
    group = _column(list(rows[0]), _GROUP_COLUMNS)
    if person is not None or group is None:
        return person, ()
    found = _found(rows, group)
    arms = any(_ARMS.fullmatch(value.lower()) for value in found)
    if not arms and (len(found) > _FEW_GROUPS or 4 * len(found) >= len(rows)):
        return group, ()
    return None, (
        f"column '{group}' was not taken for whose the cases are: it holds {_listed(found)} for {len(rows)} cases. If "
        f"each is a person, say --person {group}",
    )


def _split_column(rows: Sequence[Row], said: str | None, told: Path) -> tuple[str | None, tuple[str, ...]]:
    """(column, what a person should know). Raises TrainingError for one that seems to divide, but not what is to train.

    Cases for a test that are trained on show in no figure.
    """
    split = _named_column(list(rows[0]), said, _SPLIT_COLUMNS[:1], told)
    if split is not None:
        return split, ()
    there = [column for name in _SPLIT_COLUMNS[1:] if (column := _column(list(rows[0]), (name,))) is not None]
    for column in there:
        if any(_means_training(value) for value in _found(rows, column)):
            return column, ()
    for column in there:
        found = _found(rows, column)
        if 2 <= len(found) <= _MOST_PARTS and any(_PARTS.search(value.lower()) for value in found):
            raise TrainingError(
                f"{told}: column '{column}' seems to divide the cases and holds {_listed(found)}: which of them are to "
                "train is not clear. Call them 'train' there, or name another column with --split"
            )
    return None, tuple(
        f"column '{column}' was not taken for a split: it holds {_listed(_found(rows, column))}" for column in there
    )


def _means_training(value: str) -> bool:
    """'train', and what says the same in more words, such as 'Training set'; not 'train/test'."""
    words = re.findall("[a-z]+", value.lower())
    others = any(word.startswith(("test", "val")) for word in words)
    return not others and any(word in _TRAIN or word.startswith("train") for word in words)


def _found(rows: Sequence[Row], column: str) -> list[str]:
    """The values of a column without blanks around them, sorted; an empty one is none."""
    return sorted({row[column].strip() for row in rows} - {""})


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(f"'{value[:40]}'" for value in values[:_MOST_PARTS])
    return shown if len(values) <= _MOST_PARTS else f"{shown} and {len(values) - _MOST_PARTS} more values"


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


def _training_split(rows: Sequence[Row], split: str | None, told: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(values that are to train, as they stand; what a person should know)."""
    if split is None:
        return ("train",), (f"{told.name} divides no cases off: all are taken for training, none is left for a test",)
    found = Counter(row[split] for row in rows)
    plain = (tuple(said for said in found if said.strip().lower() == value) for value in _TRAIN)
    train = next((said for said in plain if said), tuple(said for said in found if _means_training(said)))
    if not train:
        raise TrainingError(
            f"{told}: column '{split}' has no part called 'train'; it has {_listed(_found(rows, split))}. Call the one "
            "to learn from 'train', or name another column with --split"
        )
    others = ", ".join(f"'{other}' ({n})" for other, n in found.items() if other not in train)
    return train, (f"left unread: {others}",) if others else ()


def _named_column(columns: Sequence[str], said: str | None, known: Sequence[str], told: Path) -> str | None:
    if said is None:
        return _column(columns, known)
    if said not in columns:
        raise UsageError(f"{told} has no column '{said}'; it has: {', '.join(columns)}")
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
