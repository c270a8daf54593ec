"""`residency doctor`: try what an archive can do, and say what follows for this site."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from residency.doctor import Check


_NEEDED = ("keeps images", "keeps Raw Data", "keeps private blocks", "keeps Segmentations", "keeps Structured Reports")
"""Without these an archive serves nobody by itself."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    archive: str | None = typer.Option(
        None,
        "--archive",
        help="The archive to try: its name in the settings, a folder, or a URL.  [default: that of the settings]",
    ),
    route: list[str] = typer.Option(
        [],
        "--route",
        help="Another door of the same archive, through which what was stored is looked at too; repeatable.",
    ),
    large_mb: int = typer.Option(32, "--large", min=1, max=512, help="Size of the large probe in MiB."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Try what an archive can do: keep, find and give back images, models and each kind of result.

    Small objects of a patient RESIDENCY-PROBE are stored in it, the same ones each time. They do no harm; delete that
    patient in the archive to be rid of them.

    Exit status 0 where images, models, Segmentations and reports are kept; 13 where not, or where it cannot be reached.
    """
    from residency.assemble import open_archive
    from residency.doctor import Answer, examine
    from residency.settings import read_settings

    settings = read_settings().settings
    with ExitStack() as held:
        place = held.enter_context(closing(open_archive(archive, settings, create=False)))
        sender = held.enter_context(closing(open_archive(archive, settings, create=False, trusting=True)))
        routes = [held.enter_context(closing(open_archive(name, settings, create=False))) for name in route]
        if not as_json:
            typer.echo(f"{place.url}: each line is something that was tried")
        checks = examine(place, sender=sender, routes=routes, large=large_mb * 2**20, watch=None if as_json else _show)
    if as_json:
        typer.echo(json.dumps({"archive": place.url, "checks": [asdict(check) for check in checks]}, indent=1))
    elif all(check.found is Answer.YES for check in checks if check.what.startswith("keeps ")):
        typer.echo("images, models and results of every form can live here")
    if not as_json:
        typer.echo("what was stored belongs to the patient RESIDENCY-PROBE, whom you may delete there")
    raise typer.Exit(0 if all(c.found is Answer.YES for c in checks if c.what in _NEEDED) else 13)


def _show(check: Check) -> None:
    """One line a check, and one for what follows from it."""
    detail = f": {check.detail}" if check.detail else ""
    typer.echo(f"  {check.found.value:8}  {check.what}{detail}")
    if check.follows:
        typer.echo(f"  {'':8}      {check.follows}")
