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


def phantom(fingerprint: Mapping[str, Any], classes: int, seed: int = 0) -> Volume:
    """An image from what a plan knows of its data, whole numbers in float32, slices to superior, rows to posterior.

    fingerprint  as in plan.json; of several images it tells the brightness of structures in the first
    """
    assert AXES == "SPL", "a regular grid has these axes"
    cases = fingerprint["cases"]
    shape = [max(1, min(_MOST_VOXELS, round(side))) for side in fingerprint["median_shape"]]
    grid = regular_grid((shape[0], shape[1], shape[2]), fingerprint["median_spacing"])
    random = np.random.default_rng(seed)
    mean, deviation = _brightness(cases, "0", fingerprint)
    image = mean + deviation * _smooth_noise(shape, random)
    for value in range(1, classes):
        held = [case["structures"][str(value)] for case in cases if str(value) in case["structures"]]
        if not held:
            continue
        middle = np.mean([one["middle"] for one in held], axis=0)
        voxels = float(np.median([one["voxels"] for one in held]))
        inside = _ellipsoid(shape, middle, voxels)
        mean, deviation = _brightness(cases, str(value), fingerprint)
        image[inside] = mean + deviation * _smooth_noise(shape, random)[inside]
    return Volume(_whole(image), grid)


def further(first: Volume, fingerprint: Mapping[str, Any]) -> list[Volume]:
    """The other images of a case whose first is a phantom: the same figures, at the brightness of each image."""
    own, *others = fingerprint["overall"].values()
    plain = (first.array - own["mean"]) / max(own["deviation"], 1e-6)
    return [first.with_array(_whole(one["mean"] + one["deviation"] * plain)) for one in others]


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


def write_golden(folder: Path, engine: Engine, plan: Path) -> None:
    """The golden case of a package folder whose card is whole, and what its own graph makes of it in float32."""
    graph = (folder / GRAPH_FILE).read_bytes()
    card = parse_card(card_data(folder, graph))
    fingerprint = json.loads(plan.read_text(encoding="utf-8"))["fingerprint"]
    output = card.outputs[0]
    image = phantom(fingerprint, len(output.classes))
    names = list(golden_images(card).values())
    images = dict(zip(names, (image, *further(image, fingerprint)), strict=True))
    stored = {name: write_nifti(one.array.astype(np.int16), one.grid) for name, one in images.items()}
    payloads = [
        Payload("graph", GRAPH_FILE, "application/onnx", graph),
        *(Payload("golden/input", name, _NIFTI, data) for name, data in stored.items()),
        Payload("golden/expected", card.golden.expected, _NIFTI, b""),
    ]
    fed = dict(zip((one.name for one in card.inputs), images.values(), strict=True))
    found = replay(fed, build_package(card, payloads), engine, Precision.F32)
    if output.kind == "classification":
        told = {one.name: float(p) for one, p in zip(output.classes, found, strict=True)}
        expected = (json.dumps(told, indent=1) + "\n").encode()
    else:
        expected = write_nifti(found.astype(np.uint8), image.grid)
    write_whole(folder / card.golden.expected, expected)
    write_whole(folder / "licence-golden.txt", LICENCE.encode())
    for name in reversed(names):  # the first one last: where it is, all of them are
        write_whole(folder / name, stored[name])
