"""OpenVINO on the CPU: explicit precision, a fixed number of threads, asynchronous requests, and no telemetry."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from residency.engine import EngineBuild, Precision, Tensor
from residency.engines.cpu import instruction_sets, usable_threads
from residency.errors import EngineError

IN_FLIGHT = 2
"""Inferences under way at once: one computes with all threads while the next one's tiles are cut and blended."""

_HINT = {Precision.F32: "f32", Precision.BF16: "bf16", Precision.INT8: "f32"}
_DEVICE = "CPU"
_COMPUTING_LAYERS = ("Convolution", "GroupConvolution", "Deconvolution", "FullyConnected", "MatMul", "Subgraph")


class OpenVino:
    """Compiles ONNX graphs for this machine's CPU.

    threads    inference threads; 0: as many as this process may use (affinity and container quota)
    cache_dir  where compiled networks are kept between processes, or None

    The same build, CPU and number of threads give the same bytes.
    """

    def __init__(self, *, threads: int = 0, cache_dir: Path | None = None) -> None:
        self._openvino = _import_openvino()
        self._core = self._openvino.Core()
        self._threads = threads or usable_threads()
        self._cache_dir = cache_dir

    @property
    def build(self) -> EngineBuild:
        """Version of OpenVINO, and what of the CPU decides how it computes."""
        capabilities = self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
        computing = sorted(str(c) for c in capabilities if c != "EXPORT_IMPORT")
        return EngineBuild(
            name="OpenVINO",
            version=str(self._openvino.__version__).split("-releases", maxsplit=1)[0],
            device=_DEVICE,
            capabilities=(*computing, *instruction_sets()),
            threads=self._threads,
        )

    def load(self, graph: bytes, *, precision: Precision) -> OpenVinoNetwork:
        """Compile an ONNX graph. Raises EngineError if it cannot be compiled or the precision cannot be had."""
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINT[precision],
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned threads of two processes would share one core while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        if self._cache_dir is not None:
            config["CACHE_DIR"] = str(self._cache_dir)
        try:
            model = self._core.read_model(graph)
            # Compiling merges tensors and gathers their names; the graph's own are taken before.
            names = tuple(port.get_any_name() for port in model.outputs)
            compiled = self._core.compile_model(model, _DEVICE, config)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the network: {_first_line(error)}") from None
        network = OpenVinoNetwork(compiled, names)
        if network.precision is not precision:
            raise EngineError(
                f"the network was to run in {precision}, but on this machine it runs in {network.precision}; "
                f"choose precision {network.precision}, or another variant of the model"
            )
        return network


class OpenVinoNetwork:
    """A compiled graph with IN_FLIGHT requests."""

    def __init__(self, compiled: Any, outputs: tuple[str, ...]) -> None:
        self._shapes = {port.get_any_name(): port.partial_shape for port in compiled.inputs}
        self._outputs = outputs
        self._precision = _executed(compiled)
        self._free = [compiled.create_infer_request() for _ in range(IN_FLIGHT)]
        self._running: deque[tuple[int, Any, list[Tensor]]] = deque()
        self._done: dict[int, Mapping[str, Tensor]] = {}
        self._next = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input tensors."""
        return tuple(self._shapes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output tensors."""
        return self._outputs

    @property
    def precision(self) -> Precision:
        """What the layers that compute report to run in."""
        return self._precision

    def submit(self, tensors: Mapping[str, Tensor]) -> int:
        """Start one inference; the arrays may be changed afterwards. Raises EngineError for what the graph lacks."""
        self._check(tensors)
        if not self._free:
            self._finish_oldest()
        # The engine reads the arrays where they lie, until the request is done.
        kept = [np.array(tensors[name], dtype=np.float32, order="C") for name in self._shapes]
        request = self._free.pop()
        try:
            request.start_async(dict(enumerate(kept)), share_inputs=True)
        except RuntimeError as error:
            self._free.append(request)
            raise EngineError(f"OpenVINO cannot start the network: {_first_line(error)}") from None
        ticket, self._next = self._next, self._next + 1
        self._running.append((ticket, request, kept))
        return ticket

    def collect(self, ticket: int) -> Mapping[str, Tensor]:
        """Wait for one inference; named outputs, float32, owned by the caller."""
        while ticket not in self._done and any(running[0] == ticket for running in self._running):
            self._finish_oldest()
        if ticket not in self._done:
            raise EngineError(f"there is no inference with ticket {ticket}, or it was collected already")
        return self._done.pop(ticket)

    def _finish_oldest(self) -> None:
        ticket, request, _ = self._running.popleft()
        try:
            request.wait()
            found = [np.array(tensor.data, dtype=np.float32) for tensor in request.output_tensors]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed while running the network: {_first_line(error)}") from None
        finally:
            self._free.append(request)
        self._done[ticket] = dict(zip(self._outputs, found, strict=True))

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        if tensors.keys() != self._shapes.keys():
            raise EngineError(f"the network takes the inputs {sorted(self._shapes)}, it was given {sorted(tensors)}")
        for name, shape in self._shapes.items():
            given = tensors[name].shape
            if shape.rank.is_dynamic:
                continue
            fits = len(given) == len(shape) and all(
                d.is_dynamic or n == d.get_length() for n, d in zip(given, shape, strict=True)
            )
            if not fits:
                raise EngineError(f"input '{name}' of the network has shape {shape}, it was given {list(given)}")


def _import_openvino() -> Any:
    # Without a consent file the telemetry package counts as allowed. With None in its place OpenVINO uses its own
    # stub, and nothing is ever sent.
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _executed(compiled: Any) -> Precision:
    """INT8 where any computing layer runs in 8 bits, else BF16 where one does, else F32."""
    found = set()
    for operation in compiled.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) in _COMPUTING_LAYERS:
            found.add(info["runtimePrecision"].astype(str))
    if found & {"i8", "u8"}:
        return Precision.INT8
    return Precision.BF16 if "bf16" in found else Precision.F32


def _first_line(error: RuntimeError) -> str:
    """The sentence of an OpenVINO error that says what is wrong; the others say where in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("Exception from")]
    return (telling or lines or ["no reason given"])[0][:300]
