"""`residency nets`: the architectures that training knows, what each costs and where it comes from."""

from __future__ import annotations

import enum
import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from residency.cli.library import JsonOption
from residency.cli.lines import folded
from residency.errors import DependencyError, UsageError

_WORDS = {"segmentation": "segments", "classification": "classifies"}


class Task(enum.StrEnum):
    """What a net's scores are of."""

    SEGMENTATION = "segmentation"
    CLASSIFICATION = "classification"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("nets")(nets)


def nets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One net in full: settings, sizes, departures from its source.")
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option("--task", help="Only nets that score each voxel (segmentation), or each image (classification)."),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option("--dimensions", min=2, max=3, help="Only nets for 2D images (2), or for 3D volumes (3)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Every network architecture: parameters, work, source. A training file names one and sets what it likes.

    Parameters are those of the default setting: as counted here, and as published (a dash where no figure was; below
    the net stands who published it and what it includes). GMAC are thousands of millions of multiply-accumulates for
    one image of the grid shown: the size at which the source, or usual practice, runs the net; for nets of our own
    making a size that we chose. In a training file:

    net: {name: unet, parameters: {features: [16, 40, 96]}}
    """
    found = _described(name, task, dimensions)
    if as_json:
        typer.echo(json.dumps(found if name is None else found[0], indent=1, ensure_ascii=False))
    elif name is not None:
        typer.echo("\n".join(_page(found[0], _width())))
    elif found:
        typer.echo("\n".join(_list(found, _width())), nl=False)
    else:
        typer.echo("no net does that; 'residency nets' lists all of them")


def _described(name: str | None, task: Task | None, dimensions: int | None) -> list[dict[str, Any]]:
    if find_spec("torch") is None:
        raise DependencyError(
            "the nets are written in torch, which is not installed; in the checkout of Residency: "
            "pip install '.[train]'"
        )
    from residency.nets import NETS, named
    from residency.nets.table import described

    chosen = NETS.values() if name is None else [named(name)]
    found = [
        described(one)
        for one in chosen
        if (task is None or one.task == task) and (dimensions is None or one.dimensions == dimensions)
    ]
    if name is not None and not found:
        only = named(name)
        raise UsageError(
            f"'{name}' {_WORDS[only.task]} {only.dimensions}D images, which --task or --dimensions leaves out: "
            "give the name alone"
        )
    return found


def _list(found: list[dict[str, Any]], width: int) -> Iterator[str]:
    """By what they do; figures under each other, each net's source below it."""
    longest = max(len(net["name"]) for net in found)
    for does in dict.fromkeys(map(_does, found)):
        yield f"{does:{longest + 2}}{'parameters':>13}{'published':>13}{'GMAC':>9}  on grid"
        for net in found:
            if _does(net) == does:
                published = "-" if net["published"] is None else f"{net['published']:,}"
                figures = f"{net['trainable']:>13,}{published:>13}{_gmac(net):>9}  {_grid(net)}"
                yield f"  {net['name']:{longest}}{figures}"
                published = "" if net["published"] is None else f"; published count: {net['where']}"
                yield from folded(f"{net['source']}{published}", 6, width, hanging=0)
        yield ""


def _page(net: dict[str, Any], width: int) -> list[str]:
    """One net in full."""
    sides = f"multiples of {net['multiple']}" if net["multiple"] > 1 else "of any length"
    least = f" from {net['least']} on" if net["least"] > net["multiple"] else ""
    lines = [f"{net['title']}: {_does(net)}, {_scores(net)}"]
    facts = {
        "source": net["source"],
        "sides": f"{sides}{least}",
        "work": f"{_gmac(net)} GMAC for an image of {_channels(net['channels'])} on {_grid(net)}",
    }
    for key, value in facts.items():
        lines += folded(f"{key:<12}{value}", 2, width, hanging=12)
    lines += ["", "Settings and their defaults"]
    for each in net["settings"]:
        told = f"{each['name']} = {json.dumps(each['default'])}"
        lines += folded(f"{told}: {each['meaning']}" if each["meaning"] else told, 2, width, hanging=4)
    lines += ["", "Parameters"]
    for count in net["counts"]:
        lines += folded(_count(count), 2, width, hanging=4)
    for heading, key in (("Departures from the source", "departures"), ("Worth knowing", "remarks")):
        if net[key]:
            lines += ["", heading]
            lines += [line for sentence in net[key] for line in folded(f"- {sentence}", 2, width)]
    return lines


def _count(count: dict[str, Any]) -> str:
    setting = ", ".join(f"{key} = {json.dumps(value)}" for key, value in count["setting"].items()) or "by default"
    told = f"{setting}: {count['trainable']:,}"
    if count["statistics"]:
        told += f", and {count['statistics']:,} running statistics"
    if count["published"] is not None:
        told += f"; published {count['published']:,}"
    return told + (f" ({count['where']})" if count["where"] else "")


def _does(net: dict[str, Any]) -> str:
    return f"{_WORDS[net['task']]} {net['dimensions']}D"


def _scores(net: dict[str, Any]) -> str:
    return "a logit a class and voxel" if net["task"] == "segmentation" else "a logit a class and image"


def _gmac(net: dict[str, Any]) -> str:
    return f"{net['macs'] / 1e9:.2f}"


def _grid(net: dict[str, Any]) -> str:
    return " x ".join(map(str, net["grid"]))


def _channels(number: int) -> str:
    return "one channel" if number == 1 else f"{number} channels"


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 120)
