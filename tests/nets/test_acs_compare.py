"""Code of a forward that names no axis, or names it where nobody looks, does not slip through the converter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.errors import ConversionError
from residency.nets import build
from residency.nets.acs import AdjacentSlices, convert

Does = Callable[[Any, Tensor], Tensor]


class Doing(nn.Module):
    """A convolution, then what is to be tried."""

    def __init__(self, does: Does, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.layer, self.does = nn.Conv2d(3, 12, 3, padding=1), layer, does

    def forward(self, image: Tensor) -> Tensor:
        return self.does(self, self.conv(image))


PLANES: Mapping[str, tuple[Does, nn.Module | None]] = {
    "statistics of rows and columns": (lambda m, x: x - torch.var_mean(x, (2, 3), keepdim=True)[1], None),
    "deviation and mean of columns": (lambda m, x: torch.std_mean(x, dim=-1)[0], None),
    "sum without gaps": (lambda m, x: x.nansum((2, 3)), None),
    "extremes of columns": (lambda m, x: torch.aminmax(x, dim=-1)[0], None),
    "median of rows": (lambda m, x: torch.quantile(x, 0.5, dim=2), None),
    "largest so far": (lambda m, x: torch.cummax(x, 2)[0], None),
    "differences": (lambda m, x: torch.diff(x), None),
    "sorted, by default along columns": (lambda m, x: x.sort()[0], None),
    "largest three, by default of columns": (lambda m, x: x.topk(3)[0], None),
    "lower triangle": (lambda m, x: torch.tril(x), None),
    "quarter turn": (lambda m, x: torch.rot90(x, 1, (2, 3)), None),
    "transposed by an attribute": (lambda m, x: x.mT, None),
    "Fourier transform of two axes": (lambda m, x: torch.fft.fftn(x, dim=(2, 3)).real, None),
    "Fourier transform of columns": (lambda m, x: torch.fft.fft(x).real, None),
    "letters after dots": (lambda m, x: torch.einsum("nc...w,nk...w->nck...", x, x), None),
    "letters before dots": (lambda m, x: torch.einsum("nch...->nc...", x), None),
    "product over columns": (lambda m, x: torch.tensordot(x, x.new_ones(x.shape[-1], 4), dims=1), None),
    "norm of planes": (lambda m, x: torch.linalg.matrix_norm(x), None),
    "diagonal": (lambda m, x: torch.diagonal(x, dim1=-2, dim2=-1), None),
    "stacked behind": (lambda m, x: torch.dstack([x, x]), None),
    "tiled": (lambda m, x: x.tile((2, 2)), None),
    "cut in rows": (lambda m, x: x.reshape(x.shape[0] * x.shape[1] * x.shape[2], -1).softmax(1).view_as(x), None),
    "cut in columns": (lambda m, x: x.reshape(-1, x.shape[-1]).softmax(1).view_as(x), None),
    "linear layer over columns": (lambda m, x: m.layer(x), nn.Linear(96, 5)),
    "norm over columns": (lambda m, x: m.layer(x), nn.LayerNorm(96)),
    "larger than a factor for every channel": (lambda m, x: torch.max(x, x.new_ones(12, 1, 1)), None),
}


@pytest.mark.parametrize("name", PLANES)
def test_what_acts_on_planes_is_refused(name: str) -> None:
    does, layer = PLANES[name]
    with pytest.raises(ConversionError) as caught:
        convert(nn.Sequential(nn.Conv2d(3, 3, 1), Doing(does, copy.deepcopy(layer))))
    assert set(caught.value.places) <= {"1", "1.layer"}
    assert "\n" not in str(caught.value)


def relus(_: Any, x: Tensor) -> Tensor:
    for _axis in range(2, x.ndim):
        x = torch.relu(x)
    return x.mean((2, 3))


@pytest.mark.parametrize(
    "does", [relus, lambda m, x: x.relu() if x.ndim == 4 else x.tanh()], ids=["one more", "another one"]
)
def test_a_forward_that_takes_another_way_with_a_volume_is_refused(does: Does) -> None:
    with pytest.raises(ConversionError, match=r"with a volume it takes another way at (relu|tanh|mean)\(\)"):
        convert(Doing(does))


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_compiled_in_place_is_refused(whole: bool) -> None:
    """A copy of such a layer would go on calling the old one."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    (model if whole else model[1]).compile(backend="eager")
    with pytest.raises(ConversionError, match="it is compiled; convert the network first"):
        convert(model)


def test_a_net_for_volumes_that_holds_a_2d_net_is_refused() -> None:
    net = AdjacentSlices(build("unet-16", channels=3, filters=2, depth=2))
    with pytest.raises(ConversionError, match="AdjacentSlices cannot be carried into 3D: it is three-dim"):
        convert(net)


@pytest.mark.parametrize("side", [28, 32, 48, 64, 224])
def test_a_network_for_images_of_one_size_is_tried_on_that(side: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * side**2, 2, device="meta"))
    with pytest.raises(ConversionError) as caught:
        convert(model)
    assert caught.value.places == ("2",)


def test_hooks_are_said_to_be_unchecked() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert convert(model).report.notes == ()
    model[1].register_forward_hook(lambda module, given, answer: answer.mean((2, 3)))
    (note,) = convert(model).report.notes
    assert "not checked: '1'" in note


ANYWHERE: Mapping[str, tuple[Does, nn.Module | None]] = {
    "statistics of all sides": (lambda m, x: x - torch.var_mean(x, tuple(range(2, x.ndim)), keepdim=True)[1], None),
    "clipped and rounded": (lambda m, x: x.clamp(-1, 1).round().square().rsqrt().nan_to_num(), None),
    "hard activations": (lambda m, x: functional.hardswish(functional.softsign(-x)), None),
    "mixture of channels": (lambda m, x: torch.einsum("nc...,kc->nk...", x, x.new_ones(5, 12)), None),
    "places summed by letters": (lambda m, x: torch.einsum("nc...,nk...->nck", x, x), None),
    "linear layer over channels": (lambda m, x: m.layer(x.movedim(1, -1)).movedim(-1, 1), nn.Linear(12, 5)),
    "places as a batch": (lambda m, x: m.layer(x.movedim(1, -1).reshape(-1, 12)), nn.Linear(12, 5)),
    "groups of channels": (lambda m, x: x.reshape(x.shape[0] * x.shape[1], -1).softmax(1).view_as(x), None),
    "vector for every channel": (lambda m, x: x * x.new_ones(12).view(1, -1, *[1] * (x.ndim - 2)), None),
    "noise": (lambda m, x: x + torch.randn_like(x) * x.new_zeros(x.shape[0], 1, *x.shape[2:]), None),
    "masked": (lambda m, x: torch.where((x > 0) & ~(x > 1), x, torch.zeros_like(x)), None),
    "learned slope": (lambda m, x: m.layer(x), nn.PReLU(12)),
    "neighbouring channels": (lambda m, x: m.layer(x), nn.LocalResponseNorm(3)),
}


@pytest.mark.parametrize("name", ANYWHERE)
def test_what_holds_for_any_number_of_dimensions_passes(name: str) -> None:
    does, layer = ANYWHERE[name]
    converted = convert(Doing(does, copy.deepcopy(layer)))
    assert converted.report.checked is not None
    assert converted.model(torch.randn(2, 3, 5, 6, 7)).shape[0] in (2, 2 * 5 * 6 * 7)


LIMITS: Mapping[str, Does] = {
    "x.sum(...) / (h * w)": lambda m, x: x.sum(tuple(range(2, x.ndim))) / (x.shape[-2] * x.shape[-1]),
    "x.movedim(1, -1).mean(1)": lambda m, x: x.movedim(1, -1).mean(1),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_shapes_cannot_show_is_known_and_on_the_page(name: str, repository: Path) -> None:
    """Once it is found, the page and the docstring of `compare` are to be changed."""
    assert convert(Doing(LIMITS[name])).report.checked is not None
    page = repository / "docs" / "reference" / "acs-conversion.md"
    assert name in page.read_text(encoding="utf-8")
