"""Exact rewrites: what may be folded or swapped gives the same answers with less work; what may not is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from residency.nets import NETS, build
from residency.nets.acs import ACSConv3d, ACSConvTranspose3d
from residency.nets.acs.settings import Kind
from residency.nets.net import Net
from residency.nets.rewrites import (
    convolved_before_upsampling,
    prepared_for_export,
    with_batch_norms,
    with_folded_norms,
)
from residency.nets.shifted import Shifted
from residency.nets.symmetric import Symmetric

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def randomised(module: nn.Module) -> nn.Module:
    """Statistics, scales and shifts as after training."""
    for layer in module.modules():
        if isinstance(layer, NORMS):
            for tensor, (low, high) in (
                (layer.running_mean, (-1.0, 1.0)),
                (layer.running_var, (0.2, 3.0)),
                (layer.weight, (-2.0, 2.0)),
                (layer.bias, (-1.0, 1.0)),
            ):
                if tensor is not None:
                    nn.init.uniform_(tensor, low, high)
    return module.eval()


def same(one: nn.Module, other: nn.Module, *shape: int) -> bool:
    image = torch.randn(shape)
    with torch.inference_mode():
        wanted, got = one(image), other(image)
    return bool((got - wanted).abs().max() <= 1e-5 * wanted.abs().max())


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.children()]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("norm", "shape"), [(nn.InstanceNorm2d, (2, 6, 5, 7)), (nn.InstanceNorm3d, (2, 6, 5, 4, 3))])
def test_an_instance_norm_with_running_statistics_is_a_batch_norm_in_inference(
    norm: type[nn.Module], shape: tuple[int, ...], affine: bool
) -> None:
    net = randomised(nn.Sequential(norm(6, eps=1e-3, affine=affine, track_running_stats=True), nn.ReLU()))
    rewritten = with_batch_norms(net)
    assert kinds(rewritten)[0].startswith("BatchNorm")
    assert rewritten.state_dict().keys() == net.state_dict().keys()
    assert same(net, rewritten, *shape)


def test_an_instance_norm_of_the_volumes_own_statistics_is_no_batch_norm() -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 1), nn.InstanceNorm3d(4, affine=True)).eval()
    assert with_batch_norms(net) is net
    assert with_folded_norms(net) is net


@pytest.mark.parametrize(
    ("convolution", "norm", "shape"),
    [
        (nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), (2, 3, 9)),
        (nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), (2, 3, 8, 9)),
        (
            nn.Conv2d(4, 6, (1, 3), stride=2, groups=2, padding_mode="reflect", padding=1),
            nn.BatchNorm2d(6),
            (2, 4, 8, 9),
        ),
        (nn.Conv3d(3, 6, 3, dilation=2), nn.BatchNorm3d(6, affine=False), (1, 3, 8, 9, 7)),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), (2, 4, 5, 6)),
        (nn.ConvTranspose3d(4, 6, 2, stride=2, groups=2), nn.BatchNorm3d(6), (1, 4, 3, 4, 5)),
    ],
)
def test_a_batch_norm_behind_a_convolution_becomes_part_of_its_weights(
    convolution: nn.Module, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    net = randomised(nn.Sequential(copy.deepcopy(convolution), norm, nn.ReLU()))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rewritten = with_folded_norms(net)
    assert kinds(rewritten) == [type(convolution).__name__, "Identity", "ReLU"]
    assert same(net, rewritten, *shape)
    assert kinds(net)[1] == type(norm).__name__
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("kind", ["hard", "soft", "mean"])
def test_a_batch_norm_behind_an_acs_convolution_becomes_part_of_its_2d_weights(kind: Kind) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        ACSConv3d(2, 7, 3, padding=1, kind=kind),
        nn.BatchNorm3d(7),
        nn.ReLU(),
        ACSConvTranspose3d(7, 4, 2, stride=2, bias=False, kind=kind),
        nn.BatchNorm3d(4),
    )
    randomised(net)
    rewritten = with_folded_norms(net)
    assert kinds(rewritten) == ["ACSConv3d", "Identity", "ReLU", "ACSConvTranspose3d", "Identity"]
    assert same(net, rewritten, 2, 2, 4, 5, 6)


def test_dropout_between_convolution_and_norm_is_nothing_in_inference() -> None:
    net = randomised(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Dropout2d(0.5), nn.Identity(), nn.BatchNorm2d(4)))
    rewritten = with_folded_norms(net)
    assert "BatchNorm2d" not in kinds(rewritten)
    assert same(net, rewritten, 2, 2, 6, 6)


class Wired(nn.Module):
    """Convolution, norm and whatever joins them wrongly."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(4, 4, 1)
        self.other = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "the convolution has a second reader":
                y = self.conv(x)
                z: Tensor = self.norm(y) + y
            case "the convolution is called once more without the norm":
                z = self.norm(self.conv(x)) + self.conv(x + 1)
            case "the norm has two convolutions":
                z = self.norm(self.conv(x)) + self.norm(self.other(x))
            case "an activation stands between":
                z = self.norm(torch.relu(self.conv(x)))
            case "the weight is read elsewhere":
                z = self.norm(self.conv(x)) * self.conv.weight.sum()
            case "the net branches on its input":
                z = self.norm(self.conv(x)) if x.sum() > 0 else x
        return z


@pytest.mark.parametrize(
    "how",
    [
        "the convolution has a second reader",
        "the convolution is called once more without the norm",
        "the norm has two convolutions",
        "an activation stands between",
        "the weight is read elsewhere",
        "the net branches on its input",
    ],
)
def test_a_batch_norm_that_is_not_only_a_convolutions_stays(how: str) -> None:
    net = randomised(Wired(how))
    assert with_folded_norms(net) is net


def test_what_something_hooks_into_or_inherits_from_stays() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            standardised: Tensor = self._conv_forward(input, self.weight / self.weight.std(), self.bias)
            return standardised

    inherited = randomised(nn.Sequential(Standardised(2, 4, 3), nn.BatchNorm2d(4)))
    doubled = nn.Conv2d(2, 4, 3)
    doubled.register_forward_hook(lambda _module, _inputs, output: output * 2)
    hooked = randomised(nn.Sequential(doubled, nn.BatchNorm2d(4)))
    normed = randomised(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3)), nn.BatchNorm2d(4)))
    assert all(with_folded_norms(net) is net for net in (inherited, hooked, normed))


def test_a_convolution_and_norm_called_twice_together_are_folded_at_every_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.second(self.first(x))
            return y

    net = randomised(Twice())
    rewritten = with_folded_norms(net)
    assert isinstance(rewritten, Twice)
    assert kinds(rewritten.first) == kinds(rewritten.second) == ["Conv2d", "Identity"]
    assert rewritten.first[0] is rewritten.second[0]
    assert same(net, rewritten, 2, 3, 6, 6)


@pytest.mark.parametrize(
    ("upsampling", "convolution", "shape"),
    [
        (nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True), nn.Conv3d(6, 3, 1), (1, 6, 3, 4, 5)),
        (nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv3d(6, 6, 1, groups=3, bias=False), (1, 6, 3, 4, 5)),
        (nn.Upsample(scale_factor=3), nn.Conv2d(4, 2, 1), (2, 4, 5, 6)),
        (nn.Upsample(scale_factor=(1.0, 2.5), mode="bilinear"), nn.Conv2d(4, 2, 1), (2, 4, 5, 6)),
        (nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(4, 2, 1), (2, 4, 5, 6)),
        (nn.Upsample(scale_factor=2, mode="linear"), nn.Conv1d(4, 2, 1), (2, 4, 5)),
    ],
)
def test_a_1x1_convolution_changes_places_with_the_upsampling_before_it(
    upsampling: nn.Module, convolution: nn.Module, shape: tuple[int, ...]
) -> None:
    net = nn.Sequential(upsampling, nn.Dropout(0.3), convolution, nn.ReLU()).eval()
    rewritten = convolved_before_upsampling(net)
    assert kinds(rewritten) == [type(convolution).__name__, "Dropout", type(upsampling).__name__, "ReLU"]
    assert same(net, rewritten, *shape)


@pytest.mark.parametrize(
    ("upsampling", "convolution"),
    [
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3, padding=1)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1, stride=2)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1, padding=1)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(4, 8, 1)),
        (nn.Upsample(scale_factor=0.5), nn.Conv2d(4, 2, 1)),
        (nn.Upsample(size=(9, 9)), nn.Conv2d(4, 2, 1)),
        (nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)),
    ],
)
def test_what_does_not_commute_or_would_be_more_work_keeps_its_order(
    upsampling: nn.Module, convolution: nn.Module
) -> None:
    net = nn.Sequential(upsampling, convolution).eval()
    assert convolved_before_upsampling(net) is net


def test_preparing_rewrites_everything_and_leaves_the_given_net_as_it_was() -> None:
    torch.manual_seed(0)
    net = build("brainmage-resunet", features=4)
    randomised(net).train()
    names, training = list(net.state_dict()), [layer.training for layer in net.modules()]
    prepared = prepared_for_export(net)
    assert type(prepared) is type(net)
    assert not any(layer.training for layer in prepared.modules())
    assert list(net.state_dict()) == names
    assert [layer.training for layer in net.modules()] == training
    layers = list(prepared.modules())
    assert not any(isinstance(layer, nn.InstanceNorm3d) for layer in layers)
    # Of 27 norms, 13 follow a convolution that feeds nothing else.
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in layers) == 14
    assert same(net.eval(), prepared, 1, 1, 32, 48, 32)
    assert prepared_for_export(prepared) is prepared


def test_weights_that_no_rewrite_touches_are_shared() -> None:
    net = build("brainmage-resunet", features=4).eval()
    prepared = prepared_for_export(net)
    assert prepared.head[2].weight is net.head[2].weight  # type: ignore[index,union-attr]


@pytest.mark.parametrize("wrap", [lambda net: Symmetric(net, 2), lambda net: Shifted(net, [0.5, -0.5])])
def test_a_net_inside_another_is_rewritten_too(wrap: type[Net]) -> None:
    torch.manual_seed(0)
    net = wrap(build("brainmage-resunet", features=4, classes=2))
    prepared = prepared_for_export(net)
    assert sum(isinstance(layer, nn.BatchNorm3d) for layer in prepared.modules()) == 14
    randomised(net)
    assert same(net, prepared_for_export(net), 1, 1, 32, 32, 32)


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_net_answers_as_before_and_keeps_no_norm_that_could_fold(name: str) -> None:
    """Each rewrite at work in a form that is really used; what stays behind an activation or a sum stays."""
    torch.manual_seed(0)
    architecture = NETS[name]
    net = build(name, **{**architecture.small, "channels": 2, "classes": 3})
    sides = [net.multiple * max(2, -(-net.least // net.multiple))] * architecture.dimensions
    with torch.no_grad():
        for _ in range(2):
            net(2 * torch.randn(2, 2, *sides) + 1)
    prepared = prepared_for_export(net.eval())
    assert same(net, prepared, 2, 2, *sides)
    assert prepared_for_export(prepared) is prepared
    assert not any(isinstance(layer, nn.InstanceNorm3d) and layer.track_running_stats for layer in prepared.modules())


def test_a_net_with_nothing_to_rewrite_is_itself() -> None:
    net = build("unet", features=(4, 8))
    assert prepared_for_export(net) is net
