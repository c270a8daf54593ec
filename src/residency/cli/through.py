"""`residency train FOLDER`: a plan carried out, from training to package."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from residency.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from residency.train.config import TrainingConfig
    from residency.train.through import Through


def train_plan(folder: Path, data: Path | None, answers: Path | None, *, fresh: bool, as_json: bool) -> None:
    """Train, validate, export, card, package; what was done before is not done again."""
    from rich.console import Console

    from residency.cli.train import settled
    from residency.train.through import PLAN_TRAINING, RUN

    file = folder / PLAN_TRAINING
    if not file.is_file():
        raise UsageError(f"{folder} holds no {PLAN_TRAINING}; make a plan: residency plan DATA --out {folder}")
    config, run = settled(file, data, folder / RUN)
    if len(config.data.tasks) > 1:
        raise UsageError(
            f"{file} has several columns of classes, which are judged one at a time: residency train {file}"
        )
    given = _answers(answers)
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    trained = _train(config, run, console, fresh)
    judged = _validate(config, run, folder, console)
    exported = _export(config, run, folder, console)
    ended = _package(config, folder, given, console)
    if as_json:
        told = {"training": trained, "validation": judged, "graph": exported, "package": _plain(ended)}
        typer.echo(json.dumps(told, indent=1))
    elif ended.still_needed:
        _say_what_is_needed(folder, ended, console)
    else:
        console.print(f"Next: residency models publish {ended.folder} --key YOUR.key", markup=False)


def _answers(file: Path | None) -> dict[str, Any]:
    """What a person says of the card; read before anything that takes long."""
    if file is None:
        return {}
    from residency.train.importing.draft import read_given

    return read_given(file)


def _train(config: TrainingConfig, run: Path, console: Console, fresh: bool) -> dict[str, Any]:
    from residency.cli.train import trained

    console.print("[bold]1  Train[/bold]")
    outcome = trained(config, run, console, fresh=fresh)
    if not outcome.finished:
        console.print(f"Stopped after step {outcome.step} of {config.schedule.steps}. To go on, say it again.")
        raise typer.Exit(130)
    console.print(f"  {outcome.step} steps, best {outcome.best:.4f} after step {outcome.best_at}", markup=False)
    return {"steps": outcome.step, "best": outcome.best, "best_at": outcome.best_at, "seconds": outcome.seconds}


def _validate(config: TrainingConfig, run: Path, folder: Path, console: Console) -> dict[str, Any]:
    from residency.cli.train import stop_on_interrupt
    from residency.cli.validate import as_data, judging, told
    from residency.train.through import VALIDATION
    from residency.train.validation import validate

    console.print("[bold]2  Judge it on the persons held out[/bold]")
    with stop_on_interrupt() as stopped, judging(console) as show:
        found = validate(config, run, folder / VALIDATION, show, stopped)
    if not found.finished:
        console.print(f"Stopped after {found.done} of {found.of} cases. To go on, say it again.")
        raise typer.Exit(130)
    told(console, found)
    return dict(as_data(found))


def _export(config: TrainingConfig, run: Path, folder: Path, console: Console) -> dict[str, Any]:
    from residency.cli.train import working
    from residency.train.run import GRAPH, export_run
    from residency.train.through import PACKAGE, forget_golden, is_exported

    console.print("[bold]3  Write the graph[/bold]")
    file = folder / PACKAGE / GRAPH
    if is_exported(config, folder):
        console.print(f"  {file} was written before", markup=False)
        return {"file": str(file), "parities": []}
    with working(console) as tell:
        made = export_run(config, run, folder / PACKAGE, tell)
    forget_golden(folder)
    for parity in made.parities:
        console.print(f"  parity holds: {parity}", markup=False)
    return {"file": str(file), "sha256": made.digest, "parities": [str(one) for one in made.parities]}


def _package(config: TrainingConfig, folder: Path, given: dict[str, Any], console: Console) -> Through:
    from residency.models import build, write_folder
    from residency.train.card_draft import draft, write_card, write_licence
    from residency.train.phantom import write_golden
    from residency.train.through import PACKAGE, PLAN, VALIDATION, Through, bring_evaluation, fingerprint_of

    console.print("[bold]4  Card and package[/bold]")
    place = folder / PACKAGE
    bring_evaluation(folder)
    known = draft(config, fingerprint_of(folder), folder / VALIDATION, dt.datetime.now(dt.UTC))
    needed = write_card(place, known, given, f"The card of {config.name}, as far as it is known")
    if needed:
        return Through(place, needed, None)
    write_licence(place, config)
    if not (place / "golden-input.nii.gz").exists():
        from residency.assemble import open_engine
        from residency.settings import read_settings

        for note in write_golden(place, open_engine(read_settings().settings), folder / PLAN):
            console.print(f"  {note}", markup=False)
    package = build(place)
    write_folder(place, package)
    console.print(f"  {package.card.identity.name} {package.card.identity.version}: {package.digest}", markup=False)
    return Through(place, (), package.digest)


def _say_what_is_needed(folder: Path, ended: Through, console: Console) -> None:
    console.print("  Only you know the rest. Still needed:", markup=False)
    for line in ended.still_needed:
        console.print(f"    {line}", markup=False)
    console.print(
        f"  Fill them in in {ended.folder / 'card.yaml'}, or say them in a file of the same form with --answers; then: "
        f"residency train {folder}",
        markup=False,
    )


def _plain(ended: Through) -> dict[str, Any]:
    return {
        "folder": str(ended.folder),
        "card_complete": not ended.still_needed,
        "still_needed": list(ended.still_needed),
        "digest": ended.digest,
    }
