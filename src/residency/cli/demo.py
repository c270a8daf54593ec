"""`residency demo`: the whole walk on real anatomy, with one command, in a folder of its own.

The study is made from the MNI152 template, an average of 152 brains: it belongs to nobody. What chooses, runs and
stores is the code behind `residency run`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from residency.archive import Archive
    from residency.cli.stored import StoredResult
    from residency.pipeline import Outcome, Reading
    from residency.selection import Row
    from residency.settings import Settings
    from residency.trust import SigningKey

PERSON = "whoever started the demonstration"
_PACKAGE = Path("models") / "hippocampus"
_REASONS = 3
_OWN = "own results"
"""The gate that keeps results out of the input; where it closes, no other reason matters."""
_CROP = "HippoCrop"
"""Series Description of the crop in the study of the demonstration."""
_FILES = {"seg": "segmentation", "sr": "report", "sc": "summary"}
"""What the DICOM objects of the result are written as, by their role."""
_NOTHING = "nothing"
"""What a gate needs that the card does not use."""


class Which(StrEnum):
    """Which hippocampus the crop series shows."""

    LEFT = "left"
    RIGHT = "right"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for archive, picture and page.")] = Path("demo-output"),
    side: Annotated[Which, typer.Option("--side", help="Which hippocampus the crop shows.")] = Which.LEFT,
    package: Annotated[
        Path | None, typer.Option("--package", help="Folder of the package to publish.  [default: models/hippocampus]")
    ] = None,
) -> None:
    """Publish a network into an archive, let it be chosen for a study, run it, read the result back and show it.

    No network connection, no torch. Run again in the same folder, it finds the result and does not compute it anew.
    """
    from rich.console import Console

    from residency.assemble import open_archive
    from residency.cli.run import exit_status
    from residency.settings import Settings

    began = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    place = to.absolute()
    settings = Settings(home=place / "home", archive=str(place / "archive"))
    with closing(open_archive(None, settings)) as archive:
        _publish(archive, settings, package or _package_folder(), console)
        study, crop = _bring_study(archive, side, console)
        reading = _walk(study, crop, archive, settings, console)
        done = [outcome for outcome in reading.outcomes if outcome.stored and outcome.series_uid == crop]
        for outcome in done:
            _show(outcome, side, archive, place, console)
            _tell_where(place, study, outcome, console)
    console.print(f"\n{time.monotonic() - began:.1f} s in all.")
    raise typer.Exit(exit_status(reading.outcomes))


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    """A heading now, and afterwards how long it took."""
    console.print(f"\n[bold cyan]{title}[/bold cyan]")
    began = time.monotonic()
    yield
    console.print(f"  [dim]{time.monotonic() - began:.2f} s[/dim]")


def _publish(archive: Archive, settings: Settings, folder: Path, console: Console) -> None:
    """A key of one's own, the package signed with it and stored, the key trusted, the label rule approved."""
    from residency.assemble import label_rules, open_site
    from residency.models import publish, read_folder
    from residency.trust import Role, TrustedKey

    now = dt.datetime.now(dt.UTC)
    with _step(console, "1  A network moves into the archive"):
        site = open_site(settings)
        key = _key(settings.home / "demo-publisher.key")
        read = read_folder(folder)
        published = publish(archive, read, key)
        identity = read.card.identity
        console.print(f"  {identity.name} {identity.version}, {read.card.parameters:,} parameters", markup=False)
        console.print(f"  digest   {published.digest}")
        console.print(f"  signed   {key.key_id} (a key made here, for this folder only)")
        console.print(
            f"  stored   {published.stored} new instances, {published.present} were there; Raw Data and a PDF"
        )
        site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Demonstration", now))
        for rule in label_rules(site).rules:
            if site.rules_approval(rule.digest) is None:
                site.approve_rules(rule.digest, by=PERSON, now=now)
            console.print(f"  approved label rule {rule.id}: {rule.gives}", markup=False)


def _bring_study(archive: Archive, side: Which, console: Console) -> tuple[str, str]:
    """The study into the archive; gives its UID, and that of the crop series of the side asked."""
    from residency.archive import Level, Query
    from residency.archives.part10 import read_row
    from residency.labels import Side
    from residency.testing.template import template_study

    with _step(console, "2  A study comes in"):
        instances = template_study(Side.LEFT if side is Which.LEFT else Side.RIGHT)
        archive.store(instances)
        rows = [read_row(one.data, one.uid) for one in instances]
        study = rows[0].study_uid
        (crop,) = {row.series_uid for row in rows if row.series_description == _CROP}
        for series in sorted(archive.find(Level.SERIES, Query(study_uid=study)), key=lambda e: -e.instances):
            if series.modality == "MR":
                console.print(f"  {series.instances:>3} images  {series.description}", markup=False)
    return study, crop


def _walk(study: str, crop: str, archive: Archive, settings: Settings, console: Console) -> Reading:
    """What `residency run STUDY --allow-unapproved` does."""
    from residency.assemble import open_house
    from residency.cli.run import progress_bar
    from residency.pipeline import read_study
    from residency.selection import Policy

    with _step(console, "3  The network that fits is chosen, admitted on this machine, and run"):
        house = open_house(settings, images=archive, models=archive)
        with progress_bar(shown=console.is_terminal) as watch:
            reading = read_study(study, house, Policy(allow_unapproved=True), watch=watch)
        rows = list(reading.selection.table())
        for outcome in sorted(reading.outcomes, key=lambda o: (o.series_uid != crop, not o.stored)):
            if outcome.name == _CROP and outcome.series_uid != crop:
                console.print(f"  {_CROP} of the other side, from an earlier run: {outcome.ending.value}", markup=False)
                continue
            _explain(outcome, [row for row in rows if row.series_uid == outcome.series_uid], console)
    return reading


def _explain(outcome: Outcome, rows: Sequence[Row], console: Console) -> None:
    """Why this network fits the series, gate by gate, or why it does not.

    rows  the gates of this series, one row a network
    """
    from rich.text import Text

    from residency.selection.explain import misses

    ending = Text(outcome.ending.value, style="green" if outcome.stored else "yellow")
    console.print(Text.assemble("  ", (outcome.name, "bold"), ": ", ending))
    if outcome.error is not None:
        console.print(f"    {outcome.error}", markup=False)
    for row in rows:
        if row.candidate.digest == outcome.digest:
            for gate in row.verdicts:
                if gate.rule != _NOTHING:
                    console.print(f"    passes: {gate}", markup=False)
            continue
        missed = list(misses(row))
        shown = 1 if missed and missed[0].gate == _OWN else _REASONS
        for verdict in missed[:shown]:
            console.print(f"    {verdict}", markup=False)
        if len(missed) > shown:
            console.print(f"    and {len(missed) - shown} more", markup=False)


def _show(outcome: Outcome, side: Which, archive: Archive, place: Path, console: Console) -> None:
    """Read the result back from the archive, print its numbers, write picture, page and the DICOM objects as files.

    The title says the side that was asked for: the headers of a crop prove none, so the result states none.
    """
    from rich.table import Table
    from rich.text import Text

    from residency.cli.results import Format, exported, report_bytes
    from residency.cli.stored import measurements_of, read_result, shown_measurements

    with _step(console, "4  The result is read back from the archive"):
        result = read_result(outcome.stored["sr"], archive)
        title = f"Crop of the {side.value.upper()} side, as asked; its headers prove no side"
        table = Table("Segment", "Side", "Quantity", "Value", "Unit", title=title, title_justify="left")
        for row in shown_measurements(measurements_of(result)):
            table.add_row(Text(row.label), row.side or "unknown", Text(row.quantity), f"{row.value:.2f}", row.unit)
        console.print(table)
        console.print(f"  {_sum(result):.2f} mL in all", markup=False)
        for notice in result.notices:
            console.print(f"  {notice}", markup=False)
        (place / "report.html").write_bytes(report_bytes(result))
        for name, data in exported(result, Format.PNG).items():
            (place / name).write_bytes(data)
        for role, uid in outcome.stored.items():
            (place / _file(role)).write_bytes(_stored(uid, archive))


def _file(role: str) -> str:
    """The name of a file; several objects of a role are numbered from the second on."""
    kind, _, number = role.partition("-")
    return _FILES.get(kind, kind) + (f"-{number}" if number else "") + ".dcm"


def _stored(uid: str, archive: Archive) -> bytes:
    """One instance as the archive gives it, a whole DICOM file."""
    from residency.archive import Level, Query
    from residency.errors import ArchiveError

    for entry in archive.find(Level.INSTANCE, Query(sop_uid=uid)):
        for instance in archive.instances(entry.series_uid, [uid]):
            return instance.data
    raise ArchiveError(f"{archive.url} does not give back the result {uid} that it stored")


def _sum(result: StoredResult) -> float:
    """Millilitres of all segments together."""
    from residency.cli.stored import measurements_of, shown_measurements

    return sum(row.value for row in shown_measurements(measurements_of(result)) if row.unit == "mL")


def _tell_where(place: Path, study: str, outcome: Outcome, console: Console) -> None:
    console.print("\n[bold cyan]5  Where everything lies[/bold cyan]")
    rows = (
        ("page", place / "report.html"),
        ("picture", place / "picture.png"),
        ("archive", place / "archive"),
        ("study", study),
        *((role.upper(), uid) for role, uid in outcome.stored.items()),
        *((f"{role.upper()} file", place / _file(role)) for role in outcome.stored),
    )
    for what, where in rows:
        console.print(f"  {what:<10}{where}", markup=False)
    console.print("\n  Try:", markup=False)
    archive = place / "archive"
    for command in (
        f"residency archive ls {study} --archive {archive}",
        f"residency export {outcome.stored['sr']} --to exported --format nifti --archive {archive}",
    ):
        console.print(f"  {command}", markup=False)


def _key(file: Path) -> SigningKey:
    """The key of this folder, made at first need, mode 0600."""
    from residency.site import new_file
    from residency.trust import SigningKey

    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new_file(file, SigningKey.new().pem())
    return SigningKey.from_pem(file.read_bytes())


def _package_folder() -> Path:
    """models/hippocampus here, or in the checkout that this package is installed from."""
    from residency.errors import UsageError

    for folder in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (folder / _PACKAGE / "manifest.json").is_file():
            return folder / _PACKAGE
    raise UsageError(f"{_PACKAGE} is not here: start in the checkout of Residency, or give --package FOLDER")
