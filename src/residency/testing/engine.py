"""What every inference engine promises. Subclass `EngineContract` and supply the `engine` fixture."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from residency.engine import Engine, Precision
from residency.errors import EngineError


def make_graph(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: dict[str, Any]) -> bytes:
    """An ONNX graph from nodes, {name: shape} with names for dynamic axes, and float32 weights."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def scaling_graph() -> bytes:
    """scores = (image, 1 - image) on the channel axis: softmax-free scores that a test can foresee at every voxel."""
    from onnx import helper

    nodes = [
        helper.make_node("Sub", ["one", "image"], ["rest"]),
        helper.make_node("Concat", ["rest", "image"], ["scores"], axis=1),
    ]
    shape = ["batch", 1, "slices", "rows", "columns"]
    return make_graph(nodes, {"image": shape}, {"scores": [shape[0], 2, *shape[2:]]}, {"one": np.float32(1.0)})


def two_input_graph() -> bytes:
    """sum = a + 2 b, product = a b: two named inputs and two named outputs of any shape of rank five."""
    from onnx import helper

    nodes = [
        helper.make_node("Mul", ["b", "two"], ["twice"]),
        helper.make_node("Add", ["a", "twice"], ["sum"]),
        helper.make_node("Mul", ["a", "b"], ["product"]),
    ]
    shape = ["n", "c", "s", "r", "k"]
    names = {"a": shape, "b": shape}
    return make_graph(nodes, names, {"sum": shape, "product": shape}, {"two": np.float32(2.0)})


def convolution_graph(weight: npt.NDArray[np.float32]) -> bytes:
    """scores = image convolved with weight (out, in, 3, 3, 3), zero padding; any spatial size."""
    from onnx import helper

    nodes = [helper.make_node("Conv", ["image", "weight"], ["scores"], pads=[1] * 6)]
    shape = ["n", int(weight.shape[1]), "s", "r", "c"]
    return make_graph(nodes, {"image": shape}, {"scores": ["n", int(weight.shape[0]), *shape[2:]]}, {"weight": weight})


class EngineContract:
    """Named tensors in, named tensors out; wrong ones refused; the precision is the one asked for."""

    def test_names_are_those_of_the_graph(self, engine: Engine) -> None:
        """The card names tensors; an engine that renames them cannot be wired."""
        network = engine.load(two_input_graph(), precision=Precision.F32)
        assert set(network.inputs) == {"a", "b"}
        assert set(network.outputs) == {"sum", "product"}

    def test_tensors_are_wired_by_name(self, engine: Engine) -> None:
        """T1 and FLAIR exchanged give a wrong answer that looks right."""
        network = engine.load(two_input_graph(), precision=Precision.F32)
        a, b = np.full((1, 1, 2, 3, 4), 3.0, np.float32), np.full((1, 1, 2, 3, 4), 5.0, np.float32)
        for tensors in ({"a": a, "b": b}, {"b": b, "a": a}):
            found = network.collect(network.submit(tensors))
            np.testing.assert_array_equal(found["sum"], a + 2 * b)
            np.testing.assert_array_equal(found["product"], a * b)

    def test_shapes_may_differ_from_call_to_call(self, engine: Engine) -> None:
        """Windows at the end of a volume may be smaller."""
        network = engine.load(scaling_graph(), precision=Precision.F32)
        for shape in ((1, 1, 4, 5, 6), (2, 1, 3, 3, 9), (1, 1, 1, 1, 1)):
            image = np.random.default_rng(1).random(shape, np.float32)
            scores = network.collect(network.submit({"image": image}))["scores"]
            np.testing.assert_allclose(scores, np.concatenate([1 - image, image], axis=1), atol=1e-6)

    def test_a_convolution_is_the_one_of_the_definition(self, engine: Engine) -> None:
        """Axis order and borders: (slice, row, column) in, (slice, row, column) out, judged by plain numpy."""
        generator = np.random.default_rng(3)
        weight = generator.normal(size=(2, 3, 3, 3, 3)).astype(np.float32)
        image = generator.normal(size=(1, 3, 5, 6, 7)).astype(np.float32)
        network = engine.load(convolution_graph(weight), precision=Precision.F32)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(image[0].astype(np.float64), ((0, 0), (1, 1), (1, 1), (1, 1))), (3, 3, 3), axis=(1, 2, 3)
        )
        expected = np.einsum("isrcxyz,oixyz->osrc", windows, weight)
        np.testing.assert_allclose(network.collect(network.submit({"image": image}))["scores"][0], expected, atol=1e-4)

    def test_tickets_may_be_collected_in_any_order(self, engine: Engine) -> None:
        """More submitted than run side by side, collected from behind: each gets its own answer."""
        network = engine.load(scaling_graph(), precision=Precision.F32)
        tickets = [network.submit({"image": np.full((1, 1, 2, 2, 2), k, np.float32)}) for k in range(9)]
        for k, ticket in reversed(list(enumerate(tickets))):
            assert (network.collect(ticket)["scores"][:, 1] == k).all()

    def test_what_was_submitted_may_be_changed_at_once(self, engine: Engine) -> None:
        """Tiles are cut into one buffer again and again."""
        network = engine.load(scaling_graph(), precision=Precision.F32)
        buffer = np.full((1, 1, 64, 64, 64), 7.0, np.float32)
        ticket = network.submit({"image": buffer})
        buffer[...] = -1.0
        assert (network.collect(ticket)["scores"][:, 1] == 7.0).all()

    def test_what_was_collected_stays(self, engine: Engine) -> None:
        """The next inference must not write over scores that are still being blended."""
        network = engine.load(scaling_graph(), precision=Precision.F32)
        first = network.collect(network.submit({"image": np.ones((1, 1, 4, 4, 4), np.float32)}))["scores"]
        for _ in range(5):
            network.collect(network.submit({"image": np.zeros((1, 1, 4, 4, 4), np.float32)}))
        assert (first[:, 1] == 1.0).all()

    def test_each_ticket_is_collected_once(self, engine: Engine) -> None:
        network = engine.load(scaling_graph(), precision=Precision.F32)
        ticket = network.submit({"image": np.ones((1, 1, 1, 1, 1), np.float32)})
        network.collect(ticket)
        with pytest.raises(EngineError, match="collected already"):
            network.collect(ticket)
        with pytest.raises(EngineError, match="no inference"):
            network.collect(10_000)

    @pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c"), ("A", "b")])
    def test_wrong_names_are_refused(self, engine: Engine, names: tuple[str, ...]) -> None:
        network = engine.load(two_input_graph(), precision=Precision.F32)
        with pytest.raises(EngineError, match="takes the inputs"):
            network.submit({name: np.ones((1, 1, 1, 1, 1), np.float32) for name in names})

    @pytest.mark.parametrize("shape", [(4, 4, 4), (1, 2, 4, 4, 4), (1, 1, 4, 4, 4, 1)])
    def test_wrong_shapes_are_refused(self, engine: Engine, shape: tuple[int, ...]) -> None:
        """And the network can still be used afterwards."""
        network = engine.load(scaling_graph(), precision=Precision.F32)
        with pytest.raises(EngineError, match="input 'image'"):
            network.submit({"image": np.ones(shape, np.float32)})
        assert network.collect(network.submit({"image": np.ones((1, 1, 4, 4, 4), np.float32)}))["scores"].size == 128

    def test_the_precision_is_the_one_asked_for_or_an_error(self, engine: Engine) -> None:
        """A model approved in f32 must not run in bf16 because this CPU happens to have it."""
        weight = np.random.default_rng(5).normal(size=(4, 1, 3, 3, 3)).astype(np.float32)
        assert engine.load(convolution_graph(weight), precision=Precision.F32).precision is Precision.F32
        try:
            network = engine.load(convolution_graph(weight), precision=Precision.BF16)
        except EngineError as error:
            assert "bf16" in str(error)  # noqa: PT017 - whether a CPU has bf16 is not ours to say
        else:
            assert network.precision is Precision.BF16
        with pytest.raises(EngineError, match="int8"):
            engine.load(convolution_graph(weight), precision=Precision.INT8)

    def test_the_same_input_gives_the_same_bytes(self, engine: Engine) -> None:
        """Results carry UIDs made of what determined them; so they must be determined."""
        generator = np.random.default_rng(7)
        weight = generator.normal(size=(8, 1, 3, 3, 3)).astype(np.float32)
        image = generator.normal(size=(1, 1, 20, 21, 22)).astype(np.float32)
        answers = set()
        for _ in range(2):
            network = engine.load(convolution_graph(weight), precision=Precision.F32)
            answers |= {network.collect(network.submit({"image": image}))["scores"].tobytes() for _ in range(3)}
        assert len(answers) == 1

    @pytest.mark.parametrize("graph", [b"", b"not a graph", b"\x08\x0a"])
    def test_what_is_no_graph_is_refused(self, engine: Engine, graph: bytes) -> None:
        with pytest.raises(EngineError):
            engine.load(graph, precision=Precision.F32)

    def test_an_unknown_operator_is_refused(self, engine: Engine) -> None:
        from onnx import helper

        node = helper.make_node("NoSuchOperator", ["x"], ["y"])
        with pytest.raises(EngineError):
            engine.load(make_graph([node], {"x": [1]}, {"y": [1]}, {}), precision=Precision.F32)

    def test_the_build_says_what_determines_results(self, engine: Engine) -> None:
        build = engine.build
        assert build.name
        assert build.version
        assert build.device
        assert build.threads >= 1
        assert str(build) == str(engine.build)
