"""The pictures of a page of evidence: dots of cases, reliability, learning curves, sections of the worst cases."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from residency.metrics import error_of
from residency.train.evidence.figures import score
from residency.train.evidence.found import Evidence
from residency.train.evidence.pictures import MARGIN_MM, Line, Section, colours
from residency.train.evidence.rows import Row, distances_in
from residency.train.pages.charts import COLOURS, Frame, chart, covering, dots, guide, line, span
from residency.train.pages.tables import plain

MOST_CHARTED = 6
"""Most classes that a chart tells apart."""

MOST_DOTS = 1500


@dataclass(frozen=True)
class Logged:
    """One line of a run's log."""

    step: int
    loss: float | None
    figure: float | None = None
    crops_second: float | None = None
    waiting_share: float | None = None


@dataclass(frozen=True)
class Curve:
    """How one run learnt, and after which step its weights were chosen."""

    name: str
    log: tuple[Logged, ...]
    chosen_at: int


def of_cases(evidence: Evidence) -> str:
    """Each case as a dot: its Dice by class with the interval of the mean, and its volumes."""
    if evidence.classifies:
        return _charts([_given(evidence)])
    names = evidence.classes[1 : 1 + MOST_CHARTED]
    return _charts([_strip(evidence, names), _volumes(evidence, names)])


def of_calibration(evidence: Evidence) -> str:
    """What was said against what was found."""
    if not evidence.reliability:
        return ""
    frame = Frame((0, 1), (0, 1))
    drawn = []
    for number, (name, bins) in enumerate(list(evidence.reliability.items())[:MOST_CHARTED]):
        cases = sum(one.cases for one in bins)
        error = error_of(bins)
        points = [(one.said, one.found) for one in bins]
        told = [f"{one.cases:,}: said {one.said:.3f}, found {one.found:.3f}" for one in bins]
        what = "cases" if evidence.classifies else "voxels near it"
        drawn.append(
            chart(
                f"{name}: {cases:,} {what}, expected calibration error {error:.3f}",
                "probability that was said",
                "share that was found",
                frame,
                [guide(frame, (0, 0), (1, 1)), line(frame, points, number), dots(frame, points, number, told, 3.5)],
            )
        )
    said = "On the dashed line, 0.8 means 80 %. Below it the network is too sure, above it too careful."
    return _charts(drawn) + f'<p class="dim">{said}</p>'


def of_learning(curves: Sequence[Curve], chosen_by: str) -> str:
    """Loss and validation over the steps, and how fast it went; each run in a colour of its own."""
    every = [one for curve in curves for one in curve.log]
    if not every:
        return ""
    drawn = [_lines(("Loss on what is learnt from", "loss"), curves, lambda one: one.loss)]
    if any(one.figure is not None for one in every):
        chosen = ", ".join(f"{curve.name} {curve.chosen_at:,}".strip() for curve in curves)
        said = (f"{chosen_by} on the persons held out; chosen: step {chosen}", chosen_by)
        drawn.append(_lines(said, curves, lambda one: one.figure, chosen=True))
    if any(one.crops_second is not None for one in every):
        waited = [one.waiting_share for one in every if one.waiting_share is not None]
        idle = f"; {100 * sum(waited) / len(waited):.1f} % of the time was waited for data" if waited else ""
        drawn.append(_lines((f"Crops a second{idle}", "crops a second"), curves, lambda one: one.crops_second, low=0))
    return _charts(drawn)


def _lines(
    said: tuple[str, str],
    curves: Sequence[Curve],
    value: Callable[[Logged], float | None],
    *,
    low: float | None = None,
    chosen: bool = False,
) -> str:
    """A line a run. `said` is the title and what goes up; `chosen` marks the step whose weights were chosen."""
    points = [
        [(float(one.step), found) for one in curve.log if (found := value(one)) is not None and math.isfinite(found)]
        for curve in curves
    ]
    steps = covering([0.0, *(float(one.step) for curve in curves for one in curve.log)])
    frame = Frame(steps, covering([found for held in points for _, found in held], low=low))
    marks = []
    for number, (curve, held) in enumerate(zip(curves, points, strict=True)):
        colour = number if len(curves) > 1 else 1
        marks.append(line(frame, held, colour, curve.name))
        if chosen:
            told = [f"{curve.name} step {step:,.0f}: {found:.4f}".strip() for step, found in held]
            marks.append(dots(frame, held, colour, told))
            marks.insert(0, guide(frame, (curve.chosen_at, frame.y[0]), (curve.chosen_at, frame.y[1])))
    return chart(said[0], "step", said[1], frame, marks)


def legend(classes: Sequence[str]) -> str:
    """What the lines of the sections mean."""
    drawn = '<svg viewBox="0 0 22 10" aria-hidden="true"><path d="M1 5h20" stroke="{}" stroke-width="2"/></svg>'
    marks = "".join(
        f"<span>{drawn.format(_css(colour))} {escape(name)}</span>"
        for name, colour in zip(classes[1:], colours(classes), strict=True)
    )
    return (
        f'<div class="legend">{marks}</div><p class="dim">In colour: the network. White, dashed: the reference. '
        "Sections where the two differ most, axial, cropped to the structure; what lies farther than "
        f"{MARGIN_MM:g} mm from it is left black.</p>"
    )


def worst_case(row: Row, sections: Sequence[Section]) -> str:
    """A case with its figures and its sections."""
    far = distances_in(row.unit)
    figures = "; ".join(
        f"{name}: Dice {plain(of['dice'])}, HD95 {plain(of['hd95'])} {far}, volume error {plain(of['volume_error'])} "
        f"{row.unit}"
        for name, of in list(row.figures.items())[:MOST_CHARTED]
    )
    drawn = "".join(map(_section, sections))
    return (
        f'<div class="case"><h3>{escape(row.case)}: mean Dice {plain(score(row))}</h3><p class="dim">{escape(figures)}'
        f'</p><div class="sections">{drawn}</div></div>'
    )


def _section(one: Section) -> str:
    wide = max(one.rows, one.columns) / 90
    picture = base64.b64encode(one.png).decode()
    paths = "".join(_outline(line, wide) for line in sorted(one.lines, key=lambda line: line.wanted))
    return (
        f'<figure><svg viewBox="0 0 {one.columns} {one.rows * one.aspect:.3f}" role="img" '
        f'aria-label="Section {one.number}"><g transform="scale(1 {one.aspect:.6f})"><image width="{one.columns}" '
        f'height="{one.rows}" preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>{paths}</g></svg>'
        f"<figcaption>Section {one.number}</figcaption></figure>"
    )


def _outline(one: Line, wide: float) -> str:
    """The answer in its colour; the reference white and dashed, so that both are seen where they run together."""
    if not one.wanted:
        return f'<path class="outline" d="{one.path}" stroke="{_css(one.colour)}" stroke-width="{wide:.3f}"/>'
    return (
        f'<path class="outline" d="{one.path}" stroke="#fff" stroke-width="{wide * 0.6:.3f}" '
        f'stroke-dasharray="{wide * 1.8:.3f} {wide * 1.8:.3f}"/>'
    )


def _strip(evidence: Evidence, names: Sequence[str]) -> str:
    frame = Frame((-0.6, len(names) - 0.4), (0, 1))
    marks = []
    for k, name in enumerate(names):
        points, told = [], []
        for number, row in enumerate(evidence.rows[:MOST_DOTS]):
            value = row.figures[name]["dice"]
            if not math.isnan(value):
                points.append((k + 0.3 * (_spread(number) - 0.5), value))
                told.append(f"{row.case}: {value:.3f}")
        marks.append(dots(frame, points, k, told))
        for figure in evidence.figures:
            if figure.kind == "dice" and figure.of == name:
                found = figure.interval
                marks.append(span(frame, k + 0.28, found.low, found.mean, found.high, k))
    title = "Dice of each case, and the 95 % interval of the mean"
    return chart(title, "class", "Dice", frame, marks, [name[:18] for name in names])


def _volumes(evidence: Evidence, names: Sequence[str]) -> str:
    rows, unit = evidence.rows[:MOST_DOTS], evidence.rows[0].unit
    points = {name: [(wanted, said - wanted) for said, wanted in (row.volumes[name] for row in rows)] for name in names}
    every = [point for held in points.values() for point in held]
    frame = Frame(covering([x for x, _ in every], low=0.0), covering([y for _, y in every], low=0.0, high=0.0))
    marks = [guide(frame, (frame.x[0], 0.0), (frame.x[1], 0.0))]
    for k, (name, held) in enumerate(points.items()):
        told = [f"{row.case}, {name}: {error:+.3f} {unit}" for row, (_, error) in zip(rows, held, strict=True)]
        marks.append(dots(frame, held, k, told))
    return chart("Volume error by volume", f"reference, {unit}", f"predicted minus reference, {unit}", frame, marks)


def _given(evidence: Evidence) -> str:
    frame = Frame((-0.6, len(evidence.classes) - 0.4), (0, 1))
    marks = []
    for k in range(len(evidence.classes)):
        rows = [row for row in evidence.rows if row.truth == k][:MOST_DOTS]
        points = [(k + 0.5 * (_spread(number) - 0.5), score(row)) for number, row in enumerate(rows)]
        marks.append(dots(frame, points, k % COLOURS, [f"{row.case}: {score(row):.3f}" for row in rows]))
    names = [name[:18] for name in evidence.classes]
    return chart("Probability that each case's own class was given", "what it is", "probability", frame, marks, names)


def _spread(number: int) -> float:
    """0..1, evenly spread and always the same: dots side by side can be told apart (golden ratio)."""
    return (number * 0.6180339887) % 1.0


def _charts(drawn: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(drawn)}</div>'


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
