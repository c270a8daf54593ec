"""Cross-validation: every person is judged by a network that did not learn from them.

The folds are made once and kept beside the runs, in the form of nnU-Net's `splits_final.json`. Each fold is an ordinary
run in a folder of its own, so that what was stopped goes on where it was, fold by fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from residency.datasets import Case, digest, folds, persons, read_folds, read_images, strata_of, write_folds
from residency.datasets.case import read_reference
from residency.errors import ConfigError, TrainingError, UsageError
from residency.train.config import TrainingConfig
from residency.train.data_part import SPLITS, DataPart
from residency.train.evidence.answerer import Answerer, of_run
from residency.train.evidence.found import Evidence, found_in
from residency.train.evidence.rows import Row
from residency.train.evidence.trained import Trained
from residency.train.evidence.written import write_evidence
from residency.train.progress import Progress
from residency.train.run import run_training
from residency.train.sources import divided, gathered
from residency.train.state import Outcome, State
from residency.train.task import judged_of, task_of
from residency.train.validation import Judging, by_column, columns_of, judge_cases, with_class
from residency.train.written import check_writable, written_to

FOLDS = 5
"""As many as where nobody says."""

_CAUTION = "Each person helped to choose the weights of the network judged, so the figures flatter a little"
_POOLED = "; areas under curves rank the probabilities of several networks together, those of each fold stand apart"
"""An area of all folds together is lower where the networks differ in scale (Forman and Scholz, SIGKDD Explorations
12:49, 2010)."""


@dataclass(frozen=True)
class Shown:
    """Whom to tell of progress, fold by fold."""

    training: Callable[[int, Progress], None]
    judging: Callable[[int, Judging], None]


@dataclass(frozen=True)
class Crossed:
    """What a cross-validation came to; `done` folds are finished, and all of them where there is evidence."""

    done: int
    of: int
    folder: Path
    evidence: Evidence | None = None


def cross_validate(  # noqa: PLR0913 -- what is carried out, and by what it is divided and judged
    config: TrainingConfig,
    folder: Path,
    show: Shown,
    cancelled: Callable[[], bool],
    *,
    count: int | None = None,
    stratify: str | None = None,
    task: str | None = None,
    into: str = "validation",
) -> Crossed:
    """Train a network on each fold, judge it on the fold's own persons, and write the evidence of all persons together.

    folder    holds the file of folds, a run for each (`fold-0` ...), and the evidence in `into`
    count     how many folds; None: as many as the file has, or `FOLDS`
    stratify  column of the table whose values are spread evenly over the folds, beside structures and classes
    task      of several columns of classes the one to judge
    into      name of the folder of the evidence

    Raises TrainingError and UsageError as `folds_of`, training and validation do.
    """
    of = judged_of(config, task)
    check_writable(folder)
    made = folds_of(config, folder, count, stratify)
    data = digest([case for case in gathered(config).cases if case.split == config.data.train])
    rows: list[Row] = []
    judged: dict[str, tuple[Case, Answerer]] = {}
    trained = []
    left_out, columns = 0, columns_of(config)
    for k, one in enumerate(made):
        with _told(k):
            run = folder / f"fold-{k}"
            learning, judging = divided(one)
            outcome = finished(one, run, data) or run_training(one, run, partial(show.training, k), cancelled)
            if not outcome.finished:
                return Crossed(k, len(made), folder)
            answerer = of_run(one, run, judging, data)
            asked, without = with_class(judging, of)
            left_out += without
            found = judge_cases(answerer, asked, of, folder / "cases", partial(show.judging, k), cancelled)
            if len(found) < len(asked):
                return Crossed(k, len(made), folder)
            rows += [replace(row, columns={**columns.get(row.case, {}), "fold": str(k)}) for row in found]
            judged |= {case.name: (case, answerer) for case in asked}
            trained.append(Trained(run, one, learning, judging, outcome))
    evidence = found_in(
        sorted(rows, key=lambda row: row.case),
        of.classes,
        config.seed,
        title=f"{config.name}: cross-validated",
        judged=f"{len(made)} networks of '{config.name}', each on the persons that it did not learn from",
        cohort=f"{config.data.name}, all persons of split '{config.data.train}' in {len(made)} folds"
        + by_column(of, left_out),
        caution=_CAUTION + (_POOLED if task_of(config) == "classification" else ""),
    )
    written = write_evidence(config, evidence, judged, folder / into, cancelled, trained)
    return Crossed(len(made), len(made), folder, written)


@contextmanager
def _told(fold: int) -> Iterator[None]:
    """Errors name the fold."""
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"fold {fold}: {error}") from None


def folds_of(
    config: TrainingConfig, folder: Path, count: int | None = None, stratify: str | None = None
) -> tuple[TrainingConfig, ...]:
    """The training file of each fold. The file of folds is made where it is not there.

    Raises TrainingError where it divides other cases or holds a case out twice or never, UsageError where it divides
    into another number, ConfigError where the training file names a fold.
    """
    if config.data.fold is not None:
        raise ConfigError("data.fold in the training file is one fold; leave it out, and data.split_file with it")
    file = folder / SPLITS
    cases = [case for case in gathered(config).cases if case.split == config.data.train]
    if file.exists():
        made = read_folds(file)
        if count not in (None, len(made)):
            raise UsageError(f"{file} holds {len(made)} folds, not {count}; name another folder with --run")
        times = Counter(name for fold in made for name in fold.val)
        for case in cases:
            if times[case.name] != 1:
                raise TrainingError(
                    f"{file}: case '{case.name}' is held out {times[case.name]} times; for each person to be judged "
                    "once, each case is held out in one fold"
                )
    else:
        made = folds(cases, count or FOLDS, config.seed, strata(config, cases, stratify))
        with written_to(file):
            write_folds(made, file)
    return tuple(of_fold(config, file, k) for k in range(len(made)))


def of_fold(config: TrainingConfig, file: Path, fold: int) -> TrainingConfig:
    """The training file with one fold of a file in place of `validation_share`. Raises ConfigError as it does."""
    usual = DataPart.model_fields["validation_share"].default
    taken = {"fold": fold, "split_file": file.resolve(), "split_sha256": None, "validation_share": usual}
    data = config.data.model_copy(update=taken).placed(file.resolve().parent)
    return config.model_copy(update={"data": data})


def strata(config: TrainingConfig, cases: Sequence[Case], column: str | None) -> dict[str, str]:
    """Kind of each person: classes, or structures and their size, and what a column of the table says.

    Raises UsageError for a column that is not there.
    """
    classifies = task_of(config) == "classification"
    kinds = strata_of(cases, None if classifies else {case.name: _volumes(case, config) for case in cases})
    if column is None:
        return kinds
    columns = columns_of(config)
    known = sorted({key for told in columns.values() for key in told})
    if column not in known:
        raise UsageError(f"--stratify {column}: the table has no such column; it has: {', '.join(known) or 'none'}")
    said: dict[str, set[str]] = {person: set() for person in persons(cases)}
    for case in cases:
        said[case.person].add(columns.get(case.name, {}).get(column, ""))
    return {person: f"{' '.join(sorted(said[person]))} {kind}" for person, kind in kinds.items()}


def finished(config: TrainingConfig, run: Path, data: str) -> Outcome | None:
    """How a run ended; None where it has not. Raises TrainingError for one of another training file or other data.

    data  digest of all cases of the training
    """
    file = run / "checkpoint.pt"
    outcome = State.resumed(file, config, data).outcome(config.schedule) if file.exists() else None
    return outcome if outcome is not None and outcome.finished else None


def _volumes(case: Case, config: TrainingConfig) -> list[float]:
    """mm3 of each foreground class."""
    grid = next(iter(read_images(case).values())).grid
    labels = read_reference(case, grid, len(config.data.classes))
    sizes = np.bincount(labels.ravel(), minlength=len(config.data.classes))
    return [float(size) * grid.voxel_mm3 for size in sizes[1:]]
