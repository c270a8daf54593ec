"""The training file's `data`: where the cases are, who made them, and how they are divided."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import to_jsonable_python

from residency.archive import Archive
from residency.datasets.folds import LARGEST_FILE
from residency.datasets.merged import Values, classes_of
from residency.errors import ConfigError
from residency.files.bounded import read_bounded
from residency.train.part import Digest, Part
from residency.train.query_part import QueryPart

SPLITS = "splits_final.json"
"""Where nnU-Net keeps its folds."""

_OF_KIND = {
    "table": ("table", "split_column", "image", "images", "reference", "tasks", "leave_out", "merge"),
    "nnunet": ("persons", "person_pattern"),
    "archive": ("archive", "query", "key_file"),
}
_ONLY_PLACES = {"folder", "split_file", "cache", "cache_gib", "archive", "key_file"}
_LATER = ("kind", "query", "images", "tasks", "leave_out", "merge", "persons", "person_pattern", "split_sha256", "fold")

Column = Annotated[str, Field(min_length=1)]


class DataPart(Part):
    """Where the cases are and who made them.

    kind              `table`: a CSV table in the folder; `nnunet`: a raw data set folder of nnU-Net version 2;
                      `archive`: image series of an archive, with the Segmentations that refer to them
    folder            where the data are, beside the training file unless absolute; `--data` names another
    name, licence     of the data set, for the card
    source            where it was published, for the card
    labels            who made the references, and how, for the card
    classes           names of the values 0, 1, ... of the references; of a net that segments the background first
    table             CSV in the folder with a line for each case
    case_column       of the table, or of `persons`: the name of the case, of which `image` and `reference` are made
    person_column     likewise: who it is of. No person is on both sides of a division
    split_column      of the table: what the case is for
    train             the split to learn from, and to hold out of; no other split is read
    image             where the image of a case lies in the folder; `{name}`, or any column of the table in its place
    reference         likewise its reference on the same grid; null where classes stand in a column
    validation_share  of the persons of split `train`: held out to choose the best weights; no other split is read
    images            several images by name, instead of `image`
    tasks             columns of the table that hold a class, each with the names of its classes; of several columns
                      `classes` names all, as `COLUMN: CLASS`, and a net learns them together
    leave_out         names of cases that are not read at all: people kept for a test, cases without a reference
    merge             the values that mean a class, of references that have others than 0, 1, ...: `{liver: [1, 5]}`;
                      `rest` in place of the values: all that no other class has. What no class has is background
    persons           of nnU-Net's folder, which knows no persons: a CSV table in it with a case and a person column
    person_pattern    or a regular expression whose first group, found in a case's name, is the person
    split_file        a file of folds as nnU-Net writes it, beside the training file unless absolute; nnU-Net's own, in
                      its folder, where it is left out
    split_sha256      of the file of folds, filled in where it is left out
    fold              the number of the fold in that file, from 0, which says who is held out instead of
                      `validation_share`
    archive           its name in the settings, a folder (beside the training file unless absolute), or a URL; the one
                      of the settings where it is left out
    query             which series are cases, and which segments are classes: `modality`, `segments` by class, and where
                      they are wanted `description`, `reference`, `weighting`, `attributes`
    key_file          secret that persons and cases of an archive are named with, beside the training file unless
                      absolute; made where it is not there
    cache             folder where prepared cases are kept between trainings, beside the training file unless absolute
    cache_gib         the most that it may hold, in GiB; what was not used for longest goes first
    """

    folder: Path
    name: str
    licence: str
    source: str
    labels: str
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=255)]
    table: str = "cases.csv"
    case_column: str = "name"
    person_column: str = "person"
    split_column: str = "split"
    train: str = "train"
    image: str = "images/{name}.nii.gz"
    reference: str | None = "labels/{name}.nii.gz"
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    kind: Literal["table", "nnunet", "archive"] = "table"
    images: Mapping[Column, str] = Field(default_factory=dict)
    tasks: Mapping[Column, Annotated[tuple[Column, ...], Field(min_length=2, max_length=255)]] = Field(
        default_factory=dict
    )
    leave_out: tuple[str, ...] = ()
    merge: Values = Field(default_factory=dict)
    persons: str | None = None
    person_pattern: str | None = None
    split_file: Path | None = None
    split_sha256: Digest | None = None
    fold: Annotated[int, Field(ge=0)] | None = None
    archive: Annotated[str, Field(min_length=1)] | None = None
    query: QueryPart | None = None
    key_file: Path | None = None
    cache: Path | None = None
    cache_gib: Annotated[float, Field(gt=0)] = 20.0

    _opened: Archive | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _an_archive_has_no_folder(cls, values: Any) -> Any:
        archived = isinstance(values, Mapping) and values.get("kind") == "archive"
        return {"folder": ".", **values} if archived else values

    @field_validator("person_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.compile(value).groups < 1:
                raise ValueError("a pattern needs a group in round brackets: the person")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _settings_that_go_together(self) -> Self:
        said = {name for name in self.model_fields_set if getattr(self, name) != _usual(name)}
        for kind, fields in _OF_KIND.items():
            strange = [name for name in fields if name in said]
            if kind != self.kind and strange:
                raise ValueError(f"'{strange[0]}' is for data of kind '{kind}', not '{self.kind}'")
        for one, other in (("images", "image"), ("persons", "person_pattern")):
            if {one, other} <= said:
                raise ValueError(f"'{one}' and '{other}' say the same; leave one out")
        if self.fold is None and (self.split_file is not None or self.split_sha256 is not None):
            raise ValueError("'split_file' holds several folds: say which with 'fold'")
        if self.fold is not None and self.split_file is None and self.kind != "nnunet":
            raise ValueError("'fold' is a number in a file of folds: name it with 'split_file'")
        if self.fold is not None and "validation_share" in said:
            raise ValueError("'fold' says who is held out; leave out 'validation_share'")
        if self.kind == "archive" and (self.query is None or self.key_file is None):
            raise ValueError("data of kind 'archive' need 'query' and 'key_file'")
        if self.query is not None and set(self.query.segments) != set(self.classes[1:]):
            raise ValueError(
                f"'query' names segments for {', '.join(self.query.segments)}; the classes besides the background are "
                f"{', '.join(self.classes[1:])}"
            )
        if self.merge:
            classes_of(self.merge, self.classes)
        if "cache_gib" in said and self.cache is None:
            raise ValueError("'cache_gib' is of the folder 'cache', which is missing")
        return self

    def told(self) -> dict[str, Any]:
        """Plain values for digests: what is learnt from, without the places of files.

        What a file leaves out is left out here, so that digests stay as they were before a setting was known.
        """
        values = self.model_dump(mode="json", exclude=_ONLY_PLACES)
        usual = {name: to_jsonable_python(_usual(name)) for name in _LATER}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}

    def placed(self, beside: Path) -> DataPart:
        """With all places absolute, and the digest of the split file.

        Raises ConfigError where the split file is missing or not the one of `split_sha256`.
        """
        folder = (beside / self.folder).resolve()
        split = self.split_file
        if split is not None:
            split = (beside / split).resolve()
        elif self.fold is not None:
            split = folder / SPLITS
        update: dict[str, Any] = {"folder": folder, "split_file": split}
        for name in ("cache", "key_file"):
            if (place := getattr(self, name)) is not None:
                update[name] = (beside / place).resolve()
        if self.archive is not None and "://" not in self.archive and (beside / self.archive).is_dir():
            update["archive"] = str((beside / self.archive).resolve())
        if split is not None:
            try:
                found = hashlib.sha256(read_bounded(split, LARGEST_FILE)).hexdigest()
            except OSError as error:
                raise ConfigError(f"data.split_file {split} cannot be read: {error.strerror}") from None
            if self.split_sha256 not in (None, found):
                raise ConfigError(f"data.split_file {split} has SHA-256 {found}, not the one of data.split_sha256")
            update["split_sha256"] = found
        return self.model_copy(update=update)

    def within(self, archive: Archive) -> DataPart:
        """The same, its archive opened."""
        made = self.model_copy()
        made._opened = archive
        return made

    @property
    def opened(self) -> Archive:
        """The archive that was handed in by `within`. Raises ConfigError where none was."""
        if self._opened is None:
            raise ConfigError("data.archive: no archive is open; train with a command, which opens it")
        return self._opened

    def divided_how(self) -> str:
        """How cases come to be learnt from, in words for a card."""
        where = "of the archive" if self.kind == "archive" else "of the table"
        if self.kind == "nnunet":
            told = self.persons is not None or self.person_pattern is not None
            where = "of the nnU-Net folder" + ("" if told else " (each case taken for a person of its own)")
        if self.fold is not None:
            return f"Split '{self.train}' {where}, fold {self.fold} of the file of folds sha256:{self.split_sha256}"
        return f"Split '{self.train}' {where}"


def _usual(name: str) -> Any:
    """What a setting is where the file leaves it out."""
    return DataPart.model_fields[name].get_default(call_default_factory=True)
