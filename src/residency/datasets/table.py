"""Cases from a CSV table beside their files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from residency.datasets.case import MOST_CASES, NAME, SINGLE, Case, in_order
from residency.datasets.merged import Merged
from residency.errors import ConfigError, TrainingError
from residency.files.bounded import read_bounded

LARGEST_TABLE = 64 * 1024**2
"""Most bytes of a table that are read."""

_PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Table:
    """How a CSV table and the folder it lies in name their cases.

    name, person, split  columns; `image` and `reference` are paths below the folder in which {name} stands for the case
                         and {COLUMN} for what a column says of it
    reference            None where the cases have none
    images               several images by name, in the order of a net's channels; taken instead of `image`
    tasks                columns that hold a class, each with the names of its classes in order; an empty cell says that
                         the class is not known
    leave_out            names of cases that are not read at all, nor looked for
    values               the class of each value 0 to 255 of the references (see `residency.datasets.merged`); None
                         where the values are the classes
    """

    file: str = "cases.csv"
    name: str = "name"
    person: str = "person"
    split: str = "split"
    image: str = "images/{name}.nii.gz"
    reference: str | None = "labels/{name}.nii.gz"
    images: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    leave_out: Sequence[str] = ()
    values: bytes | None = None


def read_cases(folder: Path, table: Table = Table()) -> tuple[Case, ...]:
    """All cases of a table, in the order of their names.

    Raises TrainingError where a name is not plain letters and digits or comes twice, a path leads out of the folder, a
    class is unknown or a file is absent, ConfigError where the table, a column or a case to be left out is;
    the message names the first such case.
    """
    path = folder / table.file
    rows = read_rows(path, (table.name, table.person, table.split, *table.tasks))
    strangers = sorted(set(table.leave_out) - {row[table.name] for row in rows})
    if strangers:
        raise ConfigError(f"data.leave_out: {path} has no case '{strangers[0]}' to leave out")
    return in_order(
        [_case(folder, table, row, path) for row in rows if row[table.name] not in table.leave_out], str(path)
    )


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table. Raises TrainingError where it holds none, ConfigError where it or a column is not there."""
    try:
        text = read_bounded(path, LARGEST_TABLE).decode("utf-8-sig")
        read = csv.DictReader(io.StringIO(text, newline=""))
        rows = [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in read]
    except OSError as error:
        raise ConfigError(f"the table of cases {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"the table of cases {path} is not CSV in UTF-8: {error}") from None
    if not 0 < len(rows) <= MOST_CASES:
        raise TrainingError(f"the table of cases {path} has {len(rows)} rows; 1 to {MOST_CASES} are read")
    for column in columns:
        if column not in rows[0]:
            raise ConfigError(f"{path} has no column '{column}'; it has: {', '.join(map(str, rows[0]))}")
    return rows


def _case(folder: Path, table: Table, row: dict[str, str], path: Path) -> Case:
    name, person, split = (row[column] for column in (table.name, table.person, table.split))
    if not NAME.fullmatch(name) or not person or not split:
        raise TrainingError(f"{path}: a case needs a name of letters, digits, _ and -, a person and a split; got {row}")
    known = {**row, "name": name}
    images: dict[str, Path] = {
        key: _file(folder, pattern, known, path) for key, pattern in (table.images or {SINGLE: table.image}).items()
    }
    reference = None if table.reference is None else _file(folder, table.reference, known, path)
    labels = {
        task: _class(row[task], classes, f"{path}: case '{name}': {task}")
        for task, classes in table.tasks.items()
        if row[task]
    }
    merged = reference if reference is None or table.values is None else Merged(reference, table.values)
    return Case(name, person, split, images, merged, labels)


def _file(folder: Path, pattern: str, row: Mapping[str, str], path: Path) -> Path:
    """The file that a pattern means for a row; what the row puts in stays below the folder."""

    def put(found: re.Match[str]) -> str:
        column = found[1]
        if column not in row:
            raise ConfigError(f"{path} has no column '{column}', which the path '{pattern}' asks for")
        said = row[column].replace("\\", "/")
        parts = PurePosixPath(said).parts
        if not parts or "\0" in said or said.startswith("/") or ".." in parts or ":" in parts[0]:
            raise TrainingError(
                f"{path}: case '{row['name']}': column '{column}' says {row[column][:80]!r}, which is no path below "
                "the folder of the data"
            )
        return said

    file = folder / _PLACE.sub(put, pattern)
    if not file.is_file():
        raise TrainingError(f"case '{row['name']}': {file} is not there")
    return file


def _class(said: str, classes: Sequence[str], where: str) -> int:
    if said not in classes:
        raise TrainingError(f"{where} is {said[:80]!r}; data.tasks has: {', '.join(classes)}")
    return list(classes).index(said)
