"""The part of `residency models` that looks back: every statement about a version, and what came from what."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.library import (
    ArchiveOption,
    JsonOption,
    ModelArgument,
    opened_library,
    short_digest,
    standing_words,
    write_file,
)
from residency.cli.statements import statement_data

if TYPE_CHECKING:
    from residency.files.tree import Tone
    from residency.models.lineage import Descent
    from residency.trust import Heard


def history(model: ModelArgument, archive: ArchiveOption = None, as_json: JsonOption = False) -> None:
    """Every statement about one version: who said what and when, how far it goes, whether it counts, and why not.

    'here' marks what this site remembers or decided itself; a withdrawal that is only here was deleted in the archive.
    """
    from residency.site import Site
    from residency.trust import hear, outweighed

    with opened_library(archive) as (_, library, settings):
        known = library.named(model)
        site = Site(settings.home)
        here = {s.text: s for s in site.statements() if s.statement.subject == known.digest}
        there = {s.text: s for s in library.statements if s.statement.subject == known.digest}
        broken = [b for b in library.unreadable if b.series_uid == known.series_uid]
        publisher = known.found.signature.key_id if known.found and known.found.signature else None
        heard = hear((here | there).values(), site.trust(), dt.datetime.now(dt.UTC), publisher=publisher)
    effect = outweighed(heard)
    places = [[n for n, held in (("archive", there), ("here", here)) if h.signed.text in held] for h in heard]
    if as_json:
        rows = [_heard_data(one, place, effect) for one, place in zip(heard, places, strict=True)]
        data = {"name": known.name, "digest": known.digest, "standing": standing_words(known), "statements": rows}
        data["unreadable"] = [{"instance": b.uid, "error": str(b.error)} for b in broken]
        typer.echo(json.dumps(data, indent=1))
        return
    typer.echo(f"{known.name}, {known.digest}\n{standing_words(known)}")
    if not heard:
        typer.echo("nobody has stated anything about it; 'residency models approve' does")
    for one, place in zip(heard, places, strict=True):
        _show(one, place, effect)
    for b in broken:
        typer.echo(f"warning: {b.error}")


def lineage(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]", help="Only trees with this family.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw it into an SVG file instead.")] = None,
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """What came from what, as a tree: superseding, fine-tuned, quantised, merged and converted versions.

    Each with what this site says of it now. A parent that the archive does not hold is shown by its digest.
    """
    from residency.files.tree import Branch, tree_svg, tree_text
    from residency.models.lineage import descent

    with opened_library(archive) as (_, library, _):
        found = descent(library, family)
    if as_json:
        typer.echo(json.dumps([_descent_data(one, found) for one in found], indent=1))
        return
    branches = [Branch(one.parent, _title(one), _note(one), _tone(one)) for one in found]
    if svg is not None:
        write_file(svg, tree_svg(branches, "Lineage of models").encode())
        typer.echo(f"{svg}")
    elif branches:
        typer.echo(tree_text(branches), nl=False)
    else:
        typer.echo("no models; 'residency models publish FOLDER --key KEY' brings one in")


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (("history", history), ("lineage", lineage))


def _why_not(heard: Heard, outweighed: str | None) -> str | None:
    """Why a statement has no effect; None where it has. outweighed: what takes it from every approval."""
    from residency.trust import Kind

    return heard.ignored or (outweighed if heard.kind in (Kind.APPROVED, Kind.RESTRICTED) else None)


def _heard_data(heard: Heard, places: Sequence[str], outweighed: str | None) -> dict[str, Any]:
    why_not = _why_not(heard, outweighed)
    outcome = {"by": heard.by, "counts": why_not is None, "why_not": why_not, "held": list(places)}
    return statement_data(heard.signed) | outcome


def _show(heard: Heard, places: Sequence[str], outweighed: str | None) -> None:
    """One statement in a few lines; the second says what it comes to."""
    from residency.trust import BY, in_utc

    statement = heard.signed.statement
    evidence = dict(statement.evidence)
    person = evidence.pop(BY, None)
    by = heard.by or f"key {heard.signed.signature.key_id.removeprefix('sha256:')[:12]}"
    if person and person != heard.by:
        by += f" ({person})"
    typer.echo(f"{in_utc(statement.issued)}  {statement.kind} by {by}, {statement.role}")
    limits = [f"for {statement.scope}"] if statement.scope else []
    limits += [f"until {in_utc(statement.expires)}"] if statement.expires else []
    why_not = _why_not(heard, outweighed)
    counts = "counts" if why_not is None else f"does not count: {why_not}"
    typer.echo(f"    {'; '.join([*limits, counts])} [{', '.join(places)}]")
    for line in (*statement.comment.splitlines(), *(f"{name}: {value}" for name, value in evidence.items())):
        typer.echo(f"    {line}")


def _title(one: Descent) -> str:
    if one.model is None or one.model.card is None:
        return f"{one.digest.removeprefix('sha256:')[:12]} (not in this archive)"
    identity = one.model.card.identity
    how = f" {one.relation}" if one.relation else ""
    return f"{identity.family} {identity.version}{how}"


def _note(one: Descent) -> str:
    if one.model is None:
        return ""
    others = "".join(f"; also {how} {of.removeprefix('sha256:')[:12]}" for how, of in one.others)
    return f"{short_digest(one.model)}: {standing_words(one.model)}{others}"


def _tone(one: Descent) -> Tone:
    from residency.files.tree import Tone

    if one.model is None:
        return Tone.ABSENT
    standing = one.model.standing
    if not standing.trusted:
        return Tone.REFUSED
    return Tone.GOOD if standing.approved else Tone.PLAIN


def _descent_data(one: Descent, all_of_them: Sequence[Descent]) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "name": one.model.name if one.model else None,
        "standing": standing_words(one.model) if one.model else None,
        "relation": one.relation or None,
        "parent": all_of_them[one.parent].digest if one.parent is not None else None,
        "others": [{"relation": how, "digest": of} for how, of in one.others],
    }
