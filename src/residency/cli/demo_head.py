"""The end of `residency demo`: both hippocampi of a whole head, by one network after the other.

The head is the MNI152 template, which is skull-stripped, in a skull and a scalp made by code: it belongs to nobody and
has no face.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from residency.cli.demo_steps import found_package, publish_package, step, tell_ending, walk, write_objects

if TYPE_CHECKING:
    from rich.console import Console

    from residency.archive import Archive
    from residency.pipeline import Outcome, Reading
    from residency.settings import Settings

_OF_A_CASCADE = ("step before = ", "crop, left: field of view", "crop, right: field of view")
"""How the gates begin that show what a cascade does."""


def head_package(console: Console) -> Path | None:
    """The network that finds the hippocampi; None, and a line that says why, where the head is to be left out.

    Raises ConfigError where the settings of the site cannot be read.
    """
    from residency.settings import read_settings

    folder = found_package("head")
    if folder is None:
        told = "models/head is not here; start in the checkout of Residency, where it lies"
        console.print(f"The whole head is left out: {told}.", markup=False)
        return None
    site = read_settings()
    origin = site.origins["allow_research"]
    if site.settings.allow_research or origin == "default" or not _for_research_only(folder):
        return folder
    told = f"allow_research is false (from {origin}), and the weights of models/head are for research only"
    console.print(f"The whole head is left out: {told}.", markup=False)
    return None


def show_head(package: Path, archive: Archive, settings: Settings, place: Path, console: Console) -> Reading:
    """Publish the network that finds the hippocampi, bring the head in, run the cascade, show volumes of both sides.

    package  of that network, as `head_package` finds it
    place    the folder of the demonstration; what is shown of the head goes into its folder `head`
    """
    with step(console, "5  A second network moves in, which finds the hippocampi in a whole head"):
        licences = publish_package(archive, settings, package, console).licences
        limits = ", for research only: the demonstration allows it" if licences.research_only else ""
        console.print(f"  weights  {licences.weights}{limits} (setting allow_research)", markup=False)
    with step(console, "6  A whole head comes in: the template, which has no skull, in a skull and scalp made by code"):
        study = _bring_head(archive, console)
    with step(console, "7  One network finds the hippocampi and the other parts each of them"):
        reading = _run(study, archive, settings, console)
    for outcome in reading.outcomes:
        if outcome.stored:
            _show(outcome, archive, place / "head", console)
            _tell_where(study, outcome, place / "head", console)
    return reading


def _for_research_only(folder: Path) -> bool:
    from residency.models import read_folder

    return read_folder(folder).card.licences.research_only


def _bring_head(archive: Archive, console: Console) -> str:
    """The examination into the archive; gives its Study Instance UID."""
    from residency.archives.part10 import read_row
    from residency.testing.dressed import DRESSED, dressed_study

    instances = dressed_study()
    archive.store(instances)
    console.print(f"  {len(instances):>3} images  {DRESSED}", markup=False)
    return read_row(instances[0].data, instances[0].uid).study_uid


def _run(study: str, archive: Archive, settings: Settings, console: Console) -> Reading:
    """What `residency run STUDY --allow-unapproved` does where the settings allow weights for research."""
    from residency.selection import Policy

    reading = walk(study, archive, settings, Policy(allow_unapproved=True, allow_research=True), console)
    for outcome in reading.outcomes:
        if outcome.own:
            continue
        tell_ending(outcome, console)
        for reason in outcome.reasons:
            console.print(f"    {reason}", markup=False)
        for line in outcome.findings.reasons if outcome.findings is not None else ():
            if line.startswith(_OF_A_CASCADE):
                console.print(f"    {line}", markup=False)
    return reading


def _show(outcome: Outcome, archive: Archive, folder: Path, console: Console) -> None:
    """Read the result back, print what the structures measure, write picture, page and the DICOM objects as files."""
    from rich.table import Table
    from rich.text import Text

    from residency.cli.results import Format, exported, report_bytes
    from residency.cli.stored import measurements_of, read_result, shown_measurements, value_text

    with step(console, "8  The result of both is read back from the archive"):
        result = read_result(outcome.stored["sr"], archive)
        title = "The MNI152 template in a made skull and scalp: the mean of 152 adults, no head of a person"
        table = Table("Structure", "Side", "Quantity", "Value", title=title, title_justify="left")
        for row in shown_measurements(measurements_of(result)):
            if row.segment is None:
                table.add_row(Text(row.label), row.side, Text(row.quantity), value_text(row))
        console.print(table)
        for warning in result.report.warnings if result.report is not None else ():
            console.print(f"  warning: {warning}", markup=False)
        for notice in result.notices:
            console.print(f"  {notice}", markup=False)
        write_objects(outcome, archive, folder)
        (folder / "report.html").write_bytes(report_bytes(result))
        for name, data in exported(result, Format.PNG).items():
            (folder / name).write_bytes(data)


def _tell_where(study: str, outcome: Outcome, folder: Path, console: Console) -> None:
    console.print("\n[bold cyan]9  Where the head's result lies[/bold cyan]")
    rows = (
        ("page", folder / "report.html"),
        ("picture", folder / "picture.png"),
        ("objects", folder),
        ("study", study),
        *((f"{role.upper()} of both", uid) for role, uid in outcome.stored.items() if role in ("seg", "sr")),
    )
    for what, where in rows:
        console.print(f"  {what:<12}{where}", markup=False)
