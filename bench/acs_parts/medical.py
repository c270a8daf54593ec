"""The medical data of the bench, as arrays: two sets of MedMNIST and the hippocampus crops of the decathlon.

They lie in ../shared/data beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residency.datasets import Table, read_case, read_cases
from residency.volume import Volume

DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SPLITS = ("train", "val", "test")

Images = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]
Splits = Mapping[str, tuple[Images, Classes]]


@cache
def adrenal() -> Splits:
    """AdrenalMNIST3D by split: shapes of the gland (N, 1, 28, 28, 28) in 0..1, and 0 normal or 1 mass.

    From 64 to 28 voxels by averaging: an output voxel is the mean over its own 16/7 input voxels an axis.
    """
    with np.load(DATA / "medmnist3d" / "adrenalmnist3d_64.npz") as held:
        return {
            split: (pooled(held[f"{split}_images"], 28)[:, None], held[f"{split}_labels"][:, 0].astype(np.int64))
            for split in SPLITS
        }


def pooled(images: npt.NDArray[np.uint8], side: int) -> Images:
    """Average pooling of cubes (N, n, n, n), 0..255, to (N, side, side, side), 0..1, each voxel by its overlap."""
    overlap = _overlaps(images.shape[1], side)
    found = [np.einsum("ia,jb,kc,abc->ijk", *[overlap] * 3, one / np.float32(255), optimize=True) for one in images]
    return np.stack(found).astype(np.float32)


def _overlaps(many: int, few: int) -> Images:
    """Row i: the share of each input voxel in output voxel i; rows sum to 1."""
    edges = np.arange(few + 1) * many / few
    low, high = np.maximum(edges[:-1, None], np.arange(many)), np.minimum(edges[1:, None], np.arange(many) + 1)
    return (np.clip(high - low, 0, None) * few / many).astype(np.float32)


@cache
def pneumonia() -> Splits:
    """PneumoniaMNIST by split: radiographs (N, 1, 28, 28) in 0..1, and 0 normal or 1 pneumonia."""
    with np.load(DATA / "medmnist3d" / "pneumoniamnist.npz") as held:
        return {
            split: (
                (held[f"{split}_images"][:, None] / np.float32(255)).astype(np.float32),
                held[f"{split}_labels"].reshape(-1).astype(np.int64),
            )
            for split in SPLITS
        }


@dataclass(frozen=True)
class Crop:
    """One image with its reference, (S, R, C); intensities clipped to the middle 99 % and standardised."""

    name: str
    image: Images
    labels: npt.NDArray[np.uint8]


@cache
def hippocampus(split: str, most: int | None = None) -> tuple[Crop, ...]:
    """The cases of a split, "train" or "val", of which no person is in both; the first `most` of them."""
    cases = [case for case in read_cases(DATA / "hippocampus", Table(person="pair")) if case.split == split]
    return tuple(_crop(*read_case(case, classes=3), case.name) for case in cases[:most])


def _crop(volume: Volume, labels: npt.NDArray[np.uint8], name: str) -> Crop:
    image = np.clip(volume.array, *np.percentile(volume.array, (0.5, 99.5)))
    return Crop(name, ((image - image.mean()) / image.std()).astype(np.float32), labels)
