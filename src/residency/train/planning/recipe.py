"""The preparation: orientation, spacing, intensities. Rules on a fingerprint, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from residency.datasets.fingerprint import AXES, Fingerprint, Intensities
from residency.train.planning.fit import Fitted
from residency.train.planning.topology import is_anisotropic, target_spacing
from residency.train.planning.values import Choice
from residency.volume import Space

_MUCH_EMPTY = 0.75
"""Share of the image that everything above its smallest value fills, below which the rest says nothing of the scale."""


def spacing_of(found: Fingerprint) -> tuple[float, float, float]:
    """Voxels of prepared images, along the axes of the fingerprint."""
    return target_spacing([case.spacing for case in found.cases], [case.shape for case in found.cases])


def order_of(found: Fingerprint, spacing: Sequence[float]) -> tuple[int, int, int]:
    """The axes of the fingerprint in the order of the prepared image: thick slices, or the only slice, come first."""
    first = 0
    if found.space is Space.PATIENT:
        if found.flat:
            first = min(range(3), key=lambda axis: max(case.shape[axis] for case in found.cases))
        elif is_anisotropic(spacing):
            first = max(range(3), key=lambda axis: spacing[axis])
    a, b = (axis for axis in range(3) if axis != first)
    return first, a, b


def recipe_of(found: Fingerprint, spacing: Sequence[float], order: Sequence[int], fitted: Fitted) -> list[Choice]:
    """The steps, one choice each."""
    return [*_geometry(found, spacing, order, fitted), *_intensities(found)]


def _geometry(found: Fingerprint, spacing: Sequence[float], order: Sequence[int], fitted: Fitted) -> list[Choice]:
    steps = []
    if found.space is Space.PATIENT:
        letters = "".join(AXES[axis] for axis in order)
        stored = sorted({case.orientation for case in found.cases})
        why = f"the images are stored as {', '.join(stored[:4])}; the net sees all of them one way"
        if order[0] != 0:
            why += ", thick slices along its first axis"
        steps.append(Choice("orient", {"letters": letters}, why))
    if found.flat or found.task == "classification":
        steps.append(_resized(found, fitted))
        return steps
    wanted = [_rounded(spacing[axis] * fitted.coarser) for axis in order]
    steps.append(Choice("resample", {"spacing_mm": _one_or_three(wanted)}, _why_spacing(found, spacing, fitted)))
    return steps


def _why_spacing(found: Fingerprint, spacing: Sequence[float], fitted: Fitted) -> str:
    all_of_them = {tuple(round(step, 3) for step in case.spacing) for case in found.cases}
    why = "all images have it" if len(all_of_them) == 1 else f"the median of {len(all_of_them)} different spacings"
    if is_anisotropic(spacing):
        why += "; slices are thick, so the smallest tenth counts there"
    if fitted.coarser > 1:
        why += f"; made {fitted.coarser:g} times coarser to keep within the limits"
    return why


def _resized(found: Fingerprint, fitted: Fitted) -> Choice:
    shape = [0 if side == 1 else side for side in fitted.patch]
    sizes = len({case.shape for case in found.cases})
    measure = "pictures have no millimetres" if found.space is not Space.PATIENT else "a class is of the whole image"
    why = f"{measure}; {sizes} different sizes become one, near the median, and a net sees the image whole"
    return Choice("resize", {"shape": shape}, why)


def _intensities(found: Fingerprint) -> list[Choice]:
    ct = all_ct(found) and found.within.keys() == found.modalities.keys()
    several = "" if len(found.modalities) == 1 else f"; the {len(found.modalities)} images are prepared alike"
    if ct:
        one = _together(list(found.within.values()))
        clip = Choice(
            "clip",
            {"values": [one.low, one.high]},
            "CT has a scale of its own: 0.5th and 99.5th percentile of all voxels within the structures of the set",
        )
        scale = Choice(
            "scale",
            {"shift": one.mean, "scale": max(one.deviation, 1e-6)},
            f"mean and standard deviation of the same voxels: an HU stays an HU in every patient{several}",
        )
        return [clip, scale]
    clip = Choice("clip", {"percentiles": [0.5, 99.5]}, "single very bright or dark voxels would decide the scale")
    parameters: dict[str, Any] = {"method": "z-score", "over": "all"}
    said = sorted({modality for modality in found.modalities.values() if modality is not None})
    if "CT" in said and len(found.modalities) > 1:
        known = "images of several kinds have one recipe here, so that HU count for nothing"
    else:
        known = f"{' and '.join(said)} has no scale of its own" if said else "no modality is known"
    why = f"{known}: each image by its own mean and deviation"
    if found.filled < _MUCH_EMPTY:
        parameters = {"method": "z-score", "over": "foreground", "outside": "zero"}
        why += f"; {100 * (1 - found.filled):.0f} % of the median image is empty, which is left out and becomes 0"
    return [clip, Choice("normalise", parameters, why + several)]


def all_ct(found: Fingerprint) -> bool:
    """Every image is known to be CT."""
    return set(found.modalities.values()) == {"CT"}


def _together(parts: Sequence[Intensities]) -> Intensities:
    """Of several images with one scale: the widest range, and the moments of as many voxels of each."""
    mean = float(np.mean([one.mean for one in parts]))
    spread = float(np.mean([one.deviation**2 + (one.mean - mean) ** 2 for one in parts]))
    return replace(
        parts[0],
        low=min(one.low for one in parts),
        high=max(one.high for one in parts),
        mean=_six(mean),
        deviation=_six(spread**0.5),
    )


def _six(figure: float) -> float:
    return float(f"{figure:.6g}")


def _rounded(step: float) -> float:
    return float(f"{step:.3g}")


def _one_or_three(steps: Sequence[float]) -> float | list[float]:
    return steps[0] if len(set(steps)) == 1 else list(steps)
