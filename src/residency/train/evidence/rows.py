"""One case judged: a network's answer against the reference, on the grid that the image was acquired on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Output
from residency.datasets import Case, read_images
from residency.datasets.case import read_reference
from residency.decide import activate, clean, decide_scores
from residency.errors import InputError, TrainingError
from residency.infer import infer
from residency.metrics import Bin, agreement, reliability
from residency.prepare import prepare
from residency.train.evidence.answerer import Answerer
from residency.train.task import Judged
from residency.volume import Grid, Space, Volume

TOLERANCE_MM = 1.0
"""Of the surface Dice."""

NEAR_VOXELS = 3
"""How far from reference or answer, in steps from face to face, a voxel's probability is judged: far away is easy."""

LARGEST_SCORES = 2**28
"""Most scores of a case that are held at once (1 GiB); of larger ones the decisions are judged, not the probabilities.
"""

UNITS = {Space.PATIENT: "mL", Space.DETECTOR: "mm2", Space.PIXELS: "pixels"}
"""Of `volume_error`, by what the grid of the images maps to."""

OF_MASKS = (
    "dice",
    "surface_dice",
    "hd95",
    "mean_surface_distance",
    "volume_error",
    "relative_volume_error",
    "sensitivity",
    "precision",
)
"""Figures of each class of a segmentation."""

Masks = tuple[npt.NDArray[np.bool_], ...]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """What was found in one case.

    figures        of a segmentation: class -> figure -> value; see `residency.train.evidence.figures`
    volumes        class -> (answer, reference), in `unit`
    reliability    class -> bins, of voxels near the structure
    probabilities  of a classification, by class; `truth` is the number of the case's class
    columns        what the table of cases says of it
    """

    case: str
    person: str
    seconds: float
    unit: str = "mL"
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    volumes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reliability: Mapping[str, tuple[Bin, ...]] = field(default_factory=dict)
    probabilities: tuple[float, ...] = ()
    truth: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """JSON values; numbers that are not finite as text."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def row_from(plain: Mapping[str, Any]) -> Row:
    """What `Row.plain` gave. Raises ValueError, KeyError or TypeError for anything else."""
    return Row(
        case=str(plain["case"]),
        person=str(plain["person"]),
        seconds=float(plain["seconds"]),
        unit=str(plain["unit"]),
        figures={name: {key: float(value) for key, value in of.items()} for name, of in plain["figures"].items()},
        volumes={name: (float(said), float(wanted)) for name, (said, wanted) in plain["volumes"].items()},
        reliability={name: tuple(map(_bin, bins)) for name, bins in plain["reliability"].items()},
        probabilities=tuple(map(float, plain["probabilities"])),
        truth=None if plain["truth"] is None else int(plain["truth"]),
        columns={str(key): str(value) for key, value in plain["columns"].items()},
    )


def is_whole(row: Row, classes: Sequence[str]) -> bool:
    """Whether a row that was read holds all that one of these classes does: files are not believed."""
    if row.truth is not None:
        return len(row.probabilities) == len(classes) > row.truth >= 0 and all(map(math.isfinite, row.probabilities))
    kinds = {frozenset(of) for of in row.figures.values()}
    return row.figures.keys() == row.volumes.keys() == set(classes[1:]) and kinds == {frozenset(OF_MASKS)}


def distances_in(of_volumes: str) -> str:
    """Unit of the distances in rows whose volumes have this unit."""
    return "pixels" if of_volumes == UNITS[Space.PIXELS] else "mm"


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer on the grid of the image, with what it is judged against; masks are of the foreground classes."""

    volume: Volume
    masks: Masks
    wanted: Masks
    scores: Scores | None


def judged(case: Case, answerer: Answerer, of: Judged) -> Row:
    """The row of a case.

    Raises TrainingError, naming the case, for one that cannot be read or prepared, or is without what it is judged by.
    """
    started = time.monotonic()
    if of.column is not None:
        if of.column not in case.labels:
            raise TrainingError(f"case '{case.name}' has no class in column '{of.column}'")
        _, found = _asked(case, answerer, lambda _: answerer.output)
        return Row(
            case=case.name,
            person=case.person,
            seconds=time.monotonic() - started,
            probabilities=tuple(float(value) for value in found[of.own]),
            truth=case.labels[of.column],
        )
    classes = of.classes
    answer = answered(case, answerer, classes)
    unit, a_voxel = UNITS[answer.volume.grid.space], _voxel(answer.volume.grid)
    figures, volumes = {}, {}
    for name, said, wanted in zip(classes[1:], answer.masks, answer.wanted, strict=True):
        volumes[name] = (float(said.sum()) * a_voxel, float(wanted.sum()) * a_voxel)
        figures[name] = _figures(said, wanted, answer.volume.grid, volumes[name])
    bins = {} if answer.scores is None else _reliability(answer, answerer.output, classes)
    return Row(case.name, case.person, time.monotonic() - started, unit, figures, volumes, bins)


def answered(case: Case, answerer: Answerer, classes: Sequence[str]) -> Answer:
    """The masks that a network gives a case, and those of its reference. Raises TrainingError as `judged` does."""
    output = answerer.output
    volume, found = _asked(case, answerer, partial(_scored, output))
    held = found.dtype == np.float32
    decided = _decided(found, output) if held else found
    offset = len(classes) - len(output.classes)
    exclusive = output.decision.rule == "argmax"
    masks = tuple(
        clean(
            decided == k if exclusive else decided[k - offset],
            output.decision,
            volume.grid,
            largest_only=output.classes[k - offset].largest_only,
        )
        for k in range(1, len(classes))
    )
    reference = read_reference(case, volume.grid, len(classes))
    wanted = tuple(np.asarray(reference == k) for k in range(1, len(classes)))
    return Answer(volume, masks, wanted, found if held else None)


def _asked(case: Case, answerer: Answerer, form: Callable[[Grid], Output]) -> tuple[Volume, npt.NDArray[Any]]:
    """The first image of a case, and what the network says, in the form of the output that `form` gives for a grid."""
    volumes = tuple(read_images(case).values())
    inputs = answerer.contract.inputs
    if len(inputs) != len(volumes):
        raise TrainingError(f"case '{case.name}' has {len(volumes)} images; the network takes {len(inputs)}")
    output = form(volumes[0].grid)
    contract = answerer.contract.model_copy(update={"outputs": (output,)})
    try:
        prepared = {one.name: prepare(volume, one.recipe) for one, volume in zip(inputs, volumes, strict=True)}
        return volumes[0], infer(prepared, answerer.network(), contract)[output.name]
    except InputError as error:
        raise TrainingError(f"case '{case.name}' cannot be judged: {error}") from None


def _scored(output: Output, grid: Grid) -> Output:
    """The output as scores of all voxels where they can be held, for the decisions as it is elsewhere."""
    if len(output.classes) * math.prod(grid.shape) > LARGEST_SCORES:
        return output
    plain = output.decision.model_copy(update={"activation": "none"})
    return output.model_copy(update={"kind": "map", "decision": plain})


def _decided(scores: Scores, output: Output) -> npt.NDArray[Any]:
    """As `infer` decides; what lies outside the prepared grid, where all scores are 0, is background."""
    decided = decide_scores(scores, output.decision)
    return decided & scores.any(axis=0) if output.decision.rule == "threshold" else decided


def _figures(
    said: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_], grid: Grid, volumes: tuple[float, float]
) -> dict[str, float]:
    spacing: Sequence[float] = grid.spacing_mm
    if grid.shape[0] == 1:  # one slice is a plane: as a volume, all of it would be surface
        said, wanted, spacing = said[0], wanted[0], spacing[1:]
    found = agreement(said, wanted, spacing, tolerance_mm=TOLERANCE_MM)
    nothing = not said.any() and not wanted.any()
    return {
        "dice": found.dice,
        "surface_dice": found.surface_dice,
        "hd95": found.hd95_mm,
        "mean_surface_distance": found.mean_surface_distance_mm,
        "volume_error": float("nan") if nothing else volumes[0] - volumes[1],
        "relative_volume_error": found.relative_volume_error,
        "sensitivity": found.sensitivity,
        "precision": found.precision,
    }


def _voxel(grid: Grid) -> float:
    """Of one voxel, in the unit of the grid's space."""
    return grid.voxel_mm3 / 1000 if grid.space is Space.PATIENT else grid.spacing_mm[1] * grid.spacing_mm[2]


def _reliability(answer: Answer, output: Output, classes: Sequence[str]) -> dict[str, tuple[Bin, ...]]:
    """Of each foreground class against the rest, over the voxels near the structures."""
    from scipy.ndimage import binary_dilation

    if output.decision.activation == "none" or answer.scores is None:
        return {}
    held = np.logical_or.reduce([*answer.masks, *answer.wanted])
    if not held.any():
        return {}
    box = tuple(_about(held, axis) for axis in range(3))
    near = binary_dilation(held[box], iterations=NEAR_VOXELS)
    scores = answer.scores[(slice(None), *box)][:, near]
    inside = scores.any(axis=0)  # outside the prepared grid nothing was said
    said = activate(scores[:, inside], output.decision)
    offset = len(classes) - len(output.classes)
    return {
        name: reliability(said[k - offset], wanted[box][near][inside])
        for k, (name, wanted) in enumerate(zip(classes[1:], answer.wanted, strict=True), 1)
    }


def _about(held: npt.NDArray[np.bool_], axis: int) -> slice:
    hit = np.flatnonzero(held.any(axis=tuple(k for k in range(held.ndim) if k != axis)))
    return slice(max(0, int(hit[0]) - NEAR_VOXELS), int(hit[-1]) + 1 + NEAR_VOXELS)


def _bin(plain: Mapping[str, Any]) -> Bin:
    low, high, said, found = (float(plain[key]) for key in ("low", "high", "said", "found"))
    return Bin(low, high, int(plain["cases"]), said, found)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value
