"""A small 3D U-Net.

After Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, in three dimensions as in Çiçek et al., "3D U-Net", MICCAI
2016. Departures, all of them since usual (Isensee et al., "nnU-Net", Nature Methods 2021): padded convolutions, so that
the scores lie on the grid of the image; instance in place of batch normalisation, since batches are small and a volume
must get the same answer whatever it is batched with; leaky ReLU; three levels in place of four; no doubling of features
before pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net

SLOPE = 0.01
"""Negative slope of the leaky ReLU."""


class UNet(Net):
    """Two convolutions a level, going down by maximum pooling and up by transposed convolution, joined by skips.

    features  of each level, finest first; (16, 40, 96) with one channel and three classes has 607,451 parameters
    """

    first_layer = "down.0.0"
    last_layers = ("head",)

    def __init__(self, channels: int = 1, classes: int = 3, features: Sequence[int] = (16, 40, 96)) -> None:
        super().__init__()
        if channels < 1 or classes < 1 or len(features) < 2 or min(features) < 1:
            raise ValueError("a U-Net needs a channel, a class and two levels of at least one feature")
        fine_to_coarse = list(zip([channels, *features], features, strict=False))
        coarse_to_fine = list(zip(features[:0:-1], features[-2::-1], strict=True))
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in fine_to_coarse)
        self.grow = nn.ModuleList(nn.ConvTranspose3d(a, b, kernel_size=2, stride=2) for a, b in coarse_to_fine)
        self.up = nn.ModuleList(_convolutions(2 * b, b) for _, b in coarse_to_fine)
        self.head = nn.Conv3d(features[0], classes, kernel_size=1)
        self.channels, self.multiple = channels, 2 ** (len(features) - 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)

    def scores(self, image: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        x = image
        for level, convolutions in enumerate(self.down):
            if level:
                x = nn.functional.max_pool3d(x, kernel_size=2)
            x = convolutions(x)
            skipped.append(x)
        for grow, convolutions, skip in zip(self.grow, self.up, reversed(skipped[:-1]), strict=True):
            x = convolutions(torch.cat([skip, grow(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(inputs, outputs), *_convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(inputs, outputs, kernel_size=3, padding=1, bias=False),  # the normalisation brings its own shift
        nn.InstanceNorm3d(outputs, affine=True),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


ARCHITECTURES = (
    Architecture(
        name="unet",
        make=UNet,
        title="Small 3D U-Net",
        task="segmentation",
        dimensions=3,
        source="Ronneberger, Fischer, Brox, MICCAI 2015, figure 1; Çiçek et al., MICCAI 2016, figure 2",
        counts=(Count({}, 607_451, where="our own setting: no figure was published for it"),),
        grid=(48, 64, 48),
        small={"features": (4, 8)},
        departures=(
            "Padded convolutions, instance normalisation and leaky ReLU, as usual since nnU-Net.",
            "Three levels, and features are not doubled before pooling.",
        ),
    ),
)
