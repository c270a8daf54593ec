"""What the converter refuses: each construct in the smallest network that has it, with the module named.

And its counterpart: code written for any number of dimensions, which is none of its business.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm

from residency.errors import ConversionError
from residency.nets.acs.convert import convert
from residency.nets.acs.table import CHANGED, REFUSED


class Doing(nn.Module):
    """A convolution, then what is to be tried, in a forward of its own."""

    def __init__(self, does: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        for name, part in parts.items():
            setattr(self, name, part)
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, self.conv(x))


def inner(does: Callable[[Any, Tensor], Tensor], **parts: Any) -> nn.Module:
    """So that a path is to be named: `1.block`."""
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ModuleDict({"block": Doing(does, **parts)})["block"])


def unpacked(_: Any, x: Tensor) -> Tensor:
    number, channels, rows, columns = x.shape
    return x.reshape(number, channels, rows * columns).mean(2)


def shuffled(_: Any, x: Tensor) -> Tensor:
    return x.view(x.shape[0], 2, 2, x.shape[2], x.shape[3]).transpose(1, 2).flatten(1, 2)


def excited(m: Any, x: Tensor) -> Tensor:
    return x * m.gate(torch.flatten(m.pool(x), 1)).view(x.shape[0], 4, 1, 1)


def windows(_: Any, x: Tensor) -> Tensor:
    return torch.roll(x, shifts=(2, 2), dims=(2, 3))


def assigned(_: Any, x: Tensor) -> Tensor:
    empty = torch.zeros_like(x)
    empty[:, :, 1:, 1:] = x[:, :, 1:, 1:]
    return empty


def half_kept(_: Any, x: Tensor) -> Tensor:
    return x.view(x.shape[0], -1, x.shape[3]).mean(1)


CODE: Mapping[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any]]] = {
    "F.conv2d": (lambda m, x: functional.conv2d(x, m.kernel), {"kernel": nn.Parameter(torch.ones(2, 4, 3, 3))}),
    "F.max_pool2d": (lambda m, x: functional.max_pool2d(x, 2), {}),
    "F.avg_pool2d": (lambda m, x: functional.avg_pool2d(x, 2), {}),
    "F.adaptive_avg_pool2d": (lambda m, x: functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1), {}),
    "F.interpolate, bilinear": (lambda m, x: functional.interpolate(x, scale_factor=2, mode="bilinear"), {}),
    "F.interpolate, two factors": (lambda m, x: functional.interpolate(x, scale_factor=(2.0, 2.0)), {}),
    "F.interpolate, two sides": (lambda m, x: functional.interpolate(x, size=(8, 8)), {}),
    "F.pixel_shuffle": (lambda m, x: functional.pixel_shuffle(x, 2), {}),
    "F.unfold": (lambda m, x: functional.unfold(x, (3, 3)).mean(2), {}),
    "F.grid_sample": (
        lambda m, x: functional.grid_sample(x, x.new_zeros(x.shape[0], 4, 4, 2), align_corners=False),
        {},
    ),
    "F.pad": (lambda m, x: functional.pad(x, (1, 1, 1, 1)), {}),
    "F.pad of columns": (lambda m, x: functional.pad(x, (0, 1)), {}),
    "F.dropout2d": (lambda m, x: functional.dropout2d(x, 0.5, m.training), {}),
    "torch.fft.rfft2": (lambda m, x: torch.fft.rfft2(x).real, {}),
    "mean((2, 3))": (lambda m, x: x.mean((2, 3)), {}),
    "mean([-2, -1])": (lambda m, x: torch.mean(x, dim=[-2, -1]), {}),
    "amax(-1)": (lambda m, x: x.amax(-1), {}),
    "softmax(-1)": (lambda m, x: functional.softmax(x, dim=-1), {}),
    "permute(0, 2, 3, 1)": (lambda m, x: x.permute(0, 2, 3, 1), {}),
    "transpose(2, 3)": (lambda m, x: x.transpose(2, 3), {}),
    "flip(3)": (lambda m, x: x.flip(3), {}),
    "roll (shifted windows)": (windows, {}),
    "cat along rows": (lambda m, x: torch.cat([x, x], dim=2), {}),
    "chunk of columns": (lambda m, x: x.chunk(2, dim=-1)[0], {}),
    "matrix product of planes": (lambda m, x: x @ x.transpose(-1, -2), {}),
    "einsum with named axes": (lambda m, x: torch.einsum("nchw,nchw->nc", x, x), {}),
    "every second row and column": (lambda m, x: x[:, :, ::2, ::2], {}),
    "assigned to a part": (assigned, {}),
    "rows and columns unpacked": (unpacked, {}),
    "channels shuffled by view": (shuffled, {}),
    "view that keeps columns": (half_kept, {}),
    "squeeze and excitation by view": (
        excited,
        {"pool": nn.AdaptiveAvgPool2d(1), "gate": nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())},
    ),
    "squeeze(3).squeeze(2)": (lambda m, x: m.pool(x).squeeze(3).squeeze(2), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "[:, :, 0, 0]": (lambda m, x: m.pool(x)[:, :, 0, 0], {"pool": nn.AdaptiveAvgPool2d(1)}),
    "factor for every channel (4, 1, 1)": (lambda m, x: x * m.factor, {"factor": nn.Parameter(torch.ones(4, 1, 1))}),
    "shift for every channel (1, 4, 1, 1)": (lambda m, x: x + m.shift, {"shift": nn.Parameter(torch.ones(1, 4, 1, 1))}),
    "flatten before a Linear": (
        lambda m, x: m.linear(torch.flatten(m.pool(x), 1)),
        {"pool": nn.MaxPool2d(8), "linear": nn.Linear(4 * 8 * 12, 2)},
    ),
    "position of fixed length": (
        lambda m, x: x.flatten(2).transpose(1, 2) + m.place,
        {"place": nn.Parameter(torch.ones(1, 64 * 96, 4))},
    ),
}
"""What stands in a forward, each the smallest that has it."""


@pytest.fixture(scope="module")
def rows() -> dict[str, str]:
    """Lines of the table of refusals, as the tests find them."""
    return {}


def refusal(model: nn.Module, **settings: Any) -> ConversionError:
    """The error, after a look that nothing was changed: not the network, not the random numbers, nothing printed."""
    before, text, drawn = dict(vars(model)), str(model), torch.get_rng_state()
    values = [one.detach().clone() for one in model.state_dict().values() if not is_lazy(one)]
    with pytest.raises(ConversionError) as caught:
        convert(model, **settings)
    after = [one for one in model.state_dict().values() if not is_lazy(one)]
    assert (str(model), vars(model)) == (text, before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(one, other) for one, other in zip(values, after, strict=True))
    assert "\n" not in str(caught.value)
    return caught.value


def is_lazy(value: Any) -> bool:
    return isinstance(value, nn.parameter.UninitializedTensorMixin)


def row(name: str, error: ConversionError) -> str:
    said = str(error).partition("cannot be carried into 3D. ")[2].split("', line")[0]
    places = ", ".join(f"`{place}`" for place in error.places)
    return f"| {name} | {places} | {said.replace('|', ' ')} |\n"


@pytest.mark.parametrize("name", CODE)
def test_what_a_forward_computes_for_planes_is_refused(name: str, rows: dict[str, str]) -> None:
    does, parts = CODE[name]
    error = refusal(inner(does, **copy.deepcopy(parts)))
    assert error.places in (("1",), ("1.linear",)), error
    rows[name] = row(name, error)


class SamePadding(nn.Conv2d):
    """Pads as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)))


class Standardised(nn.Conv2d):
    """Its weights have mean 0 and variance 1."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(input, (weight - weight.mean()) / weight.std(), bias)


class Renormed(nn.BatchNorm2d):
    """A batch norm with other statistics."""

    def forward(self, input: Tensor) -> Tensor:
        return input / input.std()


def replaced() -> nn.Module:
    layer = nn.Conv2d(3, 4, 3)
    layer.forward = lambda x: functional.conv2d(x, layer.weight)  # type: ignore[method-assign]
    return layer


def with_parameter_hook() -> nn.Module:
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.register_hook(lambda gradient: gradient * 0.5)
    return layer


def in_a_computation() -> nn.Module:
    model = Doing(lambda m, x: x * m.factor.mean())
    model.factor = torch.ones(4, requires_grad=True) * 2
    return model


def mirrored_autoencoder() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2))
    model[1].weight = model[0].weight
    return model


def with_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(nn.Conv2d(3, 4, 3))


LAYERS: Mapping[str, tuple[Callable[[], nn.Module], str]] = {
    "PixelShuffle": (lambda: nn.PixelShuffle(2), "acs"),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), "acs"),
    "Unfold": (lambda: nn.Unfold(3), "acs"),
    "Fold": (lambda: nn.Fold((8, 8), 3), "acs"),
    "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(2, output_ratio=0.5), "acs"),
    "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(2), "acs"),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), "acs"),
    "MaxPool2d, two sides": (lambda: nn.MaxPool2d((2, 1)), "acs"),
    "MaxPool2d, two strides": (lambda: nn.MaxPool2d(2, stride=(2, 1)), "acs"),
    "AvgPool2d, divisor_override": (lambda: nn.AvgPool2d(2, divisor_override=3), "acs"),
    "AdaptiveAvgPool2d, one side": (lambda: nn.AdaptiveAvgPool2d((None, 1)), "acs"),
    "Upsample, bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), "acs"),
    "Upsample, two factors": (lambda: nn.Upsample(scale_factor=(2, 1)), "acs"),
    "Upsample, two sides": (lambda: nn.Upsample(size=(8, 16)), "acs"),
    "ZeroPad2d, rows and columns apart": (lambda: nn.ZeroPad2d((1, 1, 0, 0)), "acs"),
    "ReflectionPad2d, rows and columns apart": (lambda: nn.ReflectionPad2d((1, 1, 2, 2)), "acs"),
    "Conv2d, kernel odd and even": (lambda: nn.Conv2d(3, 4, (2, 3)), "acs"),
    "Conv2d, two sides": (lambda: nn.Conv2d(3, 4, (1, 3)), "i3d"),
    "Conv2d, two strides": (lambda: nn.Conv2d(3, 4, 3, stride=(2, 1)), "slicewise"),
    "ConvTranspose2d, uneven overlap": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), "i3d"),
    "ConvTranspose2d, other than its stride": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), "slicewise"),
    "weights tied, repeated differently": (mirrored_autoencoder, "i3d"),
    "Conv2d with a forward of its own": (lambda: SamePadding(3, 4, 3), "acs"),
    "Conv2d with standardised weights": (lambda: Standardised(3, 4, 3), "acs"),
    "BatchNorm2d with a forward of its own": (lambda: Renormed(3), "acs"),
    "forward replaced": (replaced, "acs"),
    "weight_norm": (with_weight_norm, "acs"),
    "weight_norm, parametrised": (lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "acs"),
    "spectral_norm": (lambda: spectral_norm(nn.Conv2d(3, 4, 3)), "acs"),
    "spectral_norm, parametrised": (lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), "acs"),
    "LazyConv2d": (lambda: nn.LazyConv2d(4, 3), "acs"),
    "parameter with a hook": (with_parameter_hook, "acs"),
    "tensor in a computation": (in_a_computation, "acs"),
    "DataParallel": (lambda: nn.DataParallel(nn.Conv2d(3, 4, 3)), "acs"),
    "Conv3d": (lambda: nn.Conv3d(3, 4, 3), "acs"),
    "LayerNorm over the grid": (lambda: nn.LayerNorm((3, 64, 96)), "acs"),
    "Softmax over columns": (lambda: nn.Softmax(dim=-1), "acs"),
    "Flatten of channels and rows": (lambda: nn.Flatten(1, 2), "acs"),
}
"""Layers, each in a network whose module `1` it is; and the conversion that is asked for."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_without_counterpart_is_refused(name: str, rows: dict[str, str]) -> None:
    make, to = LAYERS[name]
    error = refusal(nn.Sequential(nn.Conv2d(3, 3, 1), make()), to=to)
    assert error.places in (("1",), ("1.1",)), error
    rows[name] = row(name if to == "acs" else f"{name} ({to})", error)


def test_the_page_of_refusals_is_what_the_tests_find(
    rows: dict[str, str], conversion_page: Callable[[str, str], None]
) -> None:
    if set(rows) != {*CODE, *LAYERS}:
        pytest.skip("the tests of all refusals must have run, and passed, before the page can be compared")
    head = (
        "Each in the smallest network that has it: module `1` after a convolution `0`. Nothing is changed where\n"
        "anything is refused, and all that is refused is named at once.\n\n"
        "| construct | module named | what is said |\n|---|---|---|\n"
    )
    conversion_page("## Refused", head + "".join(rows[name] for name in [*LAYERS, *CODE]))


CLASSES: Mapping[type[nn.Module], nn.Module] = {
    type(one): one
    for one in (
        *(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 3, 2, stride=2), nn.BatchNorm2d(3), nn.InstanceNorm2d(3)),
        *(nn.Dropout2d(), nn.MaxPool2d(2), nn.MaxUnpool2d(2), nn.AvgPool2d(2), nn.LPPool2d(2, 2)),
        *(nn.AdaptiveAvgPool2d((7, 7)), nn.AdaptiveMaxPool2d(1), nn.Upsample(scale_factor=2, mode="bilinear")),
        *(nn.UpsamplingNearest2d(scale_factor=2), nn.UpsamplingBilinear2d(scale_factor=2), nn.Softmax2d()),
        *(nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.5), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1)),
        nn.CircularPad2d((0, 1, 0, 1)),
    )
}


def test_the_page_of_layers_is_what_the_table_says(conversion_page: Callable[[str, str], None]) -> None:
    assert set(CLASSES) == set(CHANGED)
    lines = []
    for layer in CLASSES.values():
        became = {to: outcome(layer, to) for to in ("acs", "i3d", "slicewise")}
        told = {became["acs"]} if len(set(became.values())) == 1 else {f"{to}: {one}": 0 for to, one in became.items()}
        lines.append(f"| {layer} | {'; '.join(told)} |\n")
    refused = ", ".join(sorted(kind.__name__ for kind in REFUSED))
    text = (
        "By class; a class derived from one of these counts as that one if it has no behaviour of its own, and is\n"
        "refused else. Settings that differ between rows and columns are refused where nothing says what holds along\n"
        "slices. `soft-acs` and `mean-acs` are as `acs`. All other layers are kept: they must do in 3D what they did\n"
        "in 2D, which is checked by running both networks without values.\n\n| layer | becomes |\n|---|---|\n"
    )
    conversion_page("## Layers", f"{text}{''.join(lines)}\nRefused wherever they stand: {refused}.")


def outcome(layer: nn.Module, to: Any) -> str:
    try:
        return convert(layer, to, unchecked=True).report.rows[0].became
    except ConversionError as error:
        return f"refused: {str(error).split('): ', 2)[-1]}"


FREE: Mapping[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, Any]]] = {
    "flatten(1) after pooling": (lambda m, x: m.pool(x).flatten(1), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "view(n, -1) after pooling": (lambda m, x: m.pool(x).view(x.size(0), -1), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "reshape(-1, 4) after pooling": (lambda m, x: m.pool(x).reshape(-1, 4), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "squeeze() after pooling": (lambda m, x: m.pool(x).squeeze(), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "mean over all sides": (lambda m, x: x.mean(tuple(range(2, x.ndim))), {}),
    "flatten(2), then mean": (lambda m, x: x.flatten(2).mean(-1), {}),
    "mean over channels": (lambda m, x: x.mean(1, keepdim=True) + x.mean(dim=-x.ndim + 1, keepdim=True), {}),
    "softmax over channels": (lambda m, x: functional.softmax(x, dim=1), {}),
    "relu and dropout": (lambda m, x: functional.dropout(functional.relu(x), 0.1, m.training), {}),
    "cat and chunk of channels": (lambda m, x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1), {}),
    "first channels": (lambda m, x: x[:, :2] + x[:, 2:, ...], {}),
    "nearest interpolation": (lambda m, x: functional.interpolate(x, scale_factor=2), {}),
    "to the size of another": (
        lambda m, x: functional.interpolate(m.pool(x), size=x.shape[2:]),
        {"pool": nn.MaxPool2d(2)},
    ),
    "channels to the end and back": (
        lambda m, x: torch.movedim(m.norm(torch.movedim(x, 1, -1)), -1, 1),
        {"norm": nn.LayerNorm(4)},
    ),
    "a factor for all": (lambda m, x: x * m.factor, {"factor": nn.Parameter(torch.ones(1))}),
    "gate of the pooled": (lambda m, x: x * torch.sigmoid(m.pool(x)), {"pool": nn.AdaptiveAvgPool2d(1)}),
    "channels shuffled": (
        lambda m, x: x.reshape(x.shape[0], 2, 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2),
        {},
    ),
    "attention between places": (
        lambda m, x: m.attention(*(x.flatten(2).transpose(1, 2),) * 3, need_weights=False)[0].mean(1),
        {"attention": nn.MultiheadAttention(4, 2, batch_first=True)},
    ),
    "padding of all sides": (lambda m, x: functional.pad(x, (1, 1) * (x.ndim - 2)), {}),
    "channels_last": (lambda m, x: x.contiguous(), {}),
}


@pytest.mark.parametrize("name", FREE)
def test_code_for_any_number_of_dimensions_passes(name: str) -> None:
    does, parts = FREE[name]
    model = inner(does, **copy.deepcopy(parts)).eval()
    made = convert(model).model
    image = torch.randn(2, 3, 8, 10)
    flat, solid = model(image), made(torch.randn(2, 3, 6, 8, 10))
    assert solid.ndim in (flat.ndim, flat.ndim + 1)
    assert solid.shape[:2] == flat.shape[:2]


def test_everything_at_fault_is_named_at_once() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ModuleDict({"a": nn.PixelShuffle(2), "b": nn.Identity()})["a"],
        nn.Sequential(nn.Upsample(scale_factor=2, mode="bicubic"), Doing(lambda m, x: functional.max_pool2d(x, 2))),
        nn.AvgPool2d(2, divisor_override=3),
    )
    model[2][1].conv = nn.Conv2d(4, 4, 1)
    error = refusal(model)
    assert set(error.places) == {"1", "2.0", "2.1", "3"}
    for said in ("PixelShuffle", "bicubic", r"max_pool2d\(\)", "divisor_override"):
        assert re.search(said, str(error))


def test_of_many_faults_five_are_told_and_all_are_places() -> None:
    error = refusal(nn.Sequential(nn.Conv2d(3, 3, 1), *(nn.PixelShuffle(2) for _ in range(7))))
    assert error.places == tuple("1234567")
    assert str(error).count("PixelShuffle") == 5
    assert str(error).endswith(" And 2 more.")


def test_a_forward_that_only_differs_in_training_is_found() -> None:
    model = Doing(lambda m, x: x.mean((2, 3)) if m.training else x.flatten(2).mean(2)).eval()
    assert refusal(model).places == ("",)


def test_a_subclass_without_a_behaviour_of_its_own_counts_as_its_base() -> None:
    class Conv3x3(nn.Conv2d):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs, 3, padding=1)

    model = nn.Sequential(Conv3x3(3, 4))
    made = convert(model).model
    assert type(made[0]).__name__ == "ACSConv3d"
    made.load_state_dict(model.state_dict())


def test_conversion_prints_nothing_and_leaves_the_switches_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.backends.cudnn.benchmark, torch.get_default_dtype(), torch.is_grad_enabled()
    convert(nn.Conv2d(1, 3, 3))
    assert (torch.backends.cudnn.benchmark, torch.get_default_dtype(), torch.is_grad_enabled()) == before
    assert capsys.readouterr() == ("", "")
