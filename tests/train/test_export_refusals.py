"""What cannot be exported or compared is said in one line, not in an engine's own words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from residency.errors import TrainingError
from residency.train.export import export_graph, prove_parity


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


def test_a_module_that_does_not_say_what_it_takes_is_not_exported() -> None:
    with pytest.raises(TrainingError, match=r"^Twice does not say .*make a residency\.nets\.net\.Net of it"):
        export_graph(Twice())  # type: ignore[arg-type]  # what the test is about
