"""Layers that exist in two and in three dimensions, so that a family is described once for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layers:
    """The layer classes of one number of dimensions; `dropout` is that of whole channels."""

    convolution: type[nn.Conv2d] | type[nn.Conv3d]
    transposed: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
    norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]
    dropout: type[nn.Dropout2d] | type[nn.Dropout3d]
    maximum: type[nn.MaxPool2d] | type[nn.MaxPool3d]
    average: type[nn.AvgPool2d] | type[nn.AvgPool3d]
    adaptive_average: type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveAvgPool3d]


LAYERS: Mapping[int, Layers] = {
    2: Layers(
        nn.Conv2d,
        nn.ConvTranspose2d,
        nn.BatchNorm2d,
        nn.Dropout2d,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
    ),
    3: Layers(
        nn.Conv3d,
        nn.ConvTranspose3d,
        nn.BatchNorm3d,
        nn.Dropout3d,
        nn.MaxPool3d,
        nn.AvgPool3d,
        nn.AdaptiveAvgPool3d,
    ),
}
"""Number of dimensions -> its layers."""
