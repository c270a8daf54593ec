"""A head that may be shown: the MNI152 template, which has no skull, in a skull and a scalp made by this code.

The layers follow the surface of the template's brain; their thickness is that of adults and wavers a little, and a
fixed noise lies over all. There is no face, no neck and no eye: it shows that the walk through a whole head works, and
proves nothing about heads of people. Whatever shows it says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from residency.archive import Instance
from residency.prepare.resample import Resample
from residency.prepare.sampling import resampled
from residency.testing.phantoms import mr_series
from residency.testing.template import FRAME_OF_REFERENCE, STUDY, as_instances, template
from residency.volume import Grid, Volume

DRESSED = "T1 template in a made skull"
"""Series Description of the head in its study."""

_STUDY_MM = 1.5
"""Voxels of that series: as true as those of 1 mm to a network that looks at 2 mm, and a third of them."""
_MARGIN_MM = 20
_LAYERS: tuple[tuple[float, float], ...] = (
    (0.0, 55.0),  # fluid round the brain
    (2.0, 45.0),
    (2.8, 12.0),  # inner table of the skull
    (3.8, 12.0),
    (4.4, 95.0),  # marrow
    (5.6, 95.0),
    (6.2, 12.0),  # outer table
    (7.6, 12.0),
    (8.4, 225.0),  # fat
    (12.0, 225.0),
    (12.6, 110.0),  # skin
    (14.0, 110.0),
    (15.0, 0.0),  # air
)
"""Distance from the brain in mm, and intensity there, of a T1-weighted image whose white matter has about 200."""
_WAVER_MM = 0.8
_NOISE = 3.0


def dressed_template(spacing_mm: float = 1.0) -> Volume:
    """The template in its made skull and scalp, values 0 to 255, axes "SPL". Equal calls give equal voxels.

    Raises DependencyError where nilearn is not installed.
    """
    bare = template()
    wide = np.pad(bare.array, _MARGIN_MM)
    affine = bare.grid.affine.copy()
    affine[:3, 3] = bare.grid.to_lps((-_MARGIN_MM, -_MARGIN_MM, -_MARGIN_MM))
    depth = _distance_mm(wide)
    outside = depth > 0
    depth += _WAVER_MM * _waves(wide.shape)
    distances, values = zip(*_LAYERS, strict=True)
    head = np.where(outside, np.interp(depth, distances, values), wide)
    head += np.random.default_rng(152).normal(0, _NOISE, head.shape)
    whole = Volume(
        np.clip(np.rint(np.abs(head)), 0, 255).astype(np.float32),
        Grid((wide.shape[0], wide.shape[1], wide.shape[2]), affine, FRAME_OF_REFERENCE),
    )
    return whole if spacing_mm == 1.0 else Resample(spacing_mm=spacing_mm).apply(whole)


def dressed_study() -> list[Instance]:
    """The dressed template as an examination: one series of 1.5 mm, original images with a coded contrast, T1.

    It plays what a scanner sends, so its images say ORIGINAL; description and comment say what they are. Equal calls
    give equal bytes. Raises DependencyError where nilearn is not installed.
    """
    said = {
        "StudyDescription": "MNI152 template in a skull made by code",
        "SeriesDescription": DRESSED,
        "SeriesNumber": "1",
        "AcquisitionContrast": "T1",
        "ImageComments": "Average of 152 adults, in a skull and a scalp made by code; nobody was scanned",
    }
    head = dressed_template(_STUDY_MM)
    whole = replace(head, array=np.rint(head.array))
    return as_instances(mr_series(whole, study="mni152 dressed", series="head", **STUDY | said))


def _distance_mm(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """To the surface of the brain, whose holes and clefts are filled; negative inside. Of every other voxel: smooth."""
    from scipy import ndimage

    coarse = array[::2, ::2, ::2] > 0
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(coarse, iterations=3))
    apart = ndimage.distance_transform_edt(~filled) - ndimage.distance_transform_edt(filled)
    found = 2.0 * ndimage.gaussian_filter(apart, 1.0)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return resampled(found.astype(np.float32), shape, (0.5, 0.5, 0.5)).astype(np.float64)


def _waves(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """-1 to 1, smooth over some centimetres."""
    along = [np.sin(np.arange(n) / length) for n, length in zip(shape, (11.0, 14.0, 9.0), strict=True)]
    total: npt.NDArray[np.float64] = (along[0][:, None, None] + along[1][None, :, None] + along[2][None, None, :]) / 3.0
    return total
