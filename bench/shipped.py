"""What the benches of shipped packages share: a package as a series of an archive meets it, intervals over persons, and
the figures of the card.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract import REPOSITORY
from residency.card import Card, Evaluation
from residency.decide import segments
from residency.engine import Network, Precision
from residency.engines.openvino import OpenVino
from residency.metrics import Interval, bootstrap, hd95
from residency.models.folder import read_folder
from residency.pipeline.compute import compute
from residency.volume import Grid, Volume

MODELS = REPOSITORY / "models"
DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
SEED = 2026

Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Shipped:
    """A committed package and its network on OpenVINO in f32."""

    card: Card
    network: Network
    graph: str

    @classmethod
    def opened(cls, folder: Path) -> Shipped:
        package = read_folder(folder)
        graph = package.with_role("graph").data
        return cls(package.card, OpenVino().load(graph, precision=Precision.F32), hashlib.sha256(graph).hexdigest())

    @property
    def meaning(self) -> str:
        """All of the package that its answers depend on, and nothing of what was measured on them."""
        asked = self.card.model_dump_json(include={"inputs", "outputs", "tiling", "step_before"})
        return f"{self.graph} {asked}"

    @property
    def told(self) -> str:
        """Which one it is."""
        identity = self.card.identity
        return f"{identity.name} {identity.version}: graph sha256 {self.graph}; window {list(self.card.tiling.window)}"

    def masks(self, volume: Volume) -> dict[str, Mask]:
        """Class -> its mask on the grid of the volume, through the functions that a series goes through."""
        output = self.card.outputs[0]
        decided = compute(self.card, self.network, {self.card.inputs[0].name: volume})[output.name]
        return {segment.label: segment.mask for segment in segments(decided, output, volume.grid)}


def distance_mm(found: Mask, wanted: Mask, grid: Grid) -> float:
    """HD95 in mm; of a structure that is missed, or found where there is none, how far apart two voxels can be."""
    sides = zip(grid.shape, grid.spacing_mm, strict=True)
    return float(min(hd95(found, wanted, grid.spacing_mm), np.hypot.reduce([n * step for n, step in sides])))


def over_persons(rows: Rows, figure: str) -> Interval:
    """Mean and 95 % interval of one figure, whole persons drawn anew; rows that cannot tell it are left out."""
    by_person: dict[str, list[float]] = {}
    for row in rows:
        by_person.setdefault(row["person"], []).append(float(row[figure]))
    return bootstrap(by_person, seed=SEED)


def shown(interval: Interval, digits: int = 4) -> str:
    """A mean with its interval. One person has none, and a row of equal figures would pass for certainty."""
    mean, low, high = (f"{value:.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} ({low} to {high})" if interval.persons > 1 else f"{mean} (one person)"


def evaluation(metric: str, definition: str, cohort: str, found: Interval, subgroup: str | None = None) -> Evaluation:
    """A figure as a card holds it."""
    told = "95 % interval by bootstrap over persons" if found.persons > 1 else "one person, and so no interval"
    return Evaluation(
        metric=metric,
        definition=f"{definition}; {told}",
        cohort=cohort,
        persons=found.persons,
        cases=found.cases,
        value=round(found.mean, 4),
        low=round(found.low, 4),
        high=round(found.high, 4),
        subgroup=subgroup,
    )


def write_evaluations(folder: Path, found: Sequence[Evaluation]) -> None:
    """For the next `residency models build` of the package."""
    body = {"evaluation": [figure.model_dump(mode="json") for figure in found]}
    (folder / "evaluation.json").write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def once(folder: Path, meant: Sequence[str | bytes], make: Callable[[], Row]) -> Row:
    """The row kept in the folder under a digest of what determines it, or made and kept now."""
    digest = hashlib.sha256()
    for part in meant:
        digest.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    file = folder / f"{digest.hexdigest()[:20]}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(f".{os.getpid()}.part")
        whole.write_text(json.dumps(make()), encoding="utf-8")
        whole.replace(file)
    kept: Row = json.loads(file.read_text(encoding="utf-8"))
    return kept
