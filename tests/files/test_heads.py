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
