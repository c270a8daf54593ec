"""Adaptive averaging to more than one voxel a side, on a grid whose sides are open.

Exporters write it for the sides of their example alone: the windows are then constants, and a graph with open sides
averages other voxels than it should, or fails. As a matrix product it is the same for every side, since the matrix is
computed from the side.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

_DIMENSIONS: Mapping[type[nn.Module], int] = {nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveAvgPool3d: 3}


class OpenAverage(nn.Module):
    """What an adaptive average pooling computes: (N, channels, *grid) -> (N, channels, *sides), None for a side kept.

    Voxel i of n along an axis is the mean over voxels from floor(i * side / n) to before ceil((i + 1) * side / n).
    """

    def __init__(self, sides: tuple[int | None, ...]) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        for axis, wanted in enumerate(self.sides, start=x.ndim - len(self.sides)):
            if wanted is not None:
                x = (x.transpose(axis, -1) @ _means(x.shape[axis], wanted, x)).transpose(axis, -1)
        return x

    def extra_repr(self) -> str:
        return f"sides={self.sides}"


def _means(side: int, wanted: int, like: Tensor) -> Tensor:
    """(side, wanted): the share that each voxel has in each mean."""
    voxel = torch.arange(side, device=like.device)[:, None]
    mean = torch.arange(wanted, device=like.device)[None]
    # Multiplied out, so that nothing is divided and rounded: ends after the voxel begins, begins before it ends.
    inside = ((mean + 1) * side > voxel * wanted) & (mean * side < (voxel + 1) * wanted)
    shares = inside.to(like.dtype)
    return shares / shares.sum(dim=0, keepdim=True)


def with_open_averages(module: Module) -> Module:
    """A copy in evaluation mode with `OpenAverage` for each adaptive average pooling to more than one voxel.

    Shares the tensors; the module itself where it has no such pooling.
    """
    found = {path: sides for path, part in module.named_modules(remove_duplicate=False) if (sides := _sides(part))}
    if not found:
        return module
    tensors = [*module.parameters(), *module.buffers()]
    copied = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for path, sides in found.items():
        if not path:
            return OpenAverage(sides).eval()  # type: ignore[return-value]  # a root that is itself replaced
        parent, _, name = path.rpartition(".")
        setattr(copied.get_submodule(parent), name, OpenAverage(sides))
    return copied.eval()


def _sides(part: nn.Module) -> tuple[int | None, ...] | None:
    """What it averages to; None where it is none, or averages all to one, which exporters know."""
    dimensions = _DIMENSIONS.get(type(part))
    if dimensions is None:
        return None
    size: Any = part.output_size
    sides = tuple(size) if isinstance(size, tuple | list) else (size,) * dimensions
    return None if set(sides) <= {1} else sides
