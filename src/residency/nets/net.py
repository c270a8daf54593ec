"""What every net of this room is."""

from __future__ import annotations

from torch import nn


class Net(nn.Module):
    """Maps an image (N, channels, S, R, C), float32, to logits (N, classes, S, R, C) on the same grid.

    multiple  S, R and C must be multiples of it; the recipe's `pad` sees to that
    """

    multiple: int
