"""Long text in lines of the screen's width."""

from __future__ import annotations

import textwrap

_NARROWEST = 40
"""Columns; on a narrower screen lines are not broken further."""


def folded(text: str, indent: int, width: int, hanging: int = 2) -> list[str]:
    """Text in lines of at most `width` columns, all but the first `hanging` columns further in."""
    margin = " " * indent
    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=margin,
        subsequent_indent=margin + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
