"""`residency import`: networks that were trained elsewhere, as package folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from residency.cli.library import JsonOption
from residency.errors import DependencyError

OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder to write, new or empty. Without it, only what was found is shown."),
]
CardOption = Annotated[
    Path | None,
    typer.Option("--card", metavar="FILE", help="YAML with fields of the card that only a person can give."),
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        help="Bring in networks that were trained elsewhere. Their files are read as data; nothing in them is run.",
        no_args_is_help=True,
    )
    group.command("nnunet")(nnunet)
    group.command("monai")(monai)
    app.add_typer(group, name="import")


def nnunet(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="TRAINER__PLANS__CONFIGURATION: plans.json, dataset.json, fold_K.", show_default=False
        ),
    ],
    out: OutOption = None,
    folds: Annotated[
        str | None,
        typer.Option("--folds", "--fold", help="Folds to take, such as 0 or 0,1,2 or all; several are averaged."),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Where slices, rows and columns of the training files led, such as SPL."),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror/--no-mirror", help="Average over mirror images too: up to 8 times the work.")
    ] = False,
    card: CardOption = None,
    as_json: JsonOption = False,
) -> None:
    """A results folder of nnU-Net v2: its network as graph.onnx, its preparation, and a card to fill in.

    The network is rebuilt from the plans and takes the weights strictly; the graph is proven on two engines. Imported
    are 3d_fullres and 3d_lowres with PlainConvUNet or ResidualEncoderUNet; anything else is refused by name. Each fold
    costs a pass, and --mirror up to eight a fold: begin with one fold, without.

    card.yaml lacks what no plan tells (codes, licences, intended use, golden case): give it with --card, or fill in the
    lines marked FILL IN; then say 'residency models build'.

    Example: residency import nnunet nnUNetTrainer__nnUNetPlans__3d_fullres --folds all --orientation SAL --out mine
    """
    _needs_training_extra()
    from residency.train.importing.draft import read_given
    from residency.train.importing.nnunet import described, find, write
    from residency.train.importing.written import must_be_new

    if out is not None:
        must_be_new(out)  # before anything that takes long
    found = find(folder, [name.strip() for name in folds.split(",")] if folds else ())
    given = read_given(card) if card is not None else None
    written = write(found, out, letters=orientation, mirror=mirror, given=given) if out is not None else None
    told = described(found) | {"to_fill_in": list(written.lacking) if written else None}
    told |= {"passes_a_window": written.passes if written else None, "written": str(out) if out is not None else None}
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    _print(told, ("dataset", "configuration", "net", "parameters", "channels", "classes", "window", "spacing_mm"))
    for one in told["folds"]:
        typer.echo(f"fold {one['name']:<9}{one['trainer']}, may be mirrored along axes {one['may_mirror'] or 'none'}")
    if written is not None:
        typer.echo(f"Each window costs {written.passes} pass{'es' if written.passes > 1 else ''} of the network.")
    _print_end(told["differences"], written.parities if written else (), written.lacking if written else (), out)


def monai(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A MONAI bundle: its folder, or its zip.", show_default=False)
    ],
    out: OutOption = None,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Where the axes of the training files led, such as RAS, if no config says."),
    ] = None,
    card: CardOption = None,
    as_json: JsonOption = False,
) -> None:
    """A MONAI bundle: its network as graph.onnx, its preparation and decision, and a card to fill in.

    Read are metadata.json, configs/inference.json and models/model.onnx, or else a state dict for a network of MONAI
    that is on our list. Expressions ('$...') are text and never evaluated; TorchScript is refused. A transform that has
    no exact equal here is refused by name.

    What no bundle tells (codes, licences, golden case ...) is listed: give it with --card, or fill in the lines marked
    FILL IN of card.yaml; then say 'residency models build'.

    Example: residency import monai spleen_ct_segmentation.zip --card what-i-know.yaml --out models/spleen
    """
    _needs_training_extra()
    from residency.train.importing.draft import read_given
    from residency.train.importing.monai import described, read_bundle, write_bundle
    from residency.train.importing.written import must_be_new

    if out is not None:
        must_be_new(out)  # before anything that takes long
    found = read_bundle(bundle, given=read_given(card) if card is not None else None, letters=orientation)
    if out is not None:
        write_bundle(found, out)
    told = described(found) | {"written": str(out) if out is not None else None}
    if as_json:
        typer.echo(json.dumps(told, indent=1))
        return
    _print(told, ("bundle", "network", "parameters", "channels", "classes", "window", "steps", "decision"))
    _print_end(found.notes, found.parities, found.lacking, out)


def _needs_training_extra() -> None:
    missing = [name for name in ("torch", "monai", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"importing needs {', '.join(missing)}; in the checkout of Residency: pip install '.[train]'"
        )


def _print(told: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        value = told[key]
        typer.echo(f"{key:<14}{', '.join(map(str, value)) if isinstance(value, list) else value}")


def _print_end(notes: Sequence[str], parities: Sequence[object], lacking: Sequence[str], out: Path | None) -> None:
    for note in notes:
        typer.echo(f"differs: {note}")
    for parity in parities:
        typer.echo(f"Parity holds: {parity}")
    if out is None:
        typer.echo("Nothing was written; --out FOLDER writes the package folder.")
        return
    typer.echo(f"Wrote {out}." + (" Still to fill in there:" if lacking else " Next: residency models build"))
    for line in lacking:
        typer.echo(f"- {line}")
