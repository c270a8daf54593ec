"""A graph is data from outside: only what is known, bounded and named by the card reaches an engine."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from residency.card import Card
from residency.errors import GraphError
from residency.models.graph import check_graph, count_parameters
from residency.testing.cards import EXAMPLE, example_card
from residency.testing.graphs import difference_graph, model_bytes, threshold_graph

CARD = example_card({"parameters": 4})
GIVEN = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, "s", "r", "c"])
MADE = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2, "s", "r", "c"])
WEIGHT = numpy_helper.from_array(np.ones((2, 1, 1, 1, 1), np.float32), "weight")
BIAS = numpy_helper.from_array(np.zeros(2, np.float32), "bias")
CONV = helper.make_node("Conv", ["image", "weight", "bias"], ["scores"])


def changed(change: Any) -> bytes:
    """The good graph after `change(model)`."""
    model = ModelProto.FromString(threshold_graph())
    change(model)
    data: bytes = model.SerializeToString()
    return data


def refused(data: bytes, match: str, card: Card = CARD) -> None:
    with pytest.raises(GraphError, match=match):
        check_graph(data, card)


def test_a_plain_network_passes_and_its_facts_are_told():
    facts = check_graph(threshold_graph(), CARD)
    assert (facts.inputs, facts.outputs, facts.operators) == (("image",), ("scores",), ("Conv",))
    assert (facts.opset, facts.nodes, facts.parameters) == (17, 1, 4)
    assert count_parameters(threshold_graph()) == 4


class Trap:
    """Unpickling this would call the function below."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _sprung, ("",)


def _sprung(_: str) -> None:
    raise AssertionError("a pickle was opened")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_named_and_never_opened(protocol: int):
    refused(pickle.dumps(Trap(), protocol=protocol), "pickle")


def test_a_pytorch_file_is_named_and_never_opened():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps(Trap()))
    refused(out.getvalue(), "pickle")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"not a graph", b"\xff" * 64])
def test_what_is_no_onnx_is_refused(data: bytes):
    refused(data, "no ONNX model|no nodes")


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("If", ""),
        ("Loop", ""),
        ("Scan", ""),
        ("RandomNormal", ""),
        ("Conv", "com.example"),
        ("Evil", ""),
        ("Optional", ""),
    ],
)
def test_only_listed_operators_of_the_default_domain_pass(operator: str, domain: str):
    node = helper.make_node(operator, ["image"], ["scores"], domain=domain)
    refused(model_bytes([node], [], GIVEN, MADE), "operator")


def test_other_operator_domains_are_refused():
    refused(changed(lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))), "domain")


@pytest.mark.parametrize("opset", [1, 12, 99])
def test_unknown_opsets_are_refused(opset: int):
    def change(model: ModelProto) -> None:
        model.opset_import[0].version = opset

    refused(changed(change), "opset")


def test_functions_of_its_own_are_refused():
    function = helper.make_function(
        "", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    refused(changed(lambda m: m.functions.append(function)), "functions")


def test_a_subgraph_in_an_attribute_is_refused():
    def change(model: ModelProto) -> None:
        attribute = model.graph.node[0].attribute.add()
        attribute.name, attribute.type = "body", AttributeProto.GRAPH
        attribute.g.name = "hidden"

    refused(changed(change), "subgraph")


def test_weights_in_a_file_of_this_machine_are_refused():
    """External data names a path: a graph could make an engine read /etc/shadow into its weights."""

    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../../etc/shadow"

    refused(changed(change), "outside the graph")


def test_external_data_hidden_in_a_constant_is_refused():
    tensor = TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="file")
    nodes = [helper.make_node("Constant", [], ["k"], value=tensor), CONV]
    refused(model_bytes(nodes, [WEIGHT, BIAS], GIVEN, MADE), "outside the graph")


def test_a_tensor_must_hold_what_it_declares():
    def change(model: ModelProto) -> None:
        model.graph.initializer[0].dims[0] = 1_000_000

    refused(changed(change), "declares")


@pytest.mark.parametrize("dims", [[-1], [2**40], [100_000, 100_000]])
def test_absurd_shapes_are_refused_before_anything_is_reserved(dims: list[int]):
    def change(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    refused(changed(change), "declares")


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand"])
def test_a_few_bytes_must_not_ask_for_gigabytes(operator: str):
    shape = numpy_helper.from_array(np.array([100_000, 100_000, 10], np.int64), "shape")
    inputs = ["shape"] if operator == "ConstantOfShape" else ["image", "shape"]
    nodes = [helper.make_node(operator, inputs, ["huge"]), CONV]
    refused(model_bytes(nodes, [WEIGHT, BIAS, shape], GIVEN, MADE), "more memory")


def test_text_tensors_are_refused():
    text = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"])
    refused(model_bytes([CONV], [WEIGHT, BIAS, text], GIVEN, MADE), "type that is not taken")


def test_sparse_tensors_are_refused():
    def change(model: ModelProto) -> None:
        model.graph.sparse_initializer.add().dims.append(4)

    refused(changed(change), "sparse")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"parameters": 4_000_000}, "parameters"),
        ({"inputs.0.tensor": "other"}, "inputs"),
        ({"outputs.0.tensor": "other"}, "outputs"),
    ],
)
def test_a_graph_that_is_not_the_cards_is_refused(changes: dict[str, Any], match: str):
    refused(threshold_graph(), match, example_card({"parameters": 4} | changes))


def test_channels_must_be_the_cards_classes():
    refused(threshold_graph(channels=3), "3 channels, the card names 2 classes", example_card({"parameters": 6}))


def test_inputs_of_one_tensor_are_its_channels():
    refused(difference_graph(), "2 channels, the card names 1 inputs", example_card({"parameters": 6}))
    inputs = [{**EXAMPLE["inputs"][0], "name": name} for name in ("one", "other")]
    card = example_card({"parameters": 6, "inputs": inputs})
    assert check_graph(difference_graph(), card).inputs == ("image",)


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64])
def test_inputs_are_float32(kind: int):
    given = helper.make_tensor_value_info("image", kind, [1, 1, "s", "r", "c"])
    refused(model_bytes([CONV], [WEIGHT, BIAS], given, MADE), "float32")


def test_a_node_that_reads_what_nobody_makes_is_refused():
    node = helper.make_node("Conv", ["image", "nowhere"], ["scores"])
    refused(model_bytes([node], [WEIGHT, BIAS], GIVEN, MADE), "no valid ONNX")


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_graphs_are_refused_or_pass_but_never_crash(data: st.DataObject):
    good = bytearray(threshold_graph())
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    for graph in (bytes(good), cut):
        message = ""
        try:
            check_graph(graph, CARD)
        except GraphError as error:
            message = str(error)
        assert message.isprintable()
