"""The command line: one file a command group; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from residency import __version__
from residency.errors import ResidencyError

_GROUPS = (
    "run",
    "doctor",
    "models",
    "trust",
    "rules",
    "archive",
    "results",
    "review",
    "plan",
    "train",
    "validate",
    "optimise",
    "nets",
    "importing",
    "config",
    "demo",
)


class _Commands(TyperGroup):
    """All commands. What they say of a wrong value begins with the value, not with the library that looked at it."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer has a context of its own above it
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="residency",
    cls=_Commands,
    help="Trained networks live in the DICOM archive, are chosen by coded labels, and answer as DICOM. "
    "Research use only; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich alone would take half of the time to print it
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"residency {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _group in _GROUPS:
    importlib.import_module(f"residency.cli.{_group}").register(app)


def main() -> None:
    """Run the command line. A foreseen error is one line on standard error and its class's exit status."""
    try:
        app()
    except ResidencyError as error:
        typer.echo(f"residency: {error}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        place = f" for {error.filename}" if error.filename else ""
        typer.echo(f"residency: there is no space left{place}: make room, and repeat the command", err=True)
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python would still write there at its end
        sys.exit(ResidencyError.exit_status)
