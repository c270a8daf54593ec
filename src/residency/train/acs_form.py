"""ACS networks have two exact forms; export takes the one that is faster on the whole network.

As three flat convolutions a layer, whose outputs are joined, a network does a third of the work of the same network
folded to plain 3D convolutions, and its file has a third of the weights. Engines know plain convolutions best, though,
and joining costs a copy, so which is faster is a question to the engine, the network and the grid, not to arithmetic.
Single layers do not tell: inside a network the engine keeps its own layout from layer to layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

import numpy as np

from residency.nets.acs import fold
from residency.nets.net import Net
from residency.train.export import LARGEST_DIFFERENCE, Parity, export_graph, openvino_f32, prove_parity


@dataclass(frozen=True)
class Form:
    """One of the two forms, as it was measured.

    milliseconds  median of the runs for one input, OpenVINO, float32
    parities      with the network, of ONNX Runtime and OpenVINO
    """

    name: Literal["flat", "folded"]
    graph: bytes
    milliseconds: float
    parities: tuple[Parity, ...]


@dataclass(frozen=True)
class Forms:
    """Both forms, and the choice."""

    flat: Form
    folded: Form

    @property
    def faster(self) -> Form:
        """The form to ship; the flat one where they are equally fast, since its file is smaller."""
        return self.folded if self.folded.milliseconds < self.flat.milliseconds else self.flat


def export_forms(net: Net, shape: Sequence[int], *, repeats: int = 9, tolerance: float = LARGEST_DIFFERENCE) -> Forms:
    """Export an ACS network in both forms and time them in turn on images of one shape (n, channels, S, R, C).

    OpenVINO runs them in float32 with as many threads as torch has. `export_graph` alone exports the form that the
    network is in, which is the flat one unless it was folded. Raises ConversionError where the network holds no ACS
    convolution, TrainingError where an engine does not answer as the network.
    """
    folded = fold(net.eval())
    assert isinstance(folded, Net)
    image = np.random.default_rng(0).standard_normal(tuple(shape)).astype(np.float32)
    graphs = {"flat": export_graph(net), "folded": export_graph(folded)}
    parities = {name: prove_parity(net, graph, [image], tolerance=tolerance) for name, graph in graphs.items()}
    runs = {name: openvino_f32(graph) for name, graph in graphs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            begun = perf_counter()
            run(image)
            if round_:  # the first is for caches and pages
                times[name].append(1000 * (perf_counter() - begun))
    return Forms(
        flat=Form("flat", graphs["flat"], median(times["flat"]), parities["flat"]),
        folded=Form("folded", graphs["folded"], median(times["folded"]), parities["folded"]),
    )
