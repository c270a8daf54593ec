"""Kernels of ACS convolutions: the planes of the views, and the cube folded from them."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.acs.geometry import Geometry, Triple, View


def draw(weight: Tensor, bias: Tensor | None) -> None:
    """Values as torch's own convolutions begin with."""
    nn.init.kaiming_uniform_(weight, a=sqrt(5))
    if bias is not None:
        bound = 1 / sqrt(weight[0].numel())
        nn.init.uniform_(bias, -bound, bound)


def copied(parameter: Tensor) -> nn.Parameter:
    """A parameter of the same values, frozen if that is."""
    return nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)


def mixed(weight: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The weights (outputs, inputs, rows, columns) of each view by its shares (outputs, 3), even ones if None."""
    if shares is None:
        third = weight / 3
        return third, third, third
    axial, coronal, sagittal = (weight * shares[:, view, None, None, None] for view in range(3))
    return axial, coronal, sagittal


def flat(weight: Tensor, view: View) -> Tensor:
    """A view's own kernel, of one plane or of as many as its profile has."""
    plane = weight.unsqueeze(view.flat + 2)
    if view.profile == (1.0,):
        return plane
    return torch.cat([plane * share for share in view.profile], dim=view.flat + 2)


def placed(weight: Tensor, view: View) -> Tensor:
    """A view's kernel in the middle of the folded one."""
    kernel = flat(weight, view)
    for axis, step in enumerate(view.steps):
        if step > 1:
            kernel = _spread(kernel, axis + 2, step)
    return functional.pad(kernel, [inset for inset in reversed(view.insets) for _ in range(2)])


def folded(weight: Tensor, geometry: Geometry, split: Triple | None, shares: Tensor | None) -> Tensor:
    """The kernel (outputs, inputs, S, R, C) that the views make together of weights (outputs, inputs, row, column)."""
    views = geometry.views
    if geometry.taps == 1:
        return weight.unsqueeze(-1)
    if split:
        axial, coronal, sagittal = split
        bounds = (0, axial, axial + coronal, axial + coronal + sagittal)
        parts = [weight[first:last] for first, last in pairwise(bounds)]
        return torch.cat([placed(part, view) for part, view in zip(parts, views, strict=True)])
    first, second, third = (placed(part, view) for part, view in zip(mixed(weight, shares), views, strict=True))
    return first + second + third


def _spread(kernel: Tensor, axis: int, step: int) -> Tensor:
    """The kernel with step - 1 zeros after each tap but the last along an axis."""
    zeros = torch.zeros_like(kernel)
    wide = torch.stack([kernel, *[zeros] * (step - 1)], dim=axis + 1).flatten(axis, axis + 1)
    return wide[(slice(None),) * axis + (slice(1 - step),)]
