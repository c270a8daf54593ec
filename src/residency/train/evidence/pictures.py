"""Worst cases as pictures: axial sections cropped to the structure, and nothing farther from it than a margin.

What lies farther than that from the reference and from the answer is left black, so that no face can be recognised,
whatever the images show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.files.colours import told_apart
from residency.files.heads import View, view_of
from residency.files.picture import Colour, display_range, grey, outline_path, pixel_aspect, png
from residency.train.evidence.rows import Answer
from residency.volume import Grid

MARGIN_MM = 10.0
"""How far around the structure an image is shown; in pixels where the image has no spacing."""

SECTIONS = 3
"""Most sections of a case."""

LARGEST_SIDE = 384
"""Most pixels of a picture's longer side; larger ones are thinned."""


@dataclass(frozen=True)
class Line:
    """An outline as an SVG path in pixels of the picture. `wanted`: the reference's, else the answer's."""

    label: str
    colour: Colour
    path: str
    wanted: bool


@dataclass(frozen=True)
class Section:
    """One section: PNG, its size in pixels, how much higher than wide a pixel is, outlines, and its number from 1."""

    png: bytes
    rows: int
    columns: int
    aspect: float
    lines: tuple[Line, ...]
    number: int


def colours(classes: Sequence[str]) -> tuple[Colour, ...]:
    """Of the foreground classes, told apart on grey."""
    return told_apart([None] * (len(classes) - 1))


def sections(answer: Answer, classes: Sequence[str]) -> tuple[Section, ...]:
    """The sections where answer and reference differ most, from the first to the last; none where neither is there."""
    view = view_of(answer.volume, ()) or View(answer.volume)  # a flat image: what is shown of it ends at the margin
    said, wanted = ([view.of(mask) for mask in masks] for masks in (answer.masks, answer.wanted))
    held = np.logical_or.reduce([*said, *wanted])
    if not held.any():
        return ()
    differing = sum(np.count_nonzero(one ^ other, axis=(1, 2)) for one, other in zip(said, wanted, strict=True))
    assert isinstance(differing, np.ndarray)
    grid = view.volume.grid
    box = _box(held, grid)
    array = view.volume.array[:, *box]
    limits = display_range(array)
    found = []
    for k in _chosen(differing, held.any(axis=(1, 2))):
        lines = [
            Line(name, colour, outline_path(mask[k][box]), truth)
            for masks, truth in ((wanted, True), (said, False))
            for name, colour, mask in zip(classes[1:], colours(classes), masks, strict=True)
            if mask[k].any()
        ]
        shown = grey(np.where(_near(held[k][box], grid), array[k], limits[0]).astype(np.float32), limits)
        thin = max(1, -(-max(shown.shape) // LARGEST_SIDE))
        picture = png(np.ascontiguousarray(shown[::thin, ::thin]))
        rows, columns = shown.shape
        found.append(Section(picture, rows, columns, pixel_aspect(grid), tuple(lines), k + 1))
    return tuple(found)


def _chosen(differing: npt.NDArray[np.integer], held: npt.NDArray[np.bool_]) -> list[int]:
    """The section that differs most, then the next that is not beside it; where nothing differs, the middle one."""
    there = np.flatnonzero(held)
    if not differing.any():
        return [int(there[len(there) // 2])]
    apart = max(1, len(there) // (2 * SECTIONS))
    left = differing.astype(np.int64).copy()
    chosen: list[int] = []
    while len(chosen) < SECTIONS and left.max() > 0:
        k = int(left.argmax())
        chosen.append(k)
        left[max(0, k - apart) : k + apart + 1] = 0
    return sorted(chosen)


def _box(held: npt.NDArray[np.bool_], grid: Grid) -> tuple[slice, slice]:
    """Rows and columns of the structures in all sections, and the margin."""
    ranges = []
    for axis, step in ((1, grid.spacing_mm[1]), (2, grid.spacing_mm[2])):
        hit = np.flatnonzero(held.any(axis=tuple(k for k in range(3) if k != axis)))
        more = round(MARGIN_MM / step)
        ranges.append(slice(max(0, int(hit[0]) - more), int(hit[-1]) + 1 + more))
    return ranges[0], ranges[1]


def _near(held: npt.NDArray[np.bool_], grid: Grid) -> npt.NDArray[np.bool_]:
    from scipy.ndimage import distance_transform_edt

    away: npt.NDArray[np.float64] = distance_transform_edt(~held, sampling=grid.spacing_mm[1:])
    return np.asarray(away <= MARGIN_MM)
