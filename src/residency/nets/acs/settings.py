"""What the arguments of ACS convolutions may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from residency.nets.acs.geometry import Triple

Kind = Literal["hard", "soft", "mean"]
Pair = int | tuple[int, int]


NO_SCRIPT = (
    "torch.jit.script cannot take an ACS convolution: fold the network (residency.nets.acs.fold) and script that, "
    "or export it with torch.export or torch.jit.trace"
)


def check_channels(inputs: int, outputs: int, groups: int) -> None:
    """Raises ValueError unless the groups divide the channels."""
    if min(inputs, outputs, groups) < 1 or inputs % groups or outputs % groups:
        raise ValueError(f"{groups} groups do not divide {inputs} input and {outputs} output channels")


def pair(name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    """(row, column). Raises ValueError for anything but whole numbers of at least `least`."""
    sides: tuple[object, ...] = (value, value) if isinstance(value, int) else tuple(value)
    match sides:
        case (int(rows), int(columns)) if min(rows, columns) >= least:
            return rows, columns
    raise ValueError(f"{name} must be one or two whole numbers of at least {least}, got {value!r}")


def checked_split(kind: Kind, split: Sequence[int] | None, outputs: int) -> Triple | None:
    """The split, or None for a kind that has none. Raises ValueError for one that does not share out the outputs."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind '{kind}' is none of {', '.join(get_args(Kind))}")
    if kind != "hard":
        if split is not None:
            raise ValueError(f"a split is of kind 'hard' only, not of '{kind}'")
        return None
    if split is None:
        return thirds(outputs)
    if len(split) != 3 or min(split) < 0 or sum(split) != outputs:
        raise ValueError(f"split {tuple(split)} does not share {outputs} outputs out among three views")
    first, second, third = split
    return first, second, third


def thirds(outputs: int) -> Triple:
    """The outputs by view: as equal as can be, the axial first to get one more, then the coronal."""
    each, rest = divmod(outputs, 3)
    return each + (rest > 0), each + (rest > 1), each
