"""The cases that a training file means, and how they are divided; no torch."""

from __future__ import annotations

from residency.datasets import Case, Gathered, Table, held_out, in_fold, read_cases, read_folds
from residency.datasets.nnunet import read_nnunet
from residency.errors import TrainingError
from residency.train.config import TrainingConfig


def gathered(config: TrainingConfig) -> Gathered:
    """All cases of the data, of every split, with what a person should know of them.

    Raises TrainingError where the data are missing or malformed.
    """
    data = config.data
    if not data.folder.is_dir():
        raise TrainingError(f"the training data are not at {data.folder}; name their folder with --data")
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
    table = Table(data.table, *columns, data.image, data.reference, data.images, data.tasks)
    return Gathered(read_cases(data.folder, table))


def divided(config: TrainingConfig) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(cases to learn from, cases to choose the weights by), both of the training split, no person in both.

    Raises TrainingError where the data are missing or malformed, or the file of folds does not divide them by person.
    """
    data = config.data
    cases = [case for case in gathered(config).cases if case.split == data.train]
    if data.fold is None:
        return held_out(cases, data.validation_share, config.seed)
    assert data.split_file is not None, "read_config names the file"
    every = read_folds(data.split_file)
    if data.fold >= len(every):
        raise TrainingError(f"data.fold is {data.fold}; {data.split_file} holds the folds 0 to {len(every) - 1}")
    return in_fold(cases, every[data.fold], f"{data.split_file}: fold {data.fold}")
