"""Pairs of masks that look like structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import scipy.spatial  # here, so that no timed example pays for the import

Mask = npt.NDArray[np.bool_]


@pytest.fixture(scope="session")
def blobs() -> Callable[[int, Sequence[int]], tuple[Mask, Mask]]:
    """Seed, shape -> two smooth random masks that overlap in part and touch the border of the image."""

    def make(seed: int, shape: Sequence[int]) -> tuple[Mask, Mask]:
        random = np.random.default_rng(seed)
        one = scipy.ndimage.gaussian_filter(random.standard_normal(shape), 2)
        other = one + 0.5 * scipy.ndimage.gaussian_filter(random.standard_normal(shape), 2)
        return one > 0.02, other > 0.02

    return make
