"""Transposed ACS convolutions equal their definition, written out tap by tap, whatever the settings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from residency.nets.acs import ACSConvTranspose3d

AXES = ((None, 0, 1), (0, None, 1), (0, 1, None))
"""For the axial, coronal and sagittal view: on which axis lie rows (0) and columns (1), which is flat (None)."""

OF_GRID = (0, 0, 1)
"""Whether S, R and C have stride, padding and centre of the rows (0) or of the columns (1)."""

MARGIN = 12
"""Voxels around the answer, so that no tap falls off before the answer is cut out."""

REFUSED = ("half a voxel apart", "takes one dilation", "smaller than stride or dilation")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def defined(layer: ACSConvTranspose3d, image: Tensor) -> Tensor:
    """What the layer answers by definition: each voxel of the image is added to the answer, tap by tap, view by view.

    Written for this test from the definition, without any part of the layer's own geometry or kernels, and without a
    convolution.
    """
    answer = torch.zeros(image.shape[0], layer.out_channels, *whole_sides(layer, image), dtype=image.dtype)
    shares = view_shares(layer)
    for view, lies in enumerate(AXES):
        for i, j in product(*map(range, layer.kernel_size)):
            through = spread(layer, image, layer.weight[:, :, i, j]) * shares[:, view, None, None, None]
            places = [
                flat_taps(layer, axis) if line is None else [(centred(layer, line, (i, j)[line]), 1.0)]
                for axis, line in enumerate(lies)
            ]
            for taps in product(*places):
                slices = [landing(layer, image, axis, away) for axis, (away, _) in enumerate(taps)]
                share = taps[0][1] * taps[1][1] * taps[2][1]
                answer[(slice(None), slice(None), *slices)] += through * share
    cut = [slice(MARGIN, side - MARGIN) for side in answer.shape[2:]]
    answer = answer[(slice(None), slice(None), *cut)]
    return answer if layer.bias is None else answer + layer.bias[:, None, None, None]


def spread(layer: ACSConvTranspose3d, image: Tensor, tap: Tensor) -> Tensor:
    """(N, outputs, S, R, C): every voxel times the weights (inputs, outputs / groups) of one tap, group by group."""
    each = layer.in_channels // layer.groups
    parts = [
        torch.einsum("nisrc,io->nosrc", image[:, g * each : (g + 1) * each], tap[g * each : (g + 1) * each])
        for g in range(layer.groups)
    ]
    return torch.cat(parts, dim=1)


def centred(layer: ACSConvTranspose3d, line: int, tap: int) -> float:
    """Voxels from the kernel's centre."""
    return (tap - (layer.kernel_size[line] - 1) / 2) * layer.dilation[line]


def flat_taps(layer: ACSConvTranspose3d, axis: int) -> list[tuple[float, float]]:
    """Places from the centre and shares on a flat axis: a box as wide as the stride, half a share on its very edge.

    The box is cut where the kernel ends that lies on this axis in other views; on R two do, and the longer counts.
    """
    lines = (0, 1) if axis == 1 else (OF_GRID[axis],)
    longer = [line for line in lines if layer.kernel_size[line] > 1] or [OF_GRID[axis]]
    spacing = gcd(*[layer.dilation[line] for line in longer])
    reach = max((layer.kernel_size[line] - 1) * layer.dilation[line] for line in lines)
    stride = layer.stride[OF_GRID[axis]]
    half = stride // gcd(stride, spacing) / 2
    taps = [k - reach / spacing / 2 for k in range(reach // spacing + 1)]
    shares = [1.0 if abs(tap) < half else 0.5 if abs(tap) == half else 0.0 for tap in taps]
    return [(tap * spacing, share) for tap, share in zip(taps, shares, strict=True) if share]


def landing(layer: ACSConvTranspose3d, image: Tensor, axis: int, away: float) -> slice:
    """Where on the answer with its margin the voxels of the image fall, `away` from the centre."""
    line, side = OF_GRID[axis], image.shape[axis + 2]
    first = MARGIN - layer.padding[line] + (layer.kernel_size[line] - 1) * layer.dilation[line] / 2 + away
    assert first == int(first) >= 0
    return slice(int(first), int(first) + (side - 1) * layer.stride[line] + 1, layer.stride[line])


def whole_sides(layer: ACSConvTranspose3d, image: Tensor) -> list[int]:
    """Of the answer with its margin. Its own sides are those of `nn.ConvTranspose2d` along rows, rows and columns."""
    return [
        (side - 1) * layer.stride[line]
        - 2 * layer.padding[line]
        + (layer.kernel_size[line] - 1) * layer.dilation[line]
        + layer.output_padding[line]
        + 1
        + 2 * MARGIN
        for side, line in zip(image.shape[2:], OF_GRID, strict=True)
    ]


def view_shares(layer: ACSConvTranspose3d) -> Tensor:
    """(outputs, 3): how much of each output is of each view."""
    if layer.kind == "hard":
        assert layer.split is not None
        return torch.eye(3, dtype=layer.weight.dtype).repeat_interleave(torch.tensor(layer.split), dim=0)
    logits = getattr(layer, "view_logits", torch.zeros(layer.out_channels, 3, dtype=layer.weight.dtype))
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


def pairs(least: int, most: int) -> st.SearchStrategy[Any]:
    """One number or, half of the time, two."""
    numbers = st.integers(least, most)
    return st.one_of(numbers, st.tuples(numbers, numbers))


@st.composite
def transposed_layers(draw: st.DrawFn) -> ACSConvTranspose3d:
    groups, size, stride = draw(st.integers(1, 3)), draw(pairs(1, 5)), draw(pairs(1, 3))
    try:
        layer = ACSConvTranspose3d(
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 4)),
            size,
            stride,
            draw(pairs(0, 2)),
            draw(pairs(0, 1)),
            groups,
            draw(st.booleans()),
            draw(pairs(1, 2)),
            kind=draw(st.sampled_from(["hard", "hard", "soft", "mean"])),
            dtype=torch.float64,
        )
    except ValueError as error:
        assert any(said in str(error) for said in REFUSED)  # noqa: PT017
        assume(False)
    if hasattr(layer, "view_logits"):
        nn.init.normal_(layer.view_logits)
    return layer


@settings(max_examples=40, deadline=None)
@given(layer=transposed_layers(), batched=st.booleans())
def test_answers_and_gradients_are_those_of_the_definition(layer: ACSConvTranspose3d, batched: bool) -> None:
    image = torch.randn(*[2] * batched, layer.in_channels, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    wanted = defined(layer, image) if batched else defined(layer, image[None])[0]
    got = layer(image)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(layer.fold()(image), wanted)
    direction = torch.randn_like(wanted)
    learns = [image, *layer.parameters()]
    wanted_gradients = torch.autograd.grad(wanted, learns, direction)
    torch.testing.assert_close(torch.autograd.grad(got, learns, direction), wanted_gradients)


SETTINGS: dict[str, dict[str, Any]] = {
    "not square": {"kernel_size": (3, 5), "stride": (2, 1), "padding": (1, 2), "output_padding": (1, 0)},
    "a row": {"kernel_size": (1, 3), "stride": (1, 2), "padding": (0, 1)},
    "dilated": {"kernel_size": 3, "stride": 2, "dilation": 2, "padding": 2},
    "dilated unlike": {"kernel_size": (3, 3), "stride": 3, "dilation": (1, 2), "padding": (1, 2)},
    "grouped": {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 3},
    "depthwise, not square, dilated": {"kernel_size": (5, 3), "stride": (2, 3), "dilation": (1, 2), "groups": 6},
    "even, not square": {"kernel_size": (2, 4), "stride": 2, "padding": (0, 1)},
}


@pytest.mark.parametrize("kind", ["hard", "soft", "mean"])
@pytest.mark.parametrize("name", SETTINGS)
def test_layers_that_are_not_square_dilated_and_grouped_answer_as_defined(name: str, kind: Any) -> None:
    layer = ACSConvTranspose3d(6, 6, **SETTINGS[name], kind=kind, dtype=torch.float64)
    if hasattr(layer, "view_logits"):
        nn.init.normal_(layer.view_logits)
    image = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(image), defined(layer, image))


def test_the_definition_is_that_of_torch_where_a_slice_stands_for_the_volume() -> None:
    """Axial outputs of a kernel without interpolation: torch's own 2D answer, slice by slice."""
    conv = nn.ConvTranspose2d(2, 3, (3, 5), (1, 2), (2, 2), (0, 1), dilation=(2, 1)).double()
    layer = ACSConvTranspose3d.from_conv_transpose2d(conv, split=(3, 0, 0))
    image = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64)
    wanted = torch.stack([conv(image[:, :, k]) for k in range(3)], dim=2)
    torch.testing.assert_close(defined(layer, image), wanted)
