"""ACS convolutions equal their folded 3D convolutions, whatever the settings, or are refused when they are made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from residency.nets.acs import ACSConv3d


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("kind", ["hard", "soft", "mean"])
def test_a_layer_answers_as_its_folded_convolution(kernel: int, kind: str) -> None:
    layer = ACSConv3d(3, 7, kernel, padding=kernel // 2, kind=kind, dtype=torch.float64)  # type: ignore[arg-type]
    image = torch.randn(2, 3, 9, 8, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(image), layer.fold()(image))


def test_a_layer_made_of_a_2d_one_keeps_its_parameters_and_its_state_dict_loads_there_again() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1).to(torch.float64).eval()
    conv.weight.requires_grad_(False)
    layer = ACSConv3d.from_conv2d(conv)
    assert (layer.training, layer.weight.requires_grad, layer.weight.dtype) == (False, False, torch.float64)
    assert layer.bias is not None
    assert layer.bias.requires_grad
    conv.load_state_dict(layer.state_dict(), strict=True)
    slab = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    volume = slab.unsqueeze(2).expand(-1, -1, 5, -1, -1)
    torch.testing.assert_close(layer(volume)[:, :2, 2], conv(slab)[:, :2])
