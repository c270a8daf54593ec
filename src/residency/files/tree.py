"""A forest as lines of text and as an SVG picture; text comes from strangers and is only ever text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.sax.saxutils import escape


class Tone(StrEnum):
    """How a branch is meant; the picture colours it, the words beside it say the same."""

    PLAIN = "plain"
    GOOD = "good"
    REFUSED = "refused"
    ABSENT = "absent"


@dataclass(frozen=True)
class Branch:
    """One line of a forest in reading order. parent: place of an earlier branch, or None at a root."""

    parent: int | None
    title: str
    note: str = ""
    tone: Tone = Tone.PLAIN


def tree_text(branches: Sequence[Branch]) -> str:
    """Lines with box drawing characters; a root begins at the margin."""
    lines = []
    for at, branch in enumerate(branches):
        bars: list[str] = []
        child = at
        while (parent := branches[child].parent) is not None:
            last = not any(other.parent == parent for other in branches[child + 1 :])
            bars.append(("└─ " if last else "├─ ") if child == at else ("   " if last else "│  "))
            child = parent
        note = f"  {branch.note}" if branch.note else ""
        lines.append("".join(reversed(bars)) + branch.title + note + "\n")
    return "".join(lines)


_ROW, _STEP, _MARGIN, _SIZE = 44, 28, 16, 13
_WIDE = 0.62
"""Width of a character of the sans-serif faces that viewers use, as a part of its size; wide enough for most texts."""
_COLOURS = {Tone.PLAIN: "#4a5568", Tone.GOOD: "#276749", Tone.REFUSED: "#9b2c2c", Tone.ABSENT: "#a0aec0"}


def tree_svg(branches: Sequence[Branch], title: str) -> str:
    """An SVG 1.1 picture of its own size, without script, style sheet or outside reference."""
    depths: list[int] = []
    for branch in branches:
        depths.append(0 if branch.parent is None else depths[branch.parent] + 1)
    ends = [_STEP * depths[at] + _SIZE * _WIDE * max(len(b.title), len(b.note)) for at, b in enumerate(branches)]
    width, height = int(2 * _MARGIN + 20 + max(ends, default=200)), 2 * _MARGIN + _ROW * len(branches)
    drawn = [_drawn(at, branch, depths) for at, branch in enumerate(branches)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="sans-serif" font-size="{_SIZE}">\n<title>{escape(title)}</title>\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "".join(drawn) + "</svg>\n"
    )


def _drawn(at: int, branch: Branch, depths: Sequence[int]) -> str:
    x, y = _MARGIN + depths[at] * _STEP, _MARGIN + at * _ROW + 14
    colour = _COLOURS[branch.tone]
    line = ""
    if branch.parent is not None:
        px, py = _MARGIN + depths[branch.parent] * _STEP + 5, _MARGIN + branch.parent * _ROW + 19
        line = f'<path d="M{px} {py}V{y}H{x}" fill="none" stroke="#a0aec0"/>\n'
    return (
        f'{line}<circle cx="{x + 5}" cy="{y}" r="5" fill="{colour}"/>\n'
        f'<text x="{x + 18}" y="{y + 4}" font-weight="bold">{escape(branch.title)}</text>\n'
        f'<text x="{x + 18}" y="{y + 20}" fill="{colour}">{escape(branch.note)}</text>\n'
    )
