"""Graphs of every kind of net: in two and three dimensions, segmenting and classifying, with one class or more."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from residency.errors import TrainingError
from residency.nets.net import Net
from residency.train.export import Parity, export_graph, prove_parity


class Small(Net):
    """Down by two and, where it segments, up again; batch statistics that are not those of a fresh net."""

    def __init__(self, dimensions: int, channels: int, classes: int, *, segments: bool) -> None:
        super().__init__()
        flat = dimensions == 2
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if flat else (nn.Conv3d, nn.BatchNorm3d)
        self.channels, self.dimensions = channels, dimensions
        self.multiple, self.least = (2, 6) if segments else (1, 7)
        last = nn.Upsample(scale_factor=2, mode="nearest") if segments else None
        pool = nn.AdaptiveAvgPool2d(1) if flat else nn.AdaptiveAvgPool3d(1)
        self.layers = nn.Sequential(
            convolution(channels, 6, 3, stride=2, padding=1),
            norm(6),
            nn.ReLU(),
            *((last, convolution(6, classes, 1)) if last else (pool, nn.Flatten(), nn.Linear(6, classes))),
        )
        for buffer in (self.layers[1].running_mean, self.layers[1].running_var):
            buffer.uniform_(0.5, 2.0)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


@pytest.mark.parametrize(
    ("dimensions", "channels", "classes", "segments"),
    [(2, 3, 4, False), (2, 2, 1, True), (3, 1, 5, False), (3, 2, 1, True), (2, 1, 3, True)],
)
def test_a_graph_of_any_kind_has_open_axes_and_answers_as_its_net(
    dimensions: int, channels: int, classes: int, segments: bool
) -> None:
    torch.manual_seed(dimensions + classes)
    net = Small(dimensions, channels, classes, segments=segments)
    graph = export_graph(net)
    model = onnx.load_from_string(graph)
    (image,), (scores,) = model.graph.input, model.graph.output
    for tensor, size in ((image, channels), (scores, classes)):
        batch, channel, *sides = tensor.type.tensor_type.shape.dim
        assert channel.dim_value == size
        assert all(axis.dim_param and not axis.dim_value for axis in (batch, *sides))
        assert len(sides) == (dimensions if segments or tensor is image else 0)
    random = np.random.default_rng(1)
    least = (6, 6, 6) if segments else (7, 9, 11)
    shapes = [(1, channels, 8, 10, 14), (3, channels, *least), (2, channels, 16, 20, 24)]
    images = [random.standard_normal(shape[: dimensions + 2]).astype(np.float32) for shape in shapes]
    found = prove_parity(net, graph, images, tolerance=1e-4)
    assert len(found) == 2 * len(images)
    assert max(parity.relative for parity in found) < 1e-4


def test_one_class_is_compared_by_the_side_of_zero_its_score_is_on() -> None:
    torch.manual_seed(2)
    net = Small(2, 1, 1, segments=True)
    graph = export_graph(net)
    image = np.random.default_rng(1).standard_normal((1, 1, 16, 16)).astype(np.float32)
    with torch.no_grad():
        middle = float(net(torch.from_numpy(image)).median())
        net.layers[-1].bias -= middle
    with pytest.raises(TrainingError, match=r"classes agree in \d\d?\.\d+ %"):
        prove_parity(net, graph, [image], tolerance=10.0)


def test_scores_of_another_shape_are_no_parity() -> None:
    torch.manual_seed(2)
    graph = export_graph(Small(2, 1, 1, segments=True))
    other = Small(2, 1, 3, segments=True).eval()
    with pytest.raises(TrainingError, match=r"scores of shape \(1, 1, 8, 8\), the net \(1, 3, 8, 8\)"):
        prove_parity(other, graph, [np.zeros((1, 1, 8, 8), dtype=np.float32)])


def test_the_share_of_a_difference_is_that_of_the_largest_score() -> None:
    assert Parity("engine", (1,), 1e-3, 10.0, 1.0).relative == pytest.approx(1e-4)
    assert Parity("engine", (1,), 0.0, 0.0, 1.0).holds
    assert not Parity("engine", (1,), 1e-3, 10.0, 1.0, tolerance=5e-5).holds
