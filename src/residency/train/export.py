"""From weights to one ONNX file, and the proof that two engines answer as the net did in training.

torch is not needed afterwards: the file holds graph and weights, nothing outside the standard operators, and no path,
name or time of the machine that wrote it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from residency.errors import GraphError, TrainingError
from residency.nets.net import Net
from residency.nets.rewrites import prepared_for_export

OPSET = 18
"""Operators of ONNX 1.13 (2022): every current engine knows them, and the exporter writes them without conversion."""

INPUT, OUTPUT = "image", "scores"

LARGEST_DIFFERENCE = 5e-4
"""Most that a score may differ, as a share of the largest score. Float32 sums in another order differ by some 1e-6,
OpenVINO's Winograd convolutions by some 5e-5."""

LEAST_AGREEMENT = 0.9999
"""Least share of voxels with the same class; the rest are ties within the difference above."""

_MOST_VOXELS_AN_AXIS = {2: 8192, 3: 1024}

Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How one engine's scores compare with the net's, on one input shape.

    largest_difference  of any score
    largest_score       of the net, by its absolute value
    agreement           share of voxels (of images, where the net classifies) that get the same class; with one class,
                        of those whose score is on the same side of 0
    tolerance           most that a score may differ, as a share of the largest score
    """

    engine: str
    shape: tuple[int, ...]
    largest_difference: float
    largest_score: float
    agreement: float
    tolerance: float = LARGEST_DIFFERENCE

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest score."""
        return self.largest_difference / self.largest_score if self.largest_score else self.largest_difference

    @property
    def holds(self) -> bool:
        return self.relative <= self.tolerance and self.agreement >= LEAST_AGREEMENT

    def plain(self) -> dict[str, object]:
        """For training.json."""
        return {
            "engine": self.engine,
            "shape": list(self.shape),
            "largest_difference": self.largest_difference,
            "largest_score": self.largest_score,
            "agreement": self.agreement,
        }

    def __str__(self) -> str:
        return (
            f"{self.engine}, {'x'.join(map(str, self.shape))}: scores differ by at most {self.largest_difference:.1e} "
            f"(of {self.largest_score:.1f}), classes agree in {100 * self.agreement:.4f} %"
        )


def export_graph(net: Net) -> bytes:
    """One ONNX file: "image" float32 (n, channels, [S,] R, C) -> "scores" float32, logits.

    Scores are (n, classes, [S,] R, C) of a net that segments, (n, classes) of one that classifies. n and all sides are
    open; they must be multiples of `net.multiples` and at least `net.leasts`. The net is put into evaluation mode; what
    the file holds is its exact equal in a faster form where `residency.nets.rewrites` knows one. Raises TrainingError
    for a module that is no `Net`, and where the exporter leaves something that is not standard ONNX.
    """
    if not isinstance(net, Net):
        raise TrainingError(
            f"{type(net).__name__} does not say what images it takes: make a residency.nets.net.Net of it, which does, "
            "or export it for one size with torch.onnx.export"
        )
    faster = prepared_for_export(net.eval())
    # Twice the least side: where a map deep in the net may be a single voxel, the exporter holds that it always is.
    # The graph does not hold it, and takes the least side too.
    leasts = [2 * -(-least // multiple) for least, multiple in zip(net.leasts, net.multiples, strict=True)]
    if net.free_slices:
        leasts[0] = 1  # slices go into the batch, and no map is smaller for them
    most = _MOST_VOXELS_AN_AXIS[net.dimensions]
    names = "src"[-net.dimensions :]
    batch = torch.export.Dim("n", min=1, max=1024)
    axes = {
        2 + k: multiple * torch.export.Dim(name, min=least, max=most // multiple)
        for k, (name, multiple, least) in enumerate(zip(names, net.multiples, leasts, strict=True))
    }
    # No two axes alike, so that the exporter cannot take one for another.
    sides = (
        multiple * (max(4, least) + more)
        for multiple, least, more in zip(net.multiples, leasts, (0, 2, 1)[: net.dimensions], strict=True)
    )
    example = torch.zeros(2, net.channels, *sides)
    with _known_warnings_only():
        program = torch.onnx.export(
            faster,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch, **axes},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise TrainingError("the exporter gave no graph")
    return _bare(program.model_proto)


def _bare(model: onnx.ModelProto) -> bytes:
    """Checked bytes without the exporter's notes, which hold source lines and paths of this machine."""
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        noted.ClearField("doc_string")
        noted.ClearField("metadata_props")
    graph.name = "residency"
    foreign = {node.domain for node in graph.node} | {opset.domain for opset in model.opset_import}
    if foreign - {""} or len(model.functions):
        raise TrainingError(f"the graph uses operators outside standard ONNX: {sorted(foreign)}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise TrainingError("the exporter put weights outside the graph")
    onnx.checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def prove_parity(
    net: nn.Module, graph: bytes, images: Iterable[Tensor], *, tolerance: float = LARGEST_DIFFERENCE
) -> tuple[Parity, ...]:
    """Compare net, ONNX Runtime and OpenVINO (float32) on images (n, channels, [S,] R, C).

    Raises TrainingError, naming engine and shape, where they differ by more than rounding: `tolerance` is the most
    that a score may differ, as a share of the largest score. So too for a graph that does not take these images, or
    has other names than "image" and "scores", and for no image at all, which would prove nothing.
    """
    found = []
    engines = {"ONNX Runtime": onnx_runtime(graph), "OpenVINO": openvino_f32(graph, OUTPUT)}
    for image in images:
        with torch.inference_mode():
            wanted = net(torch.from_numpy(image)).numpy()
        for name, run in engines.items():
            got = run(image)
            parity = _compared(name, wanted, got, image.shape, tolerance)
            if not parity.holds:
                raise TrainingError(f"the exported graph does not answer as the net: {parity}")
            found.append(parity)
    if not found:
        raise TrainingError("no image to compare the exported graph with the net on: give one at least")
    return tuple(found)


def prove_engines(graph: bytes, image: Tensor, names: tuple[str, str]) -> tuple[Parity, ...]:
    """As `prove_parity`, of a graph without a net: OpenVINO against ONNX Runtime, tensors by (input, output) name.

    Raises GraphError for a graph that an engine does not run on the image, TrainingError where they differ.
    """
    try:
        wanted, got = onnx_runtime(graph, names)(image), openvino_f32(graph, names[1])(image)
    except TrainingError as error:
        sides = "x".join(map(str, image.shape))
        raise GraphError(f"not every engine runs the graph on {sides}: {error}") from None
    found = _compared("OpenVINO against ONNX Runtime", wanted, got, image.shape, LARGEST_DIFFERENCE)
    if not found.holds:
        raise TrainingError(f"two engines do not answer alike: {found}")
    return (found,)


def _compared(engine: str, wanted: Tensor, got: Tensor, shape: tuple[int, ...], tolerance: float) -> Parity:
    if got.shape != wanted.shape:  # else numpy would stretch the one to the other
        raise TrainingError(f"{engine} gives scores of shape {got.shape}, the net {wanted.shape}")
    classes = [scores.argmax(1) if scores.shape[1] > 1 else scores > 0 for scores in (wanted, got)]
    return Parity(
        engine,
        shape,
        float(np.abs(got - wanted).max()),
        float(np.abs(wanted).max()),
        float((classes[0] == classes[1]).mean()),
        tolerance,
    )


Run = Callable[[Tensor], Tensor]
"""Image -> scores, by one engine."""


def onnx_runtime(graph: bytes, names: tuple[str, str] = (INPUT, OUTPUT)) -> Run:
    """ONNX Runtime on the CPU, with as many threads as torch has; names of input and output.

    Raises TrainingError, in one line, for a graph that it cannot read or that has other names; the run that it gives
    raises it for an image that the graph does not take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it says to errors, it raises too
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class of its own for every cause
        raise TrainingError(f"ONNX Runtime cannot read the graph: {_first_line(error)}") from None
    there = tuple([one.name for one in ends] for ends in (session.get_inputs(), session.get_outputs()))
    if there[0] != [names[0]] or names[1] not in there[1]:
        raise TrainingError(
            f"the graph takes {', '.join(there[0])} and gives {', '.join(there[1])}; {names[0]} and {names[1]} are "
            "expected"
        )

    def run(image: Tensor) -> Tensor:
        try:
            scores: Tensor = session.run([names[1]], {names[0]: image})[0]
        except Exception as error:
            sides = "x".join(map(str, image.shape))
            raise TrainingError(f"the graph does not take an image of {sides}: {_first_line(error)}") from None
        return scores

    return run


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _last_line(error: Exception) -> str:
    """Of OpenVINO, which begins with the places in its sources."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def openvino_f32(graph: bytes, name: str = OUTPUT) -> Run:
    """OpenVINO on the CPU in float32, said explicitly, with as many threads as torch has; the output's name.

    Raises TrainingError as `onnx_runtime` does.
    """
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(graph, b""), "CPU", settings)
        output = compiled.output(name)
    except Exception as error:
        raise TrainingError(f"OpenVINO cannot read the graph: {_last_line(error)}") from None

    def run(image: Tensor) -> Tensor:
        try:
            scores: Tensor = compiled([image])[output].copy()
        except Exception as error:
            sides = "x".join(map(str, image.shape))
            raise TrainingError(f"OpenVINO does not take an image of {sides}: {_last_line(error)}") from None
        return scores

    return run


class _NoTorchvision(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed. Skipping torchvision::")


@contextmanager
def _known_warnings_only() -> Iterator[None]:
    """Silence what the exporter of torch 2.13 is known to say, and nothing else."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    silence = _NoTorchvision()
    logger.addFilter(silence)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.removeFilter(silence)
