"""Pictures of slices: outlines lie on the edges of pixels, grey values keep their order, PNG can be read by others."""

import io
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import binary_erosion

from residency.errors import PixelError
from residency.files.picture import (
    PALETTE,
    Outline,
    contact_sheet,
    display_range,
    grey,
    outline_path,
    png,
    slices_to_show,
    tile,
)
from residency.volume import Volume, regular_grid

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))
PIECE = re.compile(r"M(\d+) (\d+)([hv])(\d+)")


def edges(path: str) -> set[tuple[int, int, str]]:
    """Every unit edge of a path: (x, y, direction)."""
    found = set()
    for x, y, way, length in PIECE.findall(path):
        for n in range(int(length)):
            edge = (int(x) + n, int(y), "h") if way == "h" else (int(x), int(y) + n, "v")
            assert edge not in found, "an edge is drawn twice"
            found.add(edge)
    return found


@given(MASKS)
def test_an_outline_is_exactly_the_edge_between_inside_and_outside(mask: np.ndarray) -> None:
    expected = set()
    rows, columns = mask.shape

    def inside(r: int, c: int) -> bool:
        return 0 <= r < rows and 0 <= c < columns and bool(mask[r, c])

    for r in range(rows + 1):
        for c in range(columns + 1):
            if c < columns and inside(r - 1, c) != inside(r, c):
                expected.add((c, r, "h"))
            if r < rows and inside(r, c - 1) != inside(r, c):
                expected.add((c, r, "v"))
    assert edges(outline_path(mask)) == expected


@given(arrays(np.float32, (4, 5), elements=st.floats(-1e6, 1e6, width=32)))
@example(np.array([[-1.0, 0.0, 1.5042e-41]], np.float32))
def test_grey_keeps_the_order_of_intensities(image: np.ndarray) -> None:
    shown = grey(image, display_range(image)).astype(int)
    order = np.argsort(image, axis=None)
    assert (np.diff(shown.ravel()[order]) >= 0).all()


def test_grey_values_survive_png() -> None:
    plane = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(plane)))), plane)
    assert png(plane) == png(plane)


def test_an_image_without_contrast_is_no_error() -> None:
    flat = np.full((3, 4), 7.0, np.float32)
    assert grey(flat, display_range(flat)).shape == (3, 4)
    broken = np.full((3, 4), np.nan, np.float32)
    assert grey(broken, display_range(broken)).max() == 0


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_slices_shown_hold_the_segment(count: int, most: int, data: st.DataObject) -> None:
    mask = np.zeros((count, 1, 1), np.bool_)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    mask[first : last + 1] = True
    shown = slices_to_show([mask], count, most)
    assert len(shown) <= most
    assert shown == sorted(set(shown))
    assert all(max(0, first - 2) <= n <= min(count - 1, last + 2) for n in shown)
    assert len(shown) == most or set(range(first, last + 1)) <= set(shown)


def test_a_contact_sheet_shows_the_colour_of_a_segment_where_it_lies() -> None:
    grid = regular_grid((6, 20, 30), (2.0, 1.5, 1.0))
    mask = np.zeros(grid.shape, np.bool_)
    mask[2:4, 5:15, 8:20] = True
    volume = Volume(np.random.default_rng(1).uniform(0, 100, grid.shape).astype(np.float32), grid)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet(volume, [Outline("A", PALETTE[0], mask)], ["note"]))))
    assert sheet.ndim == 3
    coloured = (sheet == PALETTE[0]).all(axis=2)
    tall = np.flatnonzero(coloured.any(axis=1))
    first_tile = coloured[: 12 + 30 * 7]
    top, bottom = np.flatnonzero(first_tile.any(axis=1))[[0, -1]]
    left, right = np.flatnonzero(first_tile[:, : 12 + 30 * 7].any(axis=0))[[0, -1]]
    assert tall.size > 0
    assert (bottom - top) / (right - left) == pytest.approx(10 * 1.5 / 12, rel=0.05), "pixels are higher than wide"


def test_pixels_far_from_square_still_give_a_picture_or_a_reason() -> None:
    """Spacings are read from headers: a thousandth of a millimetre must neither crash nor fill the memory."""
    flat = np.zeros((1, 5, 7), np.float32)
    sheet = contact_sheet(Volume(flat, regular_grid(flat.shape, (1.0, 0.001, 1.0))), [], [])
    with Image.open(io.BytesIO(sheet)) as picture:
        assert picture.size[0] > 200
    tall = np.zeros((2, 300, 1), np.float32)
    with pytest.raises(PixelError, match="no picture"):
        contact_sheet(Volume(tall, regular_grid(tall.shape, (1.0, 1000.0, 1.0))), [], ["long " * 200])


def test_a_slice_too_large_for_a_picture_is_refused() -> None:
    grid = regular_grid((1, 8000, 8000), (1.0, 1.0, 1.0))
    flat = np.broadcast_to(np.float32(0), grid.shape)
    with pytest.raises(PixelError, match="no picture"):
        contact_sheet(Volume(flat, grid), [], [])


@given(arrays(np.bool_, (7, 9)), st.integers(3, 40), st.integers(3, 40), st.integers(1, 3))
def test_an_outline_is_drawn_inside_the_mask_as_thick_as_asked(
    mask: np.ndarray, height: int, width: int, thickness: int
) -> None:
    """Judged by scipy's erosion; a place of a smaller picture holds what any of its pixels holds."""
    drawn = tile(np.zeros(mask.shape, np.uint8), [(mask, (9, 8, 7))], (height, width), thickness)
    large = np.zeros((height, width), np.bool_)
    for r, c in product(range(height), range(width)):
        rows, columns = _pixels(r, height, 7), _pixels(c, width, 9)
        large[r, c] = mask[rows, columns].any()
    expected = large & ~binary_erosion(large, iterations=thickness)
    assert np.array_equal((drawn == (9, 8, 7)).all(axis=2), expected)
    assert large.any() == mask.any()


def _pixels(place: int, places: int, pixels: int) -> slice:
    """The pixels that one place of an axis shows: from its own up to the next place's, at least one."""
    first, after = place * pixels // places, (place + 1) * pixels // places
    return slice(first, max(after, first + 1))
