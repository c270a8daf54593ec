"""Admission: the golden case, replayed on this machine, engine and precision, gives the recorded result.

It shows that the graph arrived whole and that this engine computes it as the publisher's did, nothing about whether
the model is any good. It holds for one digest, one engine build, one precision and one version of Residency, which
prepares and decides; a new engine version or other CPU capabilities need it again. The number of threads is not part
of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from residency import __version__
from residency.card import Card
from residency.engine import Engine, EngineBuild, Precision
from residency.errors import AdmissionError, InputError
from residency.files.nifti import read_nifti, read_nifti_labels
from residency.metrics import dice
from residency.package import ModelPackage
from residency.trust import RunsOn
from residency.volume import Volume

Replay = Callable[[Mapping[str, Volume], ModelPackage, Engine, Precision], npt.NDArray[Any]]
"""Golden volumes by input name -> what the card's first output makes of them, computed the way results are: uint8 class
indices (slices, rows, columns) on their grid for a segmentation, float32 probabilities (classes,) for a classification.
"""

MOST_DIFFERENCE = 0.01
"""Largest difference between a probability and the recorded one. Rounding of another CPU stays some hundred times below
it in f32; another network does not."""
_LARGEST_EXPECTED = 1 << 20
"""Most bytes of recorded probabilities."""


@dataclass(frozen=True)
class Admission:
    """A golden case that passed: for which digest, engine and precision, and how close it came.

    dice         of each class of a segmentation
    differences  from the recorded probability of each class of a classification
    """

    digest: str
    runs_on: RunsOn
    dice: Mapping[str, float]
    differences: Mapping[str, float] = field(default_factory=dict)

    def evidence(self) -> dict[str, str]:
        """As the site's statement records it."""
        figures = {f"dice {name}": f"{value:.6f}" for name, value in self.dice.items()}
        figures |= {f"difference {name}": f"{value:.6f}" for name, value in self.differences.items()}
        return self.runs_on.evidence() | figures

    def in_words(self) -> str:
        """For people: "Dice 1.0000 for hippocampus"."""
        figures = [f"Dice {value:.4f} for {name}" for name, value in self.dice.items()]
        figures += [f"difference {value:.4f} for {name}" for name, value in self.differences.items()]
        return ", ".join(figures)


def runs_on(build: EngineBuild, precision: Precision) -> RunsOn:
    """What an admission is valid for: everything that can change what is computed."""
    engine = f"{build.name} {build.version} {build.device}; residency {__version__}"
    return RunsOn(engine, str(precision), "/".join(build.capabilities))


def admit(package: ModelPackage, engine: Engine, precision: Precision, *, replay: Replay) -> Admission:
    """Replay the golden case. Raises AdmissionError where any class comes out differently, naming the worst."""
    golden = package.card.golden
    if any(output.decision.rule != "argmax" for output in package.card.outputs if output.kind == "segmentation"):
        raise AdmissionError(
            "the classes of this card may overlap (rule 'threshold'): a golden case of one label a voxel cannot show "
            "that each comes out as published, so this version does not run it"
        )
    if package.card.outputs[0].kind == "classification":
        return _admit_probabilities(package, engine, precision, replay)
    volumes = _images(package)
    try:
        expected, grid = read_nifti_labels(package.payload(golden.expected).data)
    except InputError as error:
        raise AdmissionError(f"the golden case of {package.digest} cannot be read: {error}") from error
    if not all(grid.matches(volume.grid) for volume in volumes.values()):
        raise AdmissionError(f"input and expected result of the golden case of {package.digest} lie on different grids")
    found = replay(volumes, package, engine, precision)
    agreement = _agreement(found, expected, package.card)
    worst = min(agreement, key=lambda name: agreement[name])
    if agreement[worst] < golden.least_dice:
        raise AdmissionError(
            f"the golden case of '{package.card.identity.name}' gives Dice {agreement[worst]:.4f} for '{worst}', "
            f"{golden.least_dice:g} is demanded: {engine.build} in {precision} does not compute what was published"
        )
    return Admission(package.digest, runs_on(engine.build, precision), agreement)


def _admit_probabilities(package: ModelPackage, engine: Engine, precision: Precision, replay: Replay) -> Admission:
    """The same for a classification: every probability within MOST_DIFFERENCE of the recorded one."""
    golden, names = package.card.golden, [kind.name for kind in package.card.outputs[0].classes]
    volumes = _images(package)
    expected = _recorded(package.payload(golden.expected).data, names)
    found = replay(volumes, package, engine, precision)
    differences = {name: abs(float(p) - expected[name]) for name, p in zip(names, found, strict=True)}
    worst = max(names, key=lambda name: differences[name])
    if not differences[worst] <= MOST_DIFFERENCE:
        raise AdmissionError(
            f"the golden case of '{package.card.identity.name}' gives {float(found[names.index(worst)]):.4f} for "
            f"'{worst}', {expected[worst]:.4f} was recorded: {engine.build} in {precision} does not compute what was "
            "published"
        )
    return Admission(package.digest, runs_on(engine.build, precision), {}, differences)


def _images(package: ModelPackage) -> dict[str, Volume]:
    """Of the golden case, by input name. Raises AdmissionError where one is missing or cannot be read."""
    golden, inputs = package.card.golden, [one.name for one in package.card.inputs]
    names = {inputs[0]: golden.input, **golden.more}
    if len(names) < len(inputs):
        raise AdmissionError(
            f"the card has {len(inputs)} inputs, and its golden case an image for {len(names)}: golden.more names the "
            "others"
        )
    try:
        return {name: read_nifti(package.payload(file).data) for name, file in names.items()}
    except InputError as error:
        raise AdmissionError(f"the golden case of {package.digest} cannot be read: {error}") from error


def _recorded(data: bytes, names: list[str]) -> dict[str, float]:
    """Probabilities by class: a JSON object with exactly the names of the card's classes."""
    try:
        said: Any = json.loads(data) if len(data) <= _LARGEST_EXPECTED else None
    except (ValueError, RecursionError):
        said = None
    values = list(said.values()) if isinstance(said, dict) and set(said) == set(names) else []
    if not values or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise AdmissionError(
            "the expected result of the golden case must be a JSON object with a number for each class of the card: "
            f"{', '.join(names)}"
        )
    if len({float(value) for value in values}) == 1 and len(names) > 1:
        raise AdmissionError(
            "the expected result of the golden case is the same for every class: it would prove nothing"
        )
    return {name: float(said[name]) for name in names}


def _agreement(found: npt.NDArray[np.integer], expected: npt.NDArray[np.integer], card: Card) -> dict[str, float]:
    """Dice by class name. An expected result without any foreground would admit a network that finds nothing."""
    if not expected.any():
        raise AdmissionError("the expected result of the golden case is empty: it would prove nothing")
    classes = [c for output in card.outputs if output.kind == "segmentation" for c in output.classes if c.index]
    if not classes:
        raise AdmissionError("the card names no class of a segmentation that a golden case could compare")
    return {c.name: _dice(found == c.index, expected == c.index) for c in classes}


def _dice(found: npt.NDArray[np.bool_], expected: npt.NDArray[np.bool_]) -> float:
    return dice(found, expected) if found.any() or expected.any() else 1.0
