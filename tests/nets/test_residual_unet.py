"""The 3D U-Net with a residual encoder: size by formula, kernels and strides by axis, deep supervision."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConfigError
from residency.nets import NETS, build
from residency.nets.ensemble import Ensemble
from residency.nets.residual_unet import ResidualEncoderUNet
from residency.nets.symmetric import Symmetric
from residency.train.export import export_graph, prove_parity

NAME = "resenc-unet"
SMALL = {"features": (4, 6, 8), "blocks": (1, 2, 1), "kernels": (3, 3, 3), "strides": (1, 2, 2)}


def small(**parameters: object) -> ResidualEncoderUNet:
    torch.manual_seed(0)
    net = build(NAME, **{**SMALL, "residual_start": 1.0, **parameters})
    assert isinstance(net, ResidualEncoderUNet)
    return net


def parameters_of(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def convolution(inputs: int, outputs: int, taps: int = 27) -> int:
    """Weights, biases, scales and shifts of a convolution and the instance norm behind it."""
    return taps * inputs * outputs + 3 * outputs


def test_it_has_as_many_parameters_as_the_topology_says() -> None:
    features, blocks, classes = (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6), 2
    expected = convolution(1, 32)
    for finer, own, number in zip((32, *features), features, blocks, strict=False):
        expected += convolution(finer, own) + (2 * number - 1) * convolution(own, own)
        expected += finer * own + 2 * own if finer != own else 0
    for own, below in pairwise(features):
        expected += 8 * below * own + own + convolution(2 * own, own)
    expected += 32 * classes + classes
    with torch.device("meta"):
        assert parameters_of(build(NAME)) == expected == 102_348_226
        deep = build(NAME, deep_supervision=True)
    assert parameters_of(deep) == expected + sum(own * classes + classes for own in features[1:-1])


def test_anisotropic_kernels_and_strides_leave_slices_apart_until_they_are_as_near_as_pixels() -> None:
    net = small(kernels=(1, 3, 3, 3, 3, 3, 3, 3, 3), strides=(1, 1, 1, 1, 2, 2, 2, 2, 2))
    assert (net.multiple, net.least) == (4, 4)
    first = [layer for layer in net.down[0].modules() if isinstance(layer, nn.Conv3d)]
    assert {layer.kernel_size for layer in first} == {(1, 3, 3)}
    maps: list[Tensor] = []
    net.down[-1].register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 8, 16, 12)).shape == (1, 2, 8, 16, 12)
    assert maps[0].shape == (1, 8, 4, 4, 3)


def test_each_axis_asks_for_its_own_multiple_up_to_the_graph() -> None:
    thick = {"kernels": (1, 3, 3, 3, 3, 3, 3, 3, 3), "strides": (1, 1, 1, 1, 2, 2, 2, 2, 2)}
    net = build("planned-unet", **{**NETS["planned-unet"].small, **thick}).eval()
    assert net.sides == ((2, 4), (4, 4), (4, 4))
    with pytest.raises(ValueError, match=r"sides of at least 4 that are multiples of 2 x 4 x 4, got 7 x 8 x 8"):
        net(torch.zeros(1, 1, 7, 8, 8))
    for kept in (Symmetric(net, 0), Ensemble([net, net])):
        assert kept.sides == net.sides
    graph = export_graph(net)
    slices = [np.random.default_rng(1).normal(size=(1, 1, n, 12, 8)).astype(np.float32) for n in (4, 6, 10)]
    assert len(prove_parity(net, graph, slices)) == 6


def test_slices_that_no_kernel_crosses_do_not_see_each_other() -> None:
    """But for the statistics of the norms, which are frozen here."""
    net = small(kernels=(1, 3, 3) * 3, strides=(1, 1, 1, 1, 2, 2, 1, 2, 2)).eval()
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.InstanceNorm3d):
                setattr(parent, name, nn.Identity())
    image = torch.randn(1, 1, 4, 8, 8)
    other = image.clone()
    other[:, :, 2] += 1
    with torch.inference_mode():
        moved = (net(other) - net(image)).abs().amax(dim=(0, 1, 3, 4))
    assert moved[2] > 0.01
    assert moved[[0, 1, 3]].max() == 0


def test_deep_supervision_gives_coarser_scores_and_changes_nothing_else() -> None:
    plain, deep = small(), small(deep_supervision=True)
    missing = deep.load_state_dict(plain.state_dict(), strict=False)
    assert all(name.startswith("auxiliary.") for name in missing.missing_keys)
    assert missing.unexpected_keys == []
    image = torch.randn(2, 1, 16, 8, 12)
    with torch.inference_mode():
        finest, *coarser = deep.deep_scores(image)
        assert torch.equal(deep(image), plain(image))
        assert torch.equal(finest, plain(image))
        assert [scores.shape for scores in coarser] == [(2, 2, 8, 4, 6)]
        assert len(plain.deep_scores(image)) == 1


def test_with_six_stages_scores_come_at_five_grids() -> None:
    features, ones = (2, 2, 2, 2, 2, 2), (1, 1, 1, 1, 1, 1)
    net = build(NAME, features=features, blocks=ones, deep_supervision=True)
    assert isinstance(net, ResidualEncoderUNet)
    with torch.inference_mode():
        assert [scores.shape[-1] for scores in net.deep_scores(torch.zeros(1, 1, 64, 64, 64))] == [64, 32, 16, 8, 4]


def test_every_parameter_learns() -> None:
    net = small(deep_supervision=True)
    losses = [scores.square().mean() for scores in net.deep_scores(torch.randn(1, 1, 16, 16, 16))]
    torch.stack(losses).sum().backward()
    still = {name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    # The biases before an instance norm, which takes them away again.
    assert all(name.endswith(".bias") and name.startswith(("stem", "down", "up")) for name in still)


def test_a_fresh_net_begins_as_its_shortcuts() -> None:
    net = small(residual_start=0.0)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        before = net(image)
        for name, parameter in net.named_parameters():
            if name.startswith("down") and ".conv" in name:
                parameter.mul_(2)
        assert torch.equal(net(image), before)
    net(image).square().mean().backward()
    scales = [parameter for name, parameter in net.named_parameters() if name.endswith("norm2.weight")]
    assert len(scales) == 4
    assert all(scale.grad is not None and scale.grad.any() for scale in scales)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 10), (1, 1, 8, 8, 4), (1, 2, 8, 8, 8), (1, 8, 8, 8)])
def test_an_image_that_it_cannot_take_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    net = small(deep_supervision=True)
    for call in (net, net.deep_scores):
        with pytest.raises(ValueError, match=r"takes (grids with sides of at least 8|images of shape)") as refusal:
            call(torch.zeros(shape))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"features": (4,), "blocks": (1,)}, "two stages"),
        ({"classes": 0}, "a channel, a class"),
        ({"blocks": (1, 2)}, "3 stages of features need as many numbers of blocks"),
        ({"kernels": (3, 3)}, "kernels are one number"),
        ({"kernels": (3, 2, 3)}, "odd sides"),
        ({"strides": (1, 2, 2, 2)}, "strides are one number"),
        ({"strides": (2, 2, 2)}, "first stage has stride 1"),
        ({"strides": (1, 0, 2)}, "at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(NAME, **{**SMALL, **parameters})
