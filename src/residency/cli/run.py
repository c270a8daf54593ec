"""`residency run`: choose the model that fits a study, run it, and store the results, each with the reason."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from residency.archive import Archive
    from residency.pipeline import Outcome, Reading, Watch

_EXIT = {"none": 3, "ambiguous": 4, "untrusted": 5, "unsupported": 6}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    study: str = typer.Argument(
        metavar="STUDY_UID|FOLDER", help="A study in the archive, or a folder of DICOM files read where it lies."
    ),
    archive: str | None = typer.Option(
        None, help="Path or URL of the archive that holds the models and takes results."
    ),
    model: str | None = typer.Option(None, help="Consider only this model: family, name, or digest."),
    disease: list[str] = typer.Option([], "--for", metavar="CODE", help="What is looked for, such as SCT:26929004."),
    explain: bool = typer.Option(False, help="Print every gate of every series and model."),
    dry_run: bool = typer.Option(False, help="Choose and explain; compute and store nothing."),
    allow_unapproved: bool = typer.Option(
        False, help="Research: take models that nobody at this site approved. The result says so."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Choose the model that fits each series of a study, run it, and store Segmentation and report in the archive.

    Exit status: 0 with at least one result and nothing failed; 3 no model fits; 4 ambiguous; 5 untrusted;
    6 unsupported; 10 images that cannot be read exactly; 12 a model that cannot be used; 13 the archive; 14 the engine;
    2 wrong usage.
    """
    from residency.assemble import open_archive, open_house, open_loose_files
    from residency.codes import parse_code
    from residency.errors import UsageError
    from residency.pipeline import read_study
    from residency.selection import Policy
    from residency.settings import read_settings

    settings = read_settings().settings
    policy = Policy(
        allow_unapproved=allow_unapproved,
        allow_research=settings.allow_research,
        diseases=tuple(parse_code(text) for text in disease),
        model=model,
        preferred=settings.preferred,
    )
    folder = Path(study)
    loose = open_loose_files(folder) if folder.is_dir() else None
    if loose is None and not study.replace(".", "").isdigit():
        raise UsageError(f"{study} is neither a folder nor a Study Instance UID; see 'residency archive ls'")
    with _closing(open_archive(archive, settings, create=False)) as place:
        images = loose or place
        house = open_house(settings, images=images, models=place)
        studies = _studies(images) if loose else [study]
        with progress_bar(shown=not as_json) as watch:
            readings = [read_study(uid, house, policy, dry=dry_run, watch=watch) for uid in studies]
    _print(readings, explain=explain, as_json=as_json)
    raise typer.Exit(exit_status([outcome for reading in readings for outcome in reading.outcomes]))


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 if a model was chosen somewhere and nothing failed; else what stopped the series that got furthest."""
    failed = [outcome.error.exit_status for outcome in outcomes if outcome.error]
    if failed:
        return failed[0]
    endings = {outcome.ending.value for outcome in outcomes}
    if not endings or endings - _EXIT.keys():
        return 0
    return next(_EXIT[e] for e in ("ambiguous", "untrusted", "unsupported", "none") if e in endings)


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """One outcome as JSON says it."""
    findings = outcome.findings
    return {
        "series": outcome.series_uid,
        "name": outcome.name,
        "ending": outcome.ending.value,
        "reasons": list(outcome.reasons),
        "model": outcome.model,
        "digest": outcome.digest,
        "stored": dict(outcome.stored),
        "measurements": [
            {
                "segment": next((s.label for s in findings.segments if s.number == m.segment), None),
                "quantity": m.quantity.meaning,
                "value": m.value,
                "unit": m.unit.value,
            }
            for m in findings.measurements
        ]
        if findings
        else [],
    }


def show_outcome(outcome: Outcome) -> None:
    """One outcome as people read it."""
    typer.echo(f"{outcome.name}: {outcome.ending.value}" + (f" by {outcome.model}" if outcome.model else ""))
    for reason in outcome.reasons[: None if outcome.ending.value not in _EXIT else 3]:
        typer.echo(f"    {reason}")
    if outcome.findings:
        for segment in outcome.findings.segments:
            values = ", ".join(
                f"{m.value:.2f} {m.unit.value}"
                for m in outcome.findings.of_segment(segment.number)
                if m.unit.value != "mm3"
            )
            typer.echo(f"    {segment.label}: {values}")
        typer.echo(f"    {outcome.findings.model.notice}")
    for role, uid in outcome.stored.items():
        typer.echo(f"    {role.upper()} {uid}")


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Watch | None]:
    """A bar on standard error while the walk goes on; cleared when it ends."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("choose", total=None)

        def watch(_series_uid: str, step: str, done: int, total: int) -> None:
            bars.update(task, description=step, completed=done, total=total)

        yield watch


@contextmanager
def _closing(archive: Archive) -> Iterator[Archive]:
    try:
        yield archive
    finally:
        archive.close()


def _studies(images: Archive) -> list[str]:
    from residency.archive import Level, Query

    return sorted({row.study_uid for row in images.find(Level.STUDY, Query())})


def _print(readings: Sequence[Reading], *, explain: bool, as_json: bool) -> None:
    from residency.cli.table import selection_dict, show_selection

    if as_json:
        answer = [
            {
                "outcomes": [outcome_dict(o) for o in reading.outcomes],
                **({"considered": selection_dict(reading.selection)} if explain else {}),
            }
            for reading in readings
        ]
        typer.echo(json.dumps(answer, indent=1))
        return
    for reading in readings:
        if explain:
            show_selection(reading.selection)
        for outcome in reading.outcomes:
            show_outcome(outcome)
