"""A net whose scores are shifted by one constant a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from residency.nets.net import Net


class Shifted(Net):
    """Adds `shifts`, one a class, to a net's scores: moves borders between classes, not what was learnt."""

    def __init__(self, net: Net, shifts: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.multiple = net.multiple
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float32).reshape(1, -1, 1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.net(image) + self.shifts
        return scores
