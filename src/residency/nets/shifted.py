"""A net whose scores are shifted by one constant a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from residency.nets.net import Net


class Shifted(Net):
    """Adds `shifts`, one a class, to a segmenting net's scores: moves borders between classes, not what was learnt."""

    def __init__(self, net: Net, shifts: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.takes_what(net)
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float32).reshape(1, -1, *[1] * net.dimensions))

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image) + self.shifts
        return logits
