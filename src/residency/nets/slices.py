"""A 2D net that is given volumes: it sees their slices one by one."""

from __future__ import annotations

from torch import Tensor

from residency.nets.net import Net, name_of


class Slices(Net):
    """Takes (N, channels, S, R, C): the slices go into the batch, through a 2D net, and back.

    Scores are (N, classes, S, R, C) of a net that segments; of one that classifies (N, classes), the mean over the
    slices, so that a radiograph, one slice, has its own. In training, a batch normalisation sees all slices of a batch.

    net  the 2D net
    """

    free_slices = True

    def __init__(self, net: Net) -> None:
        super().__init__()
        if net.dimensions != 2:
            raise ValueError(f"slices are for a 2D net, {name_of(net)} has {net.dimensions} dimensions")
        self.net = net
        self.channels, self.multiple, self.least = net.channels, net.multiple, net.least

    def scores(self, image: Tensor) -> Tensor:
        volumes, slices = image.shape[0], image.shape[2]
        flat: Tensor = self.net(image.transpose(1, 2).flatten(0, 1))
        apart = flat.reshape(volumes, slices, *flat.shape[1:])
        return apart.mean(1) if apart.ndim == 3 else apart.transpose(1, 2)


def bare(net: Net) -> Net:
    """The 2D net inside `Slices`, any other net as it is: whose weights bear the names that they have in 2D."""
    return net.net if isinstance(net, Slices) else net
