"""The cases that a training file means, and how they are divided; no torch."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from residency.datasets import Case, Gathered, Table, held_out, in_fold, read_cases, read_folds
from residency.datasets.archived import read_archive
from residency.datasets.case import SINGLE
from residency.datasets.merged import classes_of
from residency.datasets.nnunet import described, read_nnunet
from residency.errors import ConfigError, TrainingError
from residency.train.config import TrainingConfig

_LONGEST_KEY = 4096


def gathered(config: TrainingConfig) -> Gathered:
    """All cases of the data, of every split, with what a person should know of them.

    Raises ConfigError where a key names what is not there, TrainingError where the data are malformed.
    """
    data = config.data
    if data.query is not None and data.key_file is not None:
        return read_archive(data.opened, data.query.asked(), data.classes, secret_key(data.key_file), data.train)
    if not data.folder.is_dir():
        raise ConfigError(f"data.folder: the training data are not at {data.folder}; name their folder with --data")
    if data.kind == "nnunet":
        return read_nnunet(
            data.folder,
            data.classes,
            persons=data.persons,
            columns=(data.case_column, data.person_column),
            pattern=data.person_pattern,
            split=data.train,
        )
    columns = (data.case_column, data.person_column, data.split_column)
    values = classes_of(data.merge, data.classes) if data.merge else None
    table = Table(data.table, *columns, data.image, data.reference, data.images, data.tasks, data.leave_out, values)
    return Gathered(read_cases(data.folder, table))


def secret_key(file: Path) -> bytes:
    """The secret that names are made with, made where it is not there. Raises ConfigError where it cannot be read."""
    try:
        if not file.exists():
            _make_key(file)
    except OSError as error:
        raise TrainingError(f"data.key_file {file} cannot be made: {error.strerror}") from None
    try:
        with file.open("rb") as stream:
            return stream.read(_LONGEST_KEY)
    except OSError as error:
        raise ConfigError(f"data.key_file {file} cannot be read: {error.strerror}") from None


def _make_key(file: Path) -> None:
    """Whole or not at all, readable by its owner alone; one that another process makes meanwhile stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(32))
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            file.hardlink_to(made)
    finally:
        made.unlink()


def image_names(config: TrainingConfig) -> tuple[str, ...]:
    """The images of a case, in the order of the net's channels. Raises TrainingError as `gathered` does."""
    if config.data.kind == "nnunet":
        return described(config.data.folder).channels
    return tuple(config.data.images) or (SINGLE,)


def channels(config: TrainingConfig) -> int:
    """How many images a case has: the channels that the net sees. Raises TrainingError as `gathered` does."""
    return len(image_names(config))


@dataclass(frozen=True)
class Division:
    """The cases of a training, all of the training split, no person on both sides.

    learning  to learn from
    judging   to choose the weights by
    notes     what a person should know of the data
    """

    learning: tuple[Case, ...]
    judging: tuple[Case, ...]
    notes: tuple[str, ...]


def division(config: TrainingConfig) -> Division:
    """How a training file divides its data.

    Raises what `gathered` does, and TrainingError where the file of folds does not divide the cases by person.
    """
    data, found = config.data, gathered(config)
    cases = [case for case in found.cases if case.split == data.train]
    if data.fold is None:
        return Division(*held_out(cases, data.validation_share, config.seed), tuple(found.notes))
    assert data.split_file is not None, "read_config names the file"
    every = read_folds(data.split_file)
    if data.fold >= len(every):
        raise ConfigError(f"data.fold is {data.fold}; {data.split_file} holds the folds 0 to {len(every) - 1}")
    return Division(*in_fold(cases, every[data.fold], f"{data.split_file}: fold {data.fold}"), tuple(found.notes))


def divided(config: TrainingConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(cases to learn from, cases to choose the weights by), as `division` tells them, and raising what it raises."""
    made = division(config)
    return made.learning, made.judging
