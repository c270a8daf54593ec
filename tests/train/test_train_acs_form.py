"""An ACS network is exported in the form that is faster on the whole of it; both forms answer as the network does."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConversionError
from residency.nets import build
from residency.nets.acs import convert
from residency.nets.net import Net
from residency.train.acs_form import Form, Forms, export_forms


class Flat(Net):
    """Two convolutions of planes, the second without an extent."""

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.dimensions, self.multiple = 2, 2, 2
        self.layers = nn.Sequential(
            nn.Conv2d(2, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(9, 3, 1)
        )

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


def test_both_forms_answer_as_the_network_and_are_timed() -> None:
    torch.manual_seed(0)
    flat = Flat()
    flat(torch.randn(4, 2, 12, 12))  # moves the statistics
    net = convert(flat).model
    assert isinstance(net, Net)
    found = export_forms(net, (2, 2, 8, 12, 10), repeats=3, tolerance=1e-4)
    for form in (found.flat, found.folded):
        assert {parity.engine for parity in form.parities} == {"ONNX Runtime", "OpenVINO"}
        assert max(parity.relative for parity in form.parities) < 1e-4
        assert form.milliseconds > 0
    kernels = {}
    for form in (found.flat, found.folded):
        graph = onnx.load_from_string(form.graph).graph
        kernels[form.name] = sum(node.op_type == "Conv" for node in graph.node)
    assert kernels == {"flat": 4, "folded": 2}  # three a layer, but for a kernel of a single voxel
    assert found.faster in (found.flat, found.folded)


@pytest.mark.parametrize(("flat", "folded", "faster"), [(2.0, 3.0, "flat"), (3.0, 2.0, "folded"), (2.0, 2.0, "flat")])
def test_the_faster_form_is_taken_and_the_smaller_where_they_are_equal(flat: float, folded: float, faster: str) -> None:
    assert Forms(Form("flat", b"", flat, ()), Form("folded", b"", folded, ())).faster.name == faster


def test_a_network_without_acs_convolutions_has_no_two_forms() -> None:
    torch.manual_seed(0)
    with pytest.raises(ConversionError, match="holds no ACS convolution"):
        export_forms(build("unet", features=(2, 3)), (1, 1, 8, 8, 8))
