"""ACS convolutions equal the 3D convolutions that define them, whatever the settings, or are refused when made."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.acs import ACSConv3d, ACSConvTranspose3d
from residency.nets.net import Net
from residency.train.export import export_graph, prove_parity

AXES = ((None, 0, 1), (0, None, 1), (0, 1, None))
"""For the axial, coronal and sagittal view: on which axis lie rows (0) and columns (1), which is flat (None)."""


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
"""Said by torch of folded convolutions."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def defined(layer: ACSConv3d, image: Tensor) -> Tensor:
    """What the layer answers by definition: every tap is set, one by one, in a kernel without dilation.

    Written for this test from the definition, without any part of the layer's own geometry.
    """
    pads = [
        [(reach // 2, reach - reach // 2) if layer.padding == "same" else (side, side)]
        for reach, side in zip(reaches(layer), sides(layer), strict=True)
    ]
    row, column = reaches(layer)
    both = max(row, column)
    (rows,), (columns,) = pads
    more = (both - row) // 2
    padding = (*columns, rows[0] + more, rows[1] + more, *rows)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    stride = (layer.stride[0], layer.stride[0], layer.stride[1])
    kernel = defined_kernel(layer, (row, both, column))
    return functional.conv3d(functional.pad(image, padding, mode=mode), kernel, layer.bias, stride, groups=layer.groups)


def defined_kernel(layer: ACSConv3d, reach: Sequence[int]) -> Tensor:
    """(outputs, inputs, S, R, C), `reach` voxels from the first to the last."""
    weight, shares = layer.weight, layer_shares(layer)
    kernel = torch.zeros(*weight.shape[:2], *[side + 1 for side in reach], dtype=weight.dtype)
    half = layer.dilation[0] / 2
    spread = {0.0: 1.0} if layer.kernel_size[0] % 2 else {-half: 0.5, half: 0.5}
    for view, lies in enumerate(AXES):
        for i, j in product(*map(range, layer.kernel_size)):
            rows = (i - (layer.kernel_size[0] - 1) / 2) * layer.dilation[0]
            columns = (j - (layer.kernel_size[1] - 1) / 2) * layer.dilation[1]
            for away, share in spread.items():
                places = [away if line is None else (rows, columns)[line] for line in lies]
                s, r, c = (int(place + side / 2) for place, side in zip(places, reach, strict=True))
                kernel[:, :, s, r, c] += weight[:, :, i, j] * shares[:, view, None] * share
    return kernel


def layer_shares(layer: ACSConv3d) -> Tensor:
    """(outputs, 3): how much of each output is of each view."""
    if layer.kind == "hard":
        assert layer.split is not None
        return torch.eye(3, dtype=layer.weight.dtype).repeat_interleave(torch.tensor(layer.split), dim=0)
    logits = getattr(layer, "view_logits", torch.zeros(layer.out_channels, 3, dtype=layer.weight.dtype))
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


def reaches(layer: ACSConv3d) -> list[int]:
    return [spacing * (size - 1) for size, spacing in zip(layer.kernel_size, layer.dilation, strict=True)]


def sides(layer: ACSConv3d) -> tuple[int, int]:
    return (0, 0) if isinstance(layer.padding, str) else layer.padding


def pairs(least: int, most: int) -> st.SearchStrategy[Any]:
    """One number or, half of the time, two."""
    numbers = st.integers(least, most)
    return st.one_of(numbers, st.tuples(numbers, numbers))


REFUSED = ("half a voxel apart", "takes one dilation")


@st.composite
def layers(draw: st.DrawFn) -> ACSConv3d:
    groups = draw(st.integers(1, 4))
    padding = draw(st.one_of(pairs(0, 3), st.sampled_from(["same", "valid"])))
    try:
        layer = ACSConv3d(
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 4)),
            draw(pairs(1, 5)),
            1 if padding == "same" else draw(pairs(1, 3)),
            padding,
            draw(pairs(1, 3)),
            groups,
            draw(st.booleans()),
            draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"])),
            kind=draw(st.sampled_from(["hard", "hard", "soft", "mean"])),
            dtype=torch.float64,
        )
    except ValueError as error:
        assert any(said in str(error) for said in REFUSED)  # noqa: PT017
        assume(False)
    if hasattr(layer, "view_logits"):
        nn.init.normal_(layer.view_logits)
    return layer


@settings(max_examples=60, deadline=None)
@given(layer=layers(), grid=st.tuples(*[st.integers(6, 10)] * 3), batched=st.booleans())
def test_answers_and_gradients_are_those_of_the_definition(
    layer: ACSConv3d, grid: tuple[int, ...], batched: bool
) -> None:
    grid = tuple(max(side, reach + 1) for side, reach in zip(grid, [max(reaches(layer))] * 3, strict=True))
    image = torch.randn(*[2] * batched, layer.in_channels, *grid, dtype=torch.float64, requires_grad=True)
    wanted = defined(layer, image)
    got = layer(image)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(layer.fold()(image), wanted)
    direction = torch.randn_like(wanted)
    learns = [image, *layer.parameters()]
    wanted_gradients = torch.autograd.grad(wanted, learns, direction)
    torch.testing.assert_close(torch.autograd.grad(got, learns, direction), wanted_gradients)


TRANSPOSED = {
    "size 2, stride 2": ({"kernel_size": 2, "stride": 2}, [1, 1]),
    "size 3, stride 2": ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, [0.5, 1, 0.5]),
    "size 4, stride 2": ({"kernel_size": 4, "stride": 2, "padding": 1}, [0, 1, 1, 0]),
    "size 5, stride 2": ({"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}, [0, 0.5, 1, 0.5, 0]),
    "size 3, stride 3": ({"kernel_size": 3, "stride": 3}, [1, 1, 1]),
    "size 3": ({"kernel_size": 3, "padding": 1}, [0, 1, 0]),
    "size 2": ({"kernel_size": 2}, [0.5, 0.5]),
    "size 4, dilated": ({"kernel_size": 4, "dilation": 2, "padding": 3}, [0, 0.5, 0.5, 0]),
    "size 2, stride 3": ({"kernel_size": 2, "stride": 3}, [1, 1]),
}


@pytest.mark.parametrize(("arguments", "along"), TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_a_transposed_layer_interpolates_along_the_flat_axis(arguments: dict[str, Any], along: list[float]) -> None:
    layer = ACSConvTranspose3d(2, 3, **arguments)
    kernel = layer.fold().weight
    for view in range(3):
        planes = kernel[:, view].movedim(view + 1, 0)
        for plane, share in zip(planes, along, strict=True):
            torch.testing.assert_close(plane, layer.weight[:, view] * share)


CONSTANT = {
    "size 3": nn.Conv2d(2, 6, 3, padding=1),
    "size 7, stride 2": nn.Conv2d(2, 6, 7, 2, 3),
    "size 2, stride 2": nn.Conv2d(2, 6, 2, 2),
    "size 4, stride 2": nn.Conv2d(2, 6, 4, 2, 1),
    "row of seven": nn.Conv2d(2, 6, (1, 7), padding=(0, 3)),
    "grouped": nn.Conv2d(2, 6, 3, groups=2),
    "transposed 2": nn.ConvTranspose2d(2, 6, 2, 2),
    "transposed 3": nn.ConvTranspose2d(2, 6, 3, 2, 1, 1),
    "transposed 4": nn.ConvTranspose2d(2, 6, 4, 2, 1),
    "transposed, grouped": nn.ConvTranspose2d(2, 6, 3, padding=1, groups=2),
}


@pytest.mark.parametrize("conv", CONSTANT.values(), ids=CONSTANT.keys())
@pytest.mark.parametrize("view", range(3))
def test_a_volume_constant_along_the_flat_axis_is_answered_as_its_slice_in_2d(conv: nn.Module, view: int) -> None:
    slice_ = torch.randn(1, 2, 10, 12)
    volume = slice_.unsqueeze(view + 2).repeat_interleave(12, dim=view + 2)
    if isinstance(conv, nn.Conv2d):
        layer: nn.Module = ACSConv3d.from_conv2d(conv)
    else:
        assert isinstance(conv, nn.ConvTranspose2d)
        layer = ACSConvTranspose3d.from_conv_transpose2d(conv)
    outputs = slice(2 * view, 2 * view + 2)
    answer = layer(volume)[:, outputs]
    middle = answer.shape[view + 2] // 2
    wanted = conv(slice_)[:, outputs]
    for plane in (middle - 1, middle):
        torch.testing.assert_close(answer.select(view + 2, plane), wanted)


@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_layer_made_of_a_2d_one_keeps_what_that_has(convolution: type[nn.Conv2d | nn.ConvTranspose2d]) -> None:
    conv: Any = convolution(4, 6, 3, padding=1, groups=2).to(torch.bfloat16).eval()
    conv.weight.requires_grad_(False)
    made: Any = ACSConv3d.from_conv2d if convolution is nn.Conv2d else ACSConvTranspose3d.from_conv_transpose2d
    for kind in ("hard", "soft", "mean"):
        layer = made(conv, kind)
        for one in (layer, layer.fold()):
            assert (one.training, one.weight.requires_grad, one.weight.dtype) == (False, False, torch.bfloat16)
            assert one.bias.requires_grad
            assert one(torch.zeros(1, 4, 5, 5, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
        if kind == "soft":
            assert not layer.view_logits.requires_grad
        else:
            conv.load_state_dict(layer.state_dict(), strict=True)
            layer.load_state_dict(conv.state_dict(), strict=True)
        with torch.no_grad():
            layer.weight.zero_()
        assert conv.weight.abs().sum() > 0


def test_fresh_weights_are_those_of_a_2d_layer_with_the_same_seed() -> None:
    for layer, conv in ((ACSConv3d, nn.Conv2d), (ACSConvTranspose3d, nn.ConvTranspose2d)):
        torch.manual_seed(3)
        one = layer(4, 6, 3).state_dict()
        torch.manual_seed(3)
        torch.testing.assert_close(one, conv(4, 6, 3).state_dict(), rtol=0, atol=0)


def test_a_2d_layer_of_a_class_of_its_own_is_refused_since_it_may_compute_anything() -> None:
    class Standardised(nn.Conv2d):
        pass

    class Grown(nn.ConvTranspose2d):
        pass

    with pytest.raises(TypeError, match="not a Standardised"):
        ACSConv3d.from_conv2d(Standardised(1, 3, 3))
    with pytest.raises(TypeError, match="not a Grown"):
        ACSConvTranspose3d.from_conv_transpose2d(Grown(1, 3, 3))


TRACED = {
    "hard": ACSConv3d(4, 6, 3, padding=1, groups=2),
    "soft": ACSConv3d(4, 6, 5, padding=1, kind="soft"),
    "pairs": ACSConv3d(4, 6, (1, 3), padding="same", dilation=(1, 2), kind="mean"),
    "reflect": ACSConv3d(4, 6, 4, padding="same", padding_mode="reflect"),
    "transposed": ACSConvTranspose3d(4, 6, 4, 2, 1, groups=2),
    "transposed, folded": ACSConvTranspose3d(4, 6, 3, 2, 1, 1, kind="soft"),
}


@pytest.mark.parametrize("layer", TRACED.values(), ids=TRACED.keys())
def test_a_graph_traced_without_an_image_answers_at_every_size(layer: nn.Module) -> None:
    graph = torch.fx.symbolic_trace(layer)
    twin = copy.deepcopy(layer)
    for grid in ((7, 6, 8), (8, 9, 5)):
        image = torch.randn(2, 4, *grid)
        torch.testing.assert_close(graph(image), layer(image))
        torch.testing.assert_close(twin(image), layer(image))


@pytest.mark.parametrize(("size", "convolutions"), [(1, 1), (2, 1), (3, 3), (7, 3)])
def test_a_kernel_whose_views_do_not_differ_costs_one_convolution(size: int, convolutions: int) -> None:
    graph = torch.fx.symbolic_trace(ACSConv3d(3, 6, size, padding=size // 2)).graph
    assert len(graph.find_nodes(op="call_function", target=functional.conv3d)) == convolutions


class _Stack(Net):
    def __init__(self) -> None:
        super().__init__()
        self.channels, self.multiple = 2, 4
        self.layers = nn.Sequential(
            ACSConv3d(2, 6, 3, padding=1),
            nn.ReLU(),
            ACSConv3d(6, 6, 4, 2, 1, groups=2),
            nn.ReLU(),
            ACSConv3d(6, 6, 3, padding=1, kind="soft"),
            ACSConv3d(6, 8, (1, 3), padding=(0, 1)),
            ACSConvTranspose3d(8, 4, 2, 2),
            ACSConv3d(4, 2, 1),
        )

    def scores(self, image: Tensor) -> Tensor:
        answer: Tensor = self.layers(image)
        return answer


def test_an_exported_graph_answers_at_sizes_other_than_the_example() -> None:
    net = _Stack()
    graph = export_graph(net)
    images = [np.random.default_rng(0).normal(size=(n, 2, *grid)) for n, grid in ((1, (8, 12, 8)), (2, (16, 8, 20)))]
    proven = prove_parity(net, graph, [image.astype(np.float32) for image in images])
    assert len(proven) == 4
