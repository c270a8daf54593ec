"""How far the surfaces of two masks are apart: HD95 and the mean surface distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from residency.metrics.masks import Mask, absent, checked, cropped, steps

Distances = npt.NDArray[np.float64]


def hd95(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """95th percentile of the Hausdorff distance in mm, infinity or nan; see the package's table for empty masks.

    The larger of the two directions, each the 95th percentile (interpolated linearly) of the distances from the surface
    voxels of one mask to the nearest surface voxel of the other. A surface voxel has a face neighbour outside its mask
    or outside the image. spacing_mm is by axis of the masks.
    """
    found = surface_distances(prediction, reference, spacing_mm)
    return found if isinstance(found, float) else hd95_of(*found)


def mean_surface_distance(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Mean distance in mm from a surface voxel of either mask to the nearest one of the other, infinity or nan.

    Symmetric: the distances of both directions form one mean (average symmetric surface distance; Heimann et al.,
    "Comparison and evaluation of methods for liver segmentation from CT datasets", IEEE TMI 28:1251, 2009).
    """
    found = surface_distances(prediction, reference, spacing_mm)
    return found if isinstance(found, float) else mean_of(*found)


def surface_distances(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float]
) -> tuple[Distances, Distances] | float:
    """Distance in mm of each surface voxel to the other mask's nearest: of the prediction's, and of the reference's.

    Infinity where one mask is empty, nan where both are.
    """
    checked(prediction, reference)
    spacing = steps(reference, spacing_mm)
    nothing = absent(prediction, reference)
    if nothing is not None:
        return nothing
    one, other = (_surface_points(mask) * spacing for mask in cropped(prediction, reference))
    from scipy.spatial import cKDTree

    return cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]


def hd95_of(there: Distances, back: Distances) -> float:
    """HD95 from the distances of both directions."""
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def mean_of(there: Distances, back: Distances) -> float:
    """Mean surface distance from the distances of both directions."""
    return float((there.sum() + back.sum()) / (len(there) + len(back)))


def _surface_points(mask: Mask) -> npt.NDArray[np.float64]:
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask)).astype(np.float64)
