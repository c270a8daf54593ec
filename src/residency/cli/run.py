"""`residency run`: choose the model that fits a study, run it, and store the results, each with the reason."""

from __future__ import annotations

import json
import math
import shutil
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from residency.archive import Archive
    from residency.cli.stored import Numbers
    from residency.codes import Code
    from residency.pipeline import Outcome, Reading, Watch
    from residency.selection import CandidateTable

_EXIT = {"none": 3, "ambiguous": 4, "untrusted": 5, "unsupported": 6}
_MOST_CODES = 12
"""How many diseases that models are for are listed, before the rest is counted."""
_MOST_REASONS = 3
"""How many reasons a series shows for which nothing is run, before it counts the rest."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    study: str = typer.Argument(
        metavar="STUDY_UID|FOLDER", help="A study in the archive, or a folder of DICOM files read where it lies."
    ),
    archive: str | None = typer.Option(
        None,
        help="The archive of images, models and results: its name in the settings, a folder, or a URL.  "
        "[default: those of the settings]",
    ),
    model: str | None = typer.Option(None, help="Consider only this model: family, name, or digest."),
    disease: list[str] = typer.Option(
        [],
        "--for",
        metavar="CODE",
        help="What is looked for, any code such as SCT:26929004. Orders the models that fit; leaves none out.",
    ),
    explain: bool = typer.Option(False, help="Print every gate of the chosen model, and what the others miss."),
    dry_run: bool = typer.Option(False, help="Choose and explain; compute and store nothing."),
    allow_unapproved: bool = typer.Option(
        False, help="Research: take models that nobody at this site approved. The result says so."
    ),
    calling_ae: str | None = typer.Option(
        None, metavar="AE", help="Who sent the study, for approvals that are limited to application entities."
    ),
    purpose: str | None = typer.Option(
        None, metavar="TEXT", help="What the result is for, for approvals that are limited to a purpose."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Choose the model that fits each series of a study, run it, and store Segmentation and report in the archive.

    Exit status: 0 with at least one result and nothing failed; 3 no model fits; 4 ambiguous; 5 untrusted;
    6 unsupported; 10 images that cannot be read exactly; 11 a code that is not known; 12 a model that cannot be used;
    13 the archive; 14 the engine; 2 wrong usage.
    """
    from residency.assemble import open_archives, open_house, open_loose_files
    from residency.codes import typed_code
    from residency.errors import UsageError
    from residency.pipeline import read_study
    from residency.selection import Policy
    from residency.settings import read_settings

    settings = read_settings().settings
    policy = Policy(
        allow_unapproved=allow_unapproved,
        allow_research=settings.allow_research,
        diseases=tuple(typed_code(text) for text in disease),
        model=model,
        preferred=settings.preferred,
        ae_title=calling_ae,
        purpose=purpose,
    )
    folder = Path(study)
    loose = open_loose_files(folder) if folder.is_dir() else None
    if folder.is_file():
        raise UsageError(f"{study} is a file: unpack it into a folder, or 'residency archive import' it, zip files too")
    if loose is None and not study.replace(".", "").isdigit():
        raise UsageError(f"{study} is neither a folder nor a Study Instance UID; see 'residency archive ls'")
    with closing(open_archives(archive, settings)) as archives:
        images = loose or archives.images
        house = open_house(
            settings, images=images, models=archives.models, results=archives.results, forms=archives.forms
        )
        _say_unknown(policy.diseases, house.candidates)
        studies = _studies(images) if loose else [study]
        with progress_bar(shown=not as_json) as watch:
            readings = [read_study(uid, house, policy, dry=dry_run, watch=watch) for uid in studies]
        done = [
            [_read_back(outcome, uid, archives.results) for outcome in reading.outcomes]
            for uid, reading in zip(studies, readings, strict=True)
        ]
    if as_json:
        answers = [_as_json(reading, each, explain=explain) for reading, each in zip(readings, done, strict=True)]
        typer.echo(json.dumps(answers, indent=1))
    else:
        for reading, each in zip(readings, done, strict=True):
            _show(reading, each, explain=explain)
    raise typer.Exit(exit_status([outcome for each in done for outcome, _ in each]))


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 if a model was chosen somewhere and nothing failed; else what stopped the series that got furthest."""
    failed = [outcome.error.exit_status for outcome in outcomes if outcome.error]
    if failed:
        return failed[0]
    endings = {outcome.ending.value for outcome in outcomes}
    if not endings or endings - _EXIT.keys():
        return 0
    return next(_EXIT[e] for e in ("ambiguous", "untrusted", "unsupported", "none") if e in endings)


def outcome_dict(outcome: Outcome, numbers: Numbers | None) -> dict[str, Any]:
    """One outcome as JSON says it."""
    return {
        "series": outcome.series_uid,
        "name": outcome.name,
        "ending": outcome.ending.value,
        "reasons": list(outcome.reasons),
        "model": outcome.model,
        "digest": outcome.digest,
        "stored": dict(outcome.stored),
        "notices": list(numbers.notices) if numbers else [],
        "warnings": list(numbers.warnings) if numbers else [],
        "measurements": [
            {"segment": row.label, "side": row.side or "unknown", "quantity": row.quantity}
            | {"value": row.value if math.isfinite(row.value) else None, "unit": row.unit}
            | ({"evaluation": row.evaluation} if row.evaluation else {})
            for row in (numbers.rows if numbers else ())
        ],
    }


def show_outcome(outcome: Outcome, numbers: Numbers | None, explained: Sequence[str] | None = None) -> None:
    """One outcome as people read it. explained: lines that stand for the reasons of the choice."""
    typer.echo(f"{outcome.name}: {outcome.ending.value}" + (f" by {outcome.model}" if outcome.model else ""))
    most = _MOST_REASONS if outcome.ending.value in _EXIT and explained is None else None
    told = outcome.reasons if explained is None else ()
    for reason in told[:most]:
        typer.echo(f"    {reason}")
    if most is not None and len(told) > most:
        typer.echo(f"    and {len(told) - most} more; --explain shows them")
    for line in explained or ():
        typer.echo(line)
    if numbers is not None:
        _show_numbers(numbers)
    pages = sum(role.startswith("sc") for role in outcome.stored)
    for role, uid in outcome.stored.items():
        if not role.startswith("sc-"):
            more = f" and {pages - 1} more pages" if role == "sc" and pages > 1 else ""
            typer.echo(f"    {role.upper()} {uid}{more}")


def _show_numbers(numbers: Numbers) -> None:
    from residency.cli.stored import figure, shown_measurements, subject

    lines: dict[tuple[str, str], list[str]] = {}
    for row in shown_measurements(numbers.rows):
        lines.setdefault((subject(row), row.tracking_uid), []).append(figure(row))
    for (what, _), values in lines.items():
        typer.echo(f"    {what}: {', '.join(values)}")
    for warning in numbers.warnings:
        typer.echo(f"    warning: {warning}")
    for notice in numbers.notices:
        typer.echo(f"    {notice}")


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Watch | None]:
    """A bar on standard error while the walk goes on, if that is a terminal; cleared when it ends."""
    if not shown or not sys.stderr.isatty():
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


def _say_unknown(wanted: Sequence[Code], candidates: CandidateTable) -> None:
    """One line on standard error for each code that no model names, so that it decides nothing between them."""
    from residency.codes import canonical

    known = sorted({code for codes in candidates.diseases for code in codes}, key=str)
    named = ", ".join(map(str, known[:_MOST_CODES])) + (
        f" and {len(known) - _MOST_CODES} more" * (len(known) > _MOST_CODES)
    )
    for code in wanted:
        if canonical(code) not in known:
            typer.echo(
                f"no model here is for {code}; those here are for {named or 'no disease in particular'}", err=True
            )


def _studies(images: Archive) -> list[str]:
    from residency.archive import Level, Query

    return sorted({row.study_uid for row in images.find(Level.STUDY, Query())})


def _read_back(outcome: Outcome, study_uid: str, results: Archive) -> tuple[Outcome, Numbers | None]:
    """What a result says: of the findings, else as it was stored before. One that cannot be read has failed."""
    from residency.cli.stored import numbers_of, read_numbers
    from residency.errors import ArchiveError, InputError, UsageError
    from residency.pipeline import Ending

    if "sr" not in outcome.stored:
        return outcome, None
    try:
        made = outcome.findings
        numbers = numbers_of(made) if made is not None else read_numbers(outcome.stored["sr"], results)
        return outcome, replace(numbers, warnings=(*_rejected(outcome, study_uid, results), *numbers.warnings))
    except (ArchiveError, InputError, UsageError) as error:
        return replace(outcome, ending=Ending.FAILED, error=error, reasons=(str(error), *outcome.reasons)), None


def _rejected(outcome: Outcome, study_uid: str, results: Archive) -> list[str]:
    """Warnings: other results of the same version in the study that somebody rejected."""
    from residency.errors import ArchiveError, InputError
    from residency.recall import rejected_before

    try:
        found = rejected_before(results, study_uid, outcome.digest or "", outcome.stored.values())
    except (ArchiveError, InputError) as error:
        return [f"whether other results of this version in this study were rejected cannot be told: {error}"]
    return [f"{count} other objects of this very version in this study are rejected: {note}" for note, count in found]


def _show(reading: Reading, done: Sequence[tuple[Outcome, Numbers | None]], *, explain: bool) -> None:
    """Every series as people read it; results of ours, which no model reads, are only counted unless asked for."""
    from residency.cli.lines import folded
    from residency.cli.table import explanation

    width = shutil.get_terminal_size().columns
    choices = {choice.series_uid: choice for choice in reading.selection.outcomes}
    own = 0
    for outcome, numbers in done:
        if outcome.own and not explain:
            own += 1
            continue
        lines: list[str] | None = None
        choice = choices.get(outcome.series_uid)
        if explain and choice is not None:
            later = [reason for reason in outcome.reasons if reason not in choice.reasons]
            lines = [line for reason in later for line in folded(reason, 4, width)]
            lines += explanation(reading.selection, outcome.series_uid, width)
        show_outcome(outcome, numbers, lines)
    if own:
        typer.echo(f"{own} more series: results or models of Residency, which no model reads")


def _as_json(reading: Reading, done: Sequence[tuple[Outcome, Numbers | None]], *, explain: bool) -> dict[str, Any]:
    from residency.cli.table import selection_dict

    answer: dict[str, Any] = {"outcomes": [outcome_dict(outcome, numbers) for outcome, numbers in done]}
    return answer | ({"considered": selection_dict(reading.selection)} if explain else {})
