"""One crop with its channels last: the same sums as torch's own layers, forwards and backwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residency.nets import build
from residency.train.channels_last import ChannelsLast

LAYERS: dict[str, tuple[tuple[int, int, int], type[nn.Module], dict[str, Any]]] = {
    "slices that four divides": ((8, 6, 7), nn.Conv3d, {"kernel_size": 3, "padding": 1, "bias": False}),
    "a slice left over, and a bias": ((9, 6, 5), nn.Conv3d, {"kernel_size": 3, "padding": 1}),
    "more channels than 16": ((6, 6, 6), nn.Conv3d, {"kernel_size": 3, "padding": 1, "out_channels": 33}),
    "no padding": ((6, 7, 6), nn.Conv3d, {"kernel_size": 3}),
    "one voxel of answer": ((3, 3, 3), nn.Conv3d, {"kernel_size": 3}),
    "one slice": ((1, 8, 8), nn.Conv3d, {"kernel_size": 3, "padding": 1}),
    "strided": ((8, 8, 8), nn.Conv3d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "strided, odd": ((9, 7, 12), nn.Conv3d, {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False}),
    "strided beyond the kernel": ((9, 9, 9), nn.Conv3d, {"kernel_size": 2, "stride": 3}),
    "flat, strided": ((5, 8, 8), nn.Conv3d, {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)}),
    "kernels of three sides": ((6, 7, 8), nn.Conv3d, {"kernel_size": (1, 3, 5), "padding": (0, 0, 2)}),
    "kernels along the slices": ((6, 7, 8), nn.Conv3d, {"kernel_size": (5, 1, 1), "padding": (1, 0, 0)}),
    "reflected edges": ((6, 7, 5), nn.Conv3d, {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}),
    "larger than torch's own loop takes": ((160, 160, 4), nn.Conv3d, {"kernel_size": 3, "padding": 1}),
    "larger, strided": ((160, 160, 4), nn.Conv3d, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "grown": ((5, 4, 3), nn.ConvTranspose3d, {"kernel_size": 2, "stride": 2}),
    "grown in the plane, no bias": (
        (5, 4, 3),
        nn.ConvTranspose3d,
        {"kernel_size": (1, 2, 3), "stride": (1, 2, 3), "bias": False},
    ),
    "normalised": ((5, 6, 7), nn.InstanceNorm3d, {"affine": True}),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("channels", [1, 4, 8])
@pytest.mark.parametrize("case", LAYERS)
def test_answers_and_gradients_are_those_of_a_double_precision_reference(case: str, channels: int, layout: Any) -> None:
    """In both layouts: training makes crops and weights with their channels last."""
    sides, kind, options = LAYERS[case]
    torch.manual_seed(3)
    layer = _layer(kind, channels, options)
    exact = _layer(kind, channels, options).double()
    exact.load_state_dict(layer.state_dict())
    image = torch.randn(1, channels, *sides).to(memory_format=layout)
    layer.to(memory_format=layout)  # type: ignore[call-overload]
    with ChannelsLast():
        found, again = _with_gradients(layer, image), _with_gradients(layer, image.clone())
    assert _is_taken(layer, image.requires_grad_())
    assert all(torch.equal(once, twice) for once, twice in zip(found, again, strict=True))
    for ours, reference in zip(found, _with_gradients(exact, image.double()), strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        ("unet", {"features": (4, 8, 16)}),
        (
            "planned-unet",
            {"features": (8, 16, 16), "down": (1, 2, 2), "up": (2, 1), "kernels": (3, 3, 3), "strides": (1, 2, 2)},
        ),
    ],
)
def test_a_net_learns_the_same_by_it_up_to_rounding(net: str, parameters: dict[str, Any]) -> None:
    torch.manual_seed(0)
    made = build(net, channels=1, classes=3, **parameters)
    image = torch.randn(1, 1, 12, 16, 12)
    plain = _with_gradients(made, image)
    made.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with ChannelsLast():
        found = _with_gradients(made, image.to(memory_format=torch.channels_last_3d))
    largest = max(float(one.abs().max()) for one in plain)  # of a bias before a norm the gradient is rounding alone
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize("held", [-0.45, 10.0])
def test_statistics_of_a_large_volume_that_is_half_background_are_no_worse_than_torch_s(held: float) -> None:
    """Adding its 456,192 voxels one by one in single precision would put the gradient of the weights 7 % off."""
    layer = nn.InstanceNorm3d(2, affine=True)
    image = torch.randn(1, 2, 72, 88, 72, generator=torch.Generator().manual_seed(1))
    image[..., :36] = held
    plain = _with_gradients(layer, image)
    with ChannelsLast():
        found = _with_gradients(layer, image.to(memory_format=torch.channels_last_3d))
    for ours, theirs, exact in zip(found, plain, _with_gradients(layer.double(), image.double()), strict=True):
        off, usual = (float((one.double() - exact).abs().max()) for one in (ours, theirs))
        assert off <= 3 * usual + 1e-6 * float(exact.abs().max())


def test_channels_stay_last_from_layer_to_layer() -> None:
    image = torch.randn(1, 4, 6, 8, 10)
    with ChannelsLast():
        for layer in (nn.Conv3d(4, 5, 3), nn.ConvTranspose3d(5, 6, 2, 2), nn.InstanceNorm3d(6, affine=True)):
            image = layer(image)
            assert image.is_contiguous(memory_format=torch.channels_last_3d)


def test_only_one_volume_in_single_precision_is_taken() -> None:
    small, layer = torch.randn(1, 4, 6, 6, 6, requires_grad=True), nn.Conv3d(4, 4, 3, padding=1)
    grow, norm = nn.ConvTranspose3d(4, 4, 2, 2), nn.InstanceNorm3d(4, affine=True)
    two = torch.randn(2, 4, 6, 6, 6)
    assert all(_is_taken(one, small) for one in (layer, grow, norm))
    for other, image in (
        (layer, two),
        (grow, two),
        (norm, two),
        (nn.Conv3d(4, 4, 1), small),
        (nn.Conv3d(4, 4, 3, groups=2, padding=1), small),
        (nn.Conv3d(4, 4, 3, dilation=2, padding=2), small),
        (nn.Conv3d(4, 4, 3, padding="same"), small),
        (nn.Conv3d(4, 4, 3, padding=1).double(), small.double()),
        (nn.ConvTranspose3d(4, 4, 3, 2, padding=1), small),
        (nn.ConvTranspose3d(4, 4, 2, 2, groups=2), small),
        (nn.ConvTranspose3d(4, 4, 2, 2).double(), small.double()),
        (nn.InstanceNorm3d(4), small),
        (nn.InstanceNorm3d(4, affine=True, track_running_stats=True), small),
        (nn.InstanceNorm3d(4, affine=True).double(), small.double()),
    ):
        assert not _is_taken(other, image), other
    with torch.autocast("cpu", torch.bfloat16):
        assert not any(_is_taken(one, small) for one in (layer, grow, norm))


def test_one_voxel_is_refused_to_be_normalised_as_torch_refuses_it() -> None:
    with ChannelsLast(), pytest.raises(ValueError, match="more than 1 spatial element"):
        nn.InstanceNorm3d(4, affine=True)(torch.randn(1, 4, 1, 1, 1))


def _layer(kind: type[nn.Module], channels: int, options: dict[str, Any]) -> nn.Module:
    if kind is nn.InstanceNorm3d:
        made = kind(channels, **options)
        nn.init.normal_(made.weight)
        return made
    features = options.get("out_channels", channels + 1)
    return kind(channels, features, **{name: value for name, value in options.items() if name != "out_channels"})


def _is_taken(layer: nn.Module, image: Tensor) -> bool:
    """By the node that ends its graph: another than torch's own layer makes."""
    own = layer(image).grad_fn.name()
    with ChannelsLast():
        return bool(layer(image).grad_fn.name() != own)


def _with_gradients(module: nn.Module, image: Tensor) -> list[Tensor]:
    given = image.detach().clone().requires_grad_()
    answer = module(given)
    weights = torch.linspace(-1, 2, answer.numel(), dtype=answer.dtype).reshape(answer.shape)
    loss = (answer * weights).sum()
    return [answer.detach(), *torch.autograd.grad(loss, [given, *module.parameters()])]
