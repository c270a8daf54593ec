"""`residency trust`: whose signatures this site believes, and for what. Every change is the act of a person."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from residency.cli.library import LARGEST_KEY, JsonOption, read_file

if TYPE_CHECKING:
    from residency.site import Site
    from residency.trust import TrustedKey


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Keys that this site trusts. A fresh installation trusts nobody.", no_args_is_help=True)
    group.command("list")(list_keys)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("rotate")(rotate)
    group.command("new-key")(new_key)
    app.add_typer(group, name="trust")


def list_keys(as_json: JsonOption = False) -> None:
    """Every trusted key, what its holder may do, and since when."""
    keys = _site().trust().keys
    if as_json:
        typer.echo(json.dumps([_as_data(key) for key in keys], indent=1))
        return
    if not keys:
        typer.echo("nobody is trusted; 'residency trust add KEY.pub --role publisher --name NAME' adds a key")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Name", "Trusted as", "Since", "Key")
    for key in keys:
        since = (_since(key) or "")[:10]
        roles = ", ".join(sorted(key.roles)) + (f", retired {key.retired.at:%Y-%m-%d}" if key.retired else "")
        table.add_row(Text(key.name), roles, since, Text(key.key_id, overflow="fold"))
    Console().print(table)


def add(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The public key, a PEM file; by custom it ends in .pub.")],
    role: Annotated[
        list[str], typer.Option("--role", metavar="publisher|approver", help="What its holder may do here; repeatable.")
    ],
    name: Annotated[str, typer.Option("--name", help="Whose key this is, as it will be shown.")],
) -> None:
    """Trust a key: believe models signed by a publisher, and approvals signed by an approver."""
    from residency.errors import UsageError
    from residency.trust import Role, TrustedKey, public_from_pem

    allowed = {Role.PUBLISHER.value, Role.APPROVER.value}
    if set(role) - allowed:
        raise UsageError(f"--role is {' or '.join(sorted(allowed))}, got {', '.join(sorted(set(role) - allowed))}")
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise UsageError("--name needs 1 to 100 printable characters")
    trusted = TrustedKey(
        public_from_pem(read_file(key, LARGEST_KEY)),
        frozenset(Role(r) for r in role),
        name.strip(),
        dt.datetime.now(dt.UTC),
    )
    _site().add_key(trusted)
    typer.echo(f"{trusted.name} is trusted as {', '.join(sorted(role))}: {trusted.key_id}")


def remove(
    key_id: Annotated[
        str, typer.Argument(metavar="KEY_ID", help="As 'residency trust list' shows it, or how it begins.")
    ],
) -> None:
    """Trust a key no longer, at once and wholly: for a key that was lost, stolen or misused.

    Models signed with it can no longer be used here, and nothing that it approved counts. To replace a key that nobody
    misused, see 'residency trust rotate'.
    """
    site = _site()
    key = _key_of(key_id, site)
    freed = site.remove_key(key.key_id)
    typer.echo(f"{key.name} is trusted no longer: {key.key_id}")
    for digest in freed:
        typer.echo(f"it had restricted, suspended or revoked {digest}, which no longer counts", err=True)


def rotate(
    old: Annotated[
        str, typer.Argument(metavar="OLD", help="The key to retire: its id, or how it begins ('residency trust list').")
    ],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Its holder's new public key, a PEM file.")],
    archive: Annotated[
        list[str] | None,
        typer.Option(
            "--archive",
            help="An archive of models: its name in the settings, a folder, or a URL; repeatable.  [default: that of "
            "the settings]",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a key by its holder's new one, which is trusted for the same roles from now on.

    A signature bears no date that could be believed. So what the old key signed counts on if it lies in the archives
    now: it is read and noted here. Nothing else that it signs will count, but for restricting, suspending and revoking.
    Where another archive was forgotten, run it again with that one.
    """
    from residency.assemble import Role, models_of, open_archive, open_engine, open_site
    from residency.models.speak import signed_with
    from residency.settings import read_settings
    from residency.trust import public_from_pem

    public = public_from_pem(read_file(new, LARGEST_KEY))
    settings = read_settings().settings
    site, engine = open_site(settings), open_engine(settings)
    retiring, kept = _key_of(old, site), set[str]()
    places: list[str | None] = [*archive] if archive else [None]
    for place in places:
        opened = open_archive(place, settings, role=Role.MODELS, create=False)
        try:
            library = models_of(opened, site, engine, settings, index=site.index)
        finally:
            opened.close()
        kept |= signed_with(library, retiring, site.trust().hearing_withdrawals())
    kept |= {signed.digest for signed in site.statements() if signed.signature.key_id == retiring.key_id}
    made = site.rotate_key(retiring.key_id, public, kept=kept, now=dt.datetime.now(dt.UTC))
    if as_json:
        typer.echo(json.dumps({"retired": retiring.key_id, "kept": sorted(kept), "new": _as_data(made)}, indent=1))
        return
    typer.echo(f"{retiring.name} signs with {made.key_id} from now on, trusted as {', '.join(sorted(made.roles))}")
    typer.echo(f"retired: {retiring.key_id}; {len(kept)} manifests and statements of it count on")


def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub is made too.")],
) -> None:
    """Make an Ed25519 key pair. FILE is readable by you alone; give FILE.pub to those who shall trust you."""
    from residency.errors import UsageError
    from residency.site import new_file
    from residency.trust import SigningKey, public_pem

    public = file.with_name(file.name + ".pub")
    if public.exists():
        raise UsageError(f"{public} is there already: it is not replaced")
    key = SigningKey.new()
    try:
        new_file(file, key.pem())
        public.write_bytes(public_pem(key.public))
    except FileExistsError:
        raise UsageError(f"{file} is there already: a key is never replaced") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    typer.echo(f"private key: {file} (keep it secret)\npublic key:  {public}\nkey id:      {key.key_id}")


def _as_data(key: TrustedKey) -> dict[str, Any]:
    retired = {"at": key.retired.at.isoformat(), "successor": key.retired.successor} if key.retired else None
    roles = sorted(key.roles)
    return {"name": key.name, "key_id": key.key_id, "roles": roles, "since": _since(key), "retired": retired}


def _since(key: TrustedKey) -> str | None:
    """When a person trusted the key; None for this site's own, which nobody had to trust."""
    return key.since.isoformat() if key.since.year > 1970 else None


def _key_of(key_id: str, site: Site) -> TrustedKey:
    """The one key that a person trusted here whose id begins so. Raises UsageError for none and for several."""
    from residency.errors import UsageError
    from residency.trust import Role

    start = key_id.removeprefix("sha256:")
    keys = [key for key in site.trust().keys if key.roles - {Role.SITE}]
    found = [key for key in keys if start and key.key_id.removeprefix("sha256:").startswith(start)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{key.key_id} ({key.name})" for key in found)
        raise UsageError(f"{len(found)} keys begin with '{key_id}': {several}; give more of it")
    raise UsageError(f"the key {key_id} is not trusted here: see 'residency trust list'")


def _site() -> Site:
    from residency.settings import read_settings
    from residency.site import Site

    return Site(read_settings().settings.home)
