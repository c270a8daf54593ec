"""Prepared volumes through a network, window by window, to decisions on the source's voxels.

Windows are run in order along one axis of the prepared grid. Their scores are blended in a ring of as many planes as a
window is thick; a plane that no later window touches is finished, is brought onto the source grid and decided there,
and its place in the ring is free again. So memory holds the images, the decisions, and scores of one window's
thickness: never the scores of the whole volume.

Scores are interpolated before they are decided (linear, each axis by itself, voxel centre to voxel centre); deciding
first and enlarging labels then would give steps at the borders. Voxels of the source that lie outside the prepared
grid, cut away by the recipe, are background.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import product

import numpy as np

from residency.card import Card, Output
from residency.engine import Network, Tensor
from residency.errors import CardError, EngineError, GeometryError, GraphError
from residency.infer.blend import At, Blended, Decided, Pooled
from residency.prepare import Prepared
from residency.tiles import Axis, cut, windows

__all__ = ["Decided", "Progress", "infer", "questions"]

AHEAD = 2
"""Windows in the engine while an earlier one is blended: it computes one, the other waits, and it never idles."""

LARGEST_WINDOW_VOXELS = 2**27
"""Voxels of a window, 512 x 512 x 512: half a GiB for each channel and class."""

MOST_WINDOWS = 100_000
"""Windows of one image. A card with a tiny window or too much overlap would run for days."""

Progress = Callable[[int, int], None]


def infer(
    prepared: Mapping[str, Prepared], network: Network, card: Card, progress: Progress | None = None
) -> dict[str, Decided]:
    """Run a network over prepared volumes; each output of the card decided on the grid of the source.

    prepared  by the name of the card's input; all on one grid. Inputs that name the same tensor become its channels,
              in the card's order; tensors are (1, channels, slices, rows, columns)
    progress  called with windows done and windows in all after each; what it raises ends the run

    Returns, by the name of the output, for the source of the card's first input:
    segmentation    uint8 (slices, rows, columns), the class; or, by threshold, bool (classes, slices, rows, columns)
    map             float32 (classes, slices, rows, columns), activated; 0 outside the prepared grid
    classification  float32 (classes,): probabilities; scores of several windows are averaged before the activation

    Raises GraphError where network and card do not belong together, CardError for windows out of bounds, GeometryError
    for inputs on different grids, and EngineError for scores that are not finite.
    """
    _check(prepared, network, card)
    first = prepared[card.inputs[0].name]
    axes = _axes(first, card)
    slab = _slab_axis(axes)
    collectors = {output.tensor: _collector(output, axes, slab, first) for output in card.outputs}

    order = _in_slab_order(axes, slab)
    questions = ({name: _tensor(prepared, card, name, axes, at) for name in network.inputs} for at in order)
    with closing(_run(network, questions)) as answers:
        for done, (at, answer) in enumerate(zip(order, answers, strict=True), 1):
            for tensor, collector in collectors.items():
                collector.add(at, _checked(answer[tensor], tensor))
            if progress is not None:
                progress(done, len(order))
    return {output.name: collectors[output.tensor].finish() for output in card.outputs}


def questions(prepared: Mapping[str, Prepared], card: Card, most: int | None = None) -> Iterator[Mapping[str, Tensor]]:
    """What a network is asked about prepared volumes, window by window; with `most`, so many of them, spread evenly.

    Raises CardError for windows out of bounds, GeometryError for inputs on different grids.
    """
    _check_grids(prepared, card)
    axes = _axes(prepared[card.inputs[0].name], card)
    order = _in_slab_order(axes, _slab_axis(axes))
    if most is not None and most < len(order):
        order = [order[(2 * k + 1) * len(order) // (2 * most)] for k in range(most)]
    names = dict.fromkeys(one.tensor for one in card.inputs)
    for at in order:
        yield {name: _tensor(prepared, card, name, axes, at) for name in names}


def _check(prepared: Mapping[str, Prepared], network: Network, card: Card) -> None:
    wanted, read = {i.tensor for i in card.inputs}, [o.tensor for o in card.outputs]
    if wanted != set(network.inputs):
        raise GraphError(f"the card feeds the tensors {sorted(wanted)}, the network takes {sorted(network.inputs)}")
    if not set(read) <= set(network.outputs) or len(set(read)) != len(read):
        raise GraphError(f"the card reads the tensors {read}, the network gives {sorted(network.outputs)}")
    if prepared.keys() != {i.name for i in card.inputs}:
        raise GraphError(f"the card has the inputs {[i.name for i in card.inputs]}, prepared are {sorted(prepared)}")
    _check_grids(prepared, card)


def _check_grids(prepared: Mapping[str, Prepared], card: Card) -> None:
    first = card.inputs[0].name
    for name, other in prepared.items():
        if not other.volume.grid.matches(prepared[first].volume.grid):
            raise GeometryError(
                f"input '{name}' does not lie on the grid of input '{first}' after preparation; "
                "register the series to each other first"
            )


def _axes(prepared: Prepared, card: Card) -> tuple[Axis, Axis, Axis]:
    window, shape = card.tiling.window, prepared.volume.grid.shape
    if math.prod(window) > LARGEST_WINDOW_VOXELS:
        raise CardError(
            f"a window of {window} voxels is too large; at most {LARGEST_WINDOW_VOXELS} voxels are run at once"
        )
    axes = windows(shape, window, card.tiling.overlap, even=card.tiling.blend == "even")
    count = math.prod(len(axis.starts) for axis in axes)
    if count > MOST_WINDOWS:
        raise CardError(
            f"windows of {window} voxels with overlap {card.tiling.overlap:g} over {shape} voxels are {count}; "
            f"at most {MOST_WINDOWS} are run"
        )
    return axes


def _slab_axis(axes: Sequence[Axis]) -> int:
    """The axis along which the ring is smallest against the whole volume."""
    return min(range(3), key=lambda k: (min(axes[k].window, axes[k].length) / axes[k].length, k))


def _in_slab_order(axes: Sequence[Axis], slab: int) -> list[At]:
    """Window numbers (one an axis), all windows at one place of the slab axis before the next place."""
    numbers = product(range(len(axes[0].starts)), range(len(axes[1].starts)), range(len(axes[2].starts)))
    return sorted(numbers, key=lambda at: (at[slab], at))


def _tensor(prepared: Mapping[str, Prepared], card: Card, name: str, axes: Sequence[Axis], at: At) -> Tensor:
    starts = [axis.starts[n] for axis, n in zip(axes, at, strict=True)]
    channels = [cut(prepared[i.name].volume.array, axes, starts) for i in card.inputs if i.tensor == name]
    return np.stack(channels)[np.newaxis]


def _run(network: Network, questions: Iterable[Mapping[str, Tensor]]) -> Generator[Mapping[str, Tensor]]:
    """Answers in the order of the questions; closed early, it still takes back what it has asked."""
    waiting: deque[int] = deque()
    try:
        for question in questions:
            waiting.append(network.submit(question))
            if len(waiting) > AHEAD:
                yield network.collect(waiting.popleft())
        while waiting:
            yield network.collect(waiting.popleft())
    finally:
        while waiting:
            # Where the engine has failed already, that failure is on its way up; the next would hide it.
            with suppress(EngineError):
                network.collect(waiting.popleft())


def _checked(scores: Tensor, tensor: str) -> Tensor:
    if scores.ndim < 2 or scores.shape[0] != 1:
        raise GraphError(f"output '{tensor}' has shape {list(scores.shape)}; one batch of one window is expected")
    if not np.isfinite(scores).all():
        raise EngineError(f"output '{tensor}' holds NaN or infinity: the network or the engine is at fault")
    window: Tensor = scores[0]
    return window


def _collector(output: Output, axes: tuple[Axis, Axis, Axis], slab: int, prepared: Prepared) -> Pooled | Blended:
    return Pooled(output) if output.kind == "classification" else Blended(output, axes, slab, prepared)
