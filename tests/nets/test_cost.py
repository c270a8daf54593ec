"""Parameters and multiply-accumulates of a net: against arithmetic done by hand, and without memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from residency.nets import NETS, build
from residency.nets.cost import cost, macs, size, without_memory
from residency.nets.net import Net


class Wrapped(Net):
    """Any layers as a net of one channel count."""

    def __init__(self, channels: int, dimensions: int, *layers: nn.Module) -> None:
        super().__init__()
        self.channels, self.dimensions = channels, dimensions
        self.layers = nn.Sequential(*layers)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


@pytest.mark.parametrize(
    ("layer", "dimensions", "grid", "expected"),
    [
        (nn.Conv3d(4, 6, (1, 3, 5), padding=(0, 1, 2)), 3, (2, 6, 10), 4 * 6 * 15 * 120),
        (nn.Conv3d(4, 6, 3, stride=2, padding=1, groups=2), 3, (4, 6, 8), 2 * 6 * 27 * (2 * 3 * 4)),
        (nn.Conv3d(4, 4, 3, padding=2, dilation=2, groups=4), 3, (4, 4, 4), 4 * 27 * 64),
        (nn.Conv2d(4, 5, 7, stride=2, padding=3), 2, (9, 11), 4 * 5 * 49 * (5 * 6)),
        # One weight an input place: the output of a stride of 2 is larger, the work is not.
        (nn.ConvTranspose3d(4, 3, 2, stride=2), 3, (3, 4, 5), 4 * 3 * 8 * 60),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2), 2, (3, 5), 4 * 3 * 16 * 15),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)), 2, (8, 8), 4 * 7),
        (nn.Sequential(nn.BatchNorm3d(4), nn.ReLU(), nn.Upsample(scale_factor=2)), 3, (4, 4, 4), 0),
    ],
)
def test_work_is_one_a_weight_and_place(
    layer: nn.Module, dimensions: int, grid: tuple[int, ...], expected: int
) -> None:
    net = Wrapped(4, dimensions, layer)
    assert macs(net, grid) == expected
    assert macs(net.to("meta"), grid) == expected


def test_work_is_counted_in_the_mode_the_net_was_found_in_and_leaves_it_there() -> None:
    net = Wrapped(2, 2, nn.Conv2d(2, 3, 4), nn.BatchNorm2d(3))
    before = net.layers[1].running_mean.clone()
    assert macs(net, (4, 4)) == 2 * 3 * 16  # one value a channel: batch statistics would be refused
    assert net.training
    torch.testing.assert_close(net.layers[1].running_mean, before)


def test_values_are_counted_once_and_by_kind() -> None:
    tied = nn.Linear(5, 5, bias=False)
    frozen = nn.Conv2d(2, 5, 1, bias=False).requires_grad_(False)
    found = size(Wrapped(2, 2, frozen, nn.BatchNorm2d(5), nn.Flatten(), tied, nn.ReLU(), tied))
    assert (found.trainable, found.frozen, found.statistics) == (25 + 10, 10, 10)
    assert found.bytes == 4 * 55


def test_a_cost_is_that_of_the_settings_asked_for_and_takes_no_memory() -> None:
    architecture = NETS["unet"]
    default = cost(architecture)
    assert default.size.trainable == architecture.counts[0].trainable
    assert default.grid == architecture.grid
    small = cost(architecture, (16, 16, 16), channels=2, **architecture.small)
    assert small.macs < default.macs
    assert small.channels == 2
    net = without_memory(architecture.make)
    assert {one.device.type for one in (*net.parameters(), *net.buffers())} == {"meta"}


def test_a_grid_that_the_net_cannot_take_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        macs(build("unet"), (16, 16, 18))
