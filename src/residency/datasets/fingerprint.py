"""What a data set looks like, measured case by case: all that a plan for a training is made from; no torch.

The measures are those of Isensee et al., "nnU-Net", Nature Methods 2021, supplementary note 2 (sizes, spacings,
intensities within the structures), by anatomical axis instead of by the axis that a file happens to store first, and
with what tells a person that something is wrong with the data.

Axes are (slice, row, column): of images with a place in the patient those to superior, posterior and left, whatever way
each was stored; of pictures as they are stored, and then lengths are in pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from residency.datasets.case import Case, read_images, reference_values
from residency.errors import TrainingError
from residency.prepare.foreground import foreground
from residency.prepare.orient import Orient
from residency.volume import Image, Space, Volume

AXES = "SPL"
"""Where the axes of all figures point."""

_SAMPLES = 10_000
"""Voxels of a case that stand for its intensities: enough for percentiles of the whole set."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Intensities:
    """Of sampled voxels: smallest, 0.5th percentile, median, mean, standard deviation, 99.5th percentile, largest."""

    least: float
    low: float
    median: float
    mean: float
    deviation: float
    high: float
    most: float

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> Intensities:
        """Raises ValueError for no values."""
        if values.size == 0:
            raise ValueError("no voxel to measure")
        low, median, high = np.percentile(values, (0.5, 50, 99.5))
        figures = (values.min(), low, median, values.mean(dtype=np.float64), values.std(dtype=np.float64))
        return cls(*(float(f"{figure:.6g}") for figure in (*figures, high, values.max())))


@dataclass(frozen=True)
class Structure:
    """One label value in one case.

    voxels       that have it
    middle       their centre of gravity, as a share 0..1 of each axis
    mean         of the first image in it
    deviation    likewise
    """

    voxels: int
    middle: Triple
    mean: float
    deviation: float


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    shape        voxels along each axis
    spacing      mm, or pixels
    inside       voxels of the smallest box that holds everything above the smallest value, of any image
    orientation  as stored, such as "SPL"; "" for a picture
    structures   by label value
    label        name of its class, where the case has one
    whole        all intensities are whole numbers
    """

    name: str
    person: str
    shape: tuple[int, int, int]
    spacing: Triple
    inside: tuple[int, int, int]
    orientation: str
    structures: Mapping[int, Structure]
    label: str | None
    whole: bool

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def millilitres(self) -> dict[int, float]:
        """Volume of each label value; without meaning for pictures."""
        return {value: one.voxels * math.prod(self.spacing) / 1000 for value, one in self.structures.items()}


@dataclass(frozen=True)
class Fingerprint:
    """A data set, measured.

    task        "segmentation" or "classification"
    space       of all images
    classes     names: of a segmentation those of the label values 0, 1, ...
    values      all label values that were found, in order; () for a classification
    modalities  of each image of a case, by its name; None where nothing says it
    within      intensities within the structures, by image; of a classification, above the smallest value
    overall     intensities of all voxels, by image
    """

    task: str
    space: Space
    classes: tuple[str, ...]
    values: tuple[int, ...]
    modalities: Mapping[str, str | None]
    cases: tuple[CaseFacts, ...]
    within: Mapping[str, Intensities]
    overall: Mapping[str, Intensities]
    notes: tuple[str, ...] = field(default=())

    @property
    def persons(self) -> int:
        return len({case.person for case in self.cases})

    @property
    def spacing(self) -> Triple:
        """Median along each axis."""
        return _median([case.spacing for case in self.cases])

    @property
    def extent(self) -> Triple:
        """Median length of an image along each axis: mm, or pixels."""
        return _median([_lengths(case) for case in self.cases])

    @property
    def shape(self) -> Triple:
        """Median number of voxels along each axis."""
        return _median([case.shape for case in self.cases])

    @property
    def flat(self) -> bool:
        """Every image is a single slice."""
        return all(min(case.shape) == 1 for case in self.cases)

    @property
    def filled(self) -> float:
        """Median share of an image that the box of everything above the smallest value takes up."""
        return float(np.median([math.prod(case.inside) / case.voxels for case in self.cases]))

    def share(self, value: int) -> float:
        """Median share of voxels with a label value, over the cases that have any."""
        held = [c.structures[value].voxels / c.voxels for c in self.cases if value in c.structures]
        return float(np.median(held)) if held else 0.0


def measure(
    cases: Sequence[Case],
    *,
    classes: Sequence[str] | None = None,
    modalities: Mapping[str, str | None] | None = None,
    task: str | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Read every case once and measure it.

    classes     names of label values 0, 1, ... or, with `task`, of the classes in order; None: after the values found
    task        column of the class, of a classification; None: a segmentation
    report      told after each case how many are done, of how many

    Raises TrainingError, naming the case, for one that cannot be read, lies on another grid than its reference, or
    holds labels that are no whole numbers 0 to 255; and for a set in which some images are pictures and others are not.
    """
    if not cases:
        raise TrainingError("there is no case to measure")
    facts, within, overall = [], [], []
    for number, case in enumerate(cases, 1):
        found, inner, outer, space = _measured(case, classes, task)
        facts.append((found, space))
        within.append(inner)
        overall.append(outer)
        if report is not None:
            report(number, len(cases))
    spaces = {space for _, space in facts}
    if len(spaces) > 1:
        first, other = (next(one.name for one, space in facts if space is kind) for kind in sorted(spaces))
        raise TrainingError(
            f"case '{first}' and case '{other}' are of different kinds, {' and '.join(sorted(spaces))}: a network is "
            "trained on volumes or on pictures; plan each by itself"
        )
    values = tuple(sorted({value for one, _ in facts for value in one.structures}))
    if task is not None:
        names = tuple(classes or ())
    else:
        names = tuple(classes) if classes else ("background", *(f"class-{value}" for value in values if value))
    known = {name: (modalities or {}).get(name) for name in cases[0].images}
    return Fingerprint(
        "segmentation" if task is None else "classification",
        next(iter(spaces)),
        names,
        values,
        known,
        tuple(one for one, _ in facts),
        _pooled(within),
        _pooled(overall),
    )


_Sampled = dict[str, Image]


def _measured(
    case: Case, classes: Sequence[str] | None, task: str | None
) -> tuple[CaseFacts, _Sampled, _Sampled, Space]:
    """(facts, values within structures by image, values anywhere by image, space)."""
    images = read_images(case)
    first = next(iter(images.values()))
    labels = None if task is not None else reference_values(case, first.grid)
    turned = {name: _turned(volume) for name, volume in images.items()}
    image = next(iter(turned.values()))
    if labels is not None:
        labels = np.rint(_turned(first.with_array(labels.astype(np.float32))).array).astype(np.uint8)
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:8], "big"))
    mask = foreground(image.array) if labels is None else labels > 0
    named = None
    if task is not None and classes is not None:
        if task not in case.labels:
            raise TrainingError(f"case '{case.name}' has no class in column '{task}'")
        named = classes[case.labels[task]]
    facts = CaseFacts(
        case.name,
        case.person,
        image.grid.shape,
        image.grid.spacing_mm,
        _inside([one.array for one in turned.values()]),
        first.grid.orientation if first.grid.space is Space.PATIENT else "",
        {} if labels is None else _structures(labels, image.array),
        named,
        bool(np.all(image.array == np.rint(image.array))),
    )
    inner = {name: _sample(one.array[mask], random) for name, one in turned.items()}
    outer = {name: _sample(one.array.reshape(-1), random) for name, one in turned.items()}
    return facts, inner, outer, first.grid.space


def _turned(volume: Volume) -> Volume:
    return Orient(letters=AXES).apply(volume) if volume.grid.space is Space.PATIENT else volume


def _inside(arrays: Sequence[Image]) -> tuple[int, int, int]:
    mask = np.logical_or.reduce([foreground(array) for array in arrays])
    if not mask.any():
        return mask.shape[0], mask.shape[1], mask.shape[2]
    sides = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        sides.append(int(there[-1] - there[0] + 1))
    return sides[0], sides[1], sides[2]


def _structures(labels: npt.NDArray[np.uint8], image: Image) -> dict[int, Structure]:
    counts = np.bincount(labels.reshape(-1), minlength=256).astype(np.float64)
    flat, values = labels.reshape(-1), image.reshape(-1)
    sums = np.bincount(flat, values, 256)
    squares = np.bincount(flat, np.square(values, dtype=np.float64), 256)
    middles = []
    for axis, length in enumerate(labels.shape):
        along = np.arange(length, dtype=np.float64).reshape([-1 if k == axis else 1 for k in range(3)])
        places = np.broadcast_to((along + 0.5) / length, labels.shape).reshape(-1)
        middles.append(np.bincount(flat, places, 256))
    found = {}
    for value in np.flatnonzero(counts).tolist():
        n, mean = counts[value], sums[value] / counts[value]
        deviation = math.sqrt(max(0.0, squares[value] / n - mean * mean))
        centre = (float(middles[0][value] / n), float(middles[1][value] / n), float(middles[2][value] / n))
        found[value] = Structure(int(n), centre, float(mean), deviation)
    return found


def _sample(values: Image, random: np.random.Generator) -> Image:
    return values if values.size <= _SAMPLES else values[random.integers(values.size, size=_SAMPLES)]


def _pooled(parts: Sequence[_Sampled]) -> dict[str, Intensities]:
    """Of all cases together; an image whose structures are all empty has none."""
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: Intensities.of(values) for name, values in pooled.items() if values.size}


def _lengths(case: CaseFacts) -> Triple:
    a, b, c = (n * step for n, step in zip(case.shape, case.spacing, strict=True))
    return a, b, c


def _median(rows: Sequence[Sequence[float]]) -> Triple:
    a, b, c = np.median(np.array(rows, dtype=np.float64), axis=0).tolist()
    return a, b, c


def warnings_of(found: Fingerprint) -> tuple[str, ...]:
    """What a person should look at before training on it, the gravest first."""
    return tuple(
        said
        for check in (_wrong_values, _empty, _few_persons, _unknown_modality, _without_contrast)
        for said in check(found)
    )


def missing_values(found: Fingerprint) -> tuple[int, ...]:
    """Label values below the largest that no case has."""
    return tuple(sorted(set(range(max(found.values, default=0) + 1)) - set(found.values)))


def _wrong_values(found: Fingerprint) -> list[str]:
    missing = missing_values(found)
    if found.task != "segmentation" or not missing:
        return []
    shown = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
    return [f"label values are not consecutive: {len(found.values)} values up to {max(found.values)}, not {shown}"]


def _empty(found: Fingerprint) -> list[str]:
    if found.task == "classification":
        held = Counter(case.label for case in found.cases)
        return [f"class '{name}' has no case" for name in found.classes if not held[name]]
    said = []
    for value, name in enumerate(found.classes):
        if value == 0 or value not in found.values:
            continue
        without = [case.name for case in found.cases if value not in case.structures]
        if without:
            share = 100 * len(without) / len(found.cases)
            said.append(f"'{name}' is missing in {len(without)} cases ({share:.0f} %), '{without[0]}' among them")
    bare = [case.name for case in found.cases if set(case.structures) <= {0}]
    if bare:
        said.append(f"{len(bare)} references are empty, that of '{bare[0]}' among them")
    return said


def _few_persons(found: Fingerprint) -> list[str]:
    if found.persons >= 10:
        return []
    return [f"{found.persons} persons: what is measured on those held out will be uncertain"]


def _unknown_modality(found: Fingerprint) -> list[str]:
    said = []
    for name, modality in found.modalities.items():
        if modality is not None or found.space is not Space.PATIENT:
            continue
        hounsfield = found.overall[name].least <= -900 and found.cases[0].whole
        hint = "; its values look like HU: if it is CT, say --modality CT" if hounsfield else "; say --modality"
        said.append(f"nothing says which modality '{name}' is: it is scaled by itself, image by image{hint}")
    return said


def _without_contrast(found: Fingerprint) -> list[str]:
    return [f"'{name}' has a single value everywhere" for name, one in found.overall.items() if one.least == one.most]
