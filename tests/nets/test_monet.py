"""MoNet: the size and the work that its paper prints, the order of its layers, and each of its choices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from residency.errors import ConfigError
from residency.nets import NETS, build
from residency.nets.cost import macs, size, without_memory
from residency.nets.net import Net
from residency.nets.rewrites import with_folded_norms

MONETS = ("monet", "monet-r", "monet-3d")
SMALL: dict[str, Any] = {"filters": 2}

Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


def grid(net: Net, sides: tuple[int, ...] = (3, 4, 5)) -> tuple[int, ...]:
    return tuple(net.multiple * side for side in sides[: net.dimensions])


def scattered(net: Net) -> Net:
    """The net with statistics and scales of batch norms as if it had been trained."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_()
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize(
    ("name", "setting", "trainable", "with_statistics"),
    [
        ("monet", {}, 401_666, 403_556),
        ("monet", {"outer_residual": True}, 401_666, 403_556),
        ("monet", {"channels": 4, "classes": 4}, 402_152, 404_048),
        ("monet", {"upsampling": "nearest-conv3"}, 365_826, 367_716),
        ("monet-r", {}, 310_690, 312_484),
        ("monet-3d", {}, 1_303_586, 1_305_476),
        ("monet-3d", {"filters": 8}, 326_482, 327_428),
    ],
)
def test_size_is_the_published_one(name: str, setting: dict[str, Any], trainable: int, with_statistics: int) -> None:
    found = size(without_memory(NETS[name].make, **setting))
    assert (found.trainable, found.trainable + found.statistics) == (trainable, with_statistics)


@pytest.mark.parametrize(
    ("name", "setting", "sides", "gigamacs"),
    [
        ("monet", {}, (256, 256), 4.758),
        ("monet", {"upsampling": "nearest-conv3"}, (256, 256), 5.43),
        ("monet-r", {}, (256, 256), 3.94),
        ("monet-3d", {}, (64, 64, 64), 36.5),
        ("monet-3d", {"filters": 8}, (64, 64, 64), 9.16),
    ],
)
def test_work_is_the_documented_one(
    name: str, setting: dict[str, Any], sides: tuple[int, ...], gigamacs: float
) -> None:
    net = without_memory(NETS[name].make, **setting)
    assert macs(net, sides) / 1e9 == pytest.approx(gigamacs, rel=0.005)


def test_layers_come_in_the_order_of_the_figure() -> None:
    net = without_memory(NETS["monet"].make)
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 28 + 2
    assert all(layer.bias is None for layer in convolutions)
    block = [(3, 1, 1), (3, 1, 4), (3, 1, 3), (3, 1, 2), (3, 1, 1)]
    down, up = [(4, 2, 1)], [(4, 2, 1)]
    order = [(layer.kernel_size[0], layer.stride[0], layer.dilation[0]) for layer in called(net)]
    assert order == [*block, *down, *block, *down, *block, *up, *block, *up, *block, (1, 1, 1)]
    widths = [(layer.in_channels, layer.out_channels) for layer in called(net)]
    changes = [pair for pair in widths if pair[0] != pair[1]]
    assert changes == [(1, 16), (16, 32), (32, 64), (96, 32), (48, 16), (16, 1)]


def called(net: Net) -> list[Convolution]:
    """The convolutions in the order in which they are called."""
    found: list[Convolution] = []

    def note(layer: nn.Module, *_: object) -> None:
        assert isinstance(layer, Convolution)
        found.append(layer)

    for layer in net.modules():
        if isinstance(layer, Convolution):
            layer.register_forward_hook(note)
    net.eval()(torch.empty(1, net.channels, *grid(net), device="meta"))
    return found


@pytest.mark.parametrize(("name", "activation"), [("monet", nn.ELU), ("monet-r", nn.ReLU), ("monet-3d", nn.ELU)])
def test_each_convolution_is_followed_by_norm_and_activation(name: str, activation: type[nn.Module]) -> None:
    net = without_memory(NETS[name].make)
    for path, layer in net.named_modules():
        if isinstance(layer, Convolution) and not path.startswith("head"):
            steps = list(net.get_submodule(path.rpartition(".")[0]).children())
            at = steps.index(layer)
            norm = steps[at + 1]
            assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d)
            assert (norm.eps, norm.momentum) == (1e-3, 0.01)
            assert isinstance(steps[at + 2], activation)


def test_the_block_sums_where_the_figure_does() -> None:
    torch.manual_seed(0)
    block = build("monet", **SMALL).get_submodule("middle.1").eval()
    x = torch.randn(1, 8, 12, 12)
    with torch.inference_mode():
        first, second, third, fourth = block.children()
        middle = second(x + first(x))
        torch.testing.assert_close(block(x), fourth(middle + third(middle)))


def test_a_score_draws_on_about_the_documented_span() -> None:
    net = build("monet", **SMALL).double()  # a path of twenty layers multiplies many small numbers
    for layer in net.modules():
        if isinstance(layer, Convolution):
            nn.init.constant_(layer.weight, 0.1)
    image = torch.zeros(1, 1, 256, 256, dtype=torch.float64, requires_grad=True)
    net.eval()(image)[0, 0, 128, 128].backward()
    assert image.grad is not None
    reached = image.grad[0, 0].abs().sum(0).nonzero()
    span = int(reached.max() - reached.min()) + 1
    assert abs(span - 236) <= 4


@pytest.mark.parametrize("name", MONETS)
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (2, 3)])
def test_logits_lie_on_the_grid_of_the_image(name: str, channels: int, classes: int) -> None:
    torch.manual_seed(0)
    net = scattered(build(name, channels=channels, classes=classes, **SMALL)).eval()
    with torch.inference_mode():
        scores = net(torch.randn(2, channels, *grid(net)))
    assert scores.shape == (2, classes, *grid(net))
    assert scores.min() < 0  # no sigmoid
    assert scores.max() > 0


@pytest.mark.parametrize("name", MONETS)
def test_a_side_that_cannot_be_halved_twice_is_refused(name: str) -> None:
    net = build(name, **SMALL)
    sides = (*grid(net)[:-1], 18)
    with pytest.raises(ValueError, match=r"multiples of 4, got .*18: pad the image"):
        net(torch.zeros(1, 1, *sides))


def test_depth_sets_the_multiple() -> None:
    net = build("monet", depth=3, **SMALL)
    assert net.multiple == 8
    assert net.eval()(torch.zeros(1, 1, 24, 16)).shape == (1, 1, 24, 16)


def test_both_forms_of_the_block_have_the_same_weights_and_different_answers() -> None:
    torch.manual_seed(0)
    figure = build("monet", **SMALL).eval()
    residual = build("monet", outer_residual=True, **SMALL).eval()
    residual.load_state_dict(figure.state_dict())
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert not torch.allclose(figure(image), residual(image), atol=1e-3)


@pytest.mark.parametrize("name", MONETS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, dropout=0.0, **SMALL)
    net(torch.randn(2, 1, *grid(net))).sigmoid().square().mean().backward()
    still = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", MONETS)
def test_dropout_acts_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, **SMALL)
    image = torch.randn(1, 1, *grid(net))
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        net.eval()
        assert torch.equal(net(image), net(image))
    dropped = [layer for layer in net.modules() if isinstance(layer, nn.Dropout2d | nn.Dropout3d)]
    assert len(dropped) == 3 * 5
    assert all(layer.p == 0.2 for layer in dropped)


def test_weights_begin_he_uniform() -> None:
    torch.manual_seed(0)
    net = build("monet")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.weight[0].numel()  # as many as of a transposed one's outputs: they are equal here
            bound = math.sqrt(6 / inputs)
            assert 0.8 * bound < float(layer.weight.detach().abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("name", MONETS)
def test_folding_leaves_no_norm_and_the_same_logits(name: str) -> None:
    torch.manual_seed(0)
    net = scattered(build(name, classes=2, **SMALL)).eval()
    folded = with_folded_norms(net)
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d)]
    head = folded.get_submodule("head.0")
    assert isinstance(head, nn.Conv2d | nn.Conv3d)
    assert head.bias is not None
    image = torch.randn(1, 1, *grid(net))
    with torch.inference_mode():
        torch.testing.assert_close(folded(image), net(image), rtol=1e-5, atol=1e-4)


def test_a_head_without_norm_has_a_bias_in_its_place() -> None:
    torch.manual_seed(0)
    normed = scattered(build("monet", classes=2, **SMALL)).eval()
    plain = build("monet", classes=2, head_bn=False, **SMALL).eval()
    assert [type(layer) for layer in plain.get_submodule("head").children()] == [nn.Conv2d]
    folded = with_folded_norms(normed).get_submodule("head.0").state_dict()
    kept = {key: value for key, value in normed.state_dict().items() if not key.startswith("head")}
    plain.load_state_dict(kept | {f"head.0.{key}": value for key, value in folded.items()})
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(plain(image), normed(image), rtol=1e-5, atol=1e-4)


def test_copying_after_the_activation_is_copying_before_it() -> None:
    torch.manual_seed(0)
    up = build("monet-r", **SMALL).get_submodule("ups.0")
    convolution, norm, activation, copies = up.eval().children()
    coarse = torch.randn(1, 8, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(up(coarse), activation(norm(convolution(copies(coarse)))))


def test_flat_levels_keep_slices_apart_until_they_end() -> None:
    torch.manual_seed(0)
    net = build("monet-3d", flat_levels=2, middle_dilations=(3, 2, 1, 1), **SMALL).eval()
    image = torch.randn(1, 1, 8, 16, 16)
    fine = net.get_submodule("encoders.0")
    other = image.clone()
    other[:, :, 3] += 1
    with torch.inference_mode():
        moved = (fine(image) - fine(other)).abs().amax(dim=(0, 1, 3, 4)) > 1e-5
        assert moved.tolist() == [slice_ == 3 for slice_ in range(8)]
        assert net.get_submodule("downs.0")(fine(image)).shape == (1, 2, 8, 8, 8)
        assert net(image).shape == image.shape
    dilations = [layer.dilation for layer in net.get_submodule("middle.1").modules() if isinstance(layer, nn.Conv3d)]
    assert dilations == [(3,) * 3, (2,) * 3, (1,) * 3, (1,) * 3]


@pytest.mark.parametrize("upsampling", ["transposed", "nearest-conv3", "conv1-nearest"])
@pytest.mark.parametrize("flat_levels", [0, 1])
def test_every_upsampling_works_in_three_dimensions(upsampling: str, flat_levels: int) -> None:
    net = build("monet-3d", upsampling=upsampling, flat_levels=flat_levels, **SMALL).eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 4, 8, 12)).shape == (1, 1, 4, 8, 12)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("monet", {"activation": "gelu"}, "activation is one of elu, relu, got 'gelu'"),
        ("monet", {"upsampling": "bilinear"}, "upsampling is one of transposed, nearest-conv3, conv1-nearest"),
        ("monet", {"dropout": 1.0}, "dropout is a share"),
        ("monet", {"depth": 0}, "at least one channel, class, filter and level"),
        ("monet", {"classes": 0}, "at least one channel, class, filter and level"),
        ("monet-3d", {"flat_levels": 3}, "flat_levels is a number from 0 to the depth, 2, got 3"),
        ("monet-3d", {"middle_dilations": (3, 2, 1)}, "middle_dilations are four whole numbers"),
        ("monet", {"flat_levels": 1}, "unknown parameter of net 'monet' 'flat_levels'"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(name, **parameters)
