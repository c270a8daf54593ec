"""A training judged: the chosen weights, or the package made of them, on persons that were not learnt from.

`validate` is the whole of it. Each case's figures are kept under a hash of what determines them, so that a validation
that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from residency.datasets import Case, digest
from residency.datasets.table import read_rows
from residency.errors import TrainingError, UsageError
from residency.train.config import TrainingConfig
from residency.train.evidence.answerer import Answerer, of_package, of_run
from residency.train.evidence.figures import score
from residency.train.evidence.found import Evidence, found_in
from residency.train.evidence.rows import TOLERANCE_MM, Row, is_whole, judged, row_from
from residency.train.evidence.trained import Trained
from residency.train.evidence.written import CASES, write_evidence
from residency.train.loop import workers
from residency.train.sources import divided, gathered
from residency.train.task import Judged, judged_of
from residency.train.written import check_writable, write_whole

_FORM = "residency-judged-1"
"""Part of the name under which a case's figures are kept; another where the figures have another meaning."""

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, AttributeError)
"""What reading a row raises where the file is damaged."""


@dataclass(frozen=True)
class Asked:
    """What is judged, and how.

    split    a split of the data by name; None: the persons held out of training
    package  folder of a package to judge instead of the run's weights
    task     of several columns of classes the one to judge
    by       columns of the table of cases to divide by; (): all that can divide them
    against  run folder, or folder of a validation, to compare with
    """

    split: str | None = None
    package: Path | None = None
    task: str | None = None
    by: tuple[str, ...] = ()
    against: Path | None = None


@dataclass(frozen=True)
class Judging:
    """Progress: cases done, of how many, the last one with its score (mean Dice, or what its class was given)."""

    done: int
    of: int
    case: str
    score: float
    seconds_left: float


@dataclass(frozen=True)
class Validated:
    """What a validation came to.

    finished  False where it was cancelled: nothing but the cases done so far is kept
    folder    holds evaluation.json, cases.json, report.html and card.draft.yaml, if finished
    """

    finished: bool
    done: int
    of: int
    folder: Path
    evidence: Evidence | None = None


def validate(
    config: TrainingConfig,
    run: Path,
    out: Path,
    report: Callable[[Judging], None],
    cancelled: Callable[[], bool],
    asked: Asked = Asked(),
) -> Validated:
    """Judge the chosen weights of a run, or a package, and write the evidence into `out`.

    `cancelled` is asked after each case; True stops, and the same call goes on from there. Raises TrainingError for a
    run that is missing or of another training file, a split that holds persons who were learnt from or lacks
    references, and a folder that cannot be written, UsageError for a split or column that is not there, and
    PackageError and its kin for a package that is not whole.
    """
    of = judged_of(config, asked.task)
    check_writable(out)
    learning, judging = divided(config)
    data = digest([*learning, *judging])
    cases = judging if asked.split is None else in_split(config, asked.split, (*learning, *judging))
    cases, left_out = with_class(cases, of)
    columns = columns_of(config)
    _check_columns(asked.by, {key for case in cases for key in columns.get(case.name, {})})
    against = None if asked.against is None else rows_in(asked.against, out.name, of.classes)
    answerer = of_run(config, run, judging, data) if asked.package is None else of_package(config, asked.package)
    rows = judge_cases(answerer, cases, of, out / "cases", report, cancelled)
    if len(rows) < len(cases):
        return Validated(False, len(rows), len(cases), out)
    rows = tuple(replace(row, columns=columns.get(row.case, {})) for row in rows)
    evidence = found_in(
        rows,
        of.classes,
        config.seed,
        asked.by,
        against,
        title=f"{config.name}: how good it is",
        judged=answerer.told,
        cohort=_cohort(config, asked) + by_column(of, left_out),
        caution=_caution(config, asked, answerer, data),
        against_what="" if asked.against is None else str(asked.against),
    )
    trained = [Trained(run, config, learning, judging, answerer.outcome)] if answerer.outcome is not None else []
    judged = {case.name: (case, answerer) for case in cases}
    written = write_evidence(config, evidence, judged, out, cancelled, trained)
    return Validated(written is not None, len(rows), len(cases), out, written)


def with_class(cases: Sequence[Case], of: Judged) -> tuple[tuple[Case, ...], int]:
    """(those whose class is known, how many are left out) of several columns of classes: such a cell may be empty.

    Raises UsageError where it is known of none.
    """
    if of.told is None:
        return tuple(cases), 0
    found = tuple(case for case in cases if of.column in case.labels)
    if not found:
        raise UsageError(f"--task {of.column}: none of the {len(cases)} cases to judge has a class in that column")
    return found, len(cases) - len(found)


def _check_columns(by: Sequence[str], known: Collection[str]) -> None:
    """Before the first case is judged, which takes long."""
    for column in by:
        if column not in known:
            near = get_close_matches(column, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"its columns: {', '.join(sorted(known)) or 'none'}"
            raise UsageError(f"--by {column}: the table of cases has no such column; {hint}")


def in_split(config: TrainingConfig, split: str, known: Sequence[Case]) -> tuple[Case, ...]:
    """The cases of a split that training never saw. Raises TrainingError where that cannot be said of
    it, UsageError where there are none, or all were learnt from.

    known  the cases that were learnt from, and those that chose the weights
    """
    if split == config.data.train:
        raise UsageError(
            f"split '{split}' was learnt from; name another, or leave --split out for the persons held out of it"
        )
    every = gathered(config).cases
    cases = tuple(case for case in every if case.split == split)
    if not cases:
        raise UsageError(f"no case is of split '{split}'; the data have: {', '.join(sorted({c.split for c in every}))}")
    seen = {case.person for case in known}
    both = sorted(case.name for case in cases if case.person in seen)
    if both:
        raise TrainingError(
            f"{len(both)} cases of split '{split}' are of persons that training saw, the first is '{both[0]}': figures "
            "of these would flatter; divide the data by person"
        )
    return cases


def judge_cases(
    answerer: Answerer,
    cases: Sequence[Case],
    of: Judged,
    kept: Path,
    report: Callable[[Judging], None],
    cancelled: Callable[[], bool],
) -> tuple[Row, ...]:
    """The rows of the cases in their order; fewer where it was cancelled. `kept` is the folder of those done before."""
    found: dict[str, Row] = {}
    started = time.monotonic()
    with workers(answerer.threads) as pool:
        asked = {pool.submit(_judged_once, case, answerer, of, kept): case.name for case in cases}
        try:
            for done in as_completed(asked):
                row = done.result()
                found[row.case] = row
                left = (time.monotonic() - started) / len(found) * (len(cases) - len(found))
                report(Judging(len(found), len(cases), row.case, score(row), left))
                if cancelled():
                    break
        finally:
            for one in asked:
                one.cancel()
    return tuple(found[case.name] for case in cases if case.name in found)


def _judged_once(case: Case, answerer: Answerer, of: Judged, kept: Path) -> Row:
    """The row of a case, from where it is kept if it is there and whole."""
    meant = [_FORM, answerer.digest, digest([case]), *of.every, str(of.column), str(TOLERANCE_MM)]
    file = kept / f"{hashlib.sha256(json.dumps(meant).encode()).hexdigest()}.json"
    try:
        row = row_from(json.loads(file.read_bytes()))
        if (row.case, row.person) == (case.name, case.person) and is_whole(row, of.classes):
            return row
    except _UNREADABLE:
        pass
    row = judged(case, answerer, of)
    write_whole(file, json.dumps(row.plain(), allow_nan=False).encode())
    return row


def columns_of(config: TrainingConfig) -> Mapping[str, Mapping[str, str]]:
    """case -> column -> what the table of cases says of it, beyond what training reads; empty without a table."""
    data = config.data
    table = {"table": data.table, "nnunet": data.persons}.get(data.kind)
    if table is None:
        return {}
    own = {data.case_column, data.person_column, data.split_column, *data.tasks}
    rows = read_rows(data.folder / table, (data.case_column,))
    return {row[data.case_column]: {key: value for key, value in row.items() if key not in own} for row in rows}


def rows_in(folder: Path, name: str, classes: Sequence[str]) -> tuple[Row, ...]:
    """The rows of an earlier validation: of the folder itself, or of the folder `name` in it.

    Raises TrainingError where there is none, it is damaged, or it judged other classes.
    """
    for place in (folder / CASES, folder / name / CASES):
        if place.is_file():
            try:
                told = json.loads(place.read_bytes())
                rows, of = tuple(map(row_from, told["cases"])), list(told["classes"])
            except _UNREADABLE:
                raise TrainingError(f"{place} is damaged; validate that run again") from None
            if of != list(classes):
                raise TrainingError("--against judged other classes; a comparison needs the same ones on both sides")
            if not all(is_whole(row, classes) for row in rows):
                raise TrainingError(f"{place} is damaged; validate that run again")
            return rows
    raise TrainingError(f"{folder} holds no {CASES}, nor does {folder / name}: validate that run first")


def _cohort(config: TrainingConfig, asked: Asked) -> str:
    whose = f"split '{asked.split}'" if asked.split is not None else f"persons held out of split '{config.data.train}'"
    return f"{config.data.name}, {whose}"


def by_column(of: Judged, left_out: int) -> str:
    """Of a cohort: by which of several columns it was judged, and how many cases have no class there."""
    if of.told is None:
        return ""
    return f", by column '{of.told}'" + (f"; {left_out} cases without a class there are left out" if left_out else "")


def _caution(config: TrainingConfig, asked: Asked, answerer: Answerer, data: str) -> str:
    """What is known of whether the judged persons were learnt from. A package may be of another training.

    data  digest of all cases of the training file's training split: with them, its persons are in no other split
    """
    if asked.package is not None:
        training = answerer.contract.training
        same_data = f"sha256:{data}" in [one.digest for one in training.datasets]
        if not same_data or (asked.split is None and training.config_digest != f"sha256:{config.digest()}"):
            return (
                "Whether the package learnt from these persons cannot be known here: its card names another training "
                "file, or other data"
            )
    if asked.split is None:
        return "These persons chose the weights, so the figures flatter a little"
    return "Training and choosing never read it; to report, not to choose by"
