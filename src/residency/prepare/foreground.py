"""What counts as foreground, for the steps that look only there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from residency.volume import Image


def foreground(array: Image, above: float | None = None) -> npt.NDArray[np.bool_]:
    """bool, the array's shape: voxels above `above`, or above the image's smallest value where none is given.

    The smallest value is what scanners and skull stripping fill with, whatever the intensity scale; a constant image
    has no foreground.
    """
    threshold = array.min() if above is None else np.float32(above)
    mask: npt.NDArray[np.bool_] = array > threshold
    return mask
