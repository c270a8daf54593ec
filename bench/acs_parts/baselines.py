"""What AdrenalMNIST3D gives away without any network, to be printed beside what networks reach."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acs_parts import medical
from acs_parts.recipes import auc

SHRINKAGE = tuple(10.0**power for power in range(5))


def baselines() -> dict[str, float]:
    """Name -> AUC on test."""
    splits = medical.adrenal()
    return {"volume of the shape alone": _volume(splits), "ridge regression on voxels": _ridge(splits)}


def _volume(splits: medical.Splits) -> float:
    """The sign is the one that training shows."""
    totals = {name: images.reshape(len(images), -1).sum(1).astype(np.float64) for name, (images, _) in splits.items()}
    sign = 1 if auc(totals["train"], splits["train"][1]) > 0.5 else -1
    return auc(sign * totals["test"], splits["test"][1])


def _ridge(splits: medical.Splits) -> float:
    """On voxels averaged by twos; the shrinkage with the best AUC on val."""
    x = {name: _halved(images) for name, (images, _) in splits.items()}
    y = {name: classes for name, (_, classes) in splits.items()}
    mean, wanted = x["train"].mean(0), y["train"] - y["train"].mean()
    centred = x["train"] - mean
    kernel = centred @ centred.T
    fitted = [centred.T @ np.linalg.solve(kernel + s * np.eye(len(kernel)), wanted) for s in SHRINKAGE]
    best = max(fitted, key=lambda weights: auc((x["val"] - mean) @ weights, y["val"]))
    return auc((x["test"] - mean) @ best, y["test"])


def _halved(images: medical.Images) -> npt.NDArray[np.float64]:
    half = images.shape[-1] // 2
    pairs = images.reshape(len(images), half, 2, half, 2, half, 2).astype(np.float64)
    averaged: npt.NDArray[np.float64] = pairs.mean((2, 4, 6)).reshape(len(images), -1)
    return averaged
