"""A net made to treat both sides of the body alike."""

from __future__ import annotations

from torch import Tensor

from residency.nets.net import Net


class Symmetric(Net):
    """The mean of a net's scores of an image and of its mirror image, mirrored back.

    A mirrored image gets the mirrored scores, so the right side is measured as the left one is. Twice the work, and a
    little better, as the mean of two answers is.

    axis  0, 1 or 2: slice, row or column
    """

    def __init__(self, net: Net, axis: int) -> None:
        super().__init__()
        self.net = net
        self.axis = axis + 2
        self.takes_what(net)

    def scores(self, image: Tensor) -> Tensor:
        plain: Tensor = self.net(image)
        mirrored: Tensor = self.net(image.flip(self.axis))
        return (plain + mirrored.flip(self.axis)) / 2
