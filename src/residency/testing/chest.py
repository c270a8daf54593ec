"""A frontal chest radiograph drawn from ellipses: nobody was ever exposed for it.

For golden cases, demonstrations and tests of networks that read chest radiographs. A drawing has no texture of lungs:
it shows that the walk works, not how well a network does on patients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BODY, _LUNG, _OUTSIDE = 2600.0, 900.0, 150.0
_RIBS = 9

Plane = npt.NDArray[np.float64]


def drawn_chest(*, opacity: bool = False, rows: int = 720, columns: int = 640) -> npt.NDArray[np.uint16]:
    """uint16 (rows, columns), 0 to 4,095, bright = dense, the patient's right on the left: for `phantoms.radiograph`.

    opacity  a dense patch with a soft border in the lower right lung
    """
    down, right = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    body = _ellipse(down, right, (0.62, 0.5), (0.66, 0.46), soft=0.02)
    image = _OUTSIDE + (_BODY - _OUTSIDE) * body
    lungs = np.maximum(
        _ellipse(down, right, (0.47, 0.31), (0.33, 0.14), soft=0.04),
        _ellipse(down, right, (0.46, 0.70), (0.32, 0.13), soft=0.04),
    )
    image += (_LUNG - _BODY) * lungs
    image += 250 * lungs * (np.sin(2 * np.pi * _RIBS * (down + 0.25 * (right - 0.5) ** 2)) > 0.35)
    image += 700 * np.exp(-(((right - 0.5) / 0.045) ** 2)) * body  # spine
    heart = _ellipse(down, right, (0.62, 0.56), (0.15, 0.15), soft=0.05)
    image = np.maximum(image, heart * _BODY * 1.05)
    if opacity:
        image += 1100 * lungs * _ellipse(down, right, (0.6, 0.3), (0.14, 0.11), soft=0.3)
    found: npt.NDArray[np.uint16] = np.clip(np.round(image), 0, 4095).astype(np.uint16)
    return found


def _ellipse(
    down: Plane, right: Plane, centre: tuple[float, float], radii: tuple[float, float], *, soft: float
) -> Plane:
    """1 inside, 0 outside, with a border that is `soft` shares of the radius wide. Shares of the image's sides."""
    radius = np.hypot((down - centre[0]) / radii[0], (right - centre[1]) / radii[1])
    found: Plane = np.clip((1 - radius) / soft + 0.5, 0, 1)
    return found
