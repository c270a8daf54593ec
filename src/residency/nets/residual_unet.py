"""A 3D U-Net with a residual encoder, as nnU-Net proposes it by default today.

After Isensee et al., "nnU-Net Revisited: A Call for Rigorous Validation in 3D Medical Image Segmentation", MICCAI 2024,
presets ResEnc M, L and XL (they differ in patch and batch, not in the net), with the topology that nnU-Net plans for
near-isotropic spacing and six stages; blocks after He et al., "Bag of Tricks for Image Classification", CVPR 2019,
figure 2c (ResNet-D). 102,348,226 parameters with one channel and two classes; the paper prints none.

The biases of convolutions before a normalisation have no effect and are kept, as there.

Departures: heads of the coarser stages exist only where deep supervision is asked for; nnU-Net always makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net
from residency.nets.sides import of_strides
from residency.nets.stages import Triple, triples

SLOPE = 0.01
"""Negative slope of every leaky ReLU."""


class ResidualEncoderUNet(Net):
    """Residual stages going down, one convolution a stage going up by transposed convolution.

    features          of each stage, finest first
    blocks            residual blocks of each stage
    kernels           odd sides of each stage's kernels: one a stage, or three (slice, row, column) a stage, one after
                      the other in one list: [1, 3, 3, 3, 3, 3] is 1 x 3 x 3, then 3 x 3 x 3; where slices are more
                      than twice as far apart as pixels, nnU-Net takes 1 across slices
    strides           of each stage's first block, likewise; 1 for the first stage
    residual_start    scale of each block's second normalisation before training: with 0, as in nnU-Net, a fresh block
                      is its shortcut alone
    deep_supervision  heads for the coarser stages too: training then judges the scores on each of these grids,
                      as nnU-Net does; what the net answers in use comes from the finest alone
    """

    first_layer = "stem.0"
    last_layers = ("head", "auxiliary")

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        *,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        blocks: Sequence[int] = (1, 3, 4, 6, 6, 6),
        kernels: Sequence[int] = (3, 3, 3, 3, 3, 3),
        strides: Sequence[int] = (1, 2, 2, 2, 2, 2),
        residual_start: float = 0.0,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        stages = len(features)
        if channels < 1 or classes < 1 or stages < 2 or min(features) < 1:
            raise ValueError("needs a channel, a class, and two stages of at least one feature")
        if len(blocks) != stages or min(blocks) < 1:
            raise ValueError(f"{stages} stages of features need as many numbers of blocks, each at least 1")
        sides, steps = triples("kernels", kernels, stages), triples("strides", strides, stages)
        if any(side % 2 == 0 for triple in sides for side in triple):
            raise ValueError("kernels have odd sides, so that they have a centre")
        if steps[0] != (1, 1, 1):
            raise ValueError("the first stage has stride 1: scores lie on the grid of the image")
        reductions = [prod(axis) for axis in zip(*steps, strict=True)]
        self.channels, self.by_axis = channels, of_strides(reductions)
        self.multiple = lcm(*reductions)
        self.least = max(self.multiple, *self.leasts)
        self.stem = nn.Sequential(*_normed(channels, features[0], sides[0]), nn.LeakyReLU(SLOPE, inplace=True))
        self.down = nn.ModuleList(
            nn.Sequential(
                _Block(finer, own, side, step),
                *(_Block(own, own, side, (1, 1, 1)) for _ in range(number - 1)),
            )
            for finer, own, side, step, number in zip(
                [features[0], *features[:-1]], features, sides, steps, blocks, strict=True
            )
        )
        joints = list(zip(features[1:], features[:-1], sides[:-1], steps[1:], strict=True))[::-1]
        self.grow = nn.ModuleList(nn.ConvTranspose3d(below, own, step, step) for below, own, _, step in joints)
        self.up = nn.ModuleList(
            nn.Sequential(*_normed(2 * own, own, side), nn.LeakyReLU(SLOPE, inplace=True)) for _, own, side, _ in joints
        )
        self.head = nn.Conv3d(features[0], classes, kernel_size=1)
        coarser = features[1:-1] if deep_supervision else ()
        self.auxiliary = nn.ModuleList(nn.Conv3d(own, classes, kernel_size=1) for own in coarser)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, _Block):
                nn.init.constant_(layer.norm2.weight, residual_start)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self._maps(image)[0])
        return logits

    def deep_scores(self, image: Tensor) -> list[Tensor]:
        """For training: logits on the image's grid, then on each coarser one but the coarsest, (N, classes, *grid).

        Each grid is the one before divided by the next stage's strides. Raises ValueError as a call does.
        """
        self._check(image)
        heads = [self.head, *self.auxiliary]
        return [head(own) for head, own in zip(heads, self._maps(image), strict=False)]

    def _maps(self, image: Tensor) -> list[Tensor]:
        """What each stage of the decoder gives, finest first."""
        skipped, x = [], self.stem(image)
        for stage in self.down:
            x = stage(x)
            skipped.append(x)
        maps = []
        for grow, mix, skip in zip(self.grow, self.up, reversed(skipped[:-1]), strict=True):
            x = mix(torch.cat([grow(x), skip], dim=1))
            maps.append(x)
        return maps[::-1]


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is pooled by the mean and mixed by 1x1x1 where the size changes."""

    def __init__(self, inputs: int, outputs: int, side: Triple, stride: Triple) -> None:
        super().__init__()
        self.conv1, self.norm1 = _normed(inputs, outputs, side, stride)
        self.activation1 = nn.LeakyReLU(SLOPE, inplace=True)
        self.conv2, self.norm2 = _normed(outputs, outputs, side)
        shortcut: list[nn.Module] = []
        if stride != (1, 1, 1):
            shortcut.append(nn.AvgPool3d(stride, stride))
        if inputs != outputs:
            shortcut += [
                nn.Conv3d(inputs, outputs, kernel_size=1, bias=False),
                nn.InstanceNorm3d(outputs, eps=1e-5, affine=True),
            ]
        self.shortcut = nn.Sequential(*shortcut)
        self.activation2 = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        total: Tensor = self.activation2(inner + self.shortcut(x))
        return total


def _normed(inputs: int, outputs: int, side: Triple, stride: Triple = (1, 1, 1)) -> tuple[nn.Conv3d, nn.InstanceNorm3d]:
    padding = (side[0] // 2, side[1] // 2, side[2] // 2)
    return nn.Conv3d(inputs, outputs, side, stride, padding), nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)


ARCHITECTURES = (
    Architecture(
        name="resenc-unet",
        make=ResidualEncoderUNet,
        title="3D U-Net with a residual encoder",
        task="segmentation",
        dimensions=3,
        source='Isensee et al., "nnU-Net Revisited", MICCAI 2024, presets ResEnc',
        counts=(
            Count({}, 102_348_226, where="our count; no figure was published for it"),
            Count({"deep_supervision": True}, 102_349_770, where="our count, with the heads of the coarser stages"),
        ),
        grid=(128, 128, 128),
        small={
            "features": (4, 8, 8),
            "blocks": (1, 2, 1),
            "kernels": (3, 3, 3),
            "strides": (1, 2, 2),
            "residual_start": 1.0,
        },
        departures=("Heads of the coarser stages exist only with `deep_supervision`.",),
        remarks=(
            "For images with thick slices give kernels and strides per axis, as nnU-Net's planner would.",
            "Made for GPUs: on a CPU take fewer features and blocks.",
        ),
    ),
)
