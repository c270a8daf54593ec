"""What the commands about models share: the options, the library of an archive, and a model in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from residency.archive import Archive
    from residency.models import KnownModel, Library
    from residency.settings import Settings

ArchiveOption = Annotated[
    str | None,
    typer.Option(
        "--archive",
        help="The archive: its name in the settings, a folder, or a URL.  [default: that of the settings]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NAME_HELP = "A model of the archive: family, name, digest (or how it begins) or manifest UID; or a package folder."
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=NAME_HELP)]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Family (its newest version), 'family version', or how the digest begins. One version."
    ),
]

_PROBLEMS = {
    "UntrustedKeyError": "publisher not trusted",
    "UnsignedError": "not signed",
    "RevokedError": "withdrawn",
    "IncompleteError": "incomplete",
    "StrippedError": "private block missing: stripped or anonymised in transit",
}
"""What `models list` says of a model that cannot be used, by the error; anything else: cannot be used."""


LARGEST_KEY = 64 * 1024
"""Bytes of a key's file that are read."""


@contextmanager
def opened_library(archive: str | None, *, indexed: bool = True) -> Iterator[tuple[Archive, Library, Settings]]:
    """The archive of models, what is in it, and the settings. indexed: what was read before need not be read again."""
    from residency.assemble import Role, models_of, open_archive, open_engine, open_site
    from residency.settings import read_settings

    settings = read_settings().settings
    place = open_archive(archive, settings, role=Role.MODELS, create=False)
    try:
        site = open_site(settings)
        index = site.index if indexed else None
        yield place, models_of(place, site, open_engine(settings), settings, index=index), settings
    finally:
        place.close()


def model_data(model: KnownModel) -> dict[str, Any]:
    """A model as JSON says it."""
    from residency.standing import last_day

    standing = model.standing
    return {
        "name": model.name,
        "family": family_of(model),
        "licence": licence_of(model),
        "digest": model.digest,
        "publisher": standing.publisher,
        "problem": standing.problem or standing.failed,
        "error": type(model.error).__name__ if model.error else None,
        "admitted": standing.admitted,
        "approval": str(standing.approval),
        "approved_by": standing.approved_by,
        "scope": standing.scope,
        "expired": last_day(standing.expired).isoformat() if standing.expired else None,
        "superseded": standing.superseded,
        "unreadable": standing.unread,
        "coerced": model.coerced,
        "signed_by": model.found.signature.key_id if model.found and model.found.signature else None,
        "study": model.study_uid,
        "series": model.series_uid,
        "manifest": model.manifest_uid,
    }


def family_of(model: KnownModel) -> str:
    """Family, or nothing for what cannot be read."""
    return model.card.identity.family if model.card else ""


def licence_of(model: KnownModel) -> str:
    """Licence of the weights in words."""
    if model.card is None:
        return ""
    licences = model.card.licences
    return licences.weights + (", research only" if licences.research_only else "")


def short_digest(model: KnownModel) -> str:
    """The first twelve digits."""
    return model.digest.removeprefix("sha256:")[:12]


def name_and_version(model: KnownModel) -> tuple[str, str]:
    """Two cells of a table."""
    return (model.card.identity.name, model.card.identity.version) if model.card else (model.name, "")


def other_versions(library: Library, model: KnownModel) -> list[KnownModel]:
    """The other versions of its family by the same publisher, newest first."""
    if model.card is None:
        return []
    own = model.card.identity
    cards = [(one, one.card.identity) for one in library.by_digest.values() if one.card and one.digest != model.digest]
    found = [(one, its) for one, its in cards if (its.family, its.publisher.id) == (own.family, own.publisher.id)]
    return [one for one, its in sorted(found, key=lambda pair: pair[1].sequence, reverse=True)]


def version_words(model: KnownModel) -> str:
    """A version in a list of them: "1.0.0 (0123456789ab), approved by Dr A, admitted"."""
    return f"{name_and_version(model)[1]} ({short_digest(model)}), {standing_words(model)}"


def standing_words(model: KnownModel) -> str:
    """In a word or two; what to do about a problem is said below the table."""
    from residency.standing import last_day

    standing = model.standing
    if standing.problem:
        return _PROBLEMS.get(type(model.error).__name__, "cannot be used")
    parts = [str(standing.approval) + (f" by {standing.approved_by}" if standing.approved_by else "")]
    if standing.scope:
        parts.append(f"for {standing.scope}")
    if standing.expired and not standing.approved and not standing.withdrawn:
        parts.append(f"the approval expired on {last_day(standing.expired)}")
    if standing.superseded:
        parts.append("superseded")
    parts.append("admitted" if standing.admitted else "golden case failed" if standing.failed else "not admitted yet")
    if standing.unread:
        parts.append(f"{standing.unread} unreadable beside it")
    if model.coerced:
        parts.append("coerced: the archive filed it under another patient")
    return ", ".join(parts)


def check_person(by: str | None) -> None:
    """Raises UsageError for what --by cannot say: the name stands in an object that cannot be changed."""
    from residency.errors import UsageError

    if by is not None and (not by.strip() or len(by) > 64 or not by.isprintable()):
        raise UsageError("--by needs 1 to 64 printable characters")


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file of the user. Raises UsageError where it cannot be read or is longer than `most`."""
    from residency.errors import UsageError
    from residency.files.bounded import read_bounded

    try:
        return read_bounded(path, most)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file of the user. Raises UsageError."""
    from residency.errors import UsageError

    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
