"""Of a head only axial sections are drawn, in whatever form a result is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.cli.results import Format, exported
from residency.cli.stored import NO_PICTURE, StoredResult, page_of
from residency.codes import Code, region_of_body_part
from residency.dicom.series import SourceSeries, open_series
from residency.errors import UsageError
from residency.files.heads import view_of
from residency.files.html import result_html
from residency.testing.phantoms import mr_series, radiograph
from residency.volume import Grid, Volume

SAGITTAL, CORONAL, AXIAL = "RIP", "PIL", "SPL"
STEPS = {"R": (-1, 0, 0), "L": (1, 0, 0), "P": (0, 1, 0), "I": (0, 0, -1), "S": (0, 0, 1)}


def volume(letters: str, shape: tuple[int, int, int] = (3, 4, 5)) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = np.array([STEPS[letter] for letter in letters]).T
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(values, Grid(shape, affine, "1.2.3.4"))


def region(term: str) -> Code:
    found = region_of_body_part(term)
    assert found is not None
    return found


@pytest.mark.parametrize("letters", [SAGITTAL, CORONAL])
@pytest.mark.parametrize("term", ["HEAD", "BRAIN", "NECK", "CSPINE", "SPINE", "WHOLEBODY", "HEADNECK", None])
def test_a_head_or_what_may_show_one_is_drawn_in_axial_sections(letters: str, term: str | None) -> None:
    image = volume(letters)
    view = view_of(image, [region(term)] if term else [])
    assert view is not None
    assert view.turned
    assert view.volume.grid.orientation == AXIAL
    np.testing.assert_array_equal(view.of(image.array), view.volume.array)


@given(st.tuples(*(st.integers(0, n - 1) for n in (3, 4, 5))))
def test_every_voxel_stays_where_it_is_in_the_patient(index: tuple[int, int, int]) -> None:
    image = volume(SAGITTAL)
    view = view_of(image, [region("HEAD")])
    assert view is not None
    marked = np.zeros(image.grid.shape, np.bool_)
    marked[index] = True
    (place,) = np.argwhere(view.of(marked))
    np.testing.assert_allclose(view.volume.grid.to_lps(place), image.grid.to_lps(index))


@pytest.mark.parametrize("letters", [AXIAL, SAGITTAL])
def test_a_close_up_shows_the_structures_where_they_are_and_a_margin(letters: str) -> None:
    image = volume(letters, (20, 22, 24))
    whole = view_of(image, [region("HEAD")])
    assert whole is not None
    masks = np.zeros((2, 20, 22, 24), np.bool_)
    masks[0, 8:10, 9:12, 10:13] = True
    masks[1, 11, 10, 15] = True
    near = whole.close_up(masks, margin_mm=3)
    assert near.turned == whole.turned
    assert near.volume.grid.shape[0] == whole.volume.grid.shape[0], "slices keep their numbers"
    held = [whole.of(mask).any(axis=0) for mask in masks]
    across = np.ptp(np.argwhere(held[0] | held[1]), axis=0) + 1
    np.testing.assert_array_equal(near.volume.grid.shape[1:], across + 6)
    np.testing.assert_array_equal(near.of(image.array), near.volume.array)
    for mask in masks:
        there = near.volume.grid.to_lps(np.argwhere(near.of(mask)))
        np.testing.assert_allclose(np.sort(there, axis=0), np.sort(image.grid.to_lps(np.argwhere(mask)), axis=0))


def test_a_close_up_stays_in_the_image_and_of_nothing_is_the_whole() -> None:
    image = volume(AXIAL)
    view = view_of(image, [])
    assert view is not None
    corner = np.zeros(image.grid.shape, np.bool_)
    corner[0, 0, 0] = True
    assert view.close_up([corner], margin_mm=2).volume.grid.shape == (3, 3, 3)
    assert view.close_up([~corner], margin_mm=50).volume.grid.shape == (3, 4, 5)
    assert view.close_up([corner & False], margin_mm=2) is view
    assert view.close_up([], margin_mm=2) is view


@pytest.mark.parametrize(("letters", "term"), [(AXIAL, "HEAD"), (SAGITTAL, "KNEE"), (CORONAL, "ABDOMEN")])
def test_all_else_is_drawn_as_it_was_acquired(letters: str, term: str) -> None:
    image = volume(letters)
    view = view_of(image, [region(term)])
    assert view is not None
    assert not view.turned
    assert view.volume is image


def result_on(source: SourceSeries) -> StoredResult:
    return StoredResult(None, None, source, None, ())


def test_the_page_and_the_picture_of_a_stored_result_show_axial_sections() -> None:
    sagittal = open_series(mr_series(volume(SAGITTAL, (6, 20, 30)), BodyPartExamined="HEAD"))
    page = page_of(result_on(sagittal))
    assert page.volume is not None
    assert page.volume.grid.orientation == AXIAL
    assert "<figcaption>Axial section 1 of 20<" in result_html(page)
    knee = open_series(mr_series(volume(SAGITTAL, (6, 20, 30)), BodyPartExamined="KNEE"))
    assert "<figcaption>Slice 1 of 6<" in result_html(page_of(result_on(knee)))
    pictures = [exported(result_on(one), Format.PNG)["picture.png"] for one in (sagittal, knee)]
    assert pictures[0] != pictures[1]


def test_a_skull_from_the_side_is_not_drawn() -> None:
    skull = result_on(
        open_series([radiograph(np.zeros((12, 10), np.uint16), BodyPartExamined="SKULL", AnatomicRegionSequence=None)])
    )
    page = page_of(skull)
    assert page.volume is None
    assert NO_PICTURE in page.warnings
    with pytest.raises(UsageError, match="may show a face"):
        exported(skull, Format.PNG)
