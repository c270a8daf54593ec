"""`residency models affected`: everything that a version made, and the notes that take it out of use."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.archive import ArchiveOption
from residency.cli.library import check_person, family_of, other_versions, short_digest, version_words

if TYPE_CHECKING:
    from residency.archive import Archive
    from residency.dicom.key_objects import Rejection
    from residency.models import KnownModel
    from residency.recall import Affected, Note
    from residency.settings import Settings

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_INCOMPLETE = 13


def register(group: typer.Typer) -> None:
    """Add the command to the group of models."""
    group.command("affected")(affected)


def affected(
    model: Annotated[
        str,
        typer.Argument(
            metavar="DIGEST|MODEL",
            help="The whole digest of a version, also of one that the archive no longer holds; or 'family version'. A "
            "family alone means its newest version.",
        ),
    ],
    archive: ArchiveOption = None,
    reject: Annotated[bool, typer.Option("--reject", help="Store one rejection note for each study.")] = False,
    reason: Annotated[
        list[str] | None,
        typer.Option(
            "--reason",
            metavar="TEXT|CODE",
            help="Why, in words and as a DICOM code: 113037 patient safety (default), 113001 quality, also with "
            "111218 to 111221 for what was wrong, 113039 retention. Repeatable.",
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who rejects, with --reject; the name stands in the notes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every study and result that one version of a model made, also of one that was withdrawn.

    Other versions of its family are not covered; the answer names them.

    With --reject each study gets a rejection note (a Key Object Selection) beside the results, which archives and
    viewers that know it hide from then on; nothing is deleted, and the same command again adds nothing. Exit status 13
    where a part of the archive could not be read, so that the list may be short.
    """
    from residency.assemble import open_archives
    from residency.errors import UsageError
    from residency.recall import affected as find_affected
    from residency.recall import reject as write_notes
    from residency.settings import read_settings

    if not reject and (reason or by):
        raise UsageError("--reason and --by say why and by whom results are rejected: give --reject too")
    check_person(by)
    why = _rejection(reason or (), by)
    if reject and by is None:
        raise UsageError("--reject needs --by: notes are never changed, and whoever finds one asks who rejected")
    settings = read_settings().settings
    with closing(open_archives(archive, settings)) as places:
        digest, known, others = _meant(model, places.models, settings)
        if reject and known is not None and not known.standing.withdrawn:
            typer.echo(
                f"{known.name} is neither suspended nor revoked here, so it goes on making results that no note names: "
                f"first residency models suspend {short_digest(known)}",
                err=True,
            )
        with _counter() as step:
            found = find_affected(places.results, digest, step)
        notes = list(write_notes(places.results, found, why, dt.datetime.now().astimezone())) if reject else []
    if as_json:
        data = {"model": known.name, "family": family_of(known)} if known else {"model": None, "family": None}
        typer.echo(json.dumps(data | {"not_covered": [o.digest for o in others]} | _as_data(found, notes), indent=1))
    else:
        _print(found, notes, f"{known.name} of the family '{family_of(known)}', {digest}" if known else digest)
        for other in others:
            typer.echo(f"not covered: {version_words(other)}")
    for series_uid, problem in found.unreadable:
        typer.echo(f"not judged: series {series_uid}: {problem}", err=True)
    raise typer.Exit(_INCOMPLETE if found.unreadable else 0)


def _meant(model: str, models: Archive, settings: Settings) -> tuple[str, KnownModel | None, list[KnownModel]]:
    """The digest that is meant, its model if the archive holds it, and the other versions of the family.

    A whole digest stands as it is, so that results of models that are gone are found too.
    """
    from residency.assemble import models_of, open_engine, open_site
    from residency.errors import ArchiveError
    from residency.models import Library

    site = open_site(settings)
    whole = _DIGEST.fullmatch(model.strip())
    try:
        library = models_of(models, site, open_engine(settings), settings, index=site.index)
    except ArchiveError as error:
        if whole is None:
            raise
        typer.echo(f"the models cannot be listed, so no name is shown: {error}", err=True)
        library = Library(())
    digest = f"sha256:{whole[1].lower()}" if whole is not None else library.named(model).digest
    known = library.by_digest.get(digest)
    return digest, known, other_versions(library, known) if known else []


def _rejection(reasons: Sequence[str], by: str | None) -> Rejection:
    """Codes and words apart. Raises UsageError for codes that do not go together."""
    from residency.dicom.key_objects import MODIFIERS, PATIENT_SAFETY, QUALITY, TITLES, Rejection
    from residency.errors import UsageError

    given = [reason.removeprefix("DCM:").strip() for reason in reasons]
    titles = [code for code in TITLES if code.value in given]
    modifiers = [code for code in MODIFIERS if code.value in given]
    words = [said for said in given if said not in {code.value for code in (*TITLES, *MODIFIERS)}]
    unknown = [said for said in words if re.fullmatch(r"\d{5,6}", said)]
    if unknown:
        known = ", ".join(f"{code.value} {code.meaning}" for code in (*TITLES, *MODIFIERS))
        raise UsageError(f"--reason {unknown[0]} is no code for rejections; those are: {known}")
    if len(titles) > 1 or len(modifiers) > 1 or (modifiers and titles not in ([], [QUALITY])):
        raise UsageError("--reason takes one title, and one of 111218 to 111221 beside 113001 alone")
    title = titles[0] if titles else QUALITY if modifiers else PATIENT_SAFETY
    return Rejection(title, modifiers[0] if modifiers else None, "; ".join(words), by)


@contextmanager
def _counter() -> Iterator[Callable[[int, int], None]]:
    """Counts on standard error while the archive is searched; cleared when it ends. None where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("searching")
        yield lambda seen, found: bars.update(task, description=f"{seen:,} objects looked at, {found:,} affected")


def _as_data(found: Affected, notes: Sequence[Note]) -> dict[str, Any]:
    from residency.dicom.origin import RESULT_CLASSES

    by_study = {note.study_uid: note for note in notes}
    return {
        "digest": found.digest,
        "studies": [
            {
                "study": study_uid,
                "objects": [
                    {
                        "series": one.series_uid,
                        "sop_instance": one.sop_uid,
                        "sop_class": one.sop_class,
                        "kind": RESULT_CLASSES[one.sop_class],
                    }
                    for one in objects
                ],
                "rejection_note": by_study[study_uid].uid if study_uid in by_study else None,
                "note_was_present": by_study[study_uid].present if study_uid in by_study else None,
            }
            for study_uid, objects in found.objects.items()
        ],
        "not_judged": [{"series": uid, "problem": problem} for uid, problem in found.unreadable],
    }


def _print(found: Affected, notes: Sequence[Note], of: str) -> None:
    from residency.dicom.origin import RESULT_CLASSES

    by_study = {note.study_uid: note for note in notes}
    for study_uid, objects in found.objects.items():
        typer.echo(f"study {study_uid}")
        for one in objects:
            typer.echo(f"  {RESULT_CLASSES[one.sop_class]:<18} {one.sop_uid}  series {one.series_uid}")
        note = by_study.get(study_uid)
        if note is not None:
            typer.echo(f"  {'note, there before' if note.present else 'rejection note':<18} {note.uid}")
    typer.echo(f"{found.count} results in {len(found.objects)} studies of {of}")
    if found.count and not notes:
        typer.echo("nothing was changed; --reject stores a rejection note in each study")
