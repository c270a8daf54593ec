"""`residency doctor`: try what an archive can do, and say what follows for this site."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from residency.assemble import Role
    from residency.doctor import Check
    from residency.settings import ArchiveSettings, Settings

_NEEDED = {
    "keeps images": "images",
    "keeps Raw Data": "models",
    "keeps private blocks": "models",
    "keeps Segmentations": "results",
    "keeps Structured Reports": "results",
}
"""What an archive must do, by the role that cannot live there without."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    archive: str | None = typer.Option(
        None,
        "--archive",
        help="The archive to try: its name in the settings, a folder, or a URL.  [default: those of the settings]",
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

    Without --archive, each archive that the settings name is tried for what it is used for; the JSON of several is a
    list. Small objects of a patient RESIDENCY-PROBE are stored in it, the same ones each time. They do no harm; delete
    that patient in the archive to be rid of them.

    Exit status 0 where what the archive is used for is kept: images, models, Segmentations and reports; 13 where not,
    or where it cannot be reached.
    """
    from residency.assemble import Role, archive_settings
    from residency.doctor import Answer
    from residency.errors import UsageError
    from residency.settings import read_settings

    settings = read_settings().settings
    tried: dict[ArchiveSettings, list[Role]] = {}
    for role in Role:
        if archive is not None or settings.archive or getattr(settings, role):
            tried.setdefault(archive_settings(archive, settings, role), []).append(role)
    if not tried:
        archive_settings(None, settings)  # says how to name one
    if route and len(tried) > 1:
        raise UsageError("--route is another door of one archive: say of which with --archive")
    answers, fit = [], True
    for described, roles in tried.items():
        url, checks = _examined(described, archive, roles[0], settings, route, large_mb, shown=not as_json)
        refused = {_NEEDED[c.what] for c in checks if c.what in _NEEDED and c.found is not Answer.YES}
        answers.append({"archive": url, "checks": [asdict(check) for check in checks]})
        fit = fit and not refused & set(roles)
        if not as_json:
            typer.echo(_verdict(roles, refused, checks))
    if as_json:
        typer.echo(json.dumps(answers if len(answers) > 1 else answers[0], indent=1))
    else:
        typer.echo("what was stored belongs to the patient RESIDENCY-PROBE, whom you may delete there")
    raise typer.Exit(0 if fit else 13)


def _examined(
    described: ArchiveSettings,
    named: str | None,
    role: Role,
    settings: Settings,
    routes: Sequence[str],
    large_mb: int,
    *,
    shown: bool,
) -> tuple[str, list[Check]]:
    """How one archive calls itself, and everything that was tried on it."""
    from residency.assemble import open_archive
    from residency.doctor import examine, secrets

    with ExitStack() as held:
        place, sender = (
            held.enter_context(closing(open_archive(named, settings, role=role, create=False, trusting=trusting)))
            for trusting in (False, True)
        )
        doors = [held.enter_context(closing(open_archive(name, settings, create=False))) for name in routes]
        if shown:
            typer.echo(f"{place.url}: each line is something that was tried")
        watch = _show if shown else None
        kept = list(secrets(described))
        for check in kept if shown else ():
            _show(check)
        return place.url, kept + examine(place, sender=sender, routes=doors, large=large_mb * 2**20, watch=watch)


def _verdict(roles: Sequence[str], refused: set[str], checks: Sequence[Check]) -> str:
    """One line: what of that for which an archive is used can live there, and which forms of results cannot."""
    from residency.doctor import Answer

    living = [role for role in roles if role not in refused]
    if len(living) < len(roles):
        return f"{_listed([role for role in roles if role in refused])} cannot live here; see above"
    keeping = [c for c in checks if c.what.startswith("keeps ") and "results" in roles]
    lacking = [c.what.removeprefix("keeps ") for c in keeping if c.found is not Answer.YES]
    of_all = " of every form" if "results" in roles and not lacking else ""
    return f"{_listed(living)}{of_all} can live here" + (f"; not kept: {', '.join(lacking)}" if lacking else "")


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _show(check: Check) -> None:
    """One line a check, and one for what follows from it."""
    detail = f": {check.detail}" if check.detail else ""
    typer.echo(f"  {check.found.value:8}  {check.what}{detail}")
    if check.follows:
        typer.echo(f"  {'':8}      {check.follows}")
