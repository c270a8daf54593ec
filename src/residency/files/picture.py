"""Slices as pictures: grey values, outlines of segments along the edges of pixels, and PNG.

Outlines follow pixel edges and are never smoothed: what is drawn is what was found.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.errors import PixelError
from residency.files.lettering import font, shown
from residency.findings import Mask
from residency.volume import Grid, Image, Volume

Colour = tuple[int, int, int]
Grey = npt.NDArray[np.uint8]
Rgb = npt.NDArray[np.uint8]

PALETTE: tuple[Colour, ...] = (
    (255, 176, 0),
    (60, 160, 255),
    (220, 60, 140),
    (110, 220, 110),
    (180, 120, 255),
    (255, 110, 60),
)
"""Colours of segments that name none; told apart by people with the common kinds of colour blindness, on grey."""

LARGEST_PICTURE = 64_000_000
"""Most pixels of one picture."""
_GAP, _MARGIN, _FONT, _LINE = 6, 12, 15, 22


@dataclass(frozen=True, eq=False)
class Outline:
    """One segment as it is drawn: its name, its colour, and its mask (slices, rows, columns)."""

    label: str
    colour: Colour
    mask: Mask


def display_range(array: Image) -> tuple[float, float]:
    """Black and white for a picture: the 0.5th and 99.5th percentile of what is not background."""
    values = array[np.isfinite(array)]
    inside = values[values > values.min()] if values.size else values
    if inside.size == 0:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))
    if high <= low:
        low = float(values.min())
    return (low, high) if high > low else (low, low + 1.0)


def grey(image: npt.NDArray[np.float32], limits: tuple[float, float]) -> Grey:
    """float32 (rows, columns) -> 0..255, black at limits[0] and below."""
    low, high = limits
    # In float64: a range of the smallest float32 numbers would overflow when it is spread.
    scaled = (np.nan_to_num(image).astype(np.float64) - low) * (255.0 / (high - low))
    levels: Grey = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return levels


def png(pixels: Grey | Rgb) -> bytes:
    """uint8 (rows, columns) or (rows, columns, 3) as PNG; equal pixels give equal bytes on one version of zlib."""
    from PIL import Image as Pictures

    stream = io.BytesIO()
    Pictures.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def outline_path(mask: npt.NDArray[np.bool_]) -> str:
    """The edge of a mask (rows, columns) as an SVG path in pixels, the corner of the picture at 0, 0.

    >>> outline_path(np.array([[False, True]]))
    'M1 0h1M1 1h1M1 0v1M2 0v1'
    """
    padded = np.pad(mask, 1)
    between_rows = padded[1:, 1:-1] != padded[:-1, 1:-1]
    between_columns = (padded[1:-1, 1:] != padded[1:-1, :-1]).T
    flat = [f"M{start} {at}h{length}" for at, start, length in _runs(between_rows)]
    upright = [f"M{at} {start}v{length}" for at, start, length in _runs(between_columns)]
    return "".join(flat + upright)


def _runs(edges: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(line, start, length) of each unbroken run of edges."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return [(int(a), int(b), int(c - b)) for a, b, c in zip(lines, starts, ends, strict=True)]


def slices_to_show(masks: Sequence[Mask], count: int, most: int, margin: int = 2) -> list[int]:
    """Slices that hold a segment and `margin` beside them, thinned evenly to `most`; all slices where none holds any.

    count  slices of the grid
    """
    held = np.zeros(count, dtype=np.bool_)
    for mask in masks:
        held |= mask.any(axis=(1, 2))
    hit = np.flatnonzero(held)
    first, last = (int(hit[0]) - margin, int(hit[-1]) + margin) if hit.size else (0, count - 1)
    chosen = np.arange(max(first, 0), min(last, count - 1) + 1)
    if len(chosen) > most:
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, most).round().astype(int))]
    return [int(n) for n in chosen]


def pixel_aspect(grid: Grid) -> float:
    """Height of a pixel over its width."""
    _, row, column = grid.spacing_mm
    return row / column


def contact_sheet(volume: Volume, outlines: Sequence[Outline], captions: Sequence[str], *, most: int = 12) -> bytes:
    """Slices side by side with outlines, a legend and captions below, as PNG.

    volume    what the outlines lie on; shown with its own range of grey
    captions  lines of text under the legend, such as the notice

    Raises PixelError where slices, or slices and captions, are too large for a picture.
    """
    rows, columns = volume.grid.shape[1:]
    aspect = pixel_aspect(volume.grid)
    if rows * columns * most * max(aspect, 1 / aspect) > LARGEST_PICTURE:
        raise PixelError(f"slices of {rows} x {columns} pixels, {aspect:.2f} times as high as wide, give no picture")
    chosen = _largest_slices(outlines, volume.grid.shape[0], most)
    scale = max(1, round(220 / max(rows * max(aspect, 1.0), columns)))
    limits = display_range(volume.array)
    size = max(1, round(rows * scale * aspect)), columns * scale
    tiles = [
        tile(grey(volume.array[k], limits), [(o.mask[k], o.colour) for o in outlines], size, max(1, scale // 2))
        for k in chosen
    ]
    return png(_with_text(_grid_of(tiles, _across(len(tiles))), outlines, captions))


def _across(count: int) -> int:
    """Tiles in a row: with as few empty places as can be, then nearest to half as wide again as high."""
    target = np.sqrt(count * 1.5)
    near = range(int(np.ceil(np.sqrt(count))), int(np.ceil(2 * np.sqrt(count))) + 1)
    return min(near, key=lambda n: (-count % n, abs(n - target)))


def _largest_slices(outlines: Sequence[Outline], count: int, most: int) -> list[int]:
    """Evenly spaced slices through the segments, without the margin."""
    return slices_to_show([o.mask for o in outlines], count, most, margin=0)


def tile(
    plane: Grey, marked: Sequence[tuple[npt.NDArray[np.bool_], Colour]], size: tuple[int, int], thickness: int
) -> Rgb:
    """One slice at another size (height, width), outlines of its masks drawn inside their edges.

    plane      uint8, (rows, columns)
    marked     masks (rows, columns) with their colours, the last on top; none vanishes where the picture is smaller
    thickness  of an outline, in pixels of the picture
    """
    from PIL import Image as Pictures

    height, width = size
    resized = Pictures.fromarray(plane).resize((width, height), Pictures.Resampling.BICUBIC)
    found = np.repeat(np.asarray(resized)[:, :, None], 3, axis=2).copy()
    at_row = np.arange(height) * plane.shape[0] // height
    at_column = np.arange(width) * plane.shape[1] // width
    for mask, colour in marked:
        if not mask.any():
            continue
        # Each place of the picture holds what any of its pixels holds; worked out only where the mask lies.
        tall = np.logical_or.reduceat(mask, at_row, axis=0)
        rows = _held(tall, across=1)
        large = np.logical_or.reduceat(tall[rows], at_column, axis=1)
        columns = _held(large, across=0)
        inside = large[:, columns]
        found[rows, columns][inside & ~_inner(inside, thickness)] = colour
    return found


def _held(mask: npt.NDArray[np.bool_], across: int) -> slice:
    """From the first line that holds something to the last; there is one. across: the axis that lines run along."""
    places = np.flatnonzero(mask.any(axis=across))
    return slice(int(places[0]), int(places[-1]) + 1)


def _inner(mask: npt.NDArray[np.bool_], thickness: int) -> npt.NDArray[np.bool_]:
    """What lies more than `thickness` pixels inside a mask; beyond its array is outside."""
    inner = mask
    for _ in range(thickness):
        around = np.pad(inner, 1)
        inner = inner & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return inner


def _grid_of(tiles: Sequence[Rgb], across: int) -> Rgb:
    height, width = tiles[0].shape[:2]
    down = -(-len(tiles) // across)
    sheet = np.zeros((down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP, 3), np.uint8)
    for n, tile in enumerate(tiles):
        top, left = n // across * (height + _GAP), n % across * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _with_text(sheet: Rgb, outlines: Sequence[Outline], captions: Sequence[str]) -> Rgb:
    """The sheet in a frame, with a coloured square and the name of each segment and the captions below it."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    named: list[tuple[str, Colour | None]] = [(outline.label, outline.colour) for outline in outlines]
    lines = [(shown(text), colour) for text, colour in (*named, *((text, None) for text in captions))]
    widest = max((int(font(_FONT).getlength(text)) for text, _ in lines), default=0) + _LINE
    height = sheet.shape[0] + 2 * _MARGIN + (_LINE * len(lines) + _GAP if lines else 0)
    width = max(sheet.shape[1], widest) + 2 * _MARGIN
    if width * height > LARGEST_PICTURE:
        raise PixelError(f"slices and captions together give {width} x {height} pixels, which is no picture")
    framed = Pictures.new("RGB", (width, height), (16, 16, 16))
    framed.paste(Pictures.fromarray(sheet), (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(framed)
    top = sheet.shape[0] + _MARGIN + _GAP
    for text, colour in lines:
        left = _MARGIN
        if colour is not None:
            draw.rectangle((left, top + 4, left + 12, top + 16), fill=colour)
            left += _LINE
        draw.text((left, top), text, fill=(230, 230, 230), font=font(_FONT))
        top += _LINE
    return np.asarray(framed)
