"""A result as a few pages of pixels, for viewers that show neither segmentations nor reports.

Every page says that nobody has verified what is on it. Slices are shown as they were acquired, or, where the caller
says so, as axial sections; never as a rendering of the surface, which on a head would be a face. No patient is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from residency.codes import Code
from residency.files.colours import told_apart
from residency.files.lettering import shown, spelled
from residency.files.measurements import NO_UNIT, decimals
from residency.files.picture import Colour, Outline, Rgb, grey, pixel_aspect, slices_to_show, tile
from residency.files.sheet import AMBER, DIM, GAP, INK, MARGIN, MEDIUM, SMALL, WIDTH, Sheet, Summary
from residency.findings import ClassScore, Findings, Measurement, Picture, ScoreMap, Segment
from residency.labels import Side
from residency.measure import (
    AREA,
    ASYMMETRY,
    CUBIC_MILLIMETRE,
    INTRACRANIAL_SHARE,
    LONGEST_DIAMETER,
    LONGEST_DIAMETER_IN_PLANE,
    MILLILITRE,
    VOLUME,
)

MOST_KEY_SLICES = 6
MOST_PAGES = 16
_ROW = 26
_ROWS_BESIDE_PICTURE, _ROWS_A_PAGE = 10, 28
_TILES, _SECTIONS = 12, 4
_COLUMNS = 4
_NAMES = {
    VOLUME: "volume",
    AREA: "area",
    LONGEST_DIAMETER: "longest diameter",
    LONGEST_DIAMETER_IN_PLANE: "long axis",
    ASYMMETRY: "asymmetry",
    INTRACRANIAL_SHARE: "of ICV",
}
_SIDES = {Side.LEFT: "left", Side.RIGHT: "right", None: "side unknown"}


def summary_pages(summary: Summary) -> tuple[Picture, ...]:
    """The overview, key slices of the largest segments, class probabilities, maps, and measurements left over."""
    planned = list(_planned(summary))[:MOST_PAGES]
    pages = []
    for number, draw in enumerate(planned, start=1):
        sheet = Sheet(summary, number, len(planned))
        title, slices = draw(sheet)
        pages.append(Picture(np.asarray(sheet.image), title, slices, summary.orientation if slices else None))
    return tuple(pages)


def outlines(findings: Findings) -> tuple[Outline, ...]:
    """The segments with names that can be drawn, in colours that can be told apart and seen on grey."""
    colours = told_apart([segment.colour for segment in findings.segments])
    return tuple(
        Outline(_name(segment.label, segment.type), colour, segment.mask)
        for segment, colour in zip(findings.segments, colours, strict=True)
    )


_Draw = Callable[["Sheet"], tuple[str, tuple[int, ...]]]


def _planned(summary: Summary) -> Iterator[_Draw]:
    findings = summary.findings
    marked = outlines(findings)
    rows = _rows(findings, marked)
    if findings.segments or not (findings.classes or findings.maps):
        yield partial(_overview, marked=marked, rows=rows)
        for k, numbers in _key_slices(findings.segments) if summary.volume.grid.shape[0] > 1 else ():
            yield partial(_key_slice, marked=marked, k=k, numbers=numbers)
    for start in range(0, len(findings.classes), _ROWS_A_PAGE // 2):
        yield partial(_classes, scores=_ranked(findings.classes)[start : start + _ROWS_A_PAGE // 2])
    for score_map in findings.maps:
        yield partial(_map, score_map=score_map)
    for start in range(_ROWS_BESIDE_PICTURE, len(rows), _ROWS_A_PAGE):
        yield partial(_measurements, rows=rows[start : start + _ROWS_A_PAGE])


@dataclass(frozen=True)
class _Row:
    """One line of the table of measurements: values by (quantity, unit)."""

    label: str
    colour: Colour | None
    values: dict[tuple[str, str], float]


def _overview(sheet: Sheet, marked: Sequence[Outline], rows: Sequence[_Row]) -> tuple[str, tuple[int, ...]]:
    beside = rows[:_ROWS_BESIDE_PICTURE]
    warned = min(len(sheet.summary.findings.warnings), 4)
    below = (len(beside) + 1) * _ROW + warned * (SMALL + 8) + (_ROW if len(rows) > len(beside) else 0) + 12
    volume = sheet.summary.volume
    chosen = slices_to_show([one.mask for one in marked], volume.grid.shape[0], _TILES, margin=0)
    _montage(sheet, chosen, marked, sheet.bottom - below)
    if rows:
        _table(sheet, beside)
    else:
        sheet.line("Nothing was found." if not marked else "Nothing was measured.", size=MEDIUM)
    if len(rows) > len(beside):
        sheet.line(f"{len(rows) - len(beside)} more rows stand on the last pages or in the report", colour=DIM)
    sheet.warnings(4)
    return "overview", tuple(chosen)


def _key_slice(sheet: Sheet, marked: Sequence[Outline], k: int, numbers: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """One slice, large: the largest cut of the segments at these places of `marked`."""
    section, count = sheet.summary.section, sheet.summary.volume.grid.shape[0]
    names = ", ".join(f"{n + 1} {marked[n].label}" for n in numbers)
    sheet.heading(f"{section.capitalize()} {k + 1} of {count}, the largest cut of {names}")
    there = [n for n, one in enumerate(marked) if one.mask[k].any()]
    legend_rows = min(-(-len(there) // 2), 6)
    high = sheet.bottom - sheet.top - legend_rows * _ROW - 8
    left, top, width, height = _picture(sheet, k, marked, (MARGIN, sheet.top, WIDTH, high))
    sheet.marks(left, top, width, height)
    for n in there:
        _number(sheet, marked[n], n + 1, k, (left, top, width, height))
    sheet.top += high + 8
    for place, n in enumerate(there[: 2 * legend_rows]):
        x = MARGIN + (place % 2) * (WIDTH // 2)
        y = sheet.top + place // 2 * _ROW
        if place == 2 * legend_rows - 1 and len(there) > 2 * legend_rows:
            sheet.write(x + 24, y, f"and {len(there) - place} more segments", size=MEDIUM)
            break
        sheet.box(x, y + 3, 14, 14, marked[n].colour)
        segment = sheet.summary.findings.segments[n]
        sheet.write(x + 24, y, _told(n + 1, marked[n], segment), size=MEDIUM, width=WIDTH // 2 - 34)
    return f"key slice of {names}", (k,)


def _classes(sheet: Sheet, scores: Sequence[ClassScore]) -> tuple[str, tuple[int, ...]]:
    """Probabilities as bars, what the card's rule says of each, and the image that they are about."""
    volume = sheet.summary.volume
    chosen = _sections(volume.grid.shape[0])
    rows = len(scores) + 1
    warned = min(len(sheet.summary.findings.warnings), 3)
    _montage(sheet, chosen, (), sheet.bottom - rows * _ROW - warned * (SMALL + 8) - 40)
    sheet.heading("Probabilities of the whole image, as the network gives them")
    bar_left, bar_width = MARGIN + 430, 300
    for score in scores:
        found = score.found
        colour = DIM if found is None else AMBER if found else INK
        sheet.write(MARGIN, sheet.top, _class_name(score), size=MEDIUM, width=410)
        sheet.box(bar_left, sheet.top + 4, bar_width, 14, (60, 60, 60))
        if math.isfinite(score.probability):
            part = min(max(score.probability, 0.0), 1.0)
            sheet.box(bar_left, sheet.top + 4, max(round(part * bar_width), 1), 14, colour)
        told = "" if found is None else ", found" if found else ", not found"
        sheet.write(bar_left + bar_width + 16, sheet.top, f"{_figure(score.probability)}{told}", size=MEDIUM)
        sheet.top += _ROW
    sheet.warnings(3)
    return "class probabilities", tuple(chosen)


def _map(sheet: Sheet, score_map: ScoreMap) -> tuple[str, tuple[int, ...]]:
    """Slices with the largest values of a map, its colours over them, and what the colours mean."""
    name = _name(score_map.quantity.meaning, score_map.quantity)
    values = np.nan_to_num(score_map.array)
    low, high = float(values.min()), float(values.max())
    strength = np.abs(values).sum(axis=(1, 2), dtype=np.float64)
    chosen = sorted(int(k) for k in np.argsort(-strength, kind="stable")[:_SECTIONS])
    sheet.heading(f"{name}: the {sheet.summary.section}s on which it is largest")

    def over(k: int, pixels: Rgb) -> Rgb:
        return _overlaid(pixels, values[k], (low, high))

    _montage(sheet, chosen, (), sheet.bottom - 64, over=over)
    width = WIDTH - 320
    ramp = _hot(np.linspace(0.0, 1.0, width)[None, :].repeat(18, axis=0))
    sheet.paste(ramp, MARGIN + 160, sheet.top)
    unit = "" if score_map.unit.value == "1" else f" {score_map.unit.value}"
    step = (high - low) / 1000 or 1.0
    for left, value in ((MARGIN, low), (MARGIN + 170 + width, high)):
        # No digits that the colours could not show.
        sheet.write(left, sheet.top, f"{round(value / step) * step:.4g}{unit}", size=MEDIUM, width=150)
    sheet.top += _ROW
    return f"map of {name}", tuple(chosen)


def _measurements(sheet: Sheet, rows: Sequence[_Row]) -> tuple[str, tuple[int, ...]]:
    sheet.heading("Measurements, continued")
    _table(sheet, rows)
    return "measurements", ()


def _table(sheet: Sheet, rows: Sequence[_Row]) -> None:
    """Segments with their measurements; columns beyond the last place are named in the heading of it."""
    columns = list(dict.fromkeys(key for row in rows for key in row.values))
    kept = columns[:_COLUMNS]
    first = 470 if len(kept) > 2 else 560
    wide = (WIDTH - first) // max(len(kept), 1)
    for n, (quantity, unit) in enumerate(kept):
        more = " ..." if n == len(kept) - 1 and len(columns) > len(kept) else ""
        head = quantity + ("" if unit == NO_UNIT else f", {unit}") + more
        sheet.write(MARGIN + first + n * wide, sheet.top, head, colour=DIM, width=wide - 8)
    sheet.top += _ROW - 4
    for row in rows:
        if row.colour is not None:
            sheet.box(MARGIN, sheet.top + 3, 14, 14, row.colour)
        sheet.write(MARGIN + 24, sheet.top, row.label, size=MEDIUM, width=first - 34)
        for n, key in enumerate(kept):
            if key in row.values:
                left = MARGIN + first + n * wide
                sheet.write(left, sheet.top, _number_text(row.values[key], key[1]), size=MEDIUM, width=wide - 8)
        sheet.top += _ROW


def _montage(
    sheet: Sheet,
    chosen: Sequence[int],
    marked: Sequence[Outline],
    bottom: int,
    over: Callable[[int, Rgb], Rgb] | None = None,
) -> None:
    """Slices side by side in the room from the top of the sheet to `bottom`, each with its number."""
    room = max(bottom - sheet.top, 100)
    volume = sheet.summary.volume
    high, wide = volume.grid.shape[1] * pixel_aspect(volume.grid), volume.grid.shape[2]
    across = max(range(1, len(chosen) + 1), key=lambda n: (_scale(n, len(chosen), wide, high, room), -n))
    down = -(-len(chosen) // across)
    width, height = (WIDTH + GAP) // across - GAP, (room + GAP) // down - GAP
    for place, k in enumerate(chosen):
        box = (
            MARGIN + place % across * (width + GAP),
            sheet.top + place // across * (height + GAP),
            width,
            height,
        )
        left, top, shown_width, shown_height = _picture(sheet, k, marked, box, over)
        if min(shown_width, shown_height) >= 140:
            sheet.marks(left, top, shown_width, shown_height)
        if volume.grid.shape[0] > 1:
            sheet.tag(left + 4, top + 2, str(k + 1))
            continue
        for n, one in enumerate(marked, start=1):
            if one.mask[k].any():
                _number(sheet, one, n, k, (left, top, shown_width, shown_height))
    sheet.top += room + 8


def _scale(across: int, count: int, wide: float, high: float, room: int) -> float:
    down = -(-count // across)
    return min(((WIDTH + GAP) / across - GAP) / wide, ((room + GAP) / down - GAP) / high)


def _picture(
    sheet: Sheet,
    k: int,
    marked: Sequence[Outline],
    box: tuple[int, int, int, int],
    over: Callable[[int, Rgb], Rgb] | None = None,
) -> tuple[int, int, int, int]:
    """One slice as large as its box (left, top, width, height) allows, in its middle; where it came to lie."""
    summary = sheet.summary
    rows, columns = summary.volume.grid.shape[1:]
    high = rows * pixel_aspect(summary.volume.grid)
    scale = min(box[2] / columns, box[3] / high)
    height, width = max(1, round(high * scale)), max(1, round(columns * scale))
    plane = grey(summary.volume.array[k], summary.limits)
    pixels = tile(plane, [(one.mask[k], one.colour) for one in marked], (height, width), 2)
    if over is not None:
        pixels = over(k, pixels)
    left, top = box[0] + (box[2] - width) // 2, box[1] + (box[3] - height) // 2
    sheet.paste(pixels, left, top)
    return left, top, width, height


def _number(sheet: Sheet, one: Outline, number: int, k: int, place: tuple[int, int, int, int]) -> None:
    """The number of a segment beside it, for readers who do not tell the colours apart."""
    rows, columns = one.mask.shape[1:]
    hit_rows, hit_columns = np.nonzero(one.mask[k])
    left, top, width, height = place
    outermost = int(hit_columns.argmax())
    x = left + int((hit_columns[outermost] + 1) * width / columns) + 4
    y = top + int((hit_rows[outermost] + 0.5) * height / rows) - MEDIUM // 2
    sheet.tag(min(x, left + width - 24), max(min(y, top + height - 24), top), str(number), one.colour)


def _key_slices(segments: Sequence[Segment]) -> list[tuple[int, list[int]]]:
    """(slice, places of the segments whose largest cut it is), of the segments with most voxels."""
    sizes = [int(np.count_nonzero(segment.mask)) for segment in segments]
    largest = sorted(range(len(segments)), key=lambda n: (-sizes[n], n))
    found: dict[int, list[int]] = {}
    for n in largest:
        if not sizes[n]:
            continue
        k = int(np.argmax(np.count_nonzero(segments[n].mask, axis=(1, 2))))
        if k in found or len(found) < MOST_KEY_SLICES:
            found.setdefault(k, []).append(n)
    return sorted((k, sorted(numbers)) for k, numbers in found.items())


def _rows(findings: Findings, marked: Sequence[Outline]) -> list[_Row]:
    """The table: a row a whole structure, then a row a segment, and one for the whole series where something is
    measured on it. The asymmetry compares left and right, (L - R) / ((L + R) / 2); ICV is the intracranial volume.
    """
    rows = [
        *(_Row(_name(s.label, s.type), None, _values(s.measurements)) for s in findings.structures),
        *_rows_before(findings.before),
        *(
            _Row(_told(n, one, segment), one.colour, _values(findings.of_segment(segment.number)))
            for n, (segment, one) in enumerate(zip(findings.segments, marked, strict=True), start=1)
        ),
    ]
    whole = _values([m for m in findings.measurements if m.segment is None])
    return [*rows, _Row("whole series", None, whole)] if whole else rows


def _rows_before(before: Findings | None) -> Iterator[_Row]:
    """What the step before measures, with its network: the head of the page names the other one."""
    if before is None:
        return
    network = f"{spelled(before.model.name) or before.model.family} {before.model.version}"
    for one in before.structures:
        yield _Row(f"{_name(one.label, one.type)}, by {network}", None, _values(one.measurements))


def _told(number: int, one: Outline, segment: Segment) -> str:
    """Number, name and side of a segment, the side said once."""
    side = _SIDES[segment.side]
    return f"{number} {one.label}" + ("" if one.label.endswith(f", {side}") else f", {side}")


def _values(measurements: Sequence[Measurement]) -> dict[tuple[str, str], float]:
    """By (quantity, unit); a volume in mL only, where it is given in mm3 as well."""
    in_ml = {m.quantity for m in measurements if m.unit == MILLILITRE}
    return {
        (_NAMES.get(m.quantity) or _name(m.quantity.meaning, m.quantity), shown(m.unit.value)): m.value
        for m in measurements
        if not (m.unit == CUBIC_MILLIMETRE and m.quantity in in_ml)
    }


def _ranked(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """What was found first, then by probability; of equals the card's order."""
    return sorted(scores, key=lambda s: (not s.found, -s.probability if math.isfinite(s.probability) else 1.0))


def _sections(count: int) -> list[int]:
    """Evenly spaced slices, the middle one of a few."""
    most = min(count, _SECTIONS)
    return [int((2 * n + 1) * count / (2 * most)) for n in range(most)]


def _overlaid(pixels: Rgb, values: npt.NDArray[np.floating], limits: tuple[float, float]) -> Rgb:
    """The colours of a map over a picture; the lower a value, the more of the picture shows through."""
    height, width = pixels.shape[:2]
    at_row = np.arange(height) * values.shape[0] // height
    at_column = np.arange(width) * values.shape[1] // width
    low, high = limits
    share = (values[np.ix_(at_row, at_column)].astype(np.float64) - low) / ((high - low) or 1.0)
    opaque = (0.7 * share)[:, :, None]
    mixed: Rgb = np.rint(pixels * (1.0 - opaque) + _hot(share) * opaque).astype(np.uint8)
    return mixed


def _hot(share: npt.NDArray[np.floating]) -> Rgb:
    """0..1 as dark red, red, orange, yellow: brighter throughout, so that it is read without colour as well, and
    never grey, so that it is seen on any picture.
    """
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    channels = ((80, 220, 255, 255), (0, 40, 170, 245), (0, 20, 20, 80))
    ramp: Rgb = np.stack([np.rint(np.interp(share, stops, c)) for c in channels], axis=-1).astype(np.uint8)
    return ramp


def _name(label: str, code: Code) -> str:
    """A label as the font can show it, else the meaning of its code, else the code."""
    return spelled(label) or spelled(code.meaning) or f"{code.scheme} {code.value}"


def _class_name(score: ClassScore) -> str:
    return _name(score.label or score.code.meaning, score.code)


def _figure(probability: float) -> str:
    return f"{probability * 100:.1f} %" if math.isfinite(probability) else "not a number"


def _number_text(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.{decimals(unit) if abs(value) < 1000 else 0}f}"
