"""A result as a few pages of pixels, for viewers that show neither segmentations nor reports.

Every page says that nobody has verified what is on it. Slices are shown as they were acquired, or, where the caller
says so, as axial sections; never as a rendering of the surface, which on a head would be a face. No patient is named.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.codes import Code
from residency.files.lettering import NOT_SHOWN, fitted, font, shown, spelled, wrapped
from residency.files.picture import PALETTE, Colour, Outline, Rgb, grey, pixel_aspect, slices_to_show, tile
from residency.findings import ClassScore, Findings, Measurement, Picture, ScoreMap, Segment
from residency.labels import Side
from residency.measure import (
    AREA,
    CUBIC_MILLIMETRE,
    LONGEST_DIAMETER,
    LONGEST_DIAMETER_IN_PLANE,
    MILLILITRE,
    VOLUME,
)
from residency.volume import Volume

SIDE = 1024
"""Rows and columns of a page; the same for all, so that viewers keep their zoom."""
MOST_KEY_SLICES = 6
MOST_PAGES = 16
BANNER = "AI RESULT, NOT VERIFIED BY A PERSON. RESEARCH USE ONLY."

_MARGIN, _GAP = 20, 6
_BANNER_HEIGHT, _FOOTER_HEIGHT = 46, 30
_LARGE, _MEDIUM, _SMALL = 22, 18, 15
_PAPER, _INK, _DIM, _AMBER = (16, 16, 16), (235, 235, 235), (165, 165, 165), (255, 176, 0)
_WIDTH = SIDE - 2 * _MARGIN
_ROW = 26
_ROWS_BESIDE_PICTURE, _ROWS_A_PAGE = 10, 28
_TILES, _SECTIONS = 12, 4
_COLUMNS = 4
_DARKEST = 60.0
"""Least brightness (0..255) of an outline on black and grey; pure blue has 29."""
_NEAREST = 80.0
"""Least distance in RGB of two colours that a legend tells apart."""
_NAMES = {VOLUME: "volume", AREA: "area", LONGEST_DIAMETER: "longest diameter", LONGEST_DIAMETER_IN_PLANE: "long axis"}
_SIDES = {Side.LEFT: "left", Side.RIGHT: "right", None: "side unknown"}
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


@dataclass(frozen=True, eq=False)
class Summary:
    """What the pages show.

    volume       what the findings lie on; a radiograph bright = dense
    limits       modality values that are shown black and white
    orientation  where columns and rows increase to, as Patient Orientation says it ("L", "P"); None where unknown
    section      what a slice is called: "slice", or "axial section" where the volume was turned
    """

    findings: Findings
    volume: Volume
    limits: tuple[float, float]
    orientation: tuple[str, str] | None = None
    section: str = "slice"


def summary_pages(summary: Summary) -> tuple[Picture, ...]:
    """The overview, key slices of the largest segments, class probabilities, maps, and measurements left over."""
    planned = list(_planned(summary))[:MOST_PAGES]
    pages = []
    for number, draw in enumerate(planned, start=1):
        sheet = _Sheet(summary, number, len(planned))
        title, slices = draw(sheet)
        pages.append(Picture(np.asarray(sheet.image), title, slices, summary.orientation if slices else None))
    return tuple(pages)


def outlines(findings: Findings) -> tuple[Outline, ...]:
    """The segments with names that can be drawn, in colours that can be told apart and seen on grey."""
    found: list[Outline] = []
    for segment in findings.segments:
        taken = [one.colour for one in found]
        found.append(Outline(_name(segment.label, segment.type), _colour(segment.colour, taken), segment.mask))
    return tuple(found)


_Draw = Callable[["_Sheet"], tuple[str, tuple[int, ...]]]


def _planned(summary: Summary) -> Iterator[_Draw]:
    findings = summary.findings
    marked = outlines(findings)
    rows = _rows(findings, marked)
    if findings.segments or not (findings.classes or findings.maps):
        yield lambda sheet: _overview(sheet, marked, rows)
        for k, numbers in _key_slices(findings.segments) if summary.volume.grid.shape[0] > 1 else ():
            yield lambda sheet, k=k, numbers=numbers: _key_slice(sheet, marked, k, numbers)  # type: ignore[misc]
    for start in range(0, len(findings.classes), _ROWS_A_PAGE // 2):
        part = _ranked(findings.classes)[start : start + _ROWS_A_PAGE // 2]
        yield lambda sheet, part=part: _classes(sheet, part)  # type: ignore[misc]
    for score_map in findings.maps:
        yield lambda sheet, score_map=score_map: _map(sheet, score_map)  # type: ignore[misc]
    for start in range(_ROWS_BESIDE_PICTURE, len(rows), _ROWS_A_PAGE):
        left = rows[start : start + _ROWS_A_PAGE]
        yield lambda sheet, left=left: _measurements(sheet, left)  # type: ignore[misc]


class _Sheet:
    """One page being drawn: what stands on every page, and the room left between `top` and `bottom`."""

    def __init__(self, summary: Summary, number: int, count: int) -> None:
        from PIL import Image as Pictures
        from PIL import ImageDraw

        self.summary = summary
        self.image = Pictures.new("RGB", (SIDE, SIDE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        model = summary.findings.model
        self._draw.rectangle((0, 0, SIDE, _BANNER_HEIGHT), fill=_AMBER)
        self.write(_MARGIN, 11, BANNER, size=_LARGE, colour=(0, 0, 0))
        self.top, self.bottom = _BANNER_HEIGHT + 8, SIDE - _FOOTER_HEIGHT
        digest = model.digest.removeprefix("sha256:")[:12]
        name = _model_name(model.name, model.family)
        self.line(f"{name} {model.version}, sha256 {digest}, from {model.publisher}", size=_MEDIUM)
        for text in wrapped(f"{model.notice} This model is {model.approval}.", _SMALL, _WIDTH, 2):
            self.line(text, colour=_DIM)
        self.write(_MARGIN, self.bottom + 4, f"Page {number} of {count}", size=_SMALL, colour=_DIM)
        told = "The numbers with their codes stand in the report of this study."
        self.write(SIDE - _MARGIN - int(font(_SMALL).getlength(told)), self.bottom + 4, told, colour=_DIM)

    def write(
        self, left: int, top: int, text: str, *, size: int = _SMALL, colour: Colour = _INK, width: int = _WIDTH
    ) -> None:
        """One line at a place, cut visibly where it is too wide."""
        self._draw.text((left, top), fitted(text, size, width), fill=colour, font=font(size))

    def line(self, text: str, *, size: int = _SMALL, colour: Colour = _INK) -> None:
        """One line below what is there."""
        self.write(_MARGIN, self.top, text, size=size, colour=colour)
        self.top += size + 8

    def heading(self, text: str) -> None:
        self.top += 4
        self.line(text, size=_MEDIUM)

    def box(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)

    def marks(self, left: int, top: int, width: int, height: int) -> None:
        """Letters of the patient's directions at the four edges of a picture, dark behind them."""
        if self.summary.orientation is None:
            return
        right, below = self.summary.orientation
        places = (
            (_reverse(right), 4, height // 2),
            (right, width - 4, height // 2),
            (_reverse(below), width // 2, 4),
            (below, width // 2, height - 4 - _MEDIUM),
        )
        for text, x, y in places:
            wide = int(font(_MEDIUM).getlength(text))
            at = left + min(max(x - wide // 2, 4), width - wide - 4)
            self.tag(at, top + min(y, height - _MEDIUM - 4), text)

    def tag(self, left: int, top: int, text: str, colour: Colour = _INK) -> None:
        """A short text that stays legible on any grey."""
        self._draw.text((left, top), text, fill=colour, font=font(_MEDIUM), stroke_width=2, stroke_fill=(0, 0, 0))

    def paste(self, pixels: Rgb, left: int, top: int) -> None:
        from PIL import Image as Pictures

        self.image.paste(Pictures.fromarray(pixels), (left, top))

    def warnings(self, most: int) -> None:
        """The findings' warnings, each cut visibly, and how many do not fit."""
        said = self.summary.findings.warnings
        kept = said if len(said) <= most else said[: most - 1]
        for text in kept:
            self.line(f"Warning: {text}", colour=_AMBER)
        if len(kept) < len(said):
            self.line(f"{len(said) - len(kept)} more warnings stand in the report", colour=_AMBER)


@dataclass(frozen=True)
class _Row:
    """One line of the table of measurements: values by (quantity, unit)."""

    label: str
    colour: Colour | None
    values: dict[tuple[str, str], float]


def _overview(sheet: _Sheet, marked: Sequence[Outline], rows: Sequence[_Row]) -> tuple[str, tuple[int, ...]]:
    beside = rows[:_ROWS_BESIDE_PICTURE]
    warned = min(len(sheet.summary.findings.warnings), 4)
    below = (len(beside) + 1) * _ROW + warned * (_SMALL + 8) + (_ROW if len(rows) > len(beside) else 0) + 12
    volume = sheet.summary.volume
    chosen = slices_to_show([one.mask for one in marked], volume.grid.shape[0], _TILES, margin=0)
    _montage(sheet, chosen, marked, sheet.bottom - below)
    if rows:
        _table(sheet, beside)
    else:
        sheet.line("Nothing was found." if not marked else "Nothing was measured.", size=_MEDIUM)
    if len(rows) > len(beside):
        sheet.line(f"{len(rows) - len(beside)} more rows stand on the last pages", colour=_DIM)
    sheet.warnings(4)
    return "overview", tuple(chosen)


def _key_slice(sheet: _Sheet, marked: Sequence[Outline], k: int, numbers: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """One slice, large: the largest cut of the segments at these places of `marked`."""
    section, count = sheet.summary.section, sheet.summary.volume.grid.shape[0]
    names = ", ".join(f"{n + 1} {marked[n].label}" for n in numbers)
    sheet.heading(f"{section.capitalize()} {k + 1} of {count}, the largest cut of {names}")
    there = [n for n, one in enumerate(marked) if one.mask[k].any()]
    legend_rows = min(-(-len(there) // 2), 6)
    high = sheet.bottom - sheet.top - legend_rows * _ROW - 8
    left, top, width, height = _picture(sheet, k, marked, (_MARGIN, sheet.top, _WIDTH, high))
    sheet.marks(left, top, width, height)
    for n in there:
        _number(sheet, marked[n], n + 1, k, (left, top, width, height))
    sheet.top += high + 8
    for place, n in enumerate(there[: 2 * legend_rows]):
        x = _MARGIN + (place % 2) * (_WIDTH // 2)
        y = sheet.top + place // 2 * _ROW
        if place == 2 * legend_rows - 1 and len(there) > 2 * legend_rows:
            sheet.write(x + 24, y, f"and {len(there) - place} more segments", size=_MEDIUM)
            break
        sheet.box(x, y + 3, 14, 14, marked[n].colour)
        segment = sheet.summary.findings.segments[n]
        told = f"{n + 1} {marked[n].label}, {_SIDES[segment.side]}"
        sheet.write(x + 24, y, told, size=_MEDIUM, width=_WIDTH // 2 - 34)
    return f"key slice of {names}", (k,)


def _classes(sheet: _Sheet, scores: Sequence[ClassScore]) -> tuple[str, tuple[int, ...]]:
    """Probabilities as bars, what the card's rule says of each, and the image that they are about."""
    volume = sheet.summary.volume
    chosen = _sections(volume.grid.shape[0])
    rows = len(scores) + 1
    warned = min(len(sheet.summary.findings.warnings), 3)
    _montage(sheet, chosen, (), sheet.bottom - rows * _ROW - warned * (_SMALL + 8) - 40)
    sheet.heading("Probabilities of the whole image, as the network gives them")
    bar_left, bar_width = _MARGIN + 430, 300
    for score in scores:
        found = score.found
        colour = _DIM if found is None else _AMBER if found else _INK
        sheet.write(_MARGIN, sheet.top, _class_name(score), size=_MEDIUM, width=410)
        sheet.box(bar_left, sheet.top + 4, bar_width, 14, (60, 60, 60))
        if math.isfinite(score.probability):
            part = min(max(score.probability, 0.0), 1.0)
            sheet.box(bar_left, sheet.top + 4, max(round(part * bar_width), 1), 14, colour)
        told = "" if found is None else ", found" if found else ", not found"
        sheet.write(bar_left + bar_width + 16, sheet.top, f"{_figure(score.probability)}{told}", size=_MEDIUM)
        sheet.top += _ROW
    sheet.warnings(3)
    return "class probabilities", tuple(chosen)


def _map(sheet: _Sheet, score_map: ScoreMap) -> tuple[str, tuple[int, ...]]:
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
    width = _WIDTH - 320
    ramp = _hot(np.linspace(0.0, 1.0, width)[None, :].repeat(18, axis=0))
    sheet.paste(ramp, _MARGIN + 160, sheet.top)
    unit = "" if score_map.unit.value == "1" else f" {score_map.unit.value}"
    step = (high - low) / 1000 or 1.0
    for left, value in ((_MARGIN, low), (_MARGIN + 170 + width, high)):
        # No digits that the colours could not show.
        sheet.write(left, sheet.top, f"{round(value / step) * step:.4g}{unit}", size=_MEDIUM, width=150)
    sheet.top += _ROW
    return f"map of {name}", tuple(chosen)


def _measurements(sheet: _Sheet, rows: Sequence[_Row]) -> tuple[str, tuple[int, ...]]:
    sheet.heading("Measurements, continued")
    _table(sheet, rows)
    return "measurements", ()


def _table(sheet: _Sheet, rows: Sequence[_Row]) -> None:
    """Segments with their measurements; columns beyond the last place are named in the heading of it."""
    columns = list(dict.fromkeys(key for row in rows for key in row.values))
    kept = columns[:_COLUMNS]
    first = 470 if len(kept) > 2 else 560
    wide = (_WIDTH - first) // max(len(kept), 1)
    for n, (quantity, unit) in enumerate(kept):
        more = " ..." if n == len(kept) - 1 and len(columns) > len(kept) else ""
        head = f"{quantity}, {unit}{more}"
        sheet.write(_MARGIN + first + n * wide, sheet.top, head, colour=_DIM, width=wide - 8)
    sheet.top += _ROW - 4
    for row in rows:
        if row.colour is not None:
            sheet.box(_MARGIN, sheet.top + 3, 14, 14, row.colour)
        sheet.write(_MARGIN + 24, sheet.top, row.label, size=_MEDIUM, width=first - 34)
        for n, key in enumerate(kept):
            if key in row.values:
                left = _MARGIN + first + n * wide
                sheet.write(left, sheet.top, _number_text(row.values[key]), size=_MEDIUM, width=wide - 8)
        sheet.top += _ROW


def _montage(
    sheet: _Sheet,
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
    width, height = (_WIDTH + _GAP) // across - _GAP, (room + _GAP) // down - _GAP
    for place, k in enumerate(chosen):
        box = (
            _MARGIN + place % across * (width + _GAP),
            sheet.top + place // across * (height + _GAP),
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
    return min(((_WIDTH + _GAP) / across - _GAP) / wide, ((room + _GAP) / down - _GAP) / high)


def _picture(
    sheet: _Sheet,
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


def _number(sheet: _Sheet, one: Outline, number: int, k: int, place: tuple[int, int, int, int]) -> None:
    """The number of a segment beside it, for readers who do not tell the colours apart."""
    rows, columns = one.mask.shape[1:]
    hit_rows, hit_columns = np.nonzero(one.mask[k])
    left, top, width, height = place
    outermost = int(hit_columns.argmax())
    x = left + int((hit_columns[outermost] + 1) * width / columns) + 4
    y = top + int((hit_rows[outermost] + 0.5) * height / rows) - _MEDIUM // 2
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
    """The table: a row a segment, and one for the whole series where something is measured on it."""
    rows = [
        _Row(
            f"{n} {one.label}, {_SIDES[segment.side]}",
            one.colour,
            _values(findings.of_segment(segment.number)),
        )
        for n, (segment, one) in enumerate(zip(findings.segments, marked, strict=True), start=1)
    ]
    whole = _values([m for m in findings.measurements if m.segment is None])
    return [*rows, _Row("whole series", None, whole)] if whole else rows


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


def _colour(given: Colour | None, taken: Sequence[Colour]) -> Colour:
    """The card's colour, if it can be seen and is no other segment's; else the next of the palette, else the hue that
    is farthest from all that are taken.
    """
    tries = (given, *PALETTE) if given is not None else PALETTE
    for colour in tries:
        if _brightness(colour) >= _DARKEST and all(math.dist(colour, other) >= _NEAREST for other in taken):
            return colour
    bright = (hue for n in range(96) if _brightness(hue := _hue(n)) >= _DARKEST)
    return max(bright, key=lambda hue: min(math.dist(hue, other) for other in taken))


def _brightness(colour: Colour) -> float:
    """0..255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _hue(n: int) -> Colour:
    """The n-th of a row of bright hues in four strengths."""
    saturation, value = ((1.0, 1.0), (0.5, 1.0), (1.0, 0.6), (0.25, 1.0))[n % 4]
    red, green, blue = colorsys.hsv_to_rgb(n / 96, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _name(label: str, code: Code) -> str:
    """A label as the font can show it, else the meaning of its code, else the code."""
    return spelled(label) or spelled(code.meaning) or f"{code.scheme} {code.value}"


def _class_name(score: ClassScore) -> str:
    return _name(score.label or score.code.meaning, score.code)


def _model_name(name: str, family: str) -> str:
    return spelled(name) or f"{NOT_SHOWN} ({family})"


def _reverse(letters: str) -> str:
    return "".join(_OPPOSITE.get(letter, letter) for letter in letters)


def _figure(probability: float) -> str:
    return f"{probability * 100:.1f} %" if math.isfinite(probability) else "not a number"


def _number_text(value: float) -> str:
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
