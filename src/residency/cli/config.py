"""`residency config`: the effective settings and where each value came from."""

from __future__ import annotations

import json

import typer


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Show the effective settings.", no_args_is_help=True)
    group.command("show")(show)
    app.add_typer(group, name="config")


def show(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Print every setting, its value and where it came from: default, file, or environment variable."""
    from residency.settings import read_settings

    read = read_settings()
    values = read.settings.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps({k: {"value": v, "from": read.origins[k]} for k, v in values.items()}, indent=1))
        return
    for key, value in values.items():
        typer.echo(f"{key} = {value!r}  ({read.origins[key]})")
