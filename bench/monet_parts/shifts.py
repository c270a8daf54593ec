"""Scanners other than those that were learnt from: contrast, bias field, resolution and noise, each in three grades.

What is done to an exam depends on its name, the kind of shift and nothing else: every net sees the same shifted images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from monet_parts.data import Exam
from residency.prepare.sampling import resampled

GRADES: Mapping[str, tuple[float, float, float]] = {
    "contrast": (1.4, 2.0, 2.8),
    "bias field": (0.3, 0.6, 0.9),
    "resolution": (1.5, 2.0, 3.0),
    "noise": (0.05, 0.1, 0.2),
}
"""Exponent of the intensities or, for every other exam, its inverse; natural logarithm of the largest gain over the
mean one; size of a voxel in voxels; standard deviation as a share of the range of the middle 99 % of intensities."""


def shifted(exam: Exam, kind: str, grade: int) -> Exam:
    """The exam as another scanner would have given it, `grade` from 1 to 3."""
    digest = hashlib.sha256(f"{kind} {exam.name}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    image = SHIFTS[kind](exam.image.astype(np.float64), GRADES[kind][grade - 1], random)
    return replace(exam, image=np.ascontiguousarray(image, dtype=np.float32))


Plane = npt.NDArray[np.float64]


def _contrast(image: Plane, exponent: float, random: np.random.Generator) -> Plane:
    low, high = _range(image)
    unit = np.clip((image - low) / (high - low), 0, None)
    return low + (high - low) * unit ** (exponent if random.random() < 0.5 else 1 / exponent)


def _bias_field(image: Plane, strength: float, random: np.random.Generator) -> Plane:
    """Times the exponential of a random polynomial of second degree in the places, slowly varying as coils make it."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in image.shape), indexing="ij")
    terms = [*places, *(a * b for k, a in enumerate(places) for b in places[k:])]
    field = np.sum([random.normal() * term for term in terms], axis=0)
    field -= field.mean()
    gain: Plane = np.exp(strength * field / np.abs(field).max())
    return image * gain


def _resolution(image: Plane, factor: float, _: np.random.Generator) -> Plane:
    """As if acquired on larger voxels, then interpolated to these; a radiograph's single slice is left alone."""
    fine = image.shape
    coarse = tuple(n if n == 1 else max(2, round(n / factor)) for n in fine)
    ratios = tuple(a / b for a, b in zip(fine, coarse, strict=True))
    down = resampled(image.astype(np.float32), coarse, ratios)
    return resampled(down, fine, tuple(1 / r for r in ratios)).astype(np.float64)


def _noise(image: Plane, share: float, random: np.random.Generator) -> Plane:
    """Of Rician distribution, as in magnitude images (Gudbjartsson, Patz, Magn Reson Med 34:910, 1995)."""
    low, high = _range(image)
    deviation = share * (high - low)
    real, imaginary = random.normal(0, deviation, (2, *image.shape))
    magnitude: Plane = low + np.hypot(image - low + real, imaginary)
    return magnitude


def _range(image: Plane) -> tuple[float, float]:
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high)


SHIFTS: Mapping[str, Callable[[Plane, float, np.random.Generator], Plane]] = {
    "contrast": _contrast,
    "bias field": _bias_field,
    "resolution": _resolution,
    "noise": _noise,
}
