"""What the registry knows of an architecture: who described it, what was counted there, what is different here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from residency.nets.net import Net


@dataclass(frozen=True)
class Count:
    """The size of one setting of an architecture, pinned by tests.

    setting     parameters of the builder; what is left out has the builder's default
    trainable   trainable parameters
    statistics  values of running statistics (means and variances; counters left out)
    published   the figure that was published, None where there is none
    where       who published it, or the table of the source; what it includes where it differs from `trainable`
    """

    setting: Mapping[str, Any]
    trainable: int
    statistics: int = 0
    published: int | None = None
    where: str = ""


@dataclass(frozen=True)
class Architecture:
    """One architecture of the registry.

    name        in a training file; lower case, words joined by "-"
    make        builder; takes `channels` and `classes` and the architecture's own parameters, all with the defaults of
                the source's main setting
    title       as a heading
    task        "segmentation": logits on the image's grid; "classification": one row of logits an image
    dimensions  of the grid: 2 or 3
    source      paper, and the figure, table or section followed
    counts      first the builder's defaults, then other settings that the source gives
    grid        sides at which the source, or usual practice, runs it, for nets of our own making sides that we chose:
                multiply-accumulates are counted there
    small       parameters that make it small enough for tests, same topology
    departures  known differences from the source, one sentence each
    remarks     what a reader should know before choosing it, one sentence each
    """

    name: str
    make: Callable[..., Net]
    title: str
    task: Literal["segmentation", "classification"]
    dimensions: int
    source: str
    counts: tuple[Count, ...]
    grid: tuple[int, ...]
    small: Mapping[str, Any]
    departures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())
