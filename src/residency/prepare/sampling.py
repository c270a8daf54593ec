"""Separable sampling: each axis by itself, as a short weighted sum of whole planes (take and lerp, no scipy)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from residency.volume import Image

Indices = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float32]


def taps(positions: npt.NDArray[np.float64], length: int, ratio: float = 1.0) -> tuple[Indices, Weights]:
    """Which voxels of an axis, with which weights, give the values at fractional positions.

    positions  float64, (n,): in voxels of the axis, voxel centres at integers
    length     voxels on the axis
    ratio      size of an output voxel in voxels of the axis

    With ratio 1 or less this is linear interpolation. Beyond, the value is the mean of the linearly interpolated image
    over sqrt(ratio^2 - 1) voxels, which together with the hat of the interpolation spreads as far as the output voxel
    does (equal variances): downsampling neither skips voxels nor aliases, and a ramp stays the very same ramp, so that
    nothing moves. Beyond the outermost voxel centres the image goes on with its outermost value.

    Returns (index, weight), each (n, taps); weights of one position add up to 1.
    """
    spread = float(np.sqrt(max(ratio * ratio - 1.0, 0.0)))
    centre = np.asarray(positions, dtype=np.float64)
    low, high = centre - spread / 2, centre + spread / 2
    index = np.floor(low)[:, None] + np.arange(int(np.ceil(spread)) + 2)
    if spread < _NO_SPREAD:
        weight = np.maximum(0.0, 1.0 - np.abs(index - centre[:, None]))
    else:
        weight = (_hat_integral(high[:, None] - index) - _hat_integral(low[:, None] - index)) / spread
    weight /= weight.sum(axis=1, keepdims=True)
    return np.clip(index, 0, length - 1).astype(np.intp), weight.astype(np.float32)


_NO_SPREAD = 1e-6


def _hat_integral(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integral up to x of the hat of linear interpolation, 1 - |u| for |u| < 1."""
    x = np.clip(x, -1.0, 1.0)
    integral: npt.NDArray[np.float64] = np.where(x < 0, (1.0 + x) ** 2 / 2, 1.0 - (1.0 - x) ** 2 / 2)
    return integral


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


def resampled(
    array: Image,
    shape: tuple[int, int, int],
    ratios: tuple[float, float, float],
    *,
    first: bool = False,
    smoothed: bool = True,
) -> Image:
    """The array on `shape` voxels, each `ratios` voxels of the array apart, both grids sharing their centre.

    first     they share the centre of their first voxel instead
    smoothed  False: values between voxels are linear whatever the ratio, so that a large one skips voxels

    Axes that shrink go first, so that the others have less to do; an axis of equal length and ratio 1 is not touched.
    """
    for axis in sorted(range(3), key=lambda k: (shape[k] / array.shape[k], k)):
        length, wanted, ratio = array.shape[axis], shape[axis], ratios[axis]
        if wanted == length and ratio == 1.0:
            continue
        start = 0.0 if first else (length - 1) / 2 - (wanted - 1) / 2 * ratio
        positions = np.arange(wanted) * ratio + start
        array = sample_axis(array, axis, *taps(positions, length, ratio if smoothed else 1.0))
    return array


def cubic(array: Image, shape: tuple[int, int, int], nearest: int | None = None) -> Image:
    """The array on `shape` voxels over the same field of view, by cubic splines, within the array's own values.

    nearest  an axis along which the nearest voxel is taken; the planes across it are then interpolated each by itself

    Beyond the outermost voxel centres the image goes on with its outermost value. What nnU-Net computes, which calls
    skimage.transform.resize with order 3: scipy.ndimage.zoom, cut to the range of what it was given.
    """
    from scipy import ndimage

    if nearest is not None:
        planes = np.moveaxis(array, nearest, 0)
        across = tuple(n for axis, n in enumerate(shape) if axis != nearest)
        made = np.stack([_zoomed(ndimage.zoom, plane, across) for plane in planes])
        # Halves go to the voxel behind, but for those before the first centre.
        at = np.floor((np.arange(shape[nearest]) + 0.5) * (len(planes) / shape[nearest])).astype(np.intp)
        return np.ascontiguousarray(np.moveaxis(made[np.clip(at, 0, len(planes) - 1)], 0, nearest))
    return _zoomed(ndimage.zoom, array, shape)


def _zoomed(zoom: Any, array: Image, shape: tuple[int, ...]) -> Image:
    if array.shape == shape:
        return array
    factors = [n / old for n, old in zip(shape, array.shape, strict=True)]
    made = zoom(array.astype(np.float64), factors, order=3, mode="nearest", grid_mode=True)
    cut: Image = np.clip(made, array.min(), array.max()).astype(np.float32)
    return cut
