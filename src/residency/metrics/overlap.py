"""How much of two masks is shared."""

from __future__ import annotations

import math

from residency.metrics.masks import Mask, checked


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice (1945), 2 |A and B| / (|A| + |B|), 0..1 or nan; see the package's table for empty masks.

    >>> import numpy as np
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    checked(prediction, reference)
    sizes = int(prediction.sum()) + int(reference.sum())
    return 2.0 * int((prediction & reference).sum()) / sizes if sizes else math.nan


def sensitivity(prediction: Mask, reference: Mask) -> float:
    """Share of the reference that the prediction holds, |A and B| / |B|: 0..1, or nan where there is no reference.

    >>> import numpy as np
    >>> sensitivity(np.array([True, True, False]), np.array([True, False, True]))
    0.5
    """
    checked(prediction, reference)
    wanted = int(reference.sum())
    return int((prediction & reference).sum()) / wanted if wanted else math.nan


def precision(prediction: Mask, reference: Mask) -> float:
    """Share of the prediction that the reference holds, |A and B| / |A|, 0..1 or nan.

    A missed structure scores 0, though 0 / 0 has no value: a model must not gain by saying nothing in difficult cases.

    >>> import numpy as np
    >>> precision(np.array([True, True, False]), np.array([True, False, True]))
    0.5
    """
    checked(prediction, reference)
    said = int(prediction.sum())
    if not said:
        return 0.0 if reference.any() else math.nan
    return int((prediction & reference).sum()) / said
