"""Colours of segments: sRGB to DICOM's CIELab values and back (DICOM PS3.3 C.10.7.1.1, D50 white of the ICC)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]

_XYZ_FROM_RGB = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear sRGB to XYZ, adapted to D50 by Bradford's method (IEC 61966-2-1, ICC.1:2022 annex E)."""

_WHITE = _XYZ_FROM_RGB.sum(axis=1)
_KNEE = 6.0 / 29.0


def cielab_from_rgb(colour: Colour) -> Colour:
    """sRGB 0..255 -> three unsigned 16 bit numbers: L* 0..100 over 0..65535, a* and b* -128..127 over 0..65535."""
    rgb = np.asarray(colour, dtype=np.float64) / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = (_XYZ_FROM_RGB @ linear) / _WHITE
    f = np.where(ratio > _KNEE**3, np.cbrt(ratio), ratio / (3 * _KNEE**2) + 4.0 / 29.0)
    lab = np.array([116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])])
    return _three(np.array([lab[0] / 100.0, (lab[1] + 128.0) / 255.0, (lab[2] + 128.0) / 255.0]) * 65535.0, 65535)


def rgb_from_cielab(values: Colour) -> Colour:
    """The way back, clipped to the colours that sRGB has."""
    share = np.asarray(values, dtype=np.float64) / 65535.0
    lightness, a, b = share[0] * 100.0, share[1] * 255.0 - 128.0, share[2] * 255.0 - 128.0
    middle = (lightness + 16.0) / 116.0
    f = np.array([middle + a / 500.0, middle, middle - b / 200.0])
    xyz = _WHITE * np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4.0 / 29.0))
    linear = np.clip(np.linalg.solve(_XYZ_FROM_RGB, xyz), 0.0, 1.0)
    rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _three(rgb * 255.0, 255)


def _three(values: npt.NDArray[np.float64], most: int) -> Colour:
    whole = np.clip(np.rint(values), 0, most).astype(int)
    return int(whole[0]), int(whole[1]), int(whole[2])
