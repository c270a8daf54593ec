"""U-Net-16, U-Net-64 and Attention U-Net: the size and the work that MoNet's paper prints, and their make."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from residency.errors import ConfigError
from residency.nets import NETS, build
from residency.nets.cost import macs, size, without_memory
from residency.nets.net import Net

PLAIN = ("attention-unet", "unet-16", "unet-64")
SMALL: dict[str, Any] = {"filters": 2}


@pytest.mark.parametrize(
    ("name", "trainable", "published"),
    [
        ("unet-16", 1_943_761, 1_946_705),
        ("unet-64", 31_042_369, 31_054_145),
        ("attention-unet", 31_741_573, 31_753_349),
    ],
)
def test_size_is_the_published_one(name: str, trainable: int, published: int) -> None:
    found = size(without_memory(NETS[name].make))
    assert (found.trainable, found.trainable + found.statistics) == (trainable, published)


@pytest.mark.parametrize(("name", "gigamacs"), [("unet-16", 3.014), ("unet-64", 48.09), ("attention-unet", 50.25)])
def test_work_is_the_documented_one(name: str, gigamacs: float) -> None:
    assert macs(without_memory(NETS[name].make), (256, 256)) / 1e9 == pytest.approx(gigamacs, rel=0.005)


@pytest.mark.parametrize("name", PLAIN)
def test_norm_follows_the_activation_and_dropout_stops_at_the_bottom(name: str) -> None:
    net = without_memory(NETS[name].make)
    plain = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    encoders, decoders = (list(net.get_submodule(part).children()) for part in ("encoders", "decoders"))
    assert (len(encoders), len(decoders)) == (5, 4)
    for block in encoders:
        assert [type(layer) for layer in block.children()] == [*plain, nn.Dropout2d, *plain]
    for block in decoders:
        assert [type(layer) for layer in block.children()] == [*plain, *plain]
    assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout2d)} == {0.3}
    assert all(layer.bias is not None for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (2, 3)])
def test_logits_lie_on_the_grid_of_the_image(name: str, channels: int, classes: int) -> None:
    torch.manual_seed(0)
    net = build(name, channels=channels, classes=classes, **SMALL).eval()
    with torch.inference_mode():
        scores = net(torch.randn(2, channels, 32, 48))
        assert scores.shape == (2, classes, 32, 48)
        raised = bias_raised(net)(torch.zeros(1, channels, 16, 16))
    assert raised.min() > 1  # no sigmoid


def bias_raised(net: Net) -> Net:
    head = net.get_submodule("head")
    assert isinstance(head, nn.Conv2d)
    nn.init.constant_(head.weight, 0.0)
    assert head.bias is not None
    nn.init.constant_(head.bias, 2.0)
    return net


@pytest.mark.parametrize("name", PLAIN)
def test_a_side_that_cannot_be_halved_four_times_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="multiples of 16, got 32 x 40: pad the image"):
        build(name, **SMALL)(torch.zeros(1, 1, 32, 40))


@pytest.mark.parametrize("name", PLAIN)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, dropout=0.0, **SMALL)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.constant_(layer.bias, 0.1)  # so that no ReLU of two features is dead by chance
    net(torch.randn(2, 1, 32, 32)).sigmoid().square().mean().backward()
    still = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", PLAIN)
def test_dropout_acts_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, filters=4)
    image = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        assert not torch.equal(net(image), net(image))
        net.eval()
        assert torch.equal(net(image), net(image))


def test_a_gate_weights_each_pixel_of_the_skip_and_leaves_what_comes_from_below() -> None:
    torch.manual_seed(0)
    gate = build("attention-unet", **SMALL).get_submodule("joins.0")
    below, skip = torch.randn(2, 1, 16, 8, 8)
    with torch.inference_mode():
        joined = gate(below, skip)
    assert torch.equal(joined[:, :16], below)
    share = joined[:, 16:] / skip
    assert share.min() > 0
    assert share.max() < 1
    torch.testing.assert_close(share, share[:, :1].expand_as(share))  # one weight a pixel, for all features
    assert share[0, 0].std() > 1e-3


def test_open_gates_make_it_the_plain_net() -> None:
    torch.manual_seed(0)
    gated = build("attention-unet", **SMALL).eval()
    plain = build("unet-64", **SMALL).eval()
    plain.load_state_dict({key: value for key, value in gated.state_dict().items() if not key.startswith("joins")})
    for gate in gated.get_submodule("joins").children():
        nn.init.constant_(gate.get_parameter("weight.1.bias"), 50.0)
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(gated(image), plain(image))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"depth": 0}, "at least one channel"), ({"dropout": 1}, "dropout is a share"), ({"width": 3}, "'width'")],
)
def test_what_cannot_be_built_is_refused(name: str, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(name, **parameters)
