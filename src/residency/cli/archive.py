"""`residency archive`: put DICOM files into an archive, see what it holds, make its index anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from residency.archives.incoming import Tally

ArchiveOption = Annotated[
    str | None,
    typer.Option(
        "--archive",
        help="The archive: its name in the settings, a folder, or a URL.  [default: that of the settings]",
    ),
]

_NAMED = 3
_REFUSED = 13


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Import DICOM files, list what an archive holds, rebuild its index.", no_args_is_help=True)
    group.command("import")(import_files)
    group.command("ls")(ls)
    group.command("rebuild")(rebuild)
    app.add_typer(group, name="archive")


def import_files(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files, folders or zip files of them.")],
    archive: ArchiveOption = None,
    mend_uids: Annotated[
        bool,
        typer.Option(
            "--mend-uids",
            help="Give new UIDs to files that were emptied of them: each PATH is a study, each folder a series.",
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name every file that is not taken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every file that is not taken.")] = False,
) -> None:
    """Store DICOM files in an archive; a folder archive is made if it is not there. Storing a file twice is harmless.

    Exit status 13 where the archive refuses a file, such as one under whose UID it holds other content, or fails; the
    other files are stored. Exit status 2 where no DICOM file was found, or none could be imported.
    """
    from residency.archives.incoming import NO_DICOM, Tally, beginnings, count_files, dicom_files, import_into
    from residency.archives.mend import Mender
    from residency.assemble import Role, open_archive
    from residency.errors import UsageError
    from residency.settings import read_settings

    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    tally, mender = Tally(), Mender() if mend_uids else None
    with closing(open_archive(archive, read_settings().settings, role=Role.IMAGES)) as place:
        try:
            with file_bar(count_files(paths)) as step:
                if mender is not None:
                    mender.learn(beginnings(paths))
                import_into(place, dicom_files(paths, mender), step, tally)
        finally:  # where the archive fails, what it took before is told too
            mended = dict(mender.mended) if mender is not None else {}
            if as_json:
                typer.echo(json.dumps(_tally_dict(tally, mended, place.url), indent=1))
            else:
                _show_mended(mended)
                show_tally(tally, place.url, most=None if verbose else _NAMED)
    if not tally.taken and not tally.refused:
        where = ", ".join(map(str, paths))
        if set(tally.skipped) - {NO_DICOM}:
            raise UsageError(f"none of the files in {where} could be imported; why stands above")
        raise UsageError(f"no DICOM file was found in {where}: nothing was imported")
    raise typer.Exit(_REFUSED if tally.refused else 0)


def ls(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY_UID]", help="List the series of this study.")] = None,
    archive: ArchiveOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the studies of an archive, or the series of one study. What it prints can name patients."""
    from residency.archive import Level, Query
    from residency.assemble import Role, open_archive
    from residency.errors import ArchiveError
    from residency.settings import read_settings

    level = Level.SERIES if study else Level.STUDY
    with closing(open_archive(archive, read_settings().settings, role=Role.IMAGES, create=False)) as place:
        entries = sorted(
            place.find(level, Query(study_uid=study)), key=lambda e: (e.patient_id, e.study_uid, e.modality)
        )
    if study and not entries:
        raise ArchiveError(f"{place.url} holds no study {study!r}; 'residency archive ls' lists what it holds")
    if as_json:
        typer.echo(json.dumps([asdict(e) for e in entries], indent=1))
    elif study:
        rows = [(e.series_uid, e.modality, e.description, str(e.instances)) for e in entries]
        _print_table(("Series", "Modality", "Description", "Instances"), rows)
    else:
        rows = [(e.study_uid, e.patient_id, e.description, str(e.instances)) for e in entries]
        _print_table(("Study", "Patient", "Description", "Instances"), rows)


def rebuild(archive: ArchiveOption = None) -> None:
    """Make the index of a folder archive anew from its files."""
    from residency.archives.folder import FolderArchive
    from residency.assemble import Role, open_archive
    from residency.errors import UsageError
    from residency.settings import read_settings

    place = open_archive(archive, read_settings().settings, role=Role.IMAGES, create=False)
    if not isinstance(place, FolderArchive):
        raise UsageError(f"{place.url} keeps its index itself; only a folder archive is rebuilt")
    rebuilt = place.rebuild()
    typer.echo(f"{rebuilt.instances} instances in the index of {place.url}")
    for name in rebuilt.unreadable:
        typer.echo(f"no instance that belongs there, left alone: objects/{name}", err=True)


@contextmanager
def file_bar(count: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while files go in; cleared when it ends. None where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("import"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("import", total=count)
        yield lambda more: bars.advance(task, more)


def show_tally(tally: Tally, url: str, most: int | None = _NAMED) -> None:
    """What an import did: counts, and for each reason the first few files. most: None names them all."""
    if tally.taken:
        new = tally.taken - tally.present
        typer.echo(f"{tally.taken} instances are in {url} ({new} new, {tally.present} there before)")
    _print_reasons("skipped", tally.skipped, most, err=False)
    _print_reasons("refused", tally.refused, most, err=True)


def _print_reasons(word: str, by_reason: Mapping[str, Sequence[str]], most: int | None, *, err: bool) -> None:
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        rest = len(names) - len(names[:most])
        more = f" and {rest} more (--verbose names them)" if rest else ""
        typer.echo(f"{len(names)} {word}, {reason}: {', '.join(map(_plain, names[:most]))}{more}", err=err)


def _show_mended(mended: Mapping[tuple[str, str], int]) -> None:
    for (study, series), count in sorted(mended.items()):
        typer.echo(f"{count} files had no UIDs of their own: now series {series} of study {study}")


def _tally_dict(tally: Tally, mended: Mapping[tuple[str, str], int], url: str) -> dict[str, Any]:
    return {
        "archive": url,
        "taken": tally.taken,
        "present": tally.present,
        "skipped": dict(tally.skipped),
        "refused": dict(tally.refused),
        "mended": [{"study": u, "series": s, "files": n} for (u, s), n in sorted(mended.items())],
    }


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns that are wide enough; UIDs are never cut, since they are what the next command needs."""
    lines = [[_plain(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _plain(text: str) -> str:
    """Without characters that would steer the terminal: descriptions come from anywhere."""
    return "".join(c if c.isprintable() else " " for c in text)
