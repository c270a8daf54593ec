"""The template in a skull and scalp made by code: a head as far as selection can tell, with the template's brain."""

from __future__ import annotations

import numpy as np

from residency.selection.content import skull_present
from residency.testing.dressed import dressed_template
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
