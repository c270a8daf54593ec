"""Charts as SVG, drawn by hand: a few lines and dots need no library, and a page must be closed to the outside.

Colours and sizes of type are the page's own (classes `c0` ... `c5`, `axis`, `guide`). Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
COLOURS = 6
"""Classes of colours that a page has."""

MOST_POINTS = 600
"""Most points of a line; longer ones are thinned by means."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """From values to places in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        """The place of a point, in the picture's units."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return _LEFT + across * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM)


def chart(title: str, across: str, up: str, frame: Frame, marks: Sequence[str], ticks: Sequence[str] = ()) -> str:
    """A picture with axes. `ticks` names the places 0, 1, ... of an axis of kinds; without, it is one of numbers."""
    parts = [*_grid(frame, ticks), *marks]
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, across, "middle"))
    parts.append(
        f'<text class="label" text-anchor="middle" transform="translate(12 {(HEIGHT - _BOTTOM + _TOP) / 2:.0f}) '
        f'rotate(-90)">{escape(up)}</text>'
    )
    return (
        f'<figure class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">'
        + "".join(parts)
        + f"</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def line(frame: Frame, points: Sequence[Point], colour: int, name: str = "") -> str:
    """Points joined in their order; with a name at its end."""
    places = [frame.at(*point) for point in thinned(points)]
    if not places:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = f'<polyline class="line c{colour % COLOURS}" points="{path}"/>'
    return drawn + (_text(places[-1][0] - 2, places[-1][1] - 6, name, "end") if name else "")


def dots(frame: Frame, points: Sequence[Point], colour: int, names: Sequence[str] = (), radius: float = 2.6) -> str:
    """A dot a point, which tells its name when pointed at."""
    drawn = []
    for number, point in enumerate(points):
        x, y = frame.at(*point)
        told = f"<title>{escape(names[number])}</title>" if names else ""
        drawn.append(
            f'<circle class="dot c{colour % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{told}</circle>'
        )
    return "".join(drawn)


def guide(frame: Frame, start: Point, end: Point) -> str:
    """A straight dashed line to compare with."""
    (x1, y1), (x2, y2) = frame.at(*start), frame.at(*end)
    return f'<line class="guide" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def span(frame: Frame, x: float, low: float, mean: float, high: float, colour: int) -> str:
    """An interval as an upright line with a bar at its mean."""
    (at, top), (_, bottom), (_, middle) = frame.at(x, high), frame.at(x, low), frame.at(x, mean)
    kind = f"span c{colour % COLOURS}"
    return (
        f'<line class="{kind}" x1="{at:.1f}" y1="{top:.1f}" x2="{at:.1f}" y2="{bottom:.1f}"/>'
        f'<line class="{kind}" x1="{at - 7:.1f}" y1="{middle:.1f}" x2="{at + 7:.1f}" y2="{middle:.1f}"/>'
    )


def covering(values: Sequence[float], *, low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """Round ends that hold all finite values, and `low` and `high` where they are given."""
    held = [value for value in values if math.isfinite(value)] + [end for end in (low, high) if end is not None]
    if not held:
        return 0.0, 1.0
    first, last = min(held), max(held)
    step = _step(first, last)
    return math.floor(first / step + 1e-9) * step, math.ceil(last / step - 1e-9) * step or first + step


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS`: means of neighbours where there are more; points that are not finite are left out."""
    held = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    together = -(-len(held) // MOST_POINTS)
    if together <= 1:
        return held
    cut = [held[k : k + together] for k in range(0, len(held), together)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in cut]


def _grid(frame: Frame, names: Sequence[str]) -> Iterator[str]:
    for value in _ticks(*frame.y):
        (x1, y), (x2, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
        yield f'<line class="axis" x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}"/>'
        yield _text(x1 - 6, y + 4, _said(value), "end")
    for value, said in enumerate(names) if names else ((value, _said(value)) for value in _ticks(*frame.x)):
        x, y = frame.at(value, frame.y[0])
        yield _text(x, y + 15, said, "middle")


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten: about five of them lie between the two."""
    wide = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(wide / 5))
    return next(power * times for times in (1, 2, 5, 10) if power * times * 6 >= wide)


def _said(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{round(value, 10):g}"


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'
