"""What every net of this room is."""

from __future__ import annotations

from torch import Tensor, nn


class Net(nn.Module):
    """Maps an image (N, channels, *grid), float32, to logits: (N, classes, *grid) on the same grid, or (N, classes).

    The grid is (S, R, C) where `dimensions` is 3, (R, C) where it is 2. A subclass computes in `scores`; what calls a
    net calls it as any module. Logits, not probabilities: activation and threshold are the card's decision rule.

    channels     of the image
    dimensions   2 or 3
    multiple     each side of the grid must be a multiple of it; the recipe's `pad` sees to that
    least        and no side may be shorter
    free_slices  both hold for rows and columns alone; there may be any number of slices

    For weights from a file (`residency.nets.weights`), by their places in the net:

    first_layer  the convolution that takes the image, if it can be made for another number of channels
    last_layers  what has other sizes for another number of classes
    """

    channels: int
    dimensions: int = 3
    multiple: int = 1
    least: int = 1
    free_slices: bool = False
    first_layer: str = ""
    last_layers: tuple[str, ...] = ()

    @property
    def multiples(self) -> tuple[int, ...]:
        """`multiple` of each axis."""
        return self._by_axis(self.multiple)

    @property
    def leasts(self) -> tuple[int, ...]:
        """`least` of each axis."""
        return self._by_axis(self.least)

    def _by_axis(self, value: int) -> tuple[int, ...]:
        return (1 if self.free_slices else value, *[value] * (self.dimensions - 1))

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
                f"{type(self).__name__} takes images of shape (N, {self.channels}, "
                f"{'S, R, C' if self.dimensions == 3 else 'R, C'}), got {tuple(image.shape)}"
            )
        for side, multiple, least in zip(image.shape[2:], self.multiples, self.leasts, strict=True):
            if side % multiple != 0 or side < least:
                raise ValueError(
                    f"{type(self).__name__} takes grids with sides of at least {max(self.least, self.multiple)}"
                    f"{f' that are multiples of {self.multiple}' if self.multiple > 1 else ''}, got "
                    f"{' x '.join(map(str, image.shape[2:]))}: pad the image (step `pad` of the recipe)"
                )
