"""What kind of data set a folder holds, and what a training file must say to read it. Nothing in the folder is changed.

Known are: a table of cases beside files (its columns are found by their names), a raw folder of nnU-Net, and a plain
folder with images in one subfolder and references of the same names in another. What cannot be known is guessed, and
each guess is told.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residency.datasets.case import NAME
from residency.datasets.nnunet import LARGEST_DESCRIPTION
from residency.datasets.owners import Owner, guess_owner
from residency.datasets.table import read_rows
from residency.errors import TrainingError

TABLE = "cases.csv"

_NAME_COLUMNS = ("name", "case", "case_id", "id", "image_id", "study", "scan")
_PERSON_COLUMNS = (
    *("person", "person_id", "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid"),
    *("participant", "participant_id", "pair", "group"),
)
_SPLIT_COLUMNS = ("split", "part", "set", "subset", "partition")
_IMAGE_COLUMNS = ("image", "image_path", "image_file", "file", "filename", "path", "img", "scan_path")
_REFERENCE_COLUMNS = ("reference", "label", "labels", "mask", "segmentation", "seg", "mask_path", "label_path")
_CLASS_COLUMNS = ("class", "target", "diagnosis", "finding", "outcome", "category", "label", "labels")
_ENDINGS = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg")
_IMAGE_FOLDERS = ("images", "image", "imagesTr", "img", "imgs", "scans", "t1")
_REFERENCE_FOLDERS = ("labels", "label", "labelsTr", "masks", "mask", "segmentations", "segmentation", "seg", "gt")
_MOST_CLASSES = 255


@dataclass(frozen=True)
class Hints:
    """What a person says of the folder, in place of what would be guessed.

    image, reference   patterns below the folder in which {COLUMN} stands for what a column of the table says
    person, split      columns of the table
    target             column of the class, of a classification
    classes            names of the label values 0, 1, ..., or of the classes in order
    modality           of all images
    """

    image: str | None = None
    reference: str | None = None
    person: str | None = None
    split: str | None = None
    target: str | None = None
    classes: tuple[str, ...] = ()
    modality: str | None = None


@dataclass(frozen=True)
class Layout:
    """What a training file must say of a folder.

    data        the values of `data`, without `folder`, `classes` and what describes the set to people; `table` is left
                out where one has to be written
    table       rows of the table to write, where the folder has none that says enough
    target      column of the class, of a classification
    classes     names, where the folder says them
    modalities  of each image, by its name
    reasons     why each key of `data` is as it is
    notes       what a person should know
    """

    folder: Path
    kind: str
    data: Mapping[str, Any]
    table: tuple[Mapping[str, str], ...] = ()
    target: str | None = None
    classes: tuple[str, ...] = ()
    modalities: Mapping[str, str | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def layout_of(folder: Path, hints: Hints = Hints()) -> Layout:
    """Raises TrainingError for a folder of none of the known kinds, telling what they are."""
    if not folder.is_dir():
        raise TrainingError(f"{folder} is no folder; give the folder that holds the data set")
    if (folder / TABLE).is_file():
        return _of_table(folder, hints)
    if (folder / "dataset.json").is_file() and (folder / "imagesTr").is_dir():
        return _of_nnunet(folder, hints)
    return _of_plain(folder, hints)


def table_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as CSV."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


# A table.


def _of_table(folder: Path, hints: Hints) -> Layout:
    rows = read_rows(folder / TABLE, ())
    columns, told = list(rows[0]), folder / TABLE
    name = _column(columns, _NAME_COLUMNS) or _first_unique(rows)
    if name is None:
        raise TrainingError(f"{told} has no column that names each case; call one 'name'")
    reasons = {"case_column": f"column '{name}' names each case once"}
    person = _named_column(columns, hints.person, _PERSON_COLUMNS, told)
    split = _named_column(columns, hints.split, _SPLIT_COLUMNS, told)
    train, notes = _training_split(rows, split, told)
    chosen = [row for row in rows if split is None or row[split] == train]
    image = _files(folder, rows, name, hints.image, _IMAGE_COLUMNS, _IMAGE_FOLDERS)
    if image is None:
        raise TrainingError(
            f"{folder}: the images are not found from the table; say where, such as --image 'images/{{{name}}}.nii.gz'"
        )
    reference = None
    if hints.target is None:
        reference = _files(folder, chosen, name, hints.reference, _REFERENCE_COLUMNS, _REFERENCE_FOLDERS)
    target = None if reference is not None else _target(rows, hints.target, told)
    if reference is None and target is None:
        raise TrainingError(
            f"{folder}: neither references nor a column with a class are found; say --reference "
            f"'labels/{{{name}}}.nii.gz', or --target COLUMN"
        )
    owner = _owner_of_rows(chosen, name, person)
    reasons |= {"person_column": owner.why, "image": f"'{image}' leads from the table to a file"}
    if split is not None:
        reasons["split_column"] = f"column '{split}' divides the cases; only '{train}' is looked at"
    needed = [pattern for pattern in (image, reference) if pattern is not None]
    missing = [row[name] for row in chosen if not all(_there(folder, pattern, row, name) for pattern in needed)]
    whole = not any(not all(_there(folder, p, row, name) for p in needed) for row in rows)
    modalities: dict[str, str | None] = {"image": hints.modality or _said_modality(chosen)}
    classes = hints.classes or (_classes(chosen, target) if target else ())
    data: dict[str, Any] = {"kind": "table"}
    if missing:
        notes = (*notes, _left_out(missing, len(chosen), "have no file"))
    if whole and person is not None and split is not None and all(NAME.fullmatch(row[name]) for row in rows):
        patterns = {"image": image.replace(f"{{{name}}}", "{name}"), "reference": reference}
        if reference is not None:
            patterns["reference"] = reference.replace(f"{{{name}}}", "{name}")
        data |= {"case_column": name, "person_column": person, "split_column": split, "train": train, **patterns}
        return Layout(folder, "table", data, (), target, classes, modalities, reasons, notes)
    kept = [row for row in chosen if row[name] not in missing]
    if not kept:
        raise TrainingError(f"{folder}: no case has all its files: {_put(image, chosen[0], name)} is not there")
    made = []
    for row, case in zip(kept, _plain_names([row[name] for row in kept]), strict=True):
        entry = {"name": case, "person": owner.of[row[name]], "split": "train", "image": _put(image, row, name)}
        if reference is not None:
            entry["reference"] = _put(reference, row, name)
        if target is not None:
            entry[target] = row[target]
        made.append(entry)
    data |= {"image": "{image}", "reference": None if reference is None else "{reference}"}
    return Layout(folder, "table", data, tuple(made), target, classes, modalities, reasons, (*notes, *owner.warnings))


def _owner_of_rows(rows: Sequence[Mapping[str, str]], name: str, person: str | None) -> Owner:
    if person is None:
        return guess_owner([row[name] for row in rows])
    of = {row[name]: row[person] or row[name] for row in rows}
    return Owner(of, f"column '{person}' says whose each case is: {len(set(of.values()))} persons", None)


def _training_split(rows: Sequence[Mapping[str, str]], split: str | None, told: Path) -> tuple[str, tuple[str, ...]]:
    if split is None:
        return "train", (f"{told.name} divides no cases off: all are taken for training, none is left for a test",)
    found = Counter(row[split] for row in rows)
    for value in ("train", "training", "trainval", "tr", "development"):
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


def _first_unique(rows: Sequence[Mapping[str, str]]) -> str | None:
    return next((column for column in rows[0] if len({row[column] for row in rows}) == len(rows)), None)


def _files(
    folder: Path,
    rows: Sequence[Mapping[str, str]],
    name: str,
    said: str | None,
    columns: Sequence[str],
    folders: Sequence[str],
) -> str | None:
    """The pattern that leads to most files; the one that was said, whatever it leads to."""
    if said is not None:
        return said
    named = _column(list(rows[0]), columns)
    patterns = [f"{{{column}}}" for column in ([named] if named else [])]
    patterns += [f"{where}/{{{named}}}" for where in folders if named]
    patterns += [f"{where}/{{{name}}}{ending}" for where in folders for ending in _ENDINGS]
    patterns += [f"{{{name}}}/{where}{ending}" for where in folders for ending in _ENDINGS]
    probed = rows[:50]
    counted = [(sum(_there(folder, pattern, row, name) for row in probed), pattern) for pattern in patterns]
    most, best = max(counted, key=lambda one: one[0])
    return best if most else None


def _there(folder: Path, pattern: str, row: Mapping[str, str], name: str) -> bool:
    path = _put(pattern, row, name)
    return bool(path) and ".." not in Path(path).parts and not path.startswith("/") and (folder / path).is_file()


def _put(pattern: str, row: Mapping[str, str], name: str) -> str:
    known = {**row, "name": row[name]}

    def put(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise TrainingError(f"'{pattern}' asks for column '{found[1]}', which the table has not")
        return known[found[1]]

    return re.sub(r"\{([^{}]*)\}", put, pattern)


def _target(rows: Sequence[Mapping[str, str]], said: str | None, told: Path) -> str | None:
    column = _named_column(list(rows[0]), said, _CLASS_COLUMNS, told)
    if column is None:
        return None
    found = len({row[column] for row in rows} - {""})
    if 2 <= found <= min(_MOST_CLASSES, max(2, len(rows) // 2)):
        return column
    if said is None:
        return None
    raise TrainingError(f"{told}: column '{said}' has {found} different values; 2 to {_MOST_CLASSES} make classes")


def _classes(rows: Sequence[Mapping[str, str]], target: str) -> tuple[str, ...]:
    found = {row[target] for row in rows} - {""}
    whole = all(value.isdigit() for value in found)
    return tuple(sorted(found, key=lambda value: (int(value) if whole else 0, value)))


def _said_modality(rows: Sequence[Mapping[str, str]]) -> str | None:
    column = _column(list(rows[0]), ("modality",))
    said = {row[column] for row in rows} if column else set()
    return modality_named(said.pop()) if len(said) == 1 else None


# A raw folder of nnU-Net.


def _of_nnunet(folder: Path, hints: Hints) -> Layout:
    file = folder / "dataset.json"
    try:
        with file.open("rb") as stream:
            said = json.loads(stream.read(LARGEST_DESCRIPTION))
        labels, channels = dict(said["labels"]), dict(said["channel_names"])
        classes = tuple(sorted(labels, key=lambda name: int(labels[name])))
        ordered = [str(channels[key]) for key in sorted(channels, key=int)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{file} is not read: {error}; see nnU-Net's documentation, 'dataset format'") from None
    ending = str(said.get("file_ending", ""))
    names = sorted(
        {path.name[: -len(ending) - 5] for path in (folder / "imagesTr").glob(f"*_????{ending}")} if ending else set()
    )
    owner = guess_owner(names)
    data: dict[str, Any] = {"kind": "nnunet"}
    reasons = {"kind": "dataset.json and imagesTr: a raw folder of nnU-Net"}
    if owner.pattern is not None:
        data["person_pattern"] = owner.pattern
        reasons["person_pattern"] = owner.why
    modalities = {name: hints.modality or modality_named(name) for name in ordered}
    return Layout(folder, "nnunet", data, (), None, hints.classes or classes, modalities, reasons, owner.warnings)


# A plain folder.


def _of_plain(folder: Path, hints: Hints) -> Layout:
    images = _subfolder(folder, _IMAGE_FOLDERS)
    references = _subfolder(folder, _REFERENCE_FOLDERS)
    if images is None or references is None:
        raise TrainingError(
            f"{folder} holds neither a table {TABLE}, nor dataset.json and imagesTr of nnU-Net, nor the folders "
            "images and labels; make one of them"
        )
    shown, outlined = _by_stem(images), _by_stem(references)
    pairs = {stem: (image, outlined[key]) for stem, image in shown.items() if (key := _partner(stem, outlined))}
    if not pairs:
        raise TrainingError(f"no file in {references} is called as one in {images}")
    alone = sorted(set(shown) - set(pairs))
    unused = sorted(set(outlined.values()) - {reference for _, reference in pairs.values()})
    notes = [_left_out(alone, len(shown), "have no reference")] if alone else []
    notes += [f"{len(unused)} references without an image are left out, {unused[0].name} among them"] if unused else []
    owner = guess_owner(sorted(pairs))
    rows = tuple(
        {
            "name": case,
            "person": owner.of[stem],
            "split": "train",
            "image": pairs[stem][0].relative_to(folder).as_posix(),
            "reference": pairs[stem][1].relative_to(folder).as_posix(),
        }
        for stem, case in zip(sorted(pairs), _plain_names(sorted(pairs)), strict=True)
    )
    reasons = {
        "table": f"written from the names of the files in {images.name} and {references.name}",
        "person_column": owner.why,
    }
    data = {"kind": "table", "image": "{image}", "reference": "{reference}"}
    notes += ["nothing is left for a test: keep some persons out of the folder, or name a split in a table"]
    modalities = {"image": hints.modality}
    return Layout(folder, "folder", data, rows, None, hints.classes, modalities, reasons, (*notes, *owner.warnings))


def _subfolder(folder: Path, known: Iterable[str]) -> Path | None:
    there = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    return next((there[name.lower()] for name in known if name.lower() in there), None)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((one for one in _ENDINGS if path.name.lower().endswith(one)), None)
        if ending is None or path.name.startswith("."):
            continue
        stem = path.name[: -len(ending)]
        if stem in found:
            raise TrainingError(f"{folder} holds two images called '{stem}'; leave one")
        found[stem] = path
    return found


def _partner(stem: str, outlined: Mapping[str, Path]) -> str | None:
    """The name of the reference of an image: its own, or with what many tools put behind."""
    bare = re.sub(r"_0000$|[_-](?:t1w?|image|img|ct|mr)$", "", stem, flags=re.IGNORECASE)
    endings = ("", "_seg", "_mask", "_label", "_labels", "-seg", "-mask", "-label", "_segmentation", "_gt")
    return next((name for base in (stem, bare) for end in endings if (name := base + end) in outlined), None)


def _plain_names(names: Sequence[str]) -> list[str]:
    """Names that cases may have, each once."""
    made: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name).lstrip("_-")[:60] or "case"
        number, tried = 1, plain
        while tried in made:
            number += 1
            tried = f"{plain}-{number}"
        made.append(tried)
    return made


def _left_out(names: Sequence[str], of: int, why: str) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} of {of} cases {why} and are left out: {', '.join(names[:3])}{more}"


def modality_named(text: str) -> str | None:
    """The DICOM modality that a channel's or a column's name says, or None. The rule of nnU-Net: "CT" is CT."""
    said = text.strip().lower()
    if said in ("ct", "cbct", "computed tomography"):
        return "CT"
    if said in ("mr", "mri", "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "dwi", "adc", "swi"):
        return "MR"
    if said in ("cr", "dx", "pt", "us", "mg", "nm"):
        return said.upper()
    return {"pet": "PT", "x-ray": "DX", "xray": "DX", "cxr": "DX", "ultrasound": "US"}.get(said)
