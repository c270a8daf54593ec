"""The way back: planes of prepared scores, in order, onto the source grid, and decided there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Output
from residency.decide import activate, decide_scores
from residency.prepare import Prepared
from residency.prepare.sampling import sample_axis, taps

Scores = npt.NDArray[np.float32]

EDGE = 1e-6
"""How far, in voxels, a source voxel's centre may lie outside the prepared grid by rounding and still be inside it."""


class SourceSide:
    """Takes every plane of one output's scores along `slab`, first to last; fills `decided`.

    decided  on the whole source grid: uint8 (slices, rows, columns) where classes exclude each other, bool
             (classes, ...) where they may overlap, float32 (classes, ...) for a map. Voxels outside the prepared grid
             stay 0: background.

    Between two planes it holds one: a voxel of the source lies between two neighbouring planes at most.
    """

    def __init__(self, output: Output, prepared: Prepared, slab: int) -> None:
        self._output = output
        # The card's decision on what is kept: scores, or what the activation has made of them already.
        early = output.decision.interpolated == "activated"
        self._early = output.decision if early else None
        self._decision = output.decision.model_copy(update={"activation": "none"}) if early else output.decision
        self._axes = [_BackAxis(prepared, k) for k in range(3)]
        self._across = [self._axes[k] for k in range(3) if k != slab]
        along = self._axes[slab]
        self._along = along
        self._due: dict[int, list[int]] = {}
        for at in range(along.low, along.high):
            self._due.setdefault(along.last(at), []).append(at)
        self._wanted = {p for at in range(along.low, along.high) for p in along.planes(at)}
        self._kept: dict[int, Scores] = {}
        shape = prepared.source.shape
        if output.kind == "map":
            self.decided: npt.NDArray[Any] = np.zeros((len(output.classes), *shape), dtype=np.float32)
        elif output.decision.rule == "threshold":
            self.decided = np.zeros((len(output.classes), *shape), dtype=np.bool_)
        else:
            self.decided = np.zeros(shape, dtype=np.uint8)

    def add(self, plane: int, scores: Scores) -> None:
        """The scores (classes, ...) of one finished plane; the two axes across it in the prepared grid's order."""
        if plane not in self._wanted:
            return
        if self._early is not None:
            scores = activate(scores, self._early)
        for position, axis in enumerate(self._across):
            scores = sample_axis(scores, 1 + position, axis.index, axis.weight)
        self._kept = {p: kept for p, kept in self._kept.items() if p == plane - 1}
        self._kept[plane] = scores
        for at in self._due.get(plane, ()):
            self._write(at)

    def _write(self, at: int) -> None:
        """Decide source plane `at`, between the planes that are kept."""
        planes = self._along.planes(at)
        scores = sum(np.float32(weight) * self._kept[plane] for plane, weight in planes.items())
        assert isinstance(scores, np.ndarray)
        if self._output.kind == "map":
            found: npt.NDArray[Any] = activate(scores, self._decision)
        else:
            found = decide_scores(scores, self._decision)
        first, second = self._across
        classes = self.decided.ndim - 3
        if first.source > second.source:
            found = found.swapaxes(-1, -2)
            first, second = second, first
        view = np.moveaxis(self.decided, classes + self._along.source, 0)[at]
        view[..., first.low : first.high, second.low : second.high] = found


class _BackAxis:
    """One axis of the prepared grid and the source axis that runs along it.

    source         number of the source axis
    low, high      source voxels low <= i < high lie on the prepared grid
    index, weight  of each of these: between which prepared voxels it lies (`sampling.taps`)
    """

    def __init__(self, prepared: Prepared, axis: int) -> None:
        mapping = prepared.back
        self.source = mapping.axes.index(axis)
        length = prepared.volume.grid.shape[axis]
        count = prepared.source.shape[self.source]
        # Grids that share voxel centres do so to rounding errors of the affines: 1e-9 of a voxel is none.
        places: npt.NDArray[np.float64] = np.round(
            np.arange(count) * mapping.scales[self.source] + mapping.offsets[self.source], 9
        )
        inside = np.flatnonzero((places >= -0.5 - EDGE) & (places <= length - 0.5 + EDGE))
        self.low, self.high = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
        self.index, self.weight = taps(places[self.low : self.high], length)

    def planes(self, at: int) -> dict[int, float]:
        """The prepared planes that source voxel `at` lies between, with their shares."""
        row = at - self.low
        found: dict[int, float] = {}
        for plane, weight in zip(self.index[row].tolist(), self.weight[row].tolist(), strict=True):
            if weight > 0:
                found[plane] = found.get(plane, 0.0) + weight
        return found

    def last(self, at: int) -> int:
        """The last plane that source voxel `at` needs."""
        return max(self.planes(at))
