"""What the parts of `residency demo` share: a timed step, a package published, a study walked, a choice told."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from residency.archive import Archive
    from residency.card import Card
    from residency.pipeline import Outcome, Reading
    from residency.selection import Policy, Row
    from residency.settings import Settings
    from residency.trust import SigningKey

_REASONS = 3
_OWN = "own results"
"""The gate that keeps results out of the input; where it closes, no other reason matters."""
_NOTHING = "nothing"
"""What a gate needs that the card does not use."""
_FILES = {"seg": "segmentation", "sr": "report", "sc": "summary"}
"""What the DICOM objects of the result are written as, by their role."""


@contextmanager
def step(console: Console, title: str) -> Iterator[None]:
    """A heading now, and afterwards how long it took."""
    console.print(f"\n[bold cyan]{title}[/bold cyan]")
    began = time.monotonic()
    yield
    console.print(f"  [dim]{time.monotonic() - began:.2f} s[/dim]")


def publish_package(archive: Archive, settings: Settings, folder: Path, console: Console) -> Card:
    """A key of one's own, made at first need, the package signed with it and stored, and the key trusted."""
    from residency.assemble import open_site
    from residency.models import publish, read_folder
    from residency.trust import Role, TrustedKey

    key = _key(settings.home / "demo-publisher.key")
    read = read_folder(folder)
    published = publish(archive, read, key)
    identity = read.card.identity
    console.print(f"  {identity.name} {identity.version}, {read.card.parameters:,} parameters", markup=False)
    console.print(f"  digest   {published.digest}")
    console.print(f"  signed   {key.key_id} (a key made here, for this folder only)")
    console.print(f"  stored   {published.stored} new instances, {published.present} were there; Raw Data and a PDF")
    now = dt.datetime.now(dt.UTC)
    open_site(settings).add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Demonstration", now))
    return read.card


def walk(study: str, archive: Archive, settings: Settings, policy: Policy, console: Console) -> Reading:
    """What `residency run STUDY` does."""
    from residency.assemble import open_house
    from residency.cli.run import progress_bar
    from residency.pipeline import read_study

    house = open_house(settings, images=archive, models=archive)
    with progress_bar(shown=console.is_terminal) as watch:
        return read_study(study, house, policy, watch=watch)


def tell_ending(outcome: Outcome, console: Console) -> None:
    """The series and how it ended."""
    from rich.text import Text

    ending = Text(outcome.ending.value, style="green" if outcome.stored else "yellow")
    console.print(Text.assemble("  ", (outcome.name, "bold"), ": ", ending))
    if outcome.error is not None:
        console.print(f"    {outcome.error}", markup=False)


def tell_gates(outcome: Outcome, rows: Sequence[Row], console: Console) -> None:
    """Why this network fits the series, gate by gate, or why it does not.

    rows  the gates of this series, one row a network
    """
    from residency.selection.explain import misses

    tell_ending(outcome, console)
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


def write_objects(outcome: Outcome, archive: Archive, folder: Path) -> dict[str, Path]:
    """The DICOM objects of a result as files, by role."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: folder / _file(role) for role in outcome.stored}
    for role, uid in outcome.stored.items():
        files[role].write_bytes(_stored(uid, archive))
    return files


def package_folder(name: str) -> Path:
    """models/NAME here, or in the checkout that this package is installed from. Raises UsageError."""
    from residency.errors import UsageError

    folder = found_package(name)
    if folder is None:
        raise UsageError(f"models/{name} is not here: start in the checkout of Residency, or give --package FOLDER")
    return folder


def found_package(name: str) -> Path | None:
    """The same, None where it is in neither place."""
    package = Path("models") / name
    places = (Path.cwd(), Path(__file__).resolve().parents[3])
    return next((place / package for place in places if (place / package / "manifest.json").is_file()), None)


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


def _key(file: Path) -> SigningKey:
    """The key of this folder, made at first need, mode 0600."""
    from residency.site import new_file
    from residency.trust import SigningKey

    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new_file(file, SigningKey.new().pem())
    return SigningKey.from_pem(file.read_bytes())
