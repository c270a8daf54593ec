"""The template in a skull and scalp made by code: a head as far as selection can tell, with the template's brain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from residency.dicom.series import open_series
from residency.labels import Weighting
from residency.selection.content import skull_present
from residency.testing.dressed import DRESSED, dressed_study, dressed_template
from residency.testing.template import template


def test_the_dressed_template_shows_a_skull_round_the_brain_that_it_was_made_of() -> None:
    bare, head = template(), dressed_template()
    assert skull_present(bare) is False
    assert skull_present(head) is True
    inside = np.argwhere(bare.array > 60)[::977]
    where = np.rint(head.grid.to_index(bare.grid.to_lps(inside))).astype(int)
    difference = head.array[tuple(where.T)] - bare.array[tuple(inside.T)]
    assert abs(float(np.median(difference))) < 1
    assert np.mean(np.abs(difference) < 15) > 0.97
    assert head.array.max() <= 255


def test_its_study_is_one_series_that_says_what_it_is(dciodvfy: Callable[[bytes], list[str]]) -> None:
    """A reader of the images must not take it for a person's examination."""
    study = dressed_study()
    series = open_series(one.data for one in study)
    assert (series.labels.weighting.value, series.labels.slices) == (Weighting.T1, len(study))
    assert series.labels.attributes["SeriesDescription"] == DRESSED
    assert b"nobody was scanned" in study[0].data
    assert skull_present(series.volume()) is True
    assert not [
        said for said in dciodvfy(study[0].data) if "Acquisition Contrast" not in said and "Extended" not in said
    ]
