"""Windows' answers put together: a ring of planes for scores of voxels, a mean for scores of a whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Output
from residency.decide import activate, check_channels
from residency.errors import GraphError
from residency.infer.back import SourceSide
from residency.prepare import Prepared
from residency.tiles import Axis

Scores = npt.NDArray[np.float32]
Decided = npt.NDArray[Any]
At = tuple[int, int, int]


class Pooled:
    """Scores of a classification: the windows' mean, then the activation."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._scores: list[Scores] = []

    def add(self, at: At, scores: Scores) -> None:
        """Scores (classes,) of one window, wherever it lies."""
        del at
        check_channels(scores, self._output)
        if scores.size != len(self._output.classes):
            raise GraphError(
                f"output '{self._output.tensor}' is a classification, but the network gives scores of shape "
                f"{list(scores.shape)}; one score a class is expected"
            )
        self._scores.append(scores.reshape(-1).copy())

    def finish(self) -> Decided:
        """float32, (classes,)."""
        mean: Scores = np.stack(self._scores).mean(axis=0, dtype=np.float64).astype(np.float32)
        return activate(mean, self._output.decision)


class Blended:
    """Scores of voxels, summed with the windows' weights in a ring of planes along the slab axis.

    Windows must come in the order of their starts on that axis. A plane before the newest start is finished: it is
    handed to the source's side, and its place in the ring is used again.
    """

    def __init__(self, output: Output, axes: tuple[Axis, Axis, Axis], slab: int, prepared: Prepared) -> None:
        self._output, self._axes = output, axes
        self._order = [slab, *(k for k in range(3) if k != slab)]
        self._planes = min(axes[slab].window, axes[slab].length)
        across = [axes[k].length for k in self._order[1:]]
        self._ring = np.zeros((self._planes, len(output.classes), *across), dtype=np.float32)
        self._finished = 0
        self._source = SourceSide(output, prepared, slab)

    def add(self, at: At, scores: Scores) -> None:
        """Scores (classes, slices, rows, columns) of the window with number at[k] on each axis."""
        check_channels(scores, self._output)
        window = tuple(axis.window for axis in self._axes)
        if scores.shape[1:] != window:
            raise GraphError(
                f"output '{self._output.tensor}' gives scores of shape {list(scores.shape[1:])} for a window of "
                f"{list(window)} voxels; one score a voxel is expected"
            )
        axes, numbers = [self._axes[k] for k in self._order], [at[k] for k in self._order]
        spans = [axis.inside(axis.starts[n]) for axis, n in zip(axes, numbers, strict=True)]
        (planes, inner), (rows, row_part), (columns, column_part) = spans
        self._emit(until=planes.start)

        along, down, right = (axis.weights[n] for axis, n in zip(axes, numbers, strict=True))
        across = down[row_part, np.newaxis] * right[np.newaxis, column_part]
        ordered = scores.transpose(1 + self._order[0], 0, 1 + self._order[1], 1 + self._order[2])
        ordered = ordered[inner, :, row_part, column_part]
        for plane, share, found in zip(range(planes.start, planes.stop), along[inner], ordered, strict=True):
            self._ring[plane % self._planes, :, rows, columns] += found * (share * across)

    def finish(self) -> Decided:
        """The decisions on the source grid (see `SourceSide`)."""
        self._emit(until=self._axes[self._order[0]].length)
        return self._source.decided

    def _emit(self, until: int) -> None:
        for plane in range(self._finished, until):
            place = self._ring[plane % self._planes]
            self._source.add(plane, place)
            place[...] = 0.0
        self._finished = max(self._finished, until)
