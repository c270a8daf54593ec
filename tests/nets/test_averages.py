"""Adaptive averages on open sides: the same numbers as torch's, in a graph that takes any side."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from residency.nets import build
from residency.nets.averages import OpenAverage, with_open_averages
from residency.train.export import export_graph, prove_parity


@pytest.mark.parametrize(
    ("pool", "grid"),
    [
        (nn.AdaptiveAvgPool1d(4), (11,)),
        (nn.AdaptiveAvgPool2d(7), (7, 7)),
        (nn.AdaptiveAvgPool2d(7), (5, 24)),
        (nn.AdaptiveAvgPool2d((3, None)), (10, 6)),
        (nn.AdaptiveAvgPool3d((1, 7, 7)), (3, 2, 15)),
        (nn.AdaptiveAvgPool3d(5), (1, 9, 128)),
    ],
)
def test_an_open_average_equals_torchs(pool: nn.Module, grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, *grid, dtype=torch.float64)
    opened = with_open_averages(nn.Sequential(pool))
    assert isinstance(opened[0], OpenAverage)
    torch.testing.assert_close(opened(image), pool(image), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(with_open_averages(pool)(image[0]), pool(image[0]), atol=1e-12, rtol=1e-12)


def test_windows_are_exact_on_every_side() -> None:
    for wanted in (2, 3, 7):
        pool, opened = nn.AdaptiveAvgPool1d(wanted), OpenAverage((wanted,))
        for side in range(1, 40):
            image = torch.arange(side, dtype=torch.float64)[None, None] ** 2
            torch.testing.assert_close(opened(image), pool(image), atol=1e-10, rtol=0)


def test_a_mean_over_the_grid_stays_as_it_is() -> None:
    net = build("resnet18", width=4, blocks=(1, 1, 1, 1))
    assert with_open_averages(net) is net


def test_the_net_itself_is_left_alone() -> None:
    net = build("vgg11", width=4, hidden=8, blocks=(1,) * 5).train()
    opened = with_open_averages(net)
    assert net.training
    assert not opened.training
    assert type(net.avgpool) is nn.AdaptiveAvgPool2d
    assert opened.classifier[0].weight is net.classifier[0].weight
    assert opened.state_dict().keys() == net.state_dict().keys()


def test_a_vgg_as_published_is_exported_for_images_of_any_size() -> None:
    """Averaged to 7 x 7: the one classifier whose grid before the linear layers is not a single voxel."""
    torch.manual_seed(0)
    net = build("vgg11", width=4, hidden=8, classes=3, blocks=(1,) * 5).eval()
    graph = export_graph(net)
    images = [torch.randn(n, 3, *sides).numpy() for n, sides in ((1, (224, 224)), (2, (97, 130)), (1, (33, 300)))]
    assert max(parity.relative for parity in prove_parity(net, graph, images, tolerance=1e-5)) < 1e-5
