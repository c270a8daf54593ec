"""Separable sampling: each axis by itself, as a short weighted sum of whole planes (take and lerp, no scipy)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from residency.volume import Image

Indices = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float32]


def taps(positions: npt.NDArray[np.float64], length: int, width: float = 1.0) -> tuple[Indices, Weights]:
    """Which voxels of an axis, with which weights, give the values at fractional positions.

    positions  float64, (n,): in voxels of the axis, voxel centres at integers
    length     voxels on the axis
    width      extent of one output voxel in voxels of the axis

    The value is the mean over a box of max(width, 1) voxels round the position, the image being constant within a
    voxel. With width 1 or less this is exactly linear interpolation; beyond, every input voxel counts by the share
    that the output voxel covers, so that downsampling neither skips voxels nor aliases. Positions beyond the outermost
    voxels get the nearest value.

    Returns (index, weight), each (n, taps); weights of one position add up to 1.
    """
    width = max(float(width), 1.0)
    centre = np.clip(np.asarray(positions, dtype=np.float64), -0.5, length - 0.5)
    low, high = centre - width / 2, centre + width / 2
    index = np.floor(low + 0.5)[:, None] + np.arange(int(np.ceil(width)) + 1)
    share = np.minimum(high[:, None], index + 0.5) - np.maximum(low[:, None], index - 0.5)
    share = np.where((index >= 0) & (index < length), np.maximum(share, 0.0), 0.0)
    weight = share / share.sum(axis=1, keepdims=True)
    return np.clip(index, 0, length - 1).astype(np.intp), weight.astype(np.float32)


def sample_axis(array: npt.NDArray[np.float32], axis: int, index: Indices, weight: Weights) -> Image:
    """The array with one axis replaced by the weighted sums that `taps` names; float32, any number of axes."""
    shape = [1] * array.ndim
    shape[axis] = len(index)
    out = np.take(array, index[:, 0], axis=axis)
    out *= weight[:, 0].reshape(shape)
    for k in range(1, index.shape[1]):
        if weight[:, k].any():
            plane = np.take(array, index[:, k], axis=axis)
            plane *= weight[:, k].reshape(shape)
            out += plane
    return out


def resampled(array: Image, shape: tuple[int, int, int], ratios: tuple[float, float, float]) -> Image:
    """The array on `shape` voxels, each `ratios` voxels of the array apart, both grids sharing their centre.

    Axes that shrink go first, so that the others have less to do; an axis of equal length and ratio 1 is not touched.
    """
    for axis in sorted(range(3), key=lambda k: (shape[k] / array.shape[k], k)):
        length, wanted, ratio = array.shape[axis], shape[axis], ratios[axis]
        if wanted == length and ratio == 1.0:
            continue
        positions = (np.arange(wanted) - (wanted - 1) / 2) * ratio + (length - 1) / 2
        array = sample_axis(array, axis, *taps(positions, length, ratio))
    return array
