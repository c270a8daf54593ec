"""Where one image of a head lies in another: rigid, by mutual information of their intensities.

Wells et al., "Multi-modal volume registration by maximization of mutual information", Medical Image Analysis 1:35
(1996). The FLAIR images of the data set lie up to 2 cm off their T1 in the coordinates of the scanner; a reference
drawn on the T1 means nothing on them before they are brought together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residency.volume import Volume

Points = npt.NDArray[np.float64]

_BINS = 32
_SAMPLES = 25_000


@dataclass(frozen=True)
class Found:
    """A rigid map of LPS mm of the moving image to LPS mm of the fixed one.

    before, after  mutual information in nats, with the maps of the headers and with this one
    largest_mm     farthest that a sampled point was moved
    """

    map: Callable[[Points], Points]
    before: float
    after: float
    largest_mm: float


def register(moving: Volume, fixed: Volume) -> Found:
    """The rigid map under which the two tell most of each other. Equal images give equal maps."""
    from scipy.ndimage import gaussian_filter, map_coordinates
    from scipy.optimize import minimize

    points, values = _samples(moving)
    centre = points.mean(axis=0)
    smooth = gaussian_filter(_cut(fixed), 0.7)

    def moved(six: Points, given: Points) -> Points:
        found: Points = (given - centre) @ _rotation(six[3:]).T + centre + six[:3] * 10
        return found

    def apart(six: Points) -> float:
        at = fixed.grid.to_index(moved(six, points)).T
        return -_mutual_information(values, map_coordinates(smooth, at, order=1))

    start = np.zeros(6)
    best = start
    for _ in range(2):  # a second run begins where the first ended: Powell's directions are fresh
        best = minimize(apart, best, method="Powell", options={"xtol": 1e-3, "ftol": 1e-5, "maxfev": 2500}).x
    far = float(np.linalg.norm(moved(best, points) - points, axis=1).max())
    return Found(lambda given: moved(best, given), -apart(start), -apart(best), far)


def _samples(volume: Volume) -> tuple[Points, npt.NDArray[np.float64]]:
    """Voxels on a regular coarse lattice, in LPS mm, with their intensities."""
    stride = max(1, round((volume.array.size / _SAMPLES) ** (1 / 3)))
    index = np.argwhere(np.ones([-(-n // stride) for n in volume.array.shape], dtype=bool)) * stride
    return volume.grid.to_lps(index), _cut(volume)[tuple(index.T)].astype(np.float64)


def _cut(volume: Volume) -> npt.NDArray[np.float32]:
    top = max(float(np.percentile(volume.array, 99.5)), 1e-6)
    found: npt.NDArray[np.float32] = np.clip(volume.array / top, 0, 1).astype(np.float32)
    return found


def _rotation(angles: Points) -> Points:
    total = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
        total = turn @ total
    return total


def _mutual_information(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    joint, _, _ = np.histogram2d(one, other, _BINS, ((0, 1), (0, 1)))
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) @ joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())
