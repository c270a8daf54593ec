"""What is known of each net, as plain data: for the command line, the page of documents, JSON.

Counting the work of all nets takes seconds, so the counts lie in counted.json beside this file. `make docs` writes it,
and a test says that it is what the code gives. A net that is not in it yet is counted when it is asked for.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any, get_type_hints

from residency.nets.architecture import Architecture
from residency.nets.cost import macs, without_memory
from residency.nets.net import Net
from residency.wording import definitions

_COUNTED = "counted.json"


def counted(architecture: Architecture) -> dict[str, int]:
    """Of the builder's defaults: multiply-accumulates on the architecture's grid, channels, and what sides may be."""
    net = without_memory(architecture.make)
    return {
        "macs": macs(net, architecture.grid),
        "channels": net.channels,
        "multiple": net.multiple,
        "least": net.least,
    }


def described(architecture: Architecture, work: Mapping[str, int] | None = None) -> dict[str, Any]:
    """All that is known of an architecture, JSON-like; `work` as of `counted`, else as it lies there.

    trainable, statistics, published, where   of the builder's defaults
    macs, grid, channels                      multiply-accumulates for one image of this grid and these channels
    multiple, least                           each side is a multiple of the one and not below the other
    settings                                  parameters of the builder: name, default, meaning
    """
    default = architecture.counts[0]
    work = work or _counted_before().get(architecture.name) or counted(architecture)
    meanings = _meanings(architecture.make)
    parameters = inspect.signature(architecture.make).parameters
    return {
        "name": architecture.name,
        "title": architecture.title,
        "task": architecture.task,
        "dimensions": architecture.dimensions,
        "source": architecture.source,
        "trainable": default.trainable,
        "statistics": default.statistics,
        "published": default.published,
        "where": default.where,
        **work,
        "grid": list(architecture.grid),
        "settings": [
            {"name": name, "default": _plain(one.default), "meaning": meanings.get(name, "")}
            for name, one in parameters.items()
        ],
        "counts": [
            {
                "setting": {name: _plain(value) for name, value in one.setting.items()},
                "trainable": one.trainable,
                "statistics": one.statistics,
                "published": one.published,
                "where": one.where,
            }
            for one in architecture.counts
        ],
        "departures": list(architecture.departures),
        "remarks": list(architecture.remarks),
    }


@cache
def _counted_before() -> Mapping[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads(files(__package__).joinpath(_COUNTED).read_text(encoding="utf-8"))
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _meanings(make: Callable[..., Any]) -> dict[str, str]:
    """Parameter -> what the builder's documentation, or that of the net that it builds, says of it."""
    while isinstance(make, partial):
        make = make.func
    built = make if isinstance(make, type) else get_type_hints(make).get("return")
    found = {"channels": "of the image; training takes them from the data", "classes": "likewise"}
    for told in (*reversed(built.__mro__ if isinstance(built, type) else ()), make):
        if told is make or (isinstance(told, type) and issubclass(told, Net) and told is not Net):
            found |= definitions(told.__doc__)
    return found
