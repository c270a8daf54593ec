"""Checks on a network's graph before an engine sees it: data only, known operators, sizes as the card says.

The graph comes out of an archive that others can write to. ONNX can name files on this machine (external data), carry
functions and control flow, and reserve memory that its file does not hold; none of that is taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from residency.card import Card
from residency.errors import GraphError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

LARGEST_GRAPH = 512 * 1024 * 1024
MOST_NODES = 20_000
MOST_PARAMETERS = 200_000_000
OPSETS = range(13, 27)
PARAMETER_TOLERANCE = 0.02
"""The card counts what was trained; exporting folds normalisation into weights and adds a few constants."""
PARAMETER_SLACK = 2_000
LARGEST_AXIS = 1 << 16
LONGEST_NAME = 500
MOST_FILLED = 1 << 24
"""Most elements a shape written in the graph may ask for (Expand, ConstantOfShape, Tile ...): 64 MiB of float32."""

# Operators of the default domain that convolutional and attention networks export to. Control flow (If, Loop, Scan),
# random numbers, strings, sequences, optional values and image decoding are left out on purpose.
OPERATORS = frozenset(
    """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose
    CumSum DepthToSpace
    DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish
    Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterND Selu Shape Sigmoid Sign Slice
    Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tanh Tile Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905
)

_FOREIGN = (
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle, which is code"),
    ((b"PK\x03\x04",), "a ZIP file, as an archive of pickles is"),
    ((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"), "compressed, and could be of any size once unpacked"),
    ((b"<?xml", b"<net"), "an OpenVINO IR or other XML"),
    ((b"\x89HDF\r\n\x1a\n",), "an HDF5 file"),
    ((b"\x7fELF", b"MZ\x90\x00"), "a program"),
)
"""How other forms of a network begin, and what else has no business here; exporters of ONNX begin with the version of
its format, the byte 08."""


@dataclass(frozen=True)
class GraphFacts:
    """What a graph that passed holds."""

    opset: int
    nodes: int
    parameters: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[str, ...]


def check_graph(data: bytes, card: Card) -> GraphFacts:
    """Facts of a graph that may be given to an engine as this card's network. Raises GraphError.

    Bounded: bytes, nodes, parameters, axes. Only ONNX's default domain, only listed operators, no subgraph, no
    function, no external data, no sparse or string tensor. Inputs and outputs are float32 and exactly the card's.
    """
    model, opset, parameters = _bounded(data)
    graph = model.graph
    _check_count(parameters, card.parameters)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = _ports((v for v in graph.input if v.name not in constants), "input")
    outputs = _ports(graph.output, "output")
    fed = Counter(i.tensor for i in card.inputs)  # inputs that name the same tensor become its channels
    _check_names("input", inputs, list(fed))
    for name, number in fed.items():
        if len(inputs[name]) > 1 and inputs[name][1] not in (None, number):
            raise GraphError(f"input '{name}' has {inputs[name][1]} channels, the card names {number} inputs for it")
    _check_names("output", outputs, [o.tensor for o in card.outputs])
    for output in card.outputs:
        channels = outputs[output.tensor][1] if len(outputs[output.tensor]) > 1 else None
        if channels is not None and channels != len(output.classes):
            raise GraphError(
                f"output '{output.tensor}' has {channels} channels, the card names {len(output.classes)} classes"
            )
    _check_whole(model)
    operators = tuple(sorted({node.op_type for node in graph.node}))
    return GraphFacts(opset, len(graph.node), parameters, tuple(inputs), tuple(outputs), operators)


def check_ports(data: bytes, channels: int | None = None, classes: int | None = None) -> int:
    """As `check_graph`, of a graph that has no card yet; its number of parameters.

    channels, classes  second axes of input and output, where they are known and written in the graph
    """
    model, _, parameters = _bounded(data)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = _ports((v for v in graph.input if v.name not in constants), "input")
    for what, ports, wanted in (("input", inputs, channels), ("output", _ports(graph.output, "output"), classes)):
        for name, shape in ports.items():
            if wanted is not None and len(shape) > 1 and shape[1] not in (None, wanted):
                raise GraphError(f"{what} '{name}' has {shape[1]} channels, where {wanted} are described")
    _check_whole(model)
    return parameters


def _bounded(data: bytes) -> tuple[ModelProto, int, int]:
    """The model, its opset and its number of parameters, where nodes, names and tensors are such as are taken."""
    model = _parse(data)
    opset = _check_domains(model)
    _check_texts(model.graph)
    _check_nodes(model.graph)
    return model, opset, _check_tensors(model.graph)


def count_parameters(data: bytes) -> int:
    """Numbers in the floating-point tensors of a graph: what `check_graph` compares with the card."""
    return _check_tensors(_parse(data).graph)


def _foreign(data: bytes) -> str | None:
    """What the first bytes say that it is instead of ONNX; told before anything is parsed."""
    for beginnings, what in _FOREIGN:
        if data.startswith(beginnings):
            return what
    if data[8:9] == b"{" and not data.startswith(b"\x08"):
        return f"a safetensors file that claims a header of {int.from_bytes(data[:8], 'little')} bytes"
    return None


def _parse(data: bytes) -> ModelProto:
    foreign = _foreign(data)
    if foreign is not None:
        raise GraphError(f"the graph is {foreign}: only ONNX is taken, and nothing of this was opened")
    if len(data) > LARGEST_GRAPH:
        raise GraphError(f"the graph has {len(data)} bytes, at most {LARGEST_GRAPH} are read")
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import ModelProto

    try:
        model: ModelProto = ModelProto.FromString(data)
    except DecodeError:
        raise GraphError("the graph is no ONNX model: its bytes do not parse") from None
    if not model.graph.node:
        raise GraphError("the graph is no ONNX model, or has no nodes")
    return model


def _check_domains(model: ModelProto) -> int:
    if len(model.functions) or len(model.training_info):
        raise GraphError(
            "the graph brings functions or training information of its own: only plain operators are taken"
        )
    domains = {opset.domain: opset.version for opset in model.opset_import}
    if set(domains) - {"", "ai.onnx"} or len(domains) != 1:
        named = ", ".join(sorted(repr(domain)[:40] for domain in domains)[:5])
        raise GraphError(f"the graph uses the operator domains {named}: only ONNX's default domain is taken")
    opset = int(next(iter(domains.values())))
    if opset not in OPSETS:
        raise GraphError(f"the graph uses opset {opset}, {OPSETS.start} to {OPSETS.stop - 1} are taken")
    return opset


def _check_texts(graph: GraphProto) -> None:
    """Names go into messages and into the engine: plain text only."""
    values = (*graph.input, *graph.output, *graph.initializer)
    names = {value.name for value in values} | {
        dim.dim_param for v in graph.input for dim in v.type.tensor_type.shape.dim
    }
    for node in graph.node:
        names |= {
            node.name,
            node.op_type,
            node.domain,
            *node.input,
            *node.output,
            *(n for a in node.attribute for n in (a.name, a.t.name)),
        }
    # protobuf gives bytes where a name is not UTF-8
    if not all(isinstance(name, str) and len(name) <= LONGEST_NAME and name.isprintable() for name in names):
        raise GraphError(f"the graph holds a name that is no plain text of at most {LONGEST_NAME} characters")


def _check_nodes(graph: GraphProto) -> None:
    from onnx import AttributeProto

    taken = {
        AttributeProto.FLOAT,
        AttributeProto.INT,
        AttributeProto.STRING,
        AttributeProto.TENSOR,
        AttributeProto.FLOATS,
        AttributeProto.INTS,
        AttributeProto.STRINGS,
    }
    if len(graph.node) > MOST_NODES:
        raise GraphError(f"the graph has {len(graph.node)} nodes, at most {MOST_NODES} are taken")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            where = f" of domain '{node.domain}'" if node.domain else ""
            raise GraphError(
                f"the graph uses the operator '{node.op_type}'{where}, which is not on the list of those taken"
            )
        for attribute in node.attribute:
            if attribute.type not in taken or attribute.ref_attr_name:
                raise GraphError(f"operator '{node.op_type}' carries a subgraph or a value of a kind that is not taken")


def _check_tensors(graph: GraphProto) -> int:
    """Number of floating-point values in initializers and constants, each with exactly the bytes that it declares."""
    if len(graph.sparse_initializer):
        raise GraphError("the graph holds sparse tensors, which are not taken")
    tensors = [*graph.initializer, *(a.t for node in graph.node for a in node.attribute if a.HasField("t"))]
    parameters = sum(_check_tensor(tensor) for tensor in tensors)
    if parameters > MOST_PARAMETERS:
        raise GraphError(f"the graph holds {parameters} parameters, at most {MOST_PARAMETERS} are taken")
    _check_filled(graph)
    return parameters


def _check_tensor(tensor: TensorProto) -> int:
    from onnx import TensorProto

    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
        raise GraphError(f"tensor '{tensor.name}' names a file outside the graph: weights must be inside")
    if tensor.HasField("segment") or tensor.data_type not in _bits():
        raise GraphError(f"tensor '{tensor.name}' has a type that is not taken (type {tensor.data_type})")
    count = math.prod(tensor.dims)
    if any(n < 0 or n > MOST_PARAMETERS for n in tensor.dims) or count > MOST_PARAMETERS:
        raise GraphError(f"tensor '{tensor.name}' declares the shape {list(tensor.dims)}")
    if tensor.raw_data:
        held, needed = len(tensor.raw_data), -(-count * _bits()[tensor.data_type] // 8)
    else:
        held = len(tensor.float_data) + len(tensor.int32_data) + len(tensor.int64_data) + len(tensor.double_data)
        needed = count
    if held != needed:
        raise GraphError(f"tensor '{tensor.name}' declares {needed} values or bytes and holds {held}")
    floating = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT8)
    return count if tensor.data_type in floating else 0


def _bits() -> dict[int, int]:
    from onnx import TensorProto

    return {
        TensorProto.FLOAT: 32,
        TensorProto.FLOAT16: 16,
        TensorProto.BFLOAT16: 16,
        TensorProto.DOUBLE: 64,
        TensorProto.INT64: 64,
        TensorProto.INT32: 32,
        TensorProto.INT8: 8,
        TensorProto.UINT8: 8,
        TensorProto.BOOL: 8,
    }


def _check_filled(graph: GraphProto) -> None:
    """Bounds shapes written in the graph: a few bytes must not ask for gigabytes."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in graph.initializer if math.prod(tensor.dims) <= 16}
    for node in graph.node:
        if node.op_type == "Constant":
            small = [a.t for a in node.attribute if a.HasField("t") and math.prod(a.t.dims) <= 16]
            values |= dict(zip(node.output, small, strict=False))
    at = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Reshape": 1, "Pad": 1, "Resize": 3, "Range": 1}
    for node in graph.node:
        place = at.get(node.op_type)
        if place is None or len(node.input) <= place or node.input[place] not in values:
            continue
        asked = [abs(float(n)) for n in numpy_helper.to_array(values[node.input[place]]).ravel()]
        if any(n > MOST_FILLED for n in asked) or math.prod(max(n, 1.0) for n in asked) > MOST_FILLED:
            raise GraphError(
                f"operator '{node.op_type}' asks for the shape {asked}: that is more memory than is granted"
            )


def _check_count(parameters: int, claimed: int) -> None:
    if abs(parameters - claimed) > claimed * PARAMETER_TOLERANCE + PARAMETER_SLACK:
        raise GraphError(f"the graph holds {parameters:,} parameters, the card says {claimed:,}")


def _ports(values: Iterable[Any], what: str) -> dict[str, tuple[int | None, ...]]:
    """Name -> shape, None where an axis is free."""
    from onnx import TensorProto

    ports: dict[str, tuple[int | None, ...]] = {}
    for value in values:
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type") or kind.elem_type != TensorProto.FLOAT:
            raise GraphError(f"{what} '{value.name}' is no float32 tensor")
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
        if any(n is not None and not 1 <= n <= LARGEST_AXIS for n in shape):
            raise GraphError(f"{what} '{value.name}' declares the shape {shape}")
        ports[value.name] = shape
    return ports


def _check_names(what: str, found: Iterable[str], named: list[str]) -> None:
    if sorted(found) != sorted(named):
        raise GraphError(f"the graph has the {what}s {sorted(found)}, the card names {sorted(named)}")


def _check_whole(model: ModelProto) -> None:
    """ONNX's own checker: every input defined before its use, attributes as the operators demand."""
    from onnx import checker

    try:
        checker.check_model(model)
    except Exception as error:  # ONNX's own kind, and whatever its C++ side raises on damaged text
        said = "".join(c if c.isprintable() else " " for c in str(error))
        raise GraphError(f"the graph is no valid ONNX model: {' '.join(said.split())[:200]}") from None
