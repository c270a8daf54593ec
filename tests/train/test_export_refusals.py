"""What cannot be exported or compared is said in one line, not in an engine's own words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from residency.errors import GraphError, TrainingError
from residency.train.export import export_graph, openvino_f32, prove_engines, prove_parity


def twice(taken: str = "image", given: str = "scores") -> bytes:
    """A graph that doubles images of one channel and 8 x 8 pixels."""
    sides = [1, 1, 8, 8]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in (taken, given)]
    node = helper.make_node("Add", [taken, taken], [given])
    graph = helper.make_graph([node], "twice", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Twice(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + image


IMAGE = np.ones((1, 1, 8, 8), np.float32)


def test_a_graph_of_the_right_ends_and_sides_is_compared() -> None:
    assert len(prove_parity(Twice(), twice(), [IMAGE])) == 2


@pytest.mark.parametrize(
    ("graph", "images", "said"),
    [
        (twice(), [], "no image to compare"),
        (twice("x", "y"), [IMAGE], "the graph takes x and gives y; image and scores are expected"),
        (twice(), [IMAGE[:, 0]], "does not take an image of 1x8x8: .*Invalid rank"),
        (twice(), [IMAGE[..., :6]], "does not take an image of 1x1x8x6: .*invalid dimensions"),
        (b"none", [IMAGE], "ONNX Runtime cannot read the graph"),
    ],
)
def test_what_proves_nothing_or_does_not_fit_is_refused(graph: bytes, images: list[np.ndarray], said: str) -> None:
    with pytest.raises(TrainingError, match=said) as raised:
        prove_parity(Twice(), graph, images)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("graph", "image", "said"),
    [
        (b"none", IMAGE, "OpenVINO cannot read the graph: Unable to read"),
        (twice("image", "y"), IMAGE, "OpenVINO cannot read the graph: .*'scores' is not found"),
        (twice(), IMAGE[..., :6], r"OpenVINO does not take an image of 1x1x8x6: .*\(1\.1\.8\.6\)\) are incompatible"),
    ],
)
def test_what_openvino_refuses_is_one_line_too(graph: bytes, image: np.ndarray, said: str) -> None:
    with pytest.raises(TrainingError, match=said) as raised:
        openvino_f32(graph)(image)
    assert "\n" not in str(raised.value)


def test_both_engines_are_asked_for_the_output_of_that_name() -> None:
    ends = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 8, 8]) for name in ("in", "sum", "one")}
    nodes = [helper.make_node("Add", ["in", "in"], ["sum"]), helper.make_node("Identity", ["in"], ["one"])]
    graph = helper.make_graph(nodes, "two", [ends["in"]], [ends["sum"], ends["one"]])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    for name, scores in (("sum", 2.0), ("one", 1.0)):
        assert prove_engines(made, IMAGE, ("in", name))[0].largest_score == scores
    with pytest.raises(GraphError, match=r"^not every engine runs the graph on 1x1x8x8: the graph takes in and gives"):
        prove_engines(made, IMAGE, ("in", "two"))


def test_a_module_that_does_not_say_what_it_takes_is_not_exported() -> None:
    with pytest.raises(TrainingError, match=r"^Twice does not say .*make a residency\.nets\.net\.Net of it"):
        export_graph(Twice())  # type: ignore[arg-type]  # what the test is about
