"""What a conversion did with each layer, or why it was refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from residency.errors import ConversionError

_NAMED = 5
"""Refusals that fit into one line."""


@dataclass(frozen=True)
class Row:
    """One layer.

    path     within the network, "" for the network itself
    was      class, and settings, before
    became   class, and settings, after
    outcome  "converted", or "kept" where the layer does in 3D what it did in 2D
    note     what a reader should know, "" for nothing
    """

    path: str
    was: str
    became: str
    outcome: Literal["converted", "kept"]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Every layer that computes, in the order of the network's names; containers are left out.

    to       the conversion asked for
    checked  shape of the image on which 2D and 3D network were compared, operation by operation, None if they were not
    notes    about the network as a whole
    """

    to: str
    rows: tuple[Row, ...]
    checked: tuple[int, ...] | None
    notes: tuple[str, ...] = ()

    @property
    def converted(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.outcome == "converted")

    def __str__(self) -> str:
        """Layers of one kind in one line; `rows` tells of each."""
        alike: dict[tuple[str, ...], list[Row]] = {}
        for row in self.converted:
            alike.setdefault((_class(row.was), _class(row.became), row.note), []).append(row)
        lines = [f"{len(self.converted)} of {len(self.rows)} layers converted to {self.to}"]
        for (was, became, note), rows in alike.items():
            told = f"{rows[0].was} -> {rows[0].became}" if len(rows) == 1 else f"{was} -> {became}, {len(rows)} layers"
            lines.append(f"  {_places(rows)}: {told}{f' ({note})' if note else ''}")
        return "\n".join([*lines, *self.notes])


def _class(layer: str) -> str:
    return layer.partition("(")[0]


def _places(rows: Sequence[Row]) -> str:
    first, *others = (row.path or "(the network itself)" for row in rows)
    return f"{first} ... {others[-1]}" if len(others) > 1 else ", ".join([first, *others])


@dataclass(frozen=True)
class Refusal:
    """One reason why a network cannot be converted.

    path       of the module at fault, "" for the network itself
    construct  what it is or does
    reason     why that has no counterpart in 3D
    advice     what to do
    """

    path: str
    construct: str
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path or '(the network itself)'}: {self.construct}: {self.reason}; {self.advice}"


class UnsuitedError(Exception):
    """Raised inside this package only: a layer has no counterpart, for `reason`; `advice` says what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason, self.advice = reason, advice


def refuse(what: str, refusals: Sequence[Refusal]) -> ConversionError:
    """The error that names the first of them, each module and construct once; its `places` are those of all."""
    told = {(one.path, one.construct, one.reason): one for one in reversed(refusals)}
    ordered = [one for one in refusals if told.pop((one.path, one.construct, one.reason), None)]
    more = f" And {len(ordered) - _NAMED} more." if len(ordered) > _NAMED else ""
    return ConversionError(
        f"{what} cannot be carried into 3D. {'. '.join(map(str, ordered[:_NAMED]))}.{more}",
        places=tuple(dict.fromkeys(one.path for one in ordered)),
    )
