"""`residency demo`: the whole walk on real anatomy, with one command, in a folder of its own.

The studies are made from the MNI152 template, an average of 152 brains: it belongs to nobody. What chooses, runs and
stores is the code behind `residency run`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from residency.cli.demo_head import head_package, show_head
from residency.cli.demo_steps import (
    package_folder,
    publish_package,
    step,
    tell_gates,
    walk,
    write_objects,
)

if TYPE_CHECKING:
    from rich.console import Console

    from residency.archive import Archive
    from residency.cli.stored import StoredResult
    from residency.pipeline import Outcome, Reading
    from residency.settings import Settings

PERSON = "whoever started the demonstration"
_CROP = "HippoCrop"
"""Series Description of the crop in the study of the demonstration."""


class Which(StrEnum):
    """Which hippocampus the crop series shows."""

    LEFT = "left"
    RIGHT = "right"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for archive, pictures and pages.")] = Path("demo-output"),
    side: Annotated[Which, typer.Option("--side", help="Which hippocampus the crop shows.")] = Which.LEFT,
    package: Annotated[
        Path | None, typer.Option("--package", help="Folder of the package to publish.  [default: models/hippocampus]")
    ] = None,
    head: Annotated[
        bool, typer.Option("--head/--no-head", help="End with a whole head, which takes longest, or leave it out.")
    ] = True,
) -> None:
    """Publish a network into an archive, let it be chosen for a study, run it, read the result back and show it.

    It ends with both hippocampi of a whole head: one network finds them, the other parts each. No network connection,
    no torch. Run again in the same folder, it finds the results and does not compute them anew.
    """
    from rich.console import Console

    from residency.assemble import open_archive
    from residency.cli.run import exit_status
    from residency.settings import Settings

    began = time.monotonic()
    console = Console(highlight=False, soft_wrap=True)
    place = to.absolute()
    settings = Settings(home=place / "home", archive=str(place / "archive"))
    crops, finder = package or package_folder("hippocampus"), head_package(console) if head else None
    with closing(open_archive(None, settings)) as archive:
        _publish(archive, settings, crops, console)
        study, crop = _bring_study(archive, side, console)
        reading = _walk(study, crop, archive, settings, console)
        outcomes = list(reading.outcomes)
        for outcome in reading.outcomes:
            if outcome.stored and outcome.series_uid == crop:
                _show(outcome, side, study, archive, place, console)
        if finder is not None:
            outcomes += show_head(finder, archive, settings, place, console).outcomes
    _tell_what_next(study, [o.stored["sr"] for o in outcomes if o.stored], place, console)
    console.print(f"\n{time.monotonic() - began:.1f} s in all.")
    raise typer.Exit(exit_status(outcomes))


def _publish(archive: Archive, settings: Settings, folder: Path, console: Console) -> None:
    """The package published and its key trusted, the label rules that ship approved."""
    from residency.assemble import label_rules, open_site

    with step(console, "1  A network moves into the archive"):
        publish_package(archive, settings, folder, console)
        site = open_site(settings)
        for rule in label_rules(site).rules:
            if site.rules_approval(rule.digest) is None:
                site.approve_rules(rule.digest, by=PERSON, now=dt.datetime.now(dt.UTC))
            console.print(f"  approved label rule {rule.id}: {rule.gives}", markup=False)


def _bring_study(archive: Archive, side: Which, console: Console) -> tuple[str, str]:
    """The study into the archive; gives its UID, and that of the crop series of the side asked."""
    from residency.archive import Level, Query
    from residency.archives.part10 import read_row
    from residency.labels import Side
    from residency.testing.template import template_study

    with step(console, "2  A study comes in"):
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
    from residency.selection import Policy

    with step(console, "3  The network that fits is chosen, admitted on this machine, and run"):
        reading = walk(study, archive, settings, Policy(allow_unapproved=True), console)
        rows = list(reading.selection.table())
        for outcome in sorted(reading.outcomes, key=lambda o: (o.series_uid != crop, not o.stored)):
            if outcome.name == _CROP and outcome.series_uid != crop:
                console.print(f"  {_CROP} of the other side, from an earlier run: {outcome.ending.value}", markup=False)
                continue
            tell_gates(outcome, [row for row in rows if row.series_uid == outcome.series_uid], console)
    return reading


def _show(outcome: Outcome, side: Which, study: str, archive: Archive, place: Path, console: Console) -> None:
    """Read the result back from the archive, print its numbers, write picture, page and the DICOM objects as files.

    The title says the side that was asked for: the headers of a crop prove none, so the result states none.
    """
    from rich.table import Table
    from rich.text import Text

    from residency.cli.results import Format, exported, report_bytes
    from residency.cli.stored import measurements_of, read_result, shown_measurements

    with step(console, "4  The result is read back from the archive"):
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
        files = write_objects(outcome, archive, place)
        for what, where in (
            ("page", place / "report.html"),
            ("picture", place / "picture.png"),
            ("study", study),
            *((role.upper(), uid) for role, uid in outcome.stored.items()),
            *((f"{role.upper()} file", file) for role, file in files.items()),
        ):
            console.print(f"  {what:<10}{where}", markup=False)


def _sum(result: StoredResult) -> float:
    """Millilitres of all segments together."""
    from residency.cli.stored import measurements_of, shown_measurements

    return sum(row.value for row in shown_measurements(measurements_of(result)) if row.unit == "mL")


def _tell_what_next(study: str, reports: Sequence[str], place: Path, console: Console) -> None:
    archive = place / "archive"
    console.print(f"\nEverything lies in {place}, the archive in {archive}. Try:", markup=False)
    console.print(f"  residency archive ls {study} --archive {archive}", markup=False)
    for report in reports[-1:]:
        console.print(f"  residency export {report} --to exported --format nifti --archive {archive}", markup=False)
