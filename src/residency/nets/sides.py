"""Which grids a net takes: of what each side is a multiple, and how long it is at least. Without torch."""

from __future__ import annotations

from collections.abc import Sequence

Side = tuple[int, int]
"""(multiple, least) of an axis."""


def of_strides(reductions: Sequence[int]) -> tuple[Side, ...]:
    """Of each axis of a net whose strides come to these reductions.

    The coarsest grid must have more than one voxel, since an instance norm of one is nothing: one axis is twice its
    reduction, of a net that treats all alike each.
    """
    alike = len(set(reductions)) == 1
    shallow = min(range(len(reductions)), key=lambda axis: reductions[axis])
    return tuple((by, 2 * by if alike or axis == shallow else by) for axis, by in enumerate(reductions))


def fit(sides: Sequence[int], needed: Sequence[Side]) -> bool:
    """Whether a net that needs these takes a grid of these sides."""
    return all(side % by == 0 and side >= least for side, (by, least) in zip(sides, needed, strict=True))


def nearest(sides: Sequence[int], needed: Sequence[Side]) -> list[int]:
    """The sides that are taken and nearest to these."""
    return [max(round(side / by) * by, -(-least // by) * by) for side, (by, least) in zip(sides, needed, strict=True)]


def in_words(needed: Sequence[Side]) -> str:
    """As "sides of at least 8 that are multiples of 4", by axis where axes differ."""
    leasts, multiples = [max(each) for each in needed], [by for by, _ in needed]
    of = f" that are multiples of {_short(multiples)}" if max(multiples) > 1 else ""
    return f"sides of at least {_short(leasts)}{of}"


def _short(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else " x ".join(map(str, numbers))
