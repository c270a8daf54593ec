"""Attention U-Net, as MoNet was compared with it.

After Oktay et al., "Attention U-Net: learning where to look for the pancreas", arXiv:1804.03999, 2018, as in Knolle et
al., PLoS ONE 16(8):e0255397, 2021, tables 2 and 3, and in the authors' code (TUM-AIMED/MoNet, models/custom_unet.py).
31,741,573 trainable parameters; with the 11,776 running statistics these are the 31,753,349 of the paper's table 3.

U-Net-64 with a gate on each of its four skips. Departures from Oktay et al., all of them those of the comparison: the
gate is steered by the map that was brought up to the skip's grid, not by the coarser one, so that it resamples nothing;
all four skips are gated; no batch norm inside the gates; two dimensions; no deep supervision. Departure from the
comparison: logits instead of probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.plain_unet import PlainUNet


class Gate(nn.Module):
    """What comes from below, then the skip, each of its pixels weighted from 0 to 1 by both.

    width  features of each
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_skip = nn.Conv2d(width, width, kernel_size=1)
        self.of_below = nn.Conv2d(width, width, kernel_size=1)
        self.weight = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(width, 1, kernel_size=1), nn.Sigmoid())

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([below, skip * self.weight(self.of_skip(skip) + self.of_below(below))], dim=1)


class AttentionUNet(PlainUNet):
    """Image (N, channels, R, C) -> logits (N, classes, R, C); parameters and errors as of PlainUNet."""

    def __init__(
        self, channels: int = 1, classes: int = 1, filters: int = 64, depth: int = 4, dropout: float = 0.3
    ) -> None:
        super().__init__(channels, classes, filters, depth, dropout)

    def _join(self, width: int) -> nn.Module:
        return Gate(width)


ARCHITECTURES = (
    Architecture(
        name="attention-unet",
        make=AttentionUNet,
        title="Attention U-Net",
        task="segmentation",
        dimensions=2,
        source=(
            "Oktay et al., arXiv:1804.03999, 2018; Knolle et al., PLoS ONE 16(8):e0255397, 2021, table 3, and "
            "models/custom_unet.py of the authors' code"
        ),
        counts=(Count({}, 31_741_573, 11_776, 31_753_349, "table 3, running statistics included"),),
        grid=(256, 256),
        small={"filters": 2},
        departures=(
            "Logits come out: the sigmoid is the card's decision rule.",
            "As in the comparison, not as in Oktay et al.: gates are steered by the map brought up to the skip's grid, "
            "all four skips are gated, no batch norm inside the gates, two dimensions, no deep supervision.",
        ),
        remarks=("The slowest network of MoNet's table 2: 53.30 s for 150 slices of 256 x 256.",),
    ),
)
