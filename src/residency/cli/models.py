"""`residency models`: the networks in an archive, and packages on their way into and out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli import history, statements
from residency.cli.affected import register as register_affected
from residency.cli.library import (
    LARGEST_KEY,
    NAME_HELP,
    ArchiveOption,
    JsonOption,
    NameArgument,
    model_data,
    name_and_version,
    opened_library,
    read_file,
    short_digest,
    standing_words,
    write_file,
)

if TYPE_CHECKING:
    from residency.models import KnownModel
    from residency.package import ModelPackage

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A package folder: manifest.json and payloads.")]

_LARGEST_FILE = 1 << 30


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="List, inspect, publish, verify and export models; build packages; approve, withdraw and go back.",
        no_args_is_help=True,
    )
    commands: tuple[tuple[str, Callable[..., None]], ...] = (
        ("list", list_models),
        ("inspect", inspect),
        ("card", card),
        ("publish", publish),
        ("export", export),
        ("verify", verify),
        ("build", build),
        *statements.COMMANDS,
        *history.COMMANDS,
    )
    for name, command in commands:
        group.command(name)(command)
    register_affected(group)
    app.add_typer(group, name="models")


def list_models(archive: ArchiveOption = None, as_json: JsonOption = False) -> None:
    """Every model of the archive and how far this site trusts it; also unusable ones, and why."""
    with opened_library(archive) as (_, library, _):
        found = library.models
    for broken in library.unreadable:
        typer.echo(f"warning: {broken.error}", err=True)
    if as_json:
        typer.echo(json.dumps([model_data(model) for model in found], indent=1))
        return
    if not found:
        typer.echo("no models; 'residency models publish FOLDER --key KEY' brings one in")
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from residency.standing import Approval

    table = Table("Model", "Version", Column("Digest", no_wrap=True), "Standing here")
    for model in found:
        table.add_row(*(Text(cell) for cell in (*name_and_version(model), short_digest(model), standing_words(model))))
    Console().print(table)
    for model in found:
        problem = model.standing.problem or model.standing.failed
        if problem:
            typer.echo(f"{short_digest(model) or model.name}: {problem}")
    if any(m.standing.problem is None and m.standing.approval is Approval.NONE for m in found):
        typer.echo("What nobody approved here runs with --allow-unapproved only, and its results say so.")


def inspect(
    target: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A DICOM file, or: " + NAME_HELP)],
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """What an object holds: a model of the archive, a package folder, one DICOM file of a model, or a legacy file.

    A file in IODeep's layout is reported and never opened: its weights are a pickle, which is code. Exit status 12.
    """
    path = Path(target)
    if path.is_file():
        found = _inspect_file(path)
    elif path.is_dir():
        from residency.models import read_folder

        found = _package_data(read_folder(path))
    else:
        with opened_library(archive) as (_, library, _):
            model = library.named(target)
            found = model_data(model) | {"payloads": _payloads(model), "missing": list(model.missing)}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        for key, value in found.items():
            _print_value(key, value)
    if "refused" in found:
        raise typer.Exit(12)


def card(
    name: NameArgument,
    archive: ArchiveOption = None,
    pdf: Annotated[Path | None, typer.Option("--pdf", metavar="FILE", help="Write the page as PDF instead.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The model card as a readable page: what it is for, what it needs, how good it is, where it comes from."""
    from residency.card.page import card_page
    from residency.errors import ModelError

    if Path(name).is_dir():
        from residency.models import read_folder

        package = read_folder(Path(name))
        shown, digest = package.card, package.digest
    else:
        with opened_library(archive) as (_, library, _):
            model = library.named(name)
        if model.card is None:
            raise model.error or ModelError(f"{name} has no readable card")
        shown, digest = model.card, model.digest
    if as_json:
        typer.echo(json.dumps(json.loads(shown.model_dump_json()), indent=1))
    elif pdf is not None:
        from residency.files.pdf import page_pdf

        write_file(pdf, page_pdf(card_page(shown, digest), shown.identity.publisher.name))
        typer.echo(f"{pdf}")
    else:
        typer.echo(card_page(shown, digest).text(), nl=False)


def publish(
    folder: FolderArgument,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Your private key (residency trust new-key).")],
    archive: ArchiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a package and store it in the archive; the manifest last, so that it is there whole or not at all.

    Run it again after an interruption: what is there is not sent twice.
    """
    from dataclasses import asdict
    from functools import partial

    from residency.assemble import Role, open_archive
    from residency.cli.run import progress_bar
    from residency.models import publish as publish_package
    from residency.models import read_folder
    from residency.settings import read_settings
    from residency.trust import SigningKey

    package = read_folder(folder)
    signing = SigningKey.from_pem(read_file(key, LARGEST_KEY))
    place = open_archive(archive, read_settings().settings, role=Role.MODELS)
    try:
        with progress_bar(shown=not as_json) as watch:
            done = publish_package(place, package, signing, progress=watch and partial(watch, "", "publish"))
    finally:
        place.close()
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"key_id": signing.key_id}, indent=1))
        return
    typer.echo(f"{package.card.identity.name} {package.card.identity.version} is in {place.url}")
    typer.echo(f"digest {done.digest}\nseries {done.series_uid}")
    typer.echo(f"{done.stored} instances stored, {done.present} there before; signed with {signing.key_id}")
    if done.coerced:
        typer.echo(
            "the archive filed it under another Patient ID: it is found while nothing lies under the library's own",
            err=True,
        )


def export(
    name: NameArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; made if it is not there.")],
    archive: ArchiveOption = None,
    monai: Annotated[
        bool, typer.Option("--monai", help="As a MONAI bundle: metadata.json, inference.json, model.onnx.")
    ] = False,
) -> None:
    """Fetch a model, verify it, and write its manifest and payloads to a folder.

    NAME may be a package folder, too: residency models export models/hippocampus bundles/hippocampus --monai
    """
    from residency.models import fetch, read_folder, write_files, write_folder
    from residency.site import Site

    if Path(name).is_dir():
        package = read_folder(Path(name))
    else:
        with opened_library(archive) as (place, library, settings):
            site = Site(settings.home)
            package = fetch(place, library.named(name), site.trust(), cache=site.packages)
    if monai:
        from residency.files.monai import to_monai

        files, notes = to_monai(package)
        write_files(folder, files)
        for note in notes:
            typer.echo(f"differs: {note}")
    else:
        write_folder(folder, package)
    typer.echo(f"{package.card.identity.name} {package.card.identity.version}, {package.digest}: {folder}")


def verify(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help=NAME_HELP + " Without: all models.")] = None,
    archive: ArchiveOption = None,
    golden: Annotated[bool, typer.Option("--golden", help="Also replay the golden case on this machine.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything again, from the archive's bytes: signature, manifest, parts, digests, graph.

    A package folder has no signature; the rest is checked. Exit status 12 if anything fails.
    """
    from residency.errors import ModelError

    rows = []
    for shown, check in _to_verify(name, archive, golden):
        try:
            rows.append({"model": shown, "ok": True, "found": check()})
        except ModelError as error:
            rows.append({"model": shown, "ok": False, "found": str(error), "error": type(error).__name__})
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            typer.echo(f"{'ok      ' if row['ok'] else 'REFUSED '} {row['model']}: {row['found']}")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(12)


def build(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="card.yaml, graph.onnx, golden-*.nii.gz, licence.txt.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Where the package goes.  [default: FOLDER]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a package: check the card and the graph, digest every payload, write manifest.json.

    training.json and evaluation.json, where they are, complete the card. The same files give the same digest.
    """
    from residency.models import build as build_from
    from residency.models import write_folder

    package = build_from(folder)
    write_folder(output or folder, package)
    if as_json:
        typer.echo(json.dumps(_package_data(package), indent=1))
    else:
        typer.echo(f"{package.card.identity.name} {package.card.identity.version}: {package.digest}")


def _to_verify(name: str | None, archive: str | None, golden: bool) -> Iterator[tuple[str, Any]]:
    """(what, check) pairs; a check returns words or raises ModelError."""
    if name is not None and Path(name).is_dir():
        from residency.models import read_folder

        yield name, lambda: _verified(read_folder(Path(name)), golden)
        return
    from residency.models import fetch
    from residency.site import Site

    with opened_library(archive, indexed=False) as (place, library, settings):
        trust = Site(settings.home).trust()
        for model in [library.named(name)] if name is not None else library.models:
            shown = f"{model.name} {model.digest.removeprefix('sha256:')[:12]}"
            yield shown, lambda model=model: _verified(fetch(place, model, trust), golden)


def _verified(package: ModelPackage, golden: bool) -> str:
    from residency.models import check_package

    facts = check_package(package)
    said = f"{len(package.payloads)} payloads, {facts.nodes} nodes, {facts.parameters:,} parameters"
    if not golden:
        return said
    from residency.assemble import open_engine
    from residency.models import admit
    from residency.pipeline import replay
    from residency.settings import read_settings

    settings = read_settings().settings
    passed = admit(package, open_engine(settings), settings.precision, replay=replay)
    return f"{said}; golden case: {passed.in_words()}"


def _inspect_file(path: Path) -> dict[str, Any]:
    from residency.dicom.legacy import inspect_legacy
    from residency.dicom.model_object import ManifestObject, PartObject
    from residency.dicom.model_read import decode
    from residency.package import parse_manifest

    data = read_file(path, _LARGEST_FILE)
    legacy = inspect_legacy(data)
    if legacy is not None:
        return {
            "layout": "IODeep (legacy)",
            **dict(legacy.claims),
            "holds": legacy.holds,
            "would_import": list(legacy.imports),
            "refused": legacy.refused,
        }
    found = decode(data)
    if isinstance(found, ManifestObject):
        manifest = parse_manifest(found.text)
        signed = found.signature.key_id if found.signature else "nobody"
        card = manifest.card.identity
        return {
            "kind": "manifest",
            "model": f"{card.name} {card.version}",
            "digest": found.digest,
            "signed_by": signed,
            "payloads": [f"{e.name}: {e.role}, {e.length:,} bytes" for e in manifest.payloads],
        }
    if isinstance(found, PartObject):
        return {
            "kind": "part",
            "digest": found.digest,
            "part": found.index,
            "payload": found.payload,
            "offset": found.offset,
            "bytes": len(found.data),
        }
    return {"kind": "statement", **json.loads(found.signed.text)}


def _package_data(package: ModelPackage) -> dict[str, Any]:
    identity = package.card.identity
    return {
        "name": f"{identity.name} {identity.version}",
        "family": identity.family,
        "licence": package.card.licences.weights,
        "digest": package.digest,
        "publisher": identity.publisher.name,
        "payloads": [f"{e.name}: {e.role}, {e.length:,} bytes" for e in package.manifest.payloads],
    }


def _payloads(model: KnownModel) -> list[str]:
    entries = model.manifest.payloads if model.manifest else ()
    return [f"{e.name}: {e.role}, {e.length:,} bytes" for e in entries]


def _print_value(key: str, value: Any) -> None:
    lines = value if isinstance(value, list) else [value]
    for number, line in enumerate(lines):
        if line not in (None, ""):
            typer.echo(f"{key.replace('_', ' ') if number == 0 else '':<16} {line}")
