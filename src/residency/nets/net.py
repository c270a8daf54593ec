"""What every net of this room is."""

from __future__ import annotations

from torch import Tensor, nn

from residency.nets.sides import Side, fit, in_words


def name_of(net: nn.Module) -> str:
    """What a training file calls a net; of one that was not built by a name, what Python calls it."""
    registered = getattr(net, "registered", "")
    return f"net '{registered}'" if registered else type(net).__name__


class Net(nn.Module):
    """Maps an image (N, channels, *grid), float32, to logits: (N, classes, *grid) on the same grid, or (N, classes).

    The grid is (S, R, C) where `dimensions` is 3, (R, C) where it is 2. A subclass computes in `scores`; what calls a
    net calls it as any module. Logits, not probabilities: activation and threshold are the card's decision rule.

    registered   the name that it was built by; "" of one that was made without
    channels     of the image
    dimensions   2 or 3
    multiple     each side of the grid must be a multiple of it; the recipe's `pad` sees to that
    least        and no side may be shorter
    free_slices  both hold for rows and columns alone; there may be any number of slices
    by_axis      (multiple, least) of each axis, where axes differ; `multiple` and `least` then do for every axis

    For weights from a file (`residency.nets.weights`), by their places in the net:

    first_layer  the convolution that takes the image, if it can be made for another number of channels
    last_layers  what has other sizes for another number of classes
    """

    registered: str = ""
    channels: int
    dimensions: int = 3
    multiple: int = 1
    least: int = 1
    free_slices: bool = False
    by_axis: tuple[Side, ...] = ()
    first_layer: str = ""
    last_layers: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[Side, ...]:
        """(multiple, least) of each axis."""
        alike = (self.multiple, self.least)
        return self.by_axis or ((1, 1) if self.free_slices else alike, *[alike] * (self.dimensions - 1))

    @property
    def multiples(self) -> tuple[int, ...]:
        """`multiple` of each axis."""
        return tuple(multiple for multiple, _ in self.sides)

    @property
    def leasts(self) -> tuple[int, ...]:
        """`least` of each axis."""
        return tuple(least for _, least in self.sides)

    def takes_what(self, other: Net) -> None:
        """This net takes the images that another takes, which it asks."""
        self.registered = other.registered
        self.channels, self.dimensions = other.channels, other.dimensions
        self.multiple, self.least = other.multiple, other.least
        self.free_slices, self.by_axis = other.free_slices, other.by_axis

    def forward(self, image: Tensor) -> Tensor:
        """Logits. Raises ValueError, in one line, for an image of a shape that this net cannot take."""
        self._check(image)
        return self.scores(image)

    def scores(self, image: Tensor) -> Tensor:
        """Logits of an image whose shape has been checked."""
        raise NotImplementedError

    def _check(self, image: Tensor) -> None:
        if image.ndim != self.dimensions + 2 or image.shape[1] != self.channels:
            raise ValueError(
                f"{name_of(self)} takes images of shape (N, {self.channels}, "
                f"{'S, R, C' if self.dimensions == 3 else 'R, C'}), got {tuple(image.shape)}"
            )
        if not fit(image.shape[2:], self.sides):
            own = self.sides[1:] if self.free_slices else self.sides
            raise ValueError(
                f"{name_of(self)} takes grids with {in_words(own)}, got {' x '.join(map(str, image.shape[2:]))}: "
                "pad the image (step `pad` of the recipe)"
            )
