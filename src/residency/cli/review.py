"""`residency review`: what people say of results, stored as objects of their own beside them."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.archive import ArchiveOption
from residency.cli.library import check_person

if TYPE_CHECKING:
    from residency.dicom.assessment import Assessment, Verdict

ResultArgument = Annotated[
    str, typer.Argument(metavar="RESULT", help="UID of a result (Segmentation, report ...), or of the series of one.")
]
SegmentOption = Annotated[int | None, typer.Option("--segment", help="Number of one segment.  [default: all of it]")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in words; it stands in the object.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who says so; the name stands in the object.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LONGEST_REASON = 1000
_INCOMPLETE = 13


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Accept or reject results; nothing is overwritten, and the latest counts.", no_args_is_help=True
    )
    group.command("accept")(accept)
    group.command("reject")(reject)
    group.command("list")(list_assessments)
    app.add_typer(group, name="review")


def accept(
    result: ResultArgument,
    reason: ReasonOption,
    segment: SegmentOption = None,
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a result is right. The assessment is stored beside the result, which stays as it is."""
    from residency.dicom.assessment import Verdict

    _assess(Verdict.ACCEPTED, result, (reason, by, segment), archive, as_json)


def reject(
    result: ResultArgument,
    reason: ReasonOption,
    segment: SegmentOption = None,
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a result is wrong. The assessment is stored beside the result, which stays as it is."""
    from residency.dicom.assessment import Verdict

    _assess(Verdict.REJECTED, result, (reason, by, segment), archive, as_json)


def list_assessments(
    target: Annotated[str, typer.Argument(metavar="STUDY|RESULT", help="UID of a study, a result, or its series.")],
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every assessment of a study's results or of one result, the oldest first, and which of them count.

    Exit status 13 where a document could not be read, which may be an assessment.
    """
    from residency.archive import Level, Query
    from residency.assemble import Role, open_archive
    from residency.review import assessments_in, result_named
    from residency.settings import read_settings

    with closing(open_archive(archive, read_settings().settings, role=Role.RESULTS, create=False)) as place:
        if any(row.study_uid == target for row in place.find(Level.STUDY, Query(study_uid=target))):
            known = assessments_in(place, target)
        else:
            row = result_named(target, place)
            known = assessments_in(place, row.study_uid, about=[row.sop_uid])
    if as_json:
        typer.echo(json.dumps([_as_data(one) | {"counts": one in known.latest} for one in known.found], indent=1))
    else:
        for one in known.found:
            later = "" if one in known.latest else "  (a later one counts)"
            typer.echo(f"{one.subject.sop_uid}  {one}{later}")
        if not known.found:
            typer.echo("nobody has assessed it; 'residency review accept' and 'residency review reject' do")
    for uid, problem in known.unreadable:
        typer.echo(f"cannot be read: {uid}: {problem}", err=True)
    raise typer.Exit(_INCOMPLETE if known.unreadable else 0)


def _assess(
    verdict: Verdict, result: str, said: tuple[str, str | None, int | None], archive: str | None, as_json: bool
) -> None:
    from residency.assemble import Role, open_archive
    from residency.dicom.assessment import Opinion
    from residency.errors import UsageError
    from residency.review import assess, result_named
    from residency.settings import read_settings

    reason, by, segment = said
    if not reason.strip() or len(reason) > _LONGEST_REASON:
        raise UsageError(f"--reason needs 1 to {_LONGEST_REASON} characters")
    check_person(by)
    opinion = Opinion(verdict, reason.strip(), dt.datetime.now().astimezone(), by, segment)
    with closing(open_archive(archive, read_settings().settings, role=Role.RESULTS, create=False)) as place:
        stored = assess(place, result_named(result, place), opinion)
    if as_json:
        typer.echo(json.dumps(_as_data(stored), indent=1))
    else:
        typer.echo(f"{stored.subject.sop_uid}  {stored}\nstored as {stored.uid}")


def _as_data(one: Assessment) -> dict[str, Any]:
    said = one.opinion
    return {
        "assessment": one.uid,
        "study": one.study_uid,
        "result": one.subject.sop_uid,
        "segment": said.segment,
        "verdict": str(said.verdict),
        "reason": said.reason,
        "by": said.by,
        "at": said.at.isoformat(),
    }
