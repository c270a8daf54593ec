"""The processes that train one net together, each on its share of every batch.

All hold the same net and take the same steps with the same gradients, so that nothing but gradients, figures and the
wish to stop need be told. The first process alone writes and speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from residency.errors import ConfigError, TrainingError


@dataclass(frozen=True)
class Team:
    """This process among them.

    rank   0 of the first
    size   how many they are
    local  number on this machine: which GPU is its own
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def speaks(self) -> bool:
        """True of the one that writes files and reports."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Raise ConfigError for a batch that has not as many crops for each."""
        if batch % self.size:
            raise ConfigError(f"schedule.batch: {batch} crops cannot be divided evenly among {self.size} processes")

    def share(self, numbers: Sequence[int]) -> Sequence[int]:
        """Those of this process: a run of them, in order of the ranks."""
        each = len(numbers) // self.size
        return numbers[self.rank * each : (self.rank + 1) * each]

    def gathered(self, mine: Tensor) -> Tensor:
        """What all have, one behind the other along the first axis, in order of the ranks. Equal shapes."""
        if self.size == 1:
            return mine
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with _told():
            dist.all_gather(found, mine.contiguous())
        return torch.cat(found)

    def completed(self, rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Rows of which each process has filled every `size`-th, from its rank on, and left the others 0."""
        if self.size == 1:
            return rows
        summed = torch.from_numpy(rows.copy())
        with _told():
            dist.all_reduce(summed)  # one number and zeros: exact in any order
        whole: npt.NDArray[np.float64] = summed.numpy()
        return whole

    def any(self, mine: bool) -> bool:
        """True if it is true of one of them."""
        if self.size == 1:
            return mine
        return bool(self.gathered(torch.tensor([float(mine)])).any())


ALONE = Team()


@contextmanager
def _told() -> Iterator[None]:
    """A connection that breaks becomes a TrainingError."""
    try:
        yield
    except RuntimeError:
        raise TrainingError(
            "another process of this training ended or cannot be reached; say the same command again to go on from the "
            "last checkpoint"
        ) from None


class SharedNorm(torch.nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of all processes' shares of a batch, which are equally large.

    torch's own (SyncBatchNorm) is for GPUs only.
    """

    @classmethod
    def over(cls, norm: torch.nn.modules.batchnorm._BatchNorm) -> SharedNorm:
        """With the parameters and the statistics of `norm`: the same tensors."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.weight, made.bias, made.training = norm.weight, norm.bias, norm.training
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made

    def _check_input_dim(self, _: Tensor) -> None:
        pass  # the norm that this one stands for has checked it

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        along = [1, -1, *[1] * (x.ndim - 2)]
        size = dist.get_world_size()
        mean: Tensor = _summed(x.float().mean(axes)) / size
        apart = x.float() - mean.reshape(along)
        variance: Tensor = _summed(apart.square().mean(axes)) / size
        self._follow(mean.detach(), variance.detach(), size * x.numel() // x.shape[1])
        found = apart * (variance + self.eps).rsqrt().reshape(along)
        if self.affine:
            found = found * self.weight.reshape(along) + self.bias.reshape(along)
        return found.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def share_statistics(net: torch.nn.Module, team: Team) -> None:
    """In place: every batch normalisation of the net sees the whole batch of the team."""
    if team.size == 1:
        return
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, SharedNorm.over(layer))


class _Summed(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_ctx: object, mine: Tensor) -> Tensor:
        return _sum(mine)

    @staticmethod
    def backward(_ctx: object, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _summed(mine: Tensor) -> Tensor:
    summed: Tensor = _Summed.apply(mine)  # type: ignore[no-untyped-call]
    return summed


def _sum(mine: Tensor) -> Tensor:
    summed = mine.contiguous().clone()
    with _told():
        dist.all_reduce(summed)
    return summed
