"""A 2D network that sees a volume slice by slice, each slice with its neighbours: what most call 2.5D.

The neighbours are the channels of a 2D image; nothing else of the network changes, and nothing is converted. (What
Yang et al. call 2.5D, kernels one slice thick, is the conversion "slicewise".)
"""

from __future__ import annotations

import torch
from torch import Tensor

from residency.nets.net import Net, name_of


class AdjacentSlices(Net):
    """Image (N, channels, S, R, C) -> the 2D net's scores of every slice, as (N, classes, S, R, C).

    net    segments images (N, (2 * reach + 1) * channels, R, C): the slice `reach` before with all its channels, and so
           on to that `reach` after. `with_channels` makes a net for so many of one that takes fewer
    reach  slices to either side; beyond the ends the last slice is repeated

    Raises ValueError for a net of three dimensions, or of a number of channels that does not fit.
    """

    def __init__(self, net: Net, reach: int = 1) -> None:
        super().__init__()
        around = 2 * reach + 1
        if net.dimensions != 2:
            raise ValueError(f"adjacent slices are for a 2D net, and {name_of(net)} is three-dimensional")
        if reach < 0 or net.channels % around:
            raise ValueError(f"{net.channels} channels of the net are not those of {around} slices")
        self.net, self.reach = net, reach
        self.channels = net.channels // around
        self.multiple, self.least = net.multiple, net.least

    def scores(self, image: Tensor) -> Tensor:
        slices = image.shape[2]
        first, last = image[:, :, :1], image[:, :, -1:]
        beyond = torch.cat([*[first] * self.reach, image, *[last] * self.reach], dim=2)
        seen = torch.cat([beyond[:, :, k : k + slices] for k in range(2 * self.reach + 1)], dim=1)
        flat: Tensor = self.net(seen.transpose(1, 2).flatten(0, 1))
        if flat.ndim != 4:
            raise ValueError(
                f"adjacent slices are for a net that segments; scores of {type(self.net).__name__} have no grid"
            )
        return flat.reshape(image.shape[0], slices, *flat.shape[1:]).transpose(1, 2)
