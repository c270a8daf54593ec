"""Heads with their references, and the same heads as other scanners, other storage and another body would show them.

Everything drawn at random depends on the name of the head and of the change alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residency.files.nifti import read_nifti, read_nifti_labels
from residency.prepare import labels_on
from residency.prepare.orient import Orient
from residency.prepare.resample import Resample
from residency.volume import Grid, Volume

HIPPOCAMPI = (47, 48)
"""Right and left hippocampus among the values of DLMUSE, as muse_labels.csv names them."""
RIGHT, LEFT = 2, 3
"""The same in the reference of a Head."""

OF_VAL = ("nichart_07", "nichart_12", "nichart_23")
WITH_FLAIR = ("nichart_01", "nichart_02", "nichart_03", "nichart_05")
"""People with a FLAIR, kept out of training for its sake."""
OTHER_SOURCE = ("ixi012",)
BRAIN_MASKS = ("ms_01", "ms_12", "ms_03")
FAULTY = {"ms_03": "ms_03: its reference leaves out the frontal lobes"}
UNCHANGED = "as it is"

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Head:
    """An image and its reference on one grid.

    reference  0 outside, 1 intracranial, 2 and 3 right and left hippocampus; where a set has a brain mask, 0 and 1
    """

    case: str
    group: str
    change: str
    volume: Volume
    reference: Labels


def t1(data: Path, case: str, group: str) -> Head:
    """The T1 of a case with DLMUSE's labels, or with its brain mask."""
    volume = read_nifti((data / case / "t1.nii.gz").read_bytes())
    masked = case in BRAIN_MASKS
    values, _ = read_nifti_labels((data / case / ("brainmask.nii.gz" if masked else "dlmuse.nii.gz")).read_bytes())
    return Head(case, group, UNCHANGED, volume, (values > 0).astype(np.uint8) if masked else classes(values))


def classes(values: npt.NDArray[np.unsignedinteger]) -> Labels:
    """DLMUSE's values -> the reference of a Head."""
    found = (values > 0).astype(np.uint8)
    for label, value in zip((RIGHT, LEFT), HIPPOCAMPI, strict=True):
        found[values == value] = label
    return found


def changed(head: Head, change: str) -> Head:
    """The head as one of CHANGES shows it, or STRIPPED of what is outside the reference."""
    return replace(_EVERY[change](head), change=change)


def _turned(letters: str, head: Head) -> Head:
    return _moved(head, Orient(letters=letters).apply)


def _faulty(name: str, head: Head) -> Head:
    array = _FAULTS[name](head, _random(head.case, name))
    return replace(head, volume=replace(head.volume, array=array))


def _moved(head: Head, how: Callable[[Volume], Volume]) -> Head:
    """Image and reference taken along, voxel by voxel."""
    labels = how(Volume(head.reference.astype(np.float32), head.volume.grid))
    return replace(head, volume=how(head.volume), reference=labels.array.astype(np.uint8))


def _resampled(head: Head, spacing_mm: float | tuple[float, float, float]) -> Head:
    turned = _moved(head, Orient(letters="SPL").apply)
    volume = Resample(spacing_mm=spacing_mm).apply(turned.volume)
    return replace(turned, volume=volume, reference=labels_on(turned.reference, turned.volume.grid, volume.grid))


def _random(case: str, change: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{case}: {change}".encode()))


def _bright(head: Head) -> float:
    return float(np.percentile(head.volume.array, 99))


def _biased(strength: float, head: Head, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Times exp of a smooth field; strength is its largest value inside the reference, up or down."""
    from scipy import ndimage

    nodes = random.uniform(-1, 1, (4, 4, 4))
    shape = head.volume.array.shape
    at = np.stack(np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij"))
    field = ndimage.map_coordinates(nodes, at, order=3, mode="nearest")
    field /= np.abs(field[head.reference > 0]).max()
    found: npt.NDArray[np.float32] = (head.volume.array * np.exp(strength * field)).astype(np.float32)
    return found


def _noisy(share: float, head: Head, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Rician: of the size of a complex value with noise in both parts; share of the 99th percentile."""
    real, other = random.normal(0, share * _bright(head), (2, *head.volume.array.shape))
    found: npt.NDArray[np.float32] = np.hypot(head.volume.array + real, other).astype(np.float32)
    return found


def _inverted(head: Head, _: np.random.Generator) -> npt.NDArray[np.float32]:
    """Bright tissue dark and dark tissue bright; air stays dark."""
    top = _bright(head)
    array = np.clip(head.volume.array, 0, top)
    found: npt.NDArray[np.float32] = np.where(array > 0.08 * top, 1.08 * top - array, array).astype(np.float32)
    return found


def _with_lesions(count: int, radius_mm: float, head: Head, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Ellipsoids of one intensity each, dark to bright, inside the reference."""
    array, inside = head.volume.array.copy(), head.reference > 0
    places = np.argwhere(inside)
    for _ in range(count):
        centre = places[random.integers(len(places))]
        axes = radius_mm * random.uniform(0.6, 1.0, 3) / np.array(head.volume.grid.spacing_mm)
        grid = np.ogrid[tuple(slice(0, n) for n in array.shape)]
        far = sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes, strict=True))
        array[inside & (far <= 1)] = random.uniform(0.1, 1.1) * _bright(head)
    return array


_FAULTS: dict[str, Callable[[Head, np.random.Generator], npt.NDArray[np.float32]]] = {
    "bias field, up to a factor of 1.35": partial(_biased, 0.3),
    "bias field, up to a factor of 1.8": partial(_biased, 0.6),
    "noise of 3 %": partial(_noisy, 0.03),
    "noise of 8 %": partial(_noisy, 0.08),
    "ten inserted lesions of up to 5 mm radius": partial(_with_lesions, 10, 5.0),
    "one inserted lesion of up to 20 mm radius": partial(_with_lesions, 1, 20.0),
    "contrast inverted": _inverted,
}


def _stripped(head: Head) -> Head:
    """Without all that lies outside the reference, as an extracted brain is stored."""
    array = np.where(head.reference > 0, head.volume.array, np.float32(0))
    return replace(head, volume=replace(head.volume, array=array))


CHANGES: dict[str, Callable[[Head], Head]] = {
    **{f"stored as {letters}": partial(_turned, letters) for letters in ("PSR", "RAI", "LSA")},
    "1 mm": lambda head: _resampled(head, 1.0),
    "3 mm": lambda head: _resampled(head, 3.0),
    "axial slices of 3 mm, 1 mm in plane": lambda head: _resampled(head, (3.0, 1.0, 1.0)),
    **{name: partial(_faulty, name) for name in _FAULTS},
}
"""Other storage, other resolutions, and faults."""
STRIPPED = "skull taken away"
_EVERY = {**CHANGES, STRIPPED: _stripped}


def carried(head: Head, grid: Grid, to_t1: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Labels:
    """The reference of a T1 on another grid, by the nearest voxel; `to_t1` maps LPS mm there to LPS mm of the T1."""
    points = to_t1(grid.to_lps(np.argwhere(np.ones(grid.shape, dtype=bool))))
    index = np.rint(head.volume.grid.to_index(points)).astype(int)
    there = ((index >= 0) & (index < head.reference.shape)).all(axis=1)
    found = np.zeros(len(points), np.uint8)
    found[there] = head.reference[tuple(index[there].T)]
    return found.reshape(grid.shape)
