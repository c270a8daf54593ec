"""Several nets that answer as one: the mean of their class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.net import Net


class Ensemble(Net):
    """Scores whose activation is the mean of the members' activations: of the folds of a cross-validation, say.

    It answers with the logarithm of the mean probabilities, so that the card's decision rule stays what it is for one
    member: the softmax (of `exclusive` classes) or the sigmoid of these scores is that mean. Where the members are sure
    of different things, the mean says that it is not sure; a mean of logits would follow the loudest.

    members    nets for the same images and classes
    exclusive  whether the classes exclude each other (softmax), or each is a question of its own (sigmoid)
    """

    def __init__(self, members: Sequence[Net], *, exclusive: bool = True) -> None:
        super().__init__()
        shapes = {(one.channels, one.dimensions, one.sides, one.free_slices) for one in members}
        if len(shapes) != 1:
            raise ValueError("an ensemble needs members that take the same images")
        self.members = nn.ModuleList(members)
        self.exclusive = exclusive
        self.takes_what(members[0])

    def scores(self, image: Tensor) -> Tensor:
        found = torch.stack([member(image) for member in self.members])
        if self.exclusive:
            return _log_mean(functional.log_softmax(found, dim=2))
        return _log_mean(functional.logsigmoid(found)) - _log_mean(functional.logsigmoid(-found))


def _log_mean(logarithms: Tensor) -> Tensor:
    """The logarithm of the mean over the first axis of numbers that are given by theirs, however small they are.

    Written out, since engines differ in whether their own sum of exponentials survives numbers below e^-88.
    """
    largest = logarithms.amax(dim=0, keepdim=True)
    mean: Tensor = largest[0] + (logarithms - largest).exp().mean(dim=0).log()
    return mean
