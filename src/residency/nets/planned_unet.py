"""The 3D U-Net whose topology nnU-Net plans from the images, without residual blocks.

After Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature
Methods 2021, 18:203-211, figure 2 and supplementary note 2: class PlainConvUNet of the authors' package
dynamic-network-architectures, as the configurations 3d_fullres and 3d_lowres make it. 31,194,050 parameters with one
channel, two classes and six stages, which is what near-isotropic images of 128 x 128 x 128 voxels get; the paper
prints none.

Two convolutions a stage, going down by strides and up by transposed convolutions; instance normalisation, leaky ReLU.
The biases of convolutions before a normalisation have no effect and are kept, as there.

Departures: heads of the coarser stages, which only training looks at, do not exist; nnU-Net always makes them.
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


class PlannedUNet(Net):
    """Convolutions going down, the first of each stage with a stride; transposed convolutions going up; skips.

    features  of each stage, finest first
    down      convolutions of each stage going down
    up        convolutions of each stage going up, coarsest first: one number fewer
    kernels   odd sides of each stage's kernels: one a stage, or three (slice, row, column) a stage, one after the
              other in one list: [1, 3, 3, 3, 3, 3] is 1 x 3 x 3, then 3 x 3 x 3; where slices are more than twice as
              far apart as pixels, nnU-Net takes 1 across slices
    strides   of each stage's first convolution, likewise; 1 for the first stage
    """

    first_layer = "down.0.0.0"
    last_layers = ("head",)

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        *,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        down: Sequence[int] = (2, 2, 2, 2, 2, 2),
        up: Sequence[int] = (2, 2, 2, 2, 2),
        kernels: Sequence[int] = (3, 3, 3, 3, 3, 3),
        strides: Sequence[int] = (1, 2, 2, 2, 2, 2),
    ) -> None:
        super().__init__()
        stages = len(features)
        if channels < 1 or classes < 1 or stages < 2 or min(features) < 1:
            raise ValueError("needs a channel, a class, and two stages of at least one feature")
        if len(down) != stages or len(up) != stages - 1 or min(*down, *up) < 1:
            raise ValueError(f"{stages} stages need {stages} numbers of convolutions down and {stages - 1} up, from 1")
        sides, steps = triples("kernels", kernels, stages), triples("strides", strides, stages)
        if any(side % 2 == 0 for triple in sides for side in triple):
            raise ValueError("kernels have odd sides, so that they have a centre")
        if steps[0] != (1, 1, 1):
            raise ValueError("the first stage has stride 1: scores lie on the grid of the image")
        reductions = [prod(axis) for axis in zip(*steps, strict=True)]
        self.channels, self.by_axis = channels, of_strides(reductions)
        self.multiple = lcm(*reductions)
        self.least = max(self.multiple, *self.leasts)
        self.down = nn.ModuleList(
            _stage(finer, own, number, side, step)
            for finer, own, number, side, step in zip(
                [channels, *features[:-1]], features, down, sides, steps, strict=True
            )
        )
        joints = list(zip(features[1:], features[:-1], sides[:-1], steps[1:], strict=True))[::-1]
        self.grow = nn.ModuleList(nn.ConvTranspose3d(below, own, step, step) for below, own, _, step in joints)
        self.up = nn.ModuleList(
            _stage(2 * own, own, number, side, (1, 1, 1)) for (_, own, side, _), number in zip(joints, up, strict=True)
        )
        self.head = nn.Conv3d(features[0], classes, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def scores(self, image: Tensor) -> Tensor:
        skipped, x = [], image
        for stage in self.down:
            x = stage(x)
            skipped.append(x)
        for grow, mix, skip in zip(self.grow, self.up, reversed(skipped[:-1]), strict=True):
            x = mix(torch.cat([grow(x), skip], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _stage(inputs: int, outputs: int, number: int, side: Triple, stride: Triple) -> nn.Sequential:
    """Convolution, norm and activation, `number` times; the first with the stride."""
    padding = (side[0] // 2, side[1] // 2, side[2] // 2)
    return nn.Sequential(
        *(
            nn.Sequential(
                nn.Conv3d(outputs if k else inputs, outputs, side, (1, 1, 1) if k else stride, padding),
                nn.InstanceNorm3d(outputs, eps=1e-5, affine=True),
                nn.LeakyReLU(SLOPE, inplace=True),
            )
            for k in range(number)
        )
    )


ARCHITECTURES = (
    Architecture(
        name="planned-unet",
        make=PlannedUNet,
        title="3D U-Net as nnU-Net plans it",
        task="segmentation",
        dimensions=3,
        source="Isensee et al., Nature Methods 2021, supplementary note 2, configuration 3d_fullres",
        counts=(Count({}, 31_194_050, where="our count; no figure was published for it"),),
        grid=(128, 128, 128),
        small={
            "features": (4, 8, 8),
            "down": (2, 2, 2),
            "up": (2, 2),
            "kernels": (3, 3, 3),
            "strides": (1, 2, 2),
        },
        departures=("Heads of the coarser stages, for deep supervision, do not exist.",),
        remarks=(
            "For images with thick slices give kernels and strides per axis, as nnU-Net's planner would.",
            "`residency import nnunet` brings trained weights into it.",
        ),
    ),
)
