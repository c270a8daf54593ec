"""Tables and numbers of a page. Cells are HTML: made by `text`, `number` and `right`, which escape what they show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from residency.metrics import Interval

NONE = "\u2013"
"""Stands where there is no number."""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, sortable: bool = False) -> str:
    """A table; nothing without rows. The head of a column of numbers begins with >."""
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    if not body:
        return ""
    head = "".join(
        f'<th class="n">{escape(one[1:])}</th>' if one[:1] == ">" else f"<th>{escape(one)}</th>" for one in heads
    )
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of (what, text)."""
    body = "".join(f'<tr><th class="key" scope="row">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in rows)
    return f"<table><tbody>{body}</tbody></table>"


def text(said: str, hint: str = "") -> str:
    """A cell of words; `hint` is shown when it is pointed at."""
    told = f' title="{escape(hint, quote=True)}"' if hint else ""
    return f"<td{told}>{escape(said)}</td>"


def right(said: str) -> str:
    """A cell at the right."""
    return f'<td class="n">{escape(said)}</td>'


def number(value: float | None) -> str:
    """A cell of a number, sorted by the number itself."""
    if value is None or math.isnan(value):
        return f'<td class="n" data-v="">{NONE}</td>'
    key = f"{math.copysign(1e300, value):g}" if math.isinf(value) else f"{value:.6g}"
    return f'<td class="n" data-v="{key}">{plain(value)}</td>'


def plain(value: float) -> str:
    """A number for people."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "\u221e" if value > 0 else "-\u221e"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def ends(found: Interval) -> str:
    """An interval for people; of one person there is none."""
    if found.persons < 2:
        return NONE
    return f"{plain(found.low)} to {plain(found.high)}"
