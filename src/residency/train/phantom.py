"""A golden case that belongs to nobody: ellipsoids of the size, place and brightness that structures have in a set.

It shows that a graph arrived whole and is computed as its publisher's engine did; how good a network is, it cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import parse_card
from residency.datasets.fingerprint import AXES
from residency.engine import Engine, Precision
from residency.files.nifti import write_nifti
from residency.models.admit import MOST_DIFFERENCE
from residency.models.build import GRAPH_FILE, card_data, golden_images
from residency.package import Payload, build_package
from residency.pipeline import replay
from residency.train.written import write_whole
from residency.volume import Volume, regular_grid

FURTHER = "golden-input-{}.nii.gz"
"""Of the second input and those behind it, numbered from 2."""
INPUT, EXPECTED, PROBABILITIES = "golden-input.nii.gz", "golden-expected.nii.gz", "golden-expected.json"
SOURCE = "made by code: ellipsoids of the mean size, place and brightness of each structure, in noise; no person's scan"
LICENCE = "The golden case was made by code and shows nobody. It may be used for any purpose, CC0-1.0.\n"

_MOST_VOXELS = 160
"""Along an axis: a golden case is replayed by every site, on every machine."""
_NIFTI = "application/x-nifti+gzip"
_SAME = 0.999
"""Dice of two answers that admission would hardly tell apart."""
_Region = tuple[npt.NDArray[np.bool_], float, float]
"""(where, mean, deviation)"""


def phantom(fingerprint: Mapping[str, Any], classes: int, seed: int = 0) -> Volume:
    """An image from what a plan knows of its data, whole numbers in float32, slices to superior, rows to posterior.

    fingerprint  as in plan.json; of several images it tells the brightness of structures in the first
    """
    assert AXES == "SPL", "a regular grid has these axes"
    shape = [max(1, min(_MOST_VOXELS, round(side))) for side in fingerprint["median_shape"]]
    grid = regular_grid((shape[0], shape[1], shape[2]), fingerprint["median_spacing"])
    regions = _regions(fingerprint, classes, shape)
    return Volume(_painted(regions, shape, np.random.default_rng(seed)), grid)


def further(
    first: Volume, fingerprint: Mapping[str, Any], classes: int, *, seed: int = 0, reordered: bool = True
) -> list[Volume]:
    """The other images of a case whose first is a phantom: the same structures, at the brightness of each image.

    Each has noise of its own and, where `reordered`, another order of what is bright and what is dark, so that images
    given to the wrong inputs change the answer.
    """
    shape = list(first.grid.shape)
    regions = _regions(fingerprint, classes, shape)
    own, *others = fingerprint["overall"].values()
    made = []
    for k, one in enumerate(others, 1):
        scale = one["deviation"] / max(own["deviation"], 1e-6)
        turn = k % len(regions) if reordered else 0
        looks = [(mean, deviation) for _, mean, deviation in regions[turn:] + regions[:turn]]
        seen = [
            (inside, one["mean"] + scale * (mean - own["mean"]), scale * deviation)
            for (inside, _, _), (mean, deviation) in zip(regions, looks, strict=True)
        ]
        made.append(first.with_array(_painted(seen, shape, np.random.default_rng((seed, k)))))
    return made


def _regions(fingerprint: Mapping[str, Any], classes: int, shape: list[int]) -> list[_Region]:
    """Of what no structure covers, then of each structure that some case has; later ones lie over earlier ones."""
    cases = fingerprint["cases"]
    found: list[_Region] = [(np.ones(shape, bool), *_brightness(cases, "0", fingerprint))]
    for value in range(1, classes):
        held = [case["structures"][str(value)] for case in cases if str(value) in case["structures"]]
        if held:
            middle = np.mean([one["middle"] for one in held], axis=0)
            voxels = float(np.median([one["voxels"] for one in held]))
            found.append((_ellipsoid(shape, middle, voxels), *_brightness(cases, str(value), fingerprint)))
    return found


def _painted(regions: list[_Region], shape: list[int], random: np.random.Generator) -> npt.NDArray[np.float32]:
    image = np.zeros(shape)
    for inside, mean, deviation in regions:
        image[inside] = mean + deviation * _smooth_noise(shape, random)[inside]
    return _whole(image)


def _whole(image: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Numbers that 16 bits hold."""
    limit = float(np.iinfo(np.int16).max)
    held: npt.NDArray[np.float32] = np.clip(np.rint(image), -limit, limit).astype(np.float32)
    return held


def _brightness(cases: Any, value: str, fingerprint: Mapping[str, Any]) -> tuple[float, float]:
    """Median over the cases of mean and deviation within a label value; of everything, where none has it."""
    held = [case["structures"][value] for case in cases if value in case["structures"]]
    if not held:
        overall = next(iter(fingerprint["overall"].values()))
        return float(overall["mean"]), float(overall["deviation"])
    return float(np.median([one["mean"] for one in held])), float(np.median([one["deviation"] for one in held]))


def _smooth_noise(shape: list[int], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Standard normal, neighbours alike as in tissue."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(random.normal(size=shape), 1.0)
    made: npt.NDArray[np.float64] = noise / max(float(noise.std()), 1e-9)
    return made


def _ellipsoid(shape: list[int], middle: npt.NDArray[np.floating], voxels: float) -> npt.NDArray[np.bool_]:
    """As long along each axis as the image is, for its volume."""
    radii = np.array(shape) * (voxels / (np.prod(shape) * 4 / 3 * np.pi)) ** (1 / 3)
    places = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1) + 0.5
    inside: npt.NDArray[np.bool_] = (((places - middle * shape) / np.maximum(radii, 0.5)) ** 2).sum(-1) <= 1
    return inside


def write_golden(folder: Path, engine: Engine, plan: Path) -> tuple[str, ...]:
    """The golden case of a package folder whose card is whole, and what its own graph makes of it in float32.

    Gives what a person should know. Raises CardError for a card without a file for each input.
    """
    graph = (folder / GRAPH_FILE).read_bytes()
    card = parse_card(card_data(folder, graph))
    fingerprint = json.loads(plan.read_text(encoding="utf-8"))["fingerprint"]
    output = card.outputs[0]
    files = golden_images(card)
    image = phantom(fingerprint, len(output.classes))

    def answer(images: list[Volume]) -> npt.NDArray[Any]:
        fed = dict(zip(files, images, strict=True))
        stored = {files[name]: write_nifti(one.array.astype(np.int16), one.grid) for name, one in fed.items()}
        payloads = [
            Payload("graph", GRAPH_FILE, "application/onnx", graph),
            *(Payload("golden/input", name, _NIFTI, data) for name, data in stored.items()),
            Payload("golden/expected", card.golden.expected, _NIFTI, b""),
        ]
        return replay(fed, build_package(card, payloads), engine, Precision.F32)

    images = [image, *further(image, fingerprint, len(output.classes))]
    found = answer(images)
    if len(images) > 1 and output.kind != "classification" and not found.any():  # it would prove nothing
        images = [image, *further(image, fingerprint, len(output.classes), reordered=False)]
        found = answer(images)
    notes: tuple[str, ...] = ()
    if len(images) > 1 and _alike(found, answer(images[1:] + images[:1])):
        notes = (
            "the golden case gives the same answer with its images exchanged: admission will not show inputs in the "
            "wrong order; put images and an expected result of your own in their place",
        )
    if output.kind == "classification":
        told = {one.name: float(p) for one, p in zip(output.classes, found, strict=True)}
        expected = (json.dumps(told, indent=1) + "\n").encode()
    else:
        expected = write_nifti(found.astype(np.uint8), image.grid)
    write_whole(folder / card.golden.expected, expected)
    write_whole(folder / "licence-golden.txt", LICENCE.encode())
    for name, one in reversed(list(zip(files.values(), images, strict=True))):  # the first last: then all are there
        write_whole(folder / name, write_nifti(one.array.astype(np.int16), one.grid))
    return notes


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether admission takes one answer for the other: label maps, or probabilities."""
    if np.issubdtype(one.dtype, np.floating):
        return bool(np.abs(one - other).max() <= MOST_DIFFERENCE)
    size = np.count_nonzero(one) + np.count_nonzero(other)
    return bool(2 * np.count_nonzero((one == other) & (one > 0)) >= _SAME * size)
