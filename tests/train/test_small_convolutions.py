"""Convolutions of small volumes by oneDNN: the same sums as torch's own, forwards and backwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residency.nets import build
from residency.train.convolutions import SmallConvolutions

CASES: dict[str, tuple[tuple[int, int, int], Any, Any, Any, bool]] = {
    "even": ((6, 8, 10), 3, 1, 1, False),
    "odd slices and a bias": ((7, 8, 6), 3, 1, 1, True),
    "strided": ((8, 8, 8), 3, 2, 1, True),
    "strided, odd": ((9, 7, 6), 3, 2, 1, False),
    "flat kernels": ((5, 8, 8), (1, 3, 3), (1, 2, 2), (0, 1, 1), False),
    "no padding": ((6, 6, 6), 3, 1, 0, True),
    "one slice": ((1, 8, 8), 3, 1, 1, False),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("case", CASES)
def test_answers_and_gradients_are_those_of_a_double_precision_reference(case: str, layout: Any) -> None:
    """In both layouts: training makes crops and weights with their channels last."""
    sides, kernel, stride, padding, bias = CASES[case]
    torch.manual_seed(3)
    layer = nn.Conv3d(4, 5, kernel, stride, padding, bias=bias)
    exact = nn.Conv3d(4, 5, kernel, stride, padding, bias=bias).double()
    exact.load_state_dict(layer.state_dict())
    image = torch.randn(1, 4, *sides).to(memory_format=layout)
    layer.to(memory_format=layout)
    with SmallConvolutions():
        found = _with_gradients(layer, image)
    for ours, reference in zip(found, _with_gradients(exact, image.double()), strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-5 * float(reference.abs().max()))


def test_a_net_learns_the_same_by_it_up_to_rounding_and_the_same_bits_twice() -> None:
    torch.manual_seed(0)
    net = build("unet", channels=1, classes=3, features=(4, 8, 16))
    image = torch.randn(1, 1, 12, 16, 12)
    plain = _with_gradients(net, image)
    with SmallConvolutions():
        once, again = _with_gradients(net, image), _with_gradients(net, image)
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    for ours, theirs in zip(once, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_only_what_torch_leaves_to_its_own_loop_is_taken_over() -> None:
    small, layer = torch.randn(1, 4, 6, 6, 6, requires_grad=True), nn.Conv3d(4, 4, 3, padding=1)
    with SmallConvolutions():
        assert _made_by(layer(small)) == "_ConvolutionBackward"
        for other, image in (
            (layer, torch.randn(2, 4, 6, 6, 6)),
            (layer, torch.randn(1, 4, 80, 80, 2)),
            (nn.Conv3d(4, 4, 1), small),
            (nn.Conv3d(4, 4, 3, groups=2, padding=1), small),
            (nn.Conv3d(4, 4, 3, dilation=2, padding=2), small),
            (nn.Conv3d(4, 4, 3, padding="same"), small),
            (nn.Conv3d(4, 4, 3, padding=1).double(), small.double()),
        ):
            assert _made_by(other(image)) == "ConvolutionBackward0"
    assert _made_by(layer(small)) == "ConvolutionBackward0"


def _made_by(answer: Tensor) -> str:
    assert answer.grad_fn is not None
    return answer.grad_fn.name()


def _with_gradients(module: nn.Module, image: Tensor) -> list[Tensor]:
    given = image.detach().clone().requires_grad_()
    answer = module(given)
    weights = torch.linspace(-1, 1, answer.numel(), dtype=answer.dtype).reshape(answer.shape)
    loss = (answer * weights).sum()
    return [answer.detach(), *torch.autograd.grad(loss, [given, *module.parameters()])]
