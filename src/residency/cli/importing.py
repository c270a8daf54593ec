"""`residency import`: networks that were trained elsewhere, as package folders."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from residency.cli.library import JsonOption
from residency.errors import DependencyError


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Bring in networks that were trained elsewhere. Their files are read as data; nothing in them is run.",
        no_args_is_help=True,
    )
    group.command("nnunet")(nnunet)
    app.add_typer(group, name="import")


def nnunet(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="TRAINER__PLANS__CONFIGURATION: plans.json, dataset.json, fold_K.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write, new or empty. Without it, only what was found is shown."),
    ] = None,
    fold: Annotated[
        list[str] | None, typer.Option("--fold", help="Fold to take (0, 1, ..., all); several are averaged.")
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Where slices, rows and columns of the training files led, such as SPL."),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average over mirror images too: up to 8 times the work.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """A results folder of nnU-Net v2: its network as graph.onnx, its preparation, and a card to fill in.

    The network is rebuilt from the plans and takes the weights strictly; the graph is proven on two engines. Imported
    are 3d_fullres and 3d_lowres with PlainConvUNet or ResidualEncoderUNet; anything else is refused by name. Each fold
    costs a pass, and --mirror up to eight a fold: begin with one fold, without.

    card.yaml lacks what no plan tells (codes, licences, intended use, golden case): fill in the lines marked FILL IN,
    then say 'residency models build'.
    """
    missing = [name for name in ("torch", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"importing needs {', '.join(missing)}; in the checkout of Residency: pip install '.[train]'"
        )
    from residency.train.importing.nnunet import described, find, write
    from residency.train.importing.template import TO_FILL_IN

    found = find(folder, fold or ())
    parities = write(found, out, letters=orientation, mirror=mirror) if out is not None else ()
    told = described(found) | {"to_fill_in": list(TO_FILL_IN), "written": str(out) if out is not None else None}
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    for key in ("dataset", "configuration", "net", "parameters", "channels", "classes", "window", "spacing_mm"):
        value = told[key]
        typer.echo(f"{key:<14}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    for one in told["folds"]:
        typer.echo(f"fold {one['name']:<9}{one['trainer']}, may be mirrored along axes {one['may_mirror'] or 'none'}")
    for note in told["differences"]:
        typer.echo(f"differs: {note}")
    for parity in parities:
        typer.echo(f"Parity holds: {parity}")
    if out is None:
        typer.echo("Nothing was written; --out FOLDER writes the package folder.")
        return
    typer.echo(f"Wrote {out}. Still to fill in there:")
    for line in TO_FILL_IN:
        typer.echo(f"- {line}")
