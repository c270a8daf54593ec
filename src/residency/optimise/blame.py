"""Which layers an 8-bit form loses the most in: where to look, or what to keep in f32, when it does not pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from residency.engine import Tensor
from residency.optimise.quantise import Window

if TYPE_CHECKING:
    from onnx import ModelProto

COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TOGETHER = 4
"""Layers whose tensors are held at once."""


@dataclass(frozen=True)
class Layer:
    """A layer by the name of its output.

    error  relative RMS of its output against that in f32, over the windows
    own    what it adds to the largest error among the computing layers before it
    """

    name: str
    operator: str
    error: float
    own: float


def layers_to_blame(graph: bytes, small: bytes, windows: Sequence[Window], most: int = 5) -> tuple[Layer, ...]:
    """The computing layers that add the most error of their own, the worst first.

    Both graphs run in ONNX Runtime, which gives tensors from within; the names are those of the f32 graph.
    """
    from onnx import load_from_string

    whole, rough = load_from_string(graph), load_from_string(small)
    held = {name for node in rough.graph.node for name in node.output}
    layers = {n.output[0]: n for n in whole.graph.node if n.op_type in COMPUTING and n.output[0] in held}
    sums = {name: [0.0, 0.0] for name in layers}
    names = list(layers)
    sessions = [_with_outputs(model, names) for model in (whole, rough)]
    for window, some in product(windows, (names[at : at + TOGETHER] for at in range(0, len(names), TOGETHER))):
        exact, found = (_run(session, window, some) for session in sessions)
        for name in some:
            sums[name][0] += float(((found[name] - exact[name]) ** 2).sum(dtype=np.float64))
            sums[name][1] += float((exact[name] ** 2).sum(dtype=np.float64))
    errors = {name: (square / of) ** 0.5 if of else 0.0 for name, (square, of) in sums.items()}
    before = _before(whole, set(layers))
    told = [
        Layer(
            name,
            node.op_type,
            round(errors[name], 6),
            round(errors[name] - max((errors[one] for one in before[name]), default=0.0), 6),
        )
        for name, node in layers.items()
    ]
    return tuple(sorted(told, key=lambda one: -one.own)[:most])


def _before(model: ModelProto, layers: set[str]) -> Mapping[str, set[str]]:
    """Layer -> the computing layers whose outputs reach it without another in between. Nodes of ONNX are in order."""
    reaching: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    for node in model.graph.node:
        of_inputs = set[str]().union(*(reaching.get(name, set()) for name in node.input))
        for name in node.output:
            if name in layers:
                found[name], reaching[name] = of_inputs, {name}
            else:
                reaching[name] = of_inputs
    return found


def _with_outputs(model: ModelProto, names: Sequence[str]) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper

    there = {one.name for one in model.graph.output}
    for name in names:
        if name not in there:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are of shapes that we left open
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, window: Window, names: Sequence[str]) -> dict[str, Tensor]:
    return dict(zip(names, session.run(list(names), dict(window)), strict=True))
