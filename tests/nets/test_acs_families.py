"""Families of 2D networks, converted: equal to the same network of plain 3D convolutions, and everything else kept.

The families are written here with nothing but torch's own layers, as their authors describe them, and very narrow; the
registered 2D nets follow.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residency.nets import NETS, build
from residency.nets.acs import ACSConv3d, ACSConvTranspose3d
from residency.nets.acs.convert import convert, fold

ALL = ("acs", "soft-acs", "mean-acs", "i3d", "slicewise")


def conv(inputs: int, outputs: int, size: Any = 3, activation: type[nn.Module] | None = nn.ReLU, **more: Any) -> Any:
    """Convolution that keeps the grid but for its stride, norm, activation."""
    padding = tuple(side // 2 for side in size) if isinstance(size, tuple) else size // 2
    after = [activation()] if activation else []
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=padding, bias=False, **more), nn.BatchNorm2d(outputs), *after
    )


def head(features: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 3)]


class Residual(nn.Module):
    """A block, a shortcut, an activation."""

    def __init__(self, block: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.block, self.shortcut, self.after = block, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.after(self.block(x) + self.shortcut(x))
        return answer


def resnet() -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        inner = nn.Sequential(conv(inputs, outputs, stride=stride), conv(outputs, outputs, activation=None))
        same = stride == 1 and inputs == outputs
        return Residual(inner, None if same else conv(inputs, outputs, 1, None, stride=stride), nn.ReLU())

    stem = [conv(3, 8, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1)]
    return nn.Sequential(*stem, block(8, 8, 1), block(8, 16, 2), block(16, 20, 2), *head(20))


def resnext() -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> nn.Module:
        inner = [conv(inputs, 16, 1), conv(16, 16, groups=4, stride=stride), conv(16, outputs, 1, None)]
        return Residual(nn.Sequential(*inner), conv(inputs, outputs, 1, None, stride=stride), nn.ReLU())

    return nn.Sequential(conv(3, 8, 7, stride=2), nn.MaxPool2d(3, 2, 1), block(8, 24, 1), block(24, 32, 2), *head(32))


def vgg() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 6), (6, 8), (8, 10)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2)]
    classifier = [nn.Linear(10 * 7 * 7, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), *classifier)


class Dense(nn.Module):
    """Every layer sees all that came before it."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                *(nn.BatchNorm2d(inputs + k * growth), nn.ReLU(), nn.Conv2d(inputs + k * growth, 8, 1, bias=False)),
                *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, growth, 3, padding=1, bias=False)),
            )
            for k in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def densenet() -> nn.Module:
    transition = [nn.BatchNorm2d(17), nn.ReLU(), nn.Conv2d(17, 9, 1, bias=False), nn.AvgPool2d(2)]
    last = [nn.BatchNorm2d(19), nn.ReLU()]
    return nn.Sequential(
        conv(3, 7, 7, stride=2), nn.MaxPool2d(3, 2, 1), Dense(7, 5, 2), *transition, Dense(9, 5, 2), *last, *head(19)
    )


class Excited(nn.Module):
    """Squeeze and excitation, by layers."""

    def __init__(self, features: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(features, inner, 1),
            nn.SiLU(),
            nn.Conv2d(inner, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = x * self.gate(x)
        return answer


def inverted(
    inputs: int, outputs: int, stride: int, size: int, activation: type[nn.Module], *, excited: bool
) -> nn.Module:
    """The block of MobileNetV2 and, with squeeze and excitation, of EfficientNet."""
    wide = 4 * inputs
    layers = [conv(inputs, wide, 1, activation), conv(wide, wide, size, activation, groups=wide, stride=stride)]
    layers += [Excited(wide, 2)] if excited else []
    inner = nn.Sequential(*layers, conv(wide, outputs, 1, None))
    return Residual(inner) if stride == 1 and inputs == outputs else inner


def efficientnet() -> nn.Module:
    blocks = [inverted(a, b, s, k, nn.SiLU, excited=True) for a, b, s, k in ((6, 6, 1, 3), (6, 8, 2, 5), (8, 10, 2, 3))]
    return nn.Sequential(conv(3, 6, 3, nn.SiLU, stride=2), *blocks, conv(10, 16, 1, nn.SiLU), *head(16))


def mobilenet() -> nn.Module:
    blocks = [inverted(a, b, s, 3, nn.ReLU6, excited=False) for a, b, s in ((6, 6, 1), (6, 8, 2), (8, 10, 2))]
    return nn.Sequential(conv(3, 6, 3, nn.Hardswish, stride=2), *blocks, conv(10, 16, 1, nn.ReLU6), *head(16))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each place, in any number of dimensions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.movedim(self.norm(torch.movedim(x, 1, -1)), -1, 1)


class Scale(nn.Module):
    """A factor for every channel, in any number of dimensions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((features,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor.reshape(-1, *[1] * (x.ndim - 2))


def convnext() -> nn.Module:
    def block(n: int) -> nn.Module:
        layers = [nn.Conv2d(n, n, 7, padding=3, groups=n), ChannelNorm(n), nn.Conv2d(n, 4 * n, 1), nn.GELU()]
        return Residual(nn.Sequential(*layers, nn.Conv2d(4 * n, n, 1), Scale(n)))

    stem = [nn.Conv2d(3, 6, 4, stride=4), ChannelNorm(6)]
    return nn.Sequential(
        *stem, block(6), ChannelNorm(6), nn.Conv2d(6, 9, 2, stride=2), block(9), ChannelNorm(9), *head(9)
    )


class Parallel(nn.Module):
    """The answers of several branches, one after the other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def inception() -> nn.Module:
    factorised = nn.Sequential(conv(8, 4, 1), conv(4, 5, (1, 7)), conv(5, 6, (7, 1)))
    pooled = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(8, 4, 1))
    return nn.Sequential(
        conv(3, 8, stride=2), Parallel(conv(8, 4, 1), factorised, pooled), conv(14, 9, stride=2), *head(9)
    )


class UNet(nn.Module):
    """Two levels; goes up by interpolation or by transposed convolution."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.fine, self.pool, self.coarse = conv(2, 6), nn.MaxPool2d(2), conv(6, 8)
        smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2) if transposed else smooth
        self.join, self.scores = conv(14, 6), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        below = self.up(self.coarse(self.pool(fine)))
        answer: Tensor = self.scores(self.join(torch.cat([fine, below], dim=1)))
        return answer


@dataclass(frozen=True)
class Family:
    """make: the 2D network; odd, even: sides of volumes; others: conversions that are refused, and the reason."""

    make: Callable[[], nn.Module]
    channels: int = 3
    odd: tuple[int, int, int] = (17, 15, 21)
    even: tuple[int, int, int] = (16, 12, 20)
    others: Mapping[str, str] = ()  # type: ignore[assignment]


FAMILIES: Mapping[str, Family] = {
    "ResNet": Family(resnet),
    "ResNeXt (groups)": Family(resnext),
    "VGG (7 x 7 places before the classifier)": Family(vgg),
    "DenseNet": Family(densenet),
    "EfficientNet (depthwise, squeeze and excitation)": Family(efficientnet),
    "MobileNet (depthwise)": Family(mobilenet),
    "ConvNeXt form": Family(convnext),
    "Inception form (1 x 7 and 7 x 1)": Family(
        inception, others={"i3d": "does not say what happens along the third axis"}
    ),
    "U-Net, interpolating": Family(lambda: UNet(transposed=False), 2, (6, 14, 10), (8, 12, 16)),
    "U-Net, transposed convolution": Family(lambda: UNet(transposed=True), 2, (6, 14, 10), (8, 12, 16)),
}


def ready(family: Family) -> nn.Module:
    torch.manual_seed(0)
    return settled(family.make(), family.channels, (28, 24))


def settled(model: nn.Module, channels: int, sides: Sequence[int]) -> nn.Module:
    """In evaluation mode, with running statistics of its own and weights of a size that signals survive."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out" if isinstance(layer, nn.ConvTranspose2d) else "fan_in")
    with torch.no_grad():
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        model.train()(torch.randn(4, channels, *sides))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.running_mean += torch.randn_like(norm.running_mean) * norm.running_var.sqrt() / 3
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 2)
    return model.eval()


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - other).detach().abs().max() / other.detach().abs().max())


def equal_to_folded(made: nn.Module, channels: int, sides: Sequence[int], dtype: torch.dtype = torch.float32) -> float:
    volume = torch.randn(2, channels, *sides, dtype=dtype)
    with torch.inference_mode():
        answer, folded = made(volume), fold(made)(volume)
    assert apart(answer[:1], answer[1:]) > 0.01, "an answer that hardly depends on the image proves nothing"
    return apart(answer, folded)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_equals_its_folded_form_and_keeps_everything_else(name: str, rows: dict[str, str]) -> None:
    family = FAMILIES[name]
    model = ready(family)
    flat = copy.deepcopy(model.state_dict())
    converted = convert(model)
    made, channels = converted.model, family.channels
    found = {
        "even sides": equal_to_folded(made, channels, family.even) < 1e-5,
        "odd sides": equal_to_folded(made, channels, family.odd) < 1e-5,
        "modes": keeps_modes(family),
        "frozen": keeps_frozen_parameters(family),
        "shared": keeps_shared_modules(family),
        "float64": equal_to_folded(convert(ready(family).double()).model, channels, family.odd, torch.float64) < 1e-12,
        "bfloat16": {p.dtype for p in convert(ready(family).bfloat16()).model.parameters()} == {torch.bfloat16},
        "gradients": trains(made, channels, family.even),
        "2D weights": list(made.state_dict()) == list(flat) and bool(made.load_state_dict(flat)),
    }
    assert all(found.values()), found
    others = [to for to in ALL[1:] if to not in family.others]
    for to in others:
        assert convert(model, to).model(torch.zeros(2, channels, *family.odd)).isfinite().all()  # type: ignore[arg-type]
    assert all(torch.equal(value, flat[key]) for key, value in model.state_dict().items())
    sizes = [sum(one.numel() for one in net.parameters()) for net in (model, made, fold(made))]
    layers = f"{len(converted.report.converted)} of {len(converted.report.rows)}"
    assert sizes[0] == sizes[1] < sizes[2]
    cells = [name, layers, f"{sizes[1]:,}", f"{sizes[2]:,}", *["yes"] * len(found), ", ".join(others)]
    rows[name] = "| " + " | ".join(cells) + " |\n"


def keeps_modes(family: Family) -> bool:
    """In training too, with some layers left in evaluation, the answer is that of the folded form."""
    model = ready(family).train()
    for k, layer in enumerate(model.modules()):
        if isinstance(layer, nn.Dropout) or (isinstance(layer, nn.BatchNorm2d) and k % 2):
            layer.eval()
    made = convert(model).model
    modes = {path: layer.training for path, layer in model.named_modules()}
    volume = torch.randn(2, family.channels, *family.even)
    same = apart(fold(made)(volume), copy.deepcopy(made)(volume)) < 1e-4  # statistics of few values amplify rounding
    return same and modes == {path: layer.training for path, layer in made.named_modules()}


def keeps_frozen_parameters(family: Family) -> bool:
    model = ready(family)
    names = [name for name, _ in model.named_parameters()]
    for name in names[: len(names) // 2]:
        model.get_parameter(name).requires_grad_(False)
    made = convert(model).model
    made(torch.randn(2, family.channels, *family.even)).sum().backward()
    learning = {name for name, one in made.named_parameters() if one.grad is not None}
    return learning == set(names[len(names) // 2 :])


def keeps_shared_modules(family: Family) -> bool:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = self.other = ready(family)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.one(x) + self.other(0.5 * x)
            return answer

    made: Any = convert(Twice()).model
    return made.one is made.other and fold(made).get_submodule("one") is not made.one


def trains(made: nn.Module, channels: int, sides: Sequence[int]) -> bool:
    net = copy.deepcopy(made).train()
    net(torch.randn(2, channels, *sides)).square().sum().backward()
    return all(one.grad is not None and bool(one.grad.isfinite().all()) for one in net.parameters())


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """Lines of the table, by family, as the tests find them."""
    return {}


COLUMNS = (
    *("family", "layers converted", "parameters, 2D and ACS", "the same folded", "even sides", "odd sides", "modes"),
    *("frozen", "shared", "float64", "bfloat16", "gradients", "2D weights", "other conversions"),
)
TEXT = """The converted network against the same network folded to plain 3D convolutions (`fold`), in float32, running
statistics changed at random; the largest difference as a share of the largest value.

- **even sides, odd sides**: below 1e-5 (U-Nets: sides of which halves are odd, and multiples of four)
- **modes**: each layer trains or evaluates as it did, and answers in training as the folded one does
- **frozen, shared**: parameters that do not learn still do not, the others do; a module with two names is one still
- **float64, bfloat16**: kept; below 1e-12 in float64
- **gradients**: reach every parameter, and are finite
- **2D weights**: names and shapes are the 2D network's, whose state dict loads strictly
- **other conversions**: that run as well; what is missing is refused

"""


def test_the_page_of_families_is_what_the_tests_find(
    rows: dict[str, str], conversion_page: Callable[[str, str], None]
) -> None:
    if set(rows) != set(FAMILIES):
        pytest.skip("the tests of all families must have run, and passed, before the page can be compared")
    heads = "| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS) + "\n"
    conversion_page("## Families", TEXT + heads + "".join(rows[name] for name in FAMILIES))


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.others])
def test_conversions_that_a_family_does_not_allow_are_refused(name: str) -> None:
    for to, said in FAMILIES[name].others.items():
        with pytest.raises(Exception, match=said):
            convert(FAMILIES[name].make(), to)  # type: ignore[arg-type]


QUICK = ("resnet18", "vgg11", "densenet121", "efficientnetv2-s", "monet", "unet-16", "attention-unet")
SLOW = [name for name, one in NETS.items() if one.dimensions == 2 and name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_registered_2d_net_becomes_a_net_for_volumes_that_equals_its_folded_form(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, **NETS[name].small)
    steps = -(-max(net.least, 16) // net.multiple)
    settled(net, net.channels, [net.multiple * (steps + k) for k in (0, 1)])
    converted = convert(net)
    made: Any = converted.model
    assert converted.report.checked is not None
    assert any(isinstance(layer, ACSConv3d | ACSConvTranspose3d) for layer in made.modules())
    made.load_state_dict(net.state_dict())
    sides = [net.multiple * (steps + k) for k in (0, 1, 0)] if net.multiple > 1 else [steps + k for k in (1, 3, 0)]
    assert equal_to_folded(made, net.channels, sides) < 1e-5
    scores = made(torch.zeros(1, net.channels, *sides))
    assert scores.shape[2:] in ((), tuple(sides))
