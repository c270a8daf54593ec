"""`residency validate`: how good a training, or the package made of it, is on persons that it did not learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from residency.cli.library import JsonOption
from residency.cli.train import ConfigFile, DataFolder, RunFolder, settled, stop_on_interrupt

if TYPE_CHECKING:
    from residency.train.validation import Judging, Validated


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command("validate")(validate)


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
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Column of the table to divide the cases by; may be said several times."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Run, or folder of a validation, to compare with case by case.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to.  [default: validation[-SPLIT] in the run folder]")
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
    from residency.train.validation import Asked, validate

    place = out or folder / ("validation" if split is None else f"validation-{split}")
    asked = Asked(split, package, tuple(by or ()), against)
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


@contextmanager
def judging(console: Console) -> Iterator[Callable[[Judging], None]]:
    """A bar with the time left on a terminal; elsewhere nothing until the end."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("judging", total=None, left="")

        def show(done: Judging) -> None:
            left = (
                f"{done.seconds_left / 60:.0f} min left"
                if done.seconds_left >= 60
                else f"{done.seconds_left:.0f} s left"
            )
            bar.update(task, total=done.of, completed=done.done, description=f"{done.case} {done.score:.3f}", left=left)

        yield show


def told(console: Console, found: Validated) -> None:
    """The headline, the other figures, the worst case and where everything lies."""
    evidence = found.evidence
    assert evidence is not None
    if (best := evidence.headline) is not None:
        console.print(
            f"{evidence.headline_name} {best.mean:.4f} (95 % interval {best.low:.4f} to {best.high:.4f}) on "
            f"{best.cases} cases of {best.persons} persons: {evidence.cohort}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for one in evidence.figures:
        missed = f"; {one.interval.infinite} missed or invented" if one.interval.infinite else ""
        unit = one.unit(evidence.rows[0].unit)
        name = f"{one.name}, {unit}" if unit else one.name
        console.print(
            f"  {name:<32}{one.interval.mean:8.4f}  {one.interval.low:8.4f} to {one.interval.high:8.4f}{missed}",
            highlight=False,
            markup=False,
        )
    console.print(f"{evidence.caution}.", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Evidence in {found.folder}: report.html, evaluation.json, cases.json", soft_wrap=True, markup=False)


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
