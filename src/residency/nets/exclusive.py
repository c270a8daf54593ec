"""A net of several tasks, made to answer as a net of one question a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from residency.nets.net import Net


class Exclusive(Net):
    """Scores (N, classes) whose sigmoid is what a softmax over each group of classes gives.

    A card knows one softmax over all classes of an output, or a sigmoid of each. Classes of several tasks exclude each
    other within a task alone; the log-odds of a class against the others of its task say the same by the second way.

    groups  the classes of each task, at least two, one group behind the other
    """

    def __init__(self, net: Net, groups: Sequence[slice]) -> None:
        super().__init__()
        self.net = net
        self.takes_what(net)
        self.groups = tuple(groups)
        self.others = nn.ParameterList(
            nn.Parameter(torch.eye(group.stop - group.start) * _FAR_BELOW, requires_grad=False) for group in groups
        )

    def scores(self, image: Tensor) -> Tensor:
        every: Tensor = self.net(image)
        odds = []
        for group, others in zip(self.groups, self.others, strict=True):
            own = every[:, group]
            odds.append(own - (own[:, None] + others).logsumexp(-1))
        return torch.cat(odds, dim=1)


_FAR_BELOW = -1e9
"""Added to a class's own score, so that it does not count among the others."""
