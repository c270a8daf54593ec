"""What a net costs before it is trained or run: values to keep, and work for one image. No memory is taken for either.

Multiply-accumulates are those of convolutions, transposed convolutions and matrix products, as papers count them: one a
weight and place. Normalisation, activation, pooling and interpolation are left out; they cost time and no such work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from residency.nets.architecture import Architecture
from residency.nets.net import Net

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Size:
    """Values that a net holds.

    trainable   of parameters that a gradient reaches
    frozen      of parameters that training leaves alone
    statistics  of running means and variances, which training moves without a gradient; counters of steps left out
    """

    trainable: int
    frozen: int
    statistics: int

    @property
    def bytes(self) -> int:
        """Of all values in float32, as they are stored and as a federated round sends them once."""
        return 4 * (self.trainable + self.frozen + self.statistics)


@dataclass(frozen=True)
class Cost:
    """Size of a net, and its work for one image.

    macs  multiply-accumulates on `grid`
    """

    size: Size
    macs: int
    channels: int
    grid: tuple[int, ...]


def size(net: nn.Module) -> Size:
    """Values that a net holds; one that is shared by several layers counts once."""
    parameters = list(net.parameters())
    return Size(
        trainable=sum(one.numel() for one in parameters if one.requires_grad),
        frozen=sum(one.numel() for one in parameters if not one.requires_grad),
        statistics=sum(values.numel() for name, values in net.named_buffers() if name.endswith(_STATISTICS)),
    )


def without_memory(make: Callable[..., Net], **parameters: Any) -> Net:
    """The net with shapes and no values (torch's meta device)."""
    with torch.device("meta"):
        return make(**parameters)


def macs(net: Net, grid: Sequence[int]) -> int:
    """Multiply-accumulates for one image of this grid; the net may be on the meta device.

    Raises ValueError for a grid that the net cannot take.
    """
    device = next((one.device for one in net.parameters()), torch.device("cpu"))
    image = torch.empty(1, net.channels, *grid, device=device)
    training = net.training
    net.eval()  # a single image has no batch statistics
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(image)
    finally:
        net.train(training)
    return int(counter.get_total_flops()) // 2


def cost(architecture: Architecture, grid: Sequence[int] | None = None, **parameters: Any) -> Cost:
    """Size and work of an architecture with these parameters of its builder (else their defaults).

    grid  sides; by default those of the architecture

    Raises ValueError for parameters or a grid that the architecture cannot take.
    """
    net = without_memory(architecture.make, **parameters)
    sides = tuple(architecture.grid if grid is None else grid)
    return Cost(size(net), macs(net, sides), net.channels, sides)
