"""Several networks, and several mirrored looks, as one network: what nnU-Net does to predict, inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from residency.nets.net import Net


class Averaged(Net):
    """The mean of the members' logits, each over the image and its mirror images.

    members  nets of one kind: the folds of a cross-validation
    mirrored axes of the grid (0, 1, 2) that are mirrored, alone and together: 2 ** axes looks a member

    Logits are averaged, not probabilities, as nnU-Net 2 does; its blending of windows is linear, so that averaging in
    each window and averaging whole volumes is the same.
    """

    def __init__(self, members: Sequence[Net], mirrored: Sequence[int] = ()) -> None:
        super().__init__()
        if not members or any(axis not in (0, 1, 2) for axis in mirrored) or len(set(mirrored)) != len(mirrored):
            raise ValueError("needs a member, and axes 0, 1, 2 at most once each")
        self.members = nn.ModuleList(members)
        self.takes_what(members[0])
        axes = [axis + 2 for axis in sorted(mirrored)]
        self.looks = [look for number in range(len(axes) + 1) for look in combinations(axes, number)]

    def scores(self, image: Tensor) -> Tensor:
        total: Tensor | None = None
        for look in self.looks:
            seen = torch.flip(image, look) if look else image
            for member in self.members:
                assert isinstance(member, Net)
                logits = member.scores(seen)
                logits = torch.flip(logits, look) if look else logits
                total = logits if total is None else total + logits
        assert total is not None
        return total / (len(self.looks) * len(self.members)) if len(self.looks) * len(self.members) > 1 else total
