"""`residency validate` and `cross-validate`: how good a training is on persons that it did not learn from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from residency.cli.library import JsonOption
from residency.cli.train import ConfigFile, DataFolder, RunFolder, of_folds, settled, stop_on_interrupt
from residency.errors import UsageError

if TYPE_CHECKING:
    from residency.train.progress import Progress as Step
    from residency.train.validation import Judging, Validated


TaskColumn = Annotated[
    str | None, typer.Option("--task", help="Of several columns of classes (data.tasks) the one to judge.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("validate")(validate)
    app.command("cross-validate")(cross_validate)


def validate(
    config_file: ConfigFile,
    data: DataFolder = None,
    run: RunFolder = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="A split of the data to report on, never to choose by.  [default: who was held out]"
        ),
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option("--package", help="Judge the package in this folder, as it ships, instead of the run."),
    ] = None,
    task: TaskColumn = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Column of the table to divide the cases by; may be said several times."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Run, or folder of a validation, to compare with case by case.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write to.  [default: validation[-package][-SPLIT][-by-TASK] in the run folder]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the weights that a training chose, on the grid of the images, and write the evidence.

    Writes report.html (figures with intervals, worst cases, calibration, learning curves), evaluation.json (the figures
    as a card takes them), card.draft.yaml (to fill in) and cases.json. Ctrl-C keeps the cases done so far; the same
    command goes on from there.

    Example: residency validate train.yaml; then, once, at the end: residency validate train.yaml --split test
    """
    config, folder = settled(config_file, data, run)
    from residency.train.task import judged_of
    from residency.train.validation import Asked, validate

    place = out or folder / place_of(split, package, judged_of(config, task).told)
    asked = Asked(split, package, task, tuple(by or ()), against)
    console = Console(stderr=as_json)
    with stop_on_interrupt() as stopped, judging(console) as show:
        found = validate(config, folder, place, show, stopped, asked)
    if not found.finished:
        console.print(f"Stopped after {found.done} of {found.of} cases. To go on, say it again.")
        raise typer.Exit(130)
    if as_json:
        typer.echo(json.dumps(as_data(found), indent=1))
    else:
        told(console, found)


def place_of(split: str | None, package: Path | None, task: str | None = None) -> str:
    """Name of the folder for a validation; those of run, package, splits and tasks lie side by side."""
    name = "-".join(["validation", *(["package"] if package else []), *([split] if split is not None else [])])
    if not re.fullmatch(r"[\w-]{1,200}", name):
        raise UsageError(f"--split {split!r} makes no name of a folder; name one with --out")
    return name if task is None else f"{name}-by-{re.sub(r'[^a-zA-Z0-9_-]+', '-', task)[:40]}"


def cross_validate(
    config_file: ConfigFile,
    data: DataFolder = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of all folds.  [default: runs/NAME-folds of the training file]")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", min=2, help="How many.  [default: 5, or those of the folder]", show_default=False),
    ] = None,
    stratify: Annotated[
        str | None, typer.Option("--stratify", help="Column of the table to spread evenly, such as site.")
    ] = None,
    task: TaskColumn = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on each fold, and judge every person by the one that did not learn from them.

    Persons stay together; structures and their sizes, or classes, are spread evenly. The folds are made once and kept
    (splits_final.json, as nnU-Net writes it; your own may lie there before). Ctrl-C keeps everything; the same command
    goes on, and trains only what is missing.

    Example: residency cross-validate train.yaml --stratify site; then: residency export-graph train.yaml --folds
    """
    config, single = settled(config_file, data, run)
    folder = run or of_folds(single)
    from residency.train.crossing import Shown, cross_validate
    from residency.train.task import judged_of
    from residency.train.validation import Validated

    console, into = Console(stderr=as_json), place_of(None, None, judged_of(config, task).told)
    with stop_on_interrupt() as stopped, _bar(console) as bar:
        shown = _Folds(bar, config.schedule.steps)
        told_to = Shown(shown.training, shown.judging)
        made = cross_validate(config, folder, told_to, stopped, count=folds, stratify=stratify, task=task, into=into)
    if made.evidence is None:
        console.print(f"Stopped; {made.done} of {made.of} folds are finished. To go on, say it again.")
        raise typer.Exit(130)
    found = Validated(True, len(made.evidence.rows), len(made.evidence.rows), folder / into, made.evidence)
    if as_json:
        typer.echo(json.dumps(as_data(found), indent=1))
    else:
        told(console, found)
        where = f" --run {folder}" if run is not None else ""
        next_one = f"residency export-graph {config_file} --folds{where}"
        console.print(f"All folds as one network: {next_one}", soft_wrap=True, markup=False)


@contextmanager
def judging(console: Console) -> Iterator[Callable[[Judging], None]]:
    """A bar with the time left on a terminal; elsewhere nothing until the end."""
    with _bar(console) as bar:
        task = bar.add_task("judging", total=None, left="")
        yield lambda done: _judged(bar, task, done, "")


class _Folds:
    """Progress of a cross-validation: a bar for each fold and what is done in it; figures as lines."""

    def __init__(self, bar: Progress, steps: int) -> None:
        self._bar, self._steps = bar, steps
        self._tasks: dict[tuple[str, int], TaskID] = {}

    def training(self, fold: int, done: Step) -> None:
        said = f"fold {fold}: loss {done.loss:.3f}"
        self._bar.update(
            self._task("training", fold),
            total=self._steps,
            completed=done.step,
            description=said,
            left=_left(done.seconds_left),
        )
        if done.figure is not None:
            best = ", the best so far" if done.best else ""
            self._bar.console.print(f"fold {fold}, step {done.step}: {done.figure:.4f} on the persons held out{best}")

    def judging(self, fold: int, done: Judging) -> None:
        _judged(self._bar, self._task("judging", fold), done, f"fold {fold}: ")

    def _task(self, what: str, fold: int) -> TaskID:
        if (what, fold) not in self._tasks:
            self._tasks[what, fold] = self._bar.add_task(f"fold {fold}", total=None, left="")
        return self._tasks[what, fold]


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal)


def _judged(bar: Progress, task: TaskID, done: Judging, where: str) -> None:
    said = f"{where}{done.case} {done.score:.3f}"
    bar.update(task, total=done.of, completed=done.done, description=said, left=_left(done.seconds_left))


def _left(seconds: float) -> str:
    return f"{seconds / 60:.0f} min left" if seconds >= 60 else f"{seconds:.0f} s left"


def told(console: Console, found: Validated) -> None:
    """The headline, the other figures, the worst case and where everything lies."""
    evidence = found.evidence
    assert evidence is not None
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    if (best := evidence.headline) is not None:
        sure = f"95 % interval {best.low:.4f} to {best.high:.4f}" if best.persons > 1 else "one person, no interval"
        say(
            f"{evidence.headline_name} {best.mean:.4f} ({sure}) on {best.cases} cases of {best.persons} persons: "
            f"{evidence.cohort}"
        )
    else:
        say(f"Nothing to judge: no case has any of the structures, and none was found: {evidence.cohort}")
    for one in evidence.figures:
        missed = f"; {one.interval.infinite} missed or invented" if one.interval.infinite else ""
        unit = one.unit(evidence.rows[0].unit)
        name = f"{one.name}, {unit}" if unit else one.name
        say(f"  {name:<32}{one.interval.mean:8.4f}  {one.interval.low:8.4f} to {one.interval.high:8.4f}{missed}")
    say(f"{evidence.caution}.")
    say(f"Evidence in {found.folder}: report.html, evaluation.json, cases.json")


def as_data(found: Validated) -> dict[str, object]:
    """Plain values for --json."""
    from residency.train.evidence.found import evaluations

    evidence = found.evidence
    assert evidence is not None
    return {
        "folder": str(found.folder),
        "judged": evidence.judged,
        "cohort": evidence.cohort,
        "caution": evidence.caution,
        "worst": [row.case for row in evidence.worst[:10]],
        "evaluation": [one.model_dump(mode="json") for one in evaluations(evidence)],
    }
