"""The part of `residency models` by which people decide: approve, restrict, suspend, revoke, evaluate, go back, admit.

Each of them stores a signed statement beside the model; nothing is ever overwritten. `residency models history` shows
them all.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.library import (
    LARGEST_KEY,
    ArchiveOption,
    JsonOption,
    ModelArgument,
    opened_library,
    other_versions,
    read_file,
    version_words,
)

if TYPE_CHECKING:
    from residency.archive import Archive
    from residency.models import KnownModel
    from residency.models.speak import Voice
    from residency.site import Site
    from residency.standing import Scope
    from residency.trust import Kind, SignedStatement

KeyOption = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Your private key; this site must trust its public half.")
]
AeOption = Annotated[
    list[str] | None,
    typer.Option("--scope-ae", metavar="AE", help="Only for studies that this application entity sent; repeatable."),
]
ModalityOption = Annotated[
    list[str] | None, typer.Option("--scope-modality", metavar="CODE", help="Only for this modality; repeatable.")
]
PurposeOption = Annotated[
    str | None, typer.Option("--purpose", metavar="TEXT", help="Only for runs with exactly this --purpose.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="DATE", help="Last day that it counts, YYYY-MM-DD in UTC.  [default: no end]"),
]
CommentOption = Annotated[str, typer.Option("--comment", metavar="TEXT", help="A remark; everybody can read it.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; everybody can read it.")]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who you are.  [default: as the site calls your key]")
]

_LARGEST_REPORT = 1 << 30


def approve(
    model: ModelArgument,
    key: KeyOption,
    scope_ae: AeOption = None,
    scope_modality: ModalityOption = None,
    purpose: PurposeOption = None,
    expires: ExpiresOption = None,
    comment: CommentOption = "",
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve one version for use at this site, perhaps only for some modality, sender or purpose, or for a time.

    It covers this digest alone: no later version, and nothing derived from it. With several approvals, any that fits
    the series and the run will do. Approving again puts a version that was superseded in front again. Nothing approves
    what was suspended or revoked.
    """
    from residency.trust import Kind

    scope = _scope(scope_ae, scope_modality, purpose)
    asked = _Asked(model, key, archive, as_json, by)
    _state(Kind.APPROVED, asked, scope=scope, expires=_last_moment(expires), comment=comment)


def restrict(
    model: ModelArgument,
    key: KeyOption,
    scope_ae: AeOption = None,
    scope_modality: ModalityOption = None,
    purpose: PurposeOption = None,
    expires: ExpiresOption = None,
    comment: CommentOption = "",
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Narrow every approval of one version, earlier and later ones, to some modality, sender or purpose.

    A restriction approves nothing by itself, and is remembered at the site like a withdrawal. It ends only by its date.
    """
    from residency.errors import UsageError
    from residency.trust import Kind

    scope = _scope(scope_ae, scope_modality, purpose)
    if scope is None:
        raise UsageError("a restriction needs --scope-modality, --scope-ae or --purpose: what is it still good for?")
    asked = _Asked(model, key, archive, as_json, by)
    _state(Kind.RESTRICTED, asked, scope=scope, expires=_last_moment(expires), comment=comment)


def suspend(
    model: ModelArgument,
    key: KeyOption,
    reason: ReasonOption,
    expires: ExpiresOption = None,
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take one version out of use, until a date where one is given. It wins over every approval.

    Other versions of the family stay as they are; the answer names them.

    Remembered at this site: deleting the statement in the archive, or bringing back an older copy of the archive, does
    not undo it. Approvers may suspend any model, a publisher its own.
    """
    from residency.trust import Kind

    asked = _Asked(model, key, archive, as_json, by)
    _state(Kind.SUSPENDED, asked, expires=_last_moment(expires), comment=_said(reason))


def revoke(
    model: ModelArgument,
    key: KeyOption,
    reason: ReasonOption,
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take one version out of use for good. There is no way back: publish a new version instead.

    Remembered at this site, like a suspension. From then on the newest other version that is approved is used; the
    answer names the other versions of the family.
    """
    from residency.trust import Kind

    _state(Kind.REVOKED, _Asked(model, key, archive, as_json, by), comment=_said(reason))


def evaluate(
    model: ModelArgument,
    key: KeyOption,
    report: Annotated[
        Path,
        typer.Option("--report", metavar="FILE", help="The report; its name and SHA-256 are signed."),
    ],
    result: Annotated[
        list[str] | None, typer.Option("--result", metavar="NAME=VALUE", help="A figure of the report; repeatable.")
    ] = None,
    comment: CommentOption = "",
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """State that one version was evaluated, with which result and which report. It approves nothing."""
    from residency.errors import UsageError
    from residency.package import digest_of
    from residency.trust import Kind

    evidence = {"report": report.name, "report sha256": digest_of(read_file(report, _LARGEST_REPORT))}
    for figure in result or ():
        name, equals, value = figure.partition("=")
        if not equals or not name.strip() or not value.strip() or name.strip() in evidence:
            raise UsageError(f"--result is NAME=VALUE, each name once; got '{figure}'")
        evidence[name.strip()] = value.strip()
    _state(Kind.EVALUATED, _Asked(model, key, archive, as_json, by), evidence=evidence, comment=comment)


def rollback(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="The family to go back in.")],
    key: KeyOption,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="Version or digest.  [default: the approved one before]"),
    ] = None,
    comment: CommentOption = "",
    by: ByOption = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to an older version of a family: approve it again, and put it before the newer ones.

    Only what is approved here is approved again, within the same limits and until the same end. The newer versions stay
    usable by name; each becomes first again when it is approved again. Suspended and revoked versions are refused. Run
    it again after an interruption.
    """
    from residency.assemble import open_site
    from residency.models.speak import plan_rollback
    from residency.trust import Kind

    with opened_library(archive) as (place, library, settings):
        site = open_site(settings)
        speaker = _Speaker(_voice(key, site), place, site, by)
        plan = plan_rollback(library, family, speaker.voice, to)
        done = [
            speaker.say(Kind.APPROVED, plan.target, scope=before.scope, expires=before.expires, comment=comment)
            for before in plan.approvals
        ]
        done += [
            speaker.say(Kind.SUPERSEDED, newer, comment=comment, evidence={"rollback to": plan.target.digest})
            for newer in plan.over
        ]
    if as_json:
        typer.echo(json.dumps([statement_data(signed) for signed in done], indent=1))
        return
    typer.echo(f"{plan.target.name} is approved again: {plan.target.digest}")
    for newer in plan.over:
        typer.echo(f"{newer.name} is superseded and stands behind it: {newer.digest}")
    if not plan.over:
        typer.echo("no newer version was in use")


def admit(model: ModelArgument, archive: ArchiveOption = None, as_json: JsonOption = False) -> None:
    """Replay a model's golden case on this machine now, and record how it came out, signed with this site's own key.

    That happens by itself before a model first runs on an engine version, precision and kind of CPU; a model that
    failed is not offered there until this command finds that it passes. Exit status 12 where it fails.
    """
    from residency.assemble import admit_here, open_engine, open_site
    from residency.models import fetch

    with opened_library(archive) as (place, library, settings):
        known = library.named(model)
        site = open_site(settings)
        package = fetch(place, known, site.trust(), cache=site.packages)
        passed = admit_here(package, site, open_engine(settings), settings)
    if as_json:
        typer.echo(json.dumps({"digest": passed.digest, **passed.evidence()}, indent=1))
        return
    typer.echo(f"{known.name} is admitted: {passed.in_words()}")
    typer.echo(f"on {passed.runs_on.engine}, {passed.runs_on.precision}, {passed.runs_on.cpu}")


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("approve", approve),
    ("restrict", restrict),
    ("suspend", suspend),
    ("revoke", revoke),
    ("evaluate", evaluate),
    ("rollback", rollback),
    ("admit", admit),
)


@dataclass(frozen=True)
class _Asked:
    """What every command that states something is given."""

    model: str
    key: Path
    archive: str | None
    as_json: bool
    by: str | None


def _state(kind: Kind, asked: _Asked, **fields: Any) -> None:
    """Make one statement, store it, remember it here, and say what was done."""
    from residency.assemble import open_site
    from residency.trust import Kind, in_utc

    with opened_library(asked.archive) as (place, library, settings):
        model, site = library.named(asked.model), open_site(settings)
        others = other_versions(library, model)
        signed = _Speaker(_voice(asked.key, site), place, site, asked.by).say(kind, model, **fields)
    if asked.as_json:
        typer.echo(json.dumps(statement_data(signed), indent=1))
        return
    statement = signed.statement
    limits = f" for {statement.scope}" if statement.scope else ""
    until = f", until {in_utc(statement.expires)}" if statement.expires else ""
    typer.echo(f"{model.name} is {kind}{limits}{until}: {model.digest}")
    typer.echo(f"signed with {signed.signature.key_id}")
    if kind in (Kind.SUSPENDED, Kind.REVOKED):
        for other in others:
            typer.echo(f"not covered, stays as it is: {version_words(other)}")


@dataclass(frozen=True)
class _Speaker:
    voice: Voice
    archive: Archive
    site: Site
    by: str | None

    def say(self, kind: Kind, model: KnownModel, **fields: Any) -> SignedStatement:
        """Raises UsageError for text that a statement cannot hold."""
        from pydantic import ValidationError

        from residency.errors import ArchiveError, UsageError
        from residency.models import publish_statement
        from residency.models.speak import speak
        from residency.trust import BY, WITHDRAWALS, Statement

        role, known = self.voice.role(kind), self.voice.trust.get(self.voice.key.key_id)
        evidence = {BY: self.by or (known.name if known else "?"), **fields.pop("evidence", {})}
        try:
            statement = Statement(
                kind=kind,
                subject=model.digest,
                issuer=self.voice.key.key_id,
                role=role,
                issued=self.voice.now,
                evidence=evidence,
                **fields,
            )
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "statement"
            raise UsageError(f"this cannot be stated: {where}: {first['msg']}") from None
        signed = speak(model, statement, self.voice)
        self.site.remember([signed])  # first: a withdrawal holds here also where the archive takes nothing
        try:
            publish_statement(self.archive, model, signed)
        except ArchiveError:
            if kind in WITHDRAWALS:
                typer.echo("it counts at this site; the archive did not take it, so state it again", err=True)
            raise
        return signed


def _voice(key: Path, site: Site) -> Voice:
    from residency.models.speak import Voice
    from residency.trust import SigningKey

    return Voice(SigningKey.from_pem(read_file(key, LARGEST_KEY)), site.trust(), dt.datetime.now(dt.UTC))


def _scope(ae_titles: list[str] | None, modalities: list[str] | None, purpose: str | None) -> Scope | None:
    from pydantic import ValidationError

    from residency.codes import modality, nearest_modality
    from residency.errors import UsageError
    from residency.standing import Scope

    for code in modalities or ():
        if modality(code) is None:
            near = nearest_modality(code)
            raise UsageError(
                f"--scope-modality: '{code}' is no modality of DICOM (CID 29)"
                + (f"; did you mean {near.value} ({near.meaning})?" if near else "; CT, MR and US are some")
            )
    try:
        scope = Scope(ae_titles=tuple(ae_titles or ()), modalities=tuple(modalities or ()), purpose=purpose)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{first['loc'][0]}: '{first['input']}' cannot be a limit; an AE title has 1 to 16 characters"
        ) from None
    return None if scope == Scope() else scope


def _said(reason: str) -> str:
    """A reason for a withdrawal. Raises UsageError for an empty one: it stands there for good."""
    from residency.errors import UsageError

    if not reason.strip():
        raise UsageError("--reason is empty: say why, everybody who looks at the model will ask")
    return reason.strip()


def _last_moment(day: str | None) -> dt.datetime | None:
    """The end of a day in UTC. Raises UsageError for what is no date, or past."""
    from residency.errors import UsageError

    if day is None:
        return None
    try:
        end = dt.datetime.combine(dt.date.fromisoformat(day), dt.time(), dt.UTC) + dt.timedelta(days=1)
    except (ValueError, OverflowError):
        raise UsageError(f"--expires is a date such as 2027-01-31, got '{day}'") from None
    if end <= dt.datetime.now(dt.UTC):
        raise UsageError(f"--expires {day} is past: the statement would never count")
    return end


def statement_data(signed: SignedStatement) -> dict[str, Any]:
    """A statement as JSON says it: its own fields, its digest, and the key."""
    return {"statement": signed.digest, "key_id": signed.signature.key_id, **json.loads(signed.text)}
