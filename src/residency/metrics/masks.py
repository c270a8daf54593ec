"""Pairs of masks: what may be compared, and the part of the image that matters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def checked(prediction: Mask, reference: Mask) -> None:
    """Raise ValueError unless both are boolean and of one shape."""
    if prediction.shape != reference.shape or prediction.dtype != np.bool_ or reference.dtype != np.bool_:
        raise ValueError(
            f"two boolean masks of one shape are compared, got {prediction.dtype} {prediction.shape} and "
            f"{reference.dtype} {reference.shape}"
        )


def steps(mask: Mask, spacing_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    """The spacing as an array (axes,). Raises ValueError unless it has one positive finite length for each axis."""
    found = np.asarray(spacing_mm, dtype=np.float64)
    if found.shape != (mask.ndim,) or not (np.isfinite(found).all() and (found > 0).all()):
        raise ValueError(f"a mask of {mask.ndim} axes needs as many positive spacings in mm, got {list(spacing_mm)}")
    return found


def cropped(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    """Both masks, cut to the smallest box that holds all of both; at least one must hold something.

    What lies outside is background in both, as is what lies outside the image: no surface changes.
    """
    either = prediction | reference
    box = []
    for axis in range(either.ndim):
        others = tuple(k for k in range(either.ndim) if k != axis)
        (held,) = np.nonzero(either.any(axis=others))
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    return prediction[tuple(box)], reference[tuple(box)]


def absent(prediction: Mask, reference: Mask) -> float | None:
    """nan where both masks are empty, infinity where one is; None where both hold something."""
    if prediction.any() and reference.any():
        return None
    return math.inf if prediction.any() or reference.any() else math.nan
