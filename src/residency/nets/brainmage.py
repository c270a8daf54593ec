"""The residual 3D U-Net of BrainMaGe, for brain extraction from any contrast of MR.

After Thakur et al., "Brain extraction on MRI scans in presence of diffuse glioma: Multi-institutional performance
evaluation of deep learning methods and robust modality-agnostic training", NeuroImage 220:117081 (2020), the network as
in the reference implementation (CBICA/BrainMaGe, `resunet`); it is the network that Thakur et al., "Optimization of
deep learning based brain extraction in MRI for low resource environments", BrainLes 2021, run in INT8. 8,290,417
trainable parameters and 4,896 running statistics with one channel, one logit and 16 features; 174.6 G
multiply-accumulates at 128 x 128 x 128.

Its "instance normalisation" keeps running statistics: volumes are normalised by their own statistics in training, by
the running ones in inference, where it is therefore a batch normalisation. Weights loaded into a net without the
statistics compute another function; here such a load is an error. `instance_stats` gives the true instance norm.

Departures: logits where the reference ends in a sigmoid.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net

SLOPE = 0.01
"""Negative slope of every leaky ReLU."""

_LEVELS = 4


class BrainMageResUNet(Net):
    """Pre-activated residual blocks, going down by strided convolution and up by trilinear interpolation.

    features        of the finest level; they double four times
    dropout         share of feature maps left out in the encoder's blocks, in training only
    instance_stats  normalise by the volume's own statistics in inference too; then there are no running statistics
    upsample_first  interpolate, then mix channels by a 1x1x1 convolution, as published; False mixes first, which gives
                    the same scores (interpolation weights sum to one) for an eighth of that convolution's work. The
                    two have the same parameters by the same names.
    """

    first_layer = "stem.0"
    last_layers = ("head.2",)

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        features: int = 16,
        dropout: float = 0.3,
        instance_stats: bool = False,
        upsample_first: bool = True,
    ) -> None:
        super().__init__()
        if channels < 1 or classes < 1 or features < 1 or not 0 <= dropout < 1:
            raise ValueError("needs a channel, a class, a feature, and a dropout of at least 0 and less than 1")
        self.channels, self.multiple, self.least = channels, 2**_LEVELS, 2 * 2**_LEVELS
        running = not instance_stats
        widths = [features * 2**level for level in range(_LEVELS + 1)]
        self.stem = nn.Sequential(_mixed(channels, features), _Residual(features, running, dropout))
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(fine, coarse, kernel_size=3, stride=2, padding=1),
                *_activated(coarse, running),
                _Residual(coarse, running, dropout),
            )
            for fine, coarse in pairwise(widths)
        )
        coarse_to_fine = widths[-2::-1]
        self.grow = nn.ModuleList(_Growth(2 * fine, fine, upsample_first) for fine in coarse_to_fine)
        self.up = nn.ModuleList(
            nn.Sequential(*_activated(2 * fine, running), _mixed(2 * fine, fine), _Residual(fine, running))
            for fine in coarse_to_fine
        )
        self.head = nn.Sequential(*_activated(features, running), nn.Conv3d(features, classes, kernel_size=1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)

    def scores(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        skipped = []
        for level in self.down:
            skipped.append(x)
            x = level(x)
        for grow, level, skip in zip(self.grow, self.up, reversed(skipped), strict=True):
            x = level(torch.cat([grow(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


class _Residual(nn.Module):
    """x + f(x), f with two pre-activated convolutions."""

    def __init__(self, features: int, running: bool, dropout: float | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_activated(features, running),
            _mixed(features, features),
            *(() if dropout is None else (nn.Dropout3d(dropout),)),
            *_activated(features, running),
            _mixed(features, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.body(x)
        return x + residual


class _Growth(nn.Module):
    """Twice the grid, half the features."""

    def __init__(self, inputs: int, outputs: int, upsample_first: bool) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
        self.mix = nn.Conv3d(inputs, outputs, kernel_size=1)
        self.upsample_first = upsample_first

    def forward(self, x: Tensor) -> Tensor:
        grown: Tensor = self.mix(self.upsample(x)) if self.upsample_first else self.upsample(self.mix(x))
        return grown


def _activated(features: int, running: bool) -> tuple[nn.Module, nn.Module]:
    norm = nn.InstanceNorm3d(features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=running)
    return norm, nn.LeakyReLU(SLOPE, inplace=True)


def _mixed(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)


ARCHITECTURES = (
    Architecture(
        name="brainmage-resunet",
        make=BrainMageResUNet,
        title="BrainMaGe 3D ResU-Net",
        task="segmentation",
        dimensions=3,
        source="Thakur et al., NeuroImage 220:117081 (2020); network `resunet` of CBICA/BrainMaGe",
        counts=(
            Count({}, 8_290_417, statistics=4_896, where="one channel, modality-agnostic; our count"),
            Count({"channels": 4}, 8_291_713, statistics=4_896, where="four contrasts of MR at once; our count"),
        ),
        grid=(128, 128, 128),
        small={"features": 4},
        departures=("Ends in logits; the reference ends in a sigmoid.",),
        remarks=(
            "Normalises by running statistics in inference: loading weights without them is refused.",
            "Per-volume statistics (`instance_stats`) made INT8 err about four times as much on random weights.",
        ),
    ),
)
