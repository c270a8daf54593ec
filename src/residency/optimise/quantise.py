"""A graph in 8 bits, made after training: ranges are measured on prepared windows, and no weight is learnt anew.

NNCF puts a pair of QuantizeLinear and DequantizeLinear around what computes, and shifts biases by what rounding moved
(post-training quantisation; Nagel et al., "A White Paper on Neural Network Quantization", arXiv 2106.08295, 2021,
section 3). What comes out is ONNX in the default domain, so it is checked as any graph is, and every engine reads it.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from residency.engine import Tensor
from residency.errors import DependencyError, GraphError, ResidencyError, UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

Window = Mapping[str, Tensor]
"""One question to the graph: tensors by the name of its input."""


@dataclass(frozen=True)
class Scheme:
    """How a graph is quantised.

    preset   "mixed": activations keep both ends of their range, as leaky ReLU and ELU need; "performance": one scale
             around 0, which is a little faster
    in_f32   kinds of operators that stay in f32, by their ONNX name
    """

    preset: Literal["mixed", "performance"] = "mixed"
    in_f32: tuple[str, ...] = ()


def quantised(
    graph: bytes,
    windows: Sequence[Window],
    scheme: Scheme = Scheme(),
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """The graph with weights and activations in 8 bits, as ONNX.

    windows   what ranges are measured on; of persons by whom the result is not judged
    progress  called with windows begun and windows in all

    Raises UsageError without windows, and where an operator to keep in f32 is not in the graph; GraphError for a graph
    that cannot be quantised.
    """
    if not windows:
        raise UsageError("there is no window to measure ranges on")
    nncf, parameters = _import_nncf()
    from onnx import load_from_string

    model = load_from_string(graph)
    missing = sorted(set(scheme.in_f32) - {node.op_type for node in model.graph.node})
    if missing:
        raise UsageError(f"the graph has no operator '{missing[0]}' to keep in f32")
    try:
        with _quiet():
            made = nncf.quantize(
                model,
                nncf.Dataset(_Watched(windows, progress), dict),
                preset=nncf.QuantizationPreset(scheme.preset),
                subset_size=len(windows),
                ignored_scope=nncf.IgnoredScope(types=list(scheme.in_f32)) if scheme.in_f32 else None,
                # Half the range of all weights: without VNNI two products of 8 bits would overflow the 16 that they are
                # added in, and a package goes to machines with and without it.
                advanced_parameters=parameters.AdvancedQuantizationParameters(
                    overflow_fix=parameters.OverflowFix.ENABLE
                ),
            )
    except ResidencyError:  # of whoever watches the progress
        raise
    except Exception as error:  # NNCF has no kind of its own for all that it refuses, ONNX Runtime raises others
        raise GraphError(f"the graph cannot be quantised: {' '.join(str(error).split())[:200]}") from None
    _unsigned(made)
    whole: bytes = made.SerializeToString(deterministic=True)
    return whole


class _Watched:
    """The windows, counted as they are given out; they may be gone through several times."""

    def __init__(self, windows: Sequence[Window], progress: Callable[[int, int], None] | None) -> None:
        self._windows, self._progress = windows, progress
        self._most = 0

    def __iter__(self) -> Iterator[Window]:
        for number, window in enumerate(self._windows, 1):
            if self._progress is not None and number > self._most:
                self._most = number
                self._progress(number, len(self._windows))
            yield window


def _unsigned(model: ModelProto) -> None:
    """Activations as unsigned numbers, in place: the same sums with every zero point 128 higher.

    OpenVINO 2026.4 joins signed activations that have a zero point as if they were unsigned, and cuts what is negative
    off: on the hippocampus network the scores were 16 % off (relative RMS), and unsigned 1 %, as in ONNX Runtime.
    """
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in model.graph.initializer}
    held = {node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    points = {
        node.input[2]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] in held)
    }
    for name in points:
        point = numpy_helper.to_array(values[name])
        if point.dtype == np.int8:
            values[name].CopyFrom(numpy_helper.from_array((point.astype(np.int16) + 128).astype(np.uint8), name))
    for told in [one for one in model.graph.value_info if one.name in held]:
        model.graph.value_info.remove(told)  # it says that they are signed


@contextmanager
def _quiet() -> Iterator[None]:
    """Without NNCF's own bars and lines: progress is told by ours."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)


def _import_nncf() -> tuple[Any, Any]:
    """NNCF and its parameters. With None in its place the telemetry package is taken for missing: nothing is sent."""
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import nncf
        from nncf.quantization import advanced_parameters
    except ImportError as error:
        raise DependencyError(
            f"quantising needs {error.name}; in the checkout of Residency: pip install '.[optimise]'"
        ) from None
    return nncf, advanced_parameters
