"""Admission: the golden case, replayed on this machine, engine and precision, gives the recorded result.

It shows that the graph arrived whole and that this engine computes it as the publisher's did, nothing about whether
the model is any good. It holds for one digest, one engine build, one precision and one version of Residency, which
prepares and decides; a new engine version or other CPU capabilities need it again. The number of threads is not part
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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

LabelMap = npt.NDArray[np.uint8]
Replay = Callable[[Volume, ModelPackage, Engine, Precision], LabelMap]
"""Golden volume -> class indices (slices, rows, columns) on its own grid, computed the way results are."""


@dataclass(frozen=True)
class Admission:
    """A golden case that passed: for which digest, engine and precision, and the Dice of each class."""

    digest: str
    runs_on: RunsOn
    dice: Mapping[str, float]

    def evidence(self) -> dict[str, str]:
        """As the site's statement records it."""
        return self.runs_on.evidence() | {f"dice {name}": f"{value:.6f}" for name, value in self.dice.items()}


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
    try:
        volume = read_nifti(package.payload(golden.input).data)
        expected, grid = read_nifti_labels(package.payload(golden.expected).data)
    except InputError as error:
        raise AdmissionError(f"the golden case of {package.digest} cannot be read: {error}") from error
    if not grid.matches(volume.grid):
        raise AdmissionError(f"input and expected result of the golden case of {package.digest} lie on different grids")
    found = replay(volume, package, engine, precision)
    agreement = _agreement(found, expected, package.card)
    worst = min(agreement, key=lambda name: agreement[name])
    if agreement[worst] < golden.least_dice:
        raise AdmissionError(
            f"the golden case of '{package.card.identity.name}' gives Dice {agreement[worst]:.4f} for '{worst}', "
            f"{golden.least_dice:g} is demanded: {engine.build} in {precision} does not compute what was published"
        )
    return Admission(package.digest, runs_on(engine.build, precision), agreement)


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
