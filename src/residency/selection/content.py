"""Simple conditions on what an image shows, measured on its pixels.

`skull_present`: seen from outside, a head begins with bright scalp fat, then the dark skull, then the brain; a brain
without its skull begins with the brain. Rays run from the middle of the upper head; each is cut at its outermost bright
sample, all are laid on one another there, and the median profile either dips between two bright parts or it does not.

Measured on 18 T1-weighted heads (2 mm, 1 x 1 x 3 mm, three of them defaced) and 4 FLAIR: dip 0.28 to 0.52 (T1) and 0.45
to 0.66 (FLAIR) of the lower bright part; the same T1 heads inside their intracranial or brain masks, and the MNI152
template: 0.99 to 1.00.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from residency.card import ContentCondition
from residency.volume import Image, Space, Volume

SKULL_DIP = 0.7
"""A median profile that falls to this share of the bright parts around it shows a skull."""
NO_SKULL_DIP = 0.9
"""One that stays above this share shows none. Between the two it cannot be told."""

_RAYS = 800
"""Over the whole sphere; only those to superior are used, where no face or neck is."""
_FEWEST_RAYS = 100
_DEPTH_MM = 45
"""How far inwards profiles are compared: scalp, skull and a good piece of brain."""
_RIM_MM, _GAP_MM = 10, 16
"""The rim is sought within this depth, the dip within this distance behind it: scalp and skull at their thickest."""
_LENGTH_MM = 150
_HEAD_MM = 110
"""Height, from the vertex down, of what counts as head: above jaw and neck."""
_EDGE = 0.2
"""Share of the brightness of tissue at which a ray has met the head; background noise lies below."""

Profiles = npt.NDArray[np.float64]


def condition_holds(volume: Volume, condition: ContentCondition) -> bool | None:
    """Whether the condition holds for this image; None where that cannot be told."""
    present = skull_present(volume)
    return None if present is None else present == condition.value


def skull_present(volume: Volume) -> bool | None:
    """True if an MR head shows its skull, False if it was taken away, None where it cannot be told.

    Not told for images outside the patient's space, for CT (unit HU), for a crop whose borders cut through tissue, or
    for one that does not reach 45 mm inwards from its surface.
    """
    if volume.grid.space is not Space.PATIENT or volume.unit != "1":
        return None
    dip = skull_dip(volume)
    if dip is None or SKULL_DIP < dip < NO_SKULL_DIP:
        return None
    return dip <= SKULL_DIP


def skull_dip(volume: Volume) -> float | None:
    """The dip behind the rim, as a share of the lower of the bright parts beside it: 1 is none; None: no head found."""
    grid = volume.grid
    stride = [max(1, round(2.0 / spacing)) for spacing in grid.spacing_mm]
    coarse = volume.array[:: stride[0], :: stride[1], :: stride[2]]
    threshold = _between_dark_and_bright(coarse)
    if threshold is None:
        return None
    bright = coarse > threshold
    points = grid.to_lps(np.argwhere(bright) * stride)
    vertex = np.percentile(points[:, 2], 99.9)
    centre = np.median(points[points[:, 2] > vertex - _HEAD_MM], axis=0)
    profiles = _from_the_edge(_along_rays(volume, centre), _EDGE * float(np.median(coarse[bright])))
    if len(profiles) < _FEWEST_RAYS:
        return None
    profile = np.median(profiles, axis=0)
    rim = int(np.argmax(profile[:_RIM_MM]))
    gap = rim + int(np.argmin(profile[rim : rim + _GAP_MM]))
    return float(profile[gap] / min(profile[rim], profile[gap:].max()))


def _between_dark_and_bright(image: Image) -> float | None:
    """Otsu's threshold (1979) over 128 bins; None for an image of one value."""
    low, high = np.percentile(image, [0.0, 99.5])
    if not high > low:
        return None
    counts, edges = np.histogram(image, 128, (low, high))
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sums = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    total, mass = float(counts.sum()), float(sums[-1])
    above = total - below
    usable = (below > 0) & (above > 0)
    between = np.zeros(len(below))
    between[usable] = (mass * below / total - sums[:-1])[usable] ** 2 / (below * above)[usable]
    return float(edges[int(np.argmax(between)) + 1])


def _along_rays(volume: Volume, centre: npt.NDArray[np.float64]) -> Profiles:
    """Intensities every millimetre along rays to superior, (rays, samples); NaN outside the image."""
    from scipy.ndimage import map_coordinates

    index = np.arange(_RAYS) + 0.5
    height, turn = 1.0 - 2.0 * index / _RAYS, np.pi * (1.0 + 5.0**0.5) * index
    width = np.sqrt(1.0 - height**2)
    rays = np.stack([np.cos(turn) * width, np.sin(turn) * width, height], axis=1)[height > 0]
    points = centre + rays[:, None, :] * np.arange(_LENGTH_MM)[None, :, None]
    coordinates = volume.grid.to_index(points.reshape(-1, 3)).T
    samples = map_coordinates(volume.array, coordinates, order=1, mode="constant", cval=np.nan, output=np.float64)
    sampled: Profiles = samples.reshape(len(rays), _LENGTH_MM)
    return sampled


def _from_the_edge(rays: Profiles, edge: float) -> Profiles:
    """Profiles from the outermost bright sample inwards, (rays, depth in mm), without rays that the border cuts."""
    found = []
    for ray in rays:
        inside = ray[: int(np.argmax(np.isnan(ray)))] if np.isnan(ray).any() else ray
        bright = np.flatnonzero(inside > edge)
        if len(bright) and _DEPTH_MM <= bright[-1] < len(inside) - 2:
            found.append(inside[bright[-1] - _DEPTH_MM + 1 : bright[-1] + 1][::-1])
    return np.array(found).reshape(len(found), _DEPTH_MM)
