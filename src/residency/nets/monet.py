"""MoNet, in two and in three dimensions.

Knolle, Kaissis, Jungmann, Ziegelmayer, Sasse, Makowski, Rueckert, Braren, "Efficient, high-performance semantic
segmentation using multi-scale feature extraction", PLoS ONE 16(8):e0255397, 2021, figure 1 and the authors' code
(TUM-AIMED/MoNet, models/MoNet.py, 2021-02-01). 401,666 trainable parameters in its main setting; with the 1,890 running
statistics these are the 403,556 of the paper's table 3.

Two levels down and up around "repeated dilated decreasing" blocks: four 3 x 3 convolutions of dilation 4, 3, 2 and 1
with two sums between them, so that a score draws on some 236 pixels across after only two halvings.

Departures: logits instead of probabilities. What the paper leaves open, or what a CPU likes better, is a parameter with
the paper's figure as default. The three-dimensional form and MoNet-R are ours; no figure was published for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.layers import LAYERS, Layers
from residency.nets.net import Net

DILATIONS = (4, 3, 2, 1)
"""Of the four convolutions of a block."""

ACTIVATIONS = ("elu", "relu")
UPSAMPLINGS = ("transposed", "nearest-conv3", "conv1-nearest")


class Block(nn.Module):
    """Repeated dilated decreasing block, c -> c features on one grid (figure 1, "RDDC").

    first to fourth  convolution, batch norm, activation and, but for the last, dropout of whole channels; of falling
                     dilation
    outer_residual   also add the block's input to its output, as the authors' code did until January 2021
    """

    def __init__(self, steps: Sequence[nn.Module], outer_residual: bool) -> None:
        super().__init__()
        self.first, self.second, self.third, self.fourth = steps
        self.outer_residual = outer_residual

    def forward(self, x: Tensor) -> Tensor:
        second = self.second(x + self.first(x))
        fourth: Tensor = self.fourth(second + self.third(second))
        return x + fourth if self.outer_residual else fourth


@dataclass(frozen=True)
class _Maker:
    """Makes the layers of one net; level 0 is the finest.

    flat    levels from 0 on whose kernels are one slice thick and whose halving leaves the slices alone (3D only)
    middle  dilations of the block at the coarsest level
    """

    dimensions: int
    depth: int
    dropout: float
    outer_residual: bool
    activation: str
    upsampling: str
    flat: int = 0
    middle: Sequence[int] = DILATIONS

    @property
    def kinds(self) -> Layers:
        return LAYERS[self.dimensions]

    def stage(self, level: int, inputs: int, outputs: int) -> nn.Sequential:
        """To `outputs` features, then a block."""
        dilations = self.middle if level == self.depth else DILATIONS
        steps = [self._step(level, outputs, outputs, dilation=dilation) for dilation in dilations]
        for step in steps[:-1]:
            step.append(self.kinds.dropout(self.dropout))
        return nn.Sequential(self._step(level, inputs, outputs), Block(steps, self.outer_residual))

    def down(self, level: int, features: int) -> nn.Module:
        """From `level` to the next coarser one."""
        return self._step(level, features, features, kernel=4, stride=2)

    def up(self, level: int, features: int) -> tuple[nn.Module, int]:
        """From the next coarser level to `level`; the features that come out."""
        sides = self._sides(level, 2, 1)
        if self.upsampling == "conv1-nearest":
            # The norm and the activation work on the coarse grid: they commute with the copying of values.
            narrow = self._step(level, features, features // 2, kernel=1)
            return narrow.append(nn.Upsample(scale_factor=sides, mode="nearest")), features // 2
        if self.upsampling == "nearest-conv3":
            return self._step(level, features, features).insert(0, nn.Upsample(scale_factor=sides)), features
        grow = self.kinds.transposed(
            features,
            features,
            kernel_size=self._sides(level, 4, 1),
            stride=sides,
            padding=self._sides(level, 1, 0),
            bias=False,
        )
        return nn.Sequential(grow, *self._after(features)), features

    def head(self, features: int, classes: int, normed: bool) -> nn.Sequential:
        scores = self.kinds.convolution(features, classes, kernel_size=1, bias=not normed)
        return nn.Sequential(scores, self._norm(classes)) if normed else nn.Sequential(scores)

    def _step(  # the arguments of a convolution, and where it lies
        self, level: int, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
    ) -> nn.Sequential:
        convolution = self.kinds.convolution(
            inputs,
            outputs,
            kernel_size=self._sides(level, kernel, 1),
            stride=self._sides(level, stride, 1),
            # What TensorFlow's "same" comes to here: stride 1, or 4 voxels with stride 2 on an even grid.
            padding=self._sides(level, dilation * ((kernel - 1) // 2), 0),
            dilation=self._sides(level, dilation, 1),
            bias=False,
        )
        return nn.Sequential(convolution, *self._after(outputs))

    def _after(self, features: int) -> tuple[nn.Module, nn.Module]:
        return self._norm(features), nn.ELU(inplace=True) if self.activation == "elu" else nn.ReLU(inplace=True)

    def _norm(self, features: int) -> nn.Module:
        # The defaults of Keras, whose momentum counts the other way round.
        return self.kinds.norm(features, eps=1e-3, momentum=0.01)

    def _sides(self, level: int, side: int, flat: int) -> Any:
        """`side` along each axis, `flat` across the slices of a flat level."""
        return (flat, side, side) if level < self.flat else side


class _MoNet(Net):
    """What both have; kernels are square, or cubic in three dimensions.

    filters         features of the finest level; they double with each level
    depth           levels above the bottom
    dropout         share of channels dropped inside the blocks, in training
    outer_residual  blocks add their input to their output: the authors' code had both forms, the figure has not
    activation      "elu", or "relu", which engines fuse into the convolution before it
    upsampling      "transposed": side 4 with stride 2; "nearest-conv3": copied, then side 3; "conv1-nearest": side 1 to
                    half the features, then copied
    head_bn         batch norm on the logits, as published; else a bias
    """

    first_layer = "encoders.0.0.0"
    last_layers = ("head",)

    def __init__(self, channels: int, classes: int, filters: int, head_bn: bool, maker: _Maker) -> None:
        super().__init__()
        _check(channels, classes, filters, maker)
        self.channels, self.dimensions, self.multiple = channels, maker.dimensions, 2**maker.depth
        widths = [filters * 2**level for level in range(maker.depth + 1)]
        levels = range(maker.depth)
        self.encoders = nn.ModuleList(maker.stage(i, widths[i - 1] if i else channels, widths[i]) for i in levels)
        self.downs = nn.ModuleList(maker.down(i, widths[i]) for i in levels)
        self.middle = maker.stage(maker.depth, widths[-2], widths[-1])
        self.ups, self.decoders = nn.ModuleList(), nn.ModuleList()
        for i in reversed(levels):
            up, risen = maker.up(i, widths[i + 1])
            self.ups.append(up)
            self.decoders.append(maker.stage(i, widths[i] + risen, widths[i]))
        self.head = maker.head(filters, classes, head_bn)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.kaiming_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def scores(self, image: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = image
        for encode, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encode(x))
            x = down(skips[-1])
        x = self.middle(x)
        for up, decode, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decode(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


class MoNet(_MoNet):
    """Image (N, channels, R, C) -> logits (N, classes, R, C); R and C multiples of 2**depth.

    Raises ValueError for values that make no net.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        *,
        filters: int = 16,
        depth: int = 2,
        dropout: float = 0.2,
        outer_residual: bool = False,
        activation: str = "elu",
        upsampling: str = "transposed",
        head_bn: bool = True,
    ) -> None:
        maker = _Maker(2, depth, dropout, outer_residual, activation, upsampling)
        super().__init__(channels, classes, filters, head_bn, maker)


class MoNet3D(_MoNet):
    """Image (N, channels, S, R, C) -> logits (N, classes, S, R, C); sides multiples of 2**depth.

    flat_levels       levels, finest first, with kernels one slice thick and no halving across slices: one where the
                      spacing of slices is three times that of pixels or more
    middle_dilations  of the coarsest block; 4 there spans 33 voxels of the image, so that on tiles below 96 half of
                      what it reads is padding, and (3, 2, 1, 1) does better

    Raises ValueError for values that make no net.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        *,
        filters: int = 16,
        depth: int = 2,
        dropout: float = 0.2,
        outer_residual: bool = False,
        activation: str = "elu",
        upsampling: str = "transposed",
        head_bn: bool = True,
        flat_levels: int = 0,
        middle_dilations: Sequence[int] = DILATIONS,
    ) -> None:
        maker = _Maker(3, depth, dropout, outer_residual, activation, upsampling, flat_levels, tuple(middle_dilations))
        super().__init__(channels, classes, filters, head_bn, maker)


def _check(channels: int, classes: int, filters: int, maker: _Maker) -> None:
    if min(channels, classes, filters, maker.depth) < 1:
        raise ValueError("a MoNet needs at least one channel, class, filter and level of depth")
    if not 0 <= maker.dropout < 1:
        raise ValueError(f"dropout is a share from 0 to below 1, got {maker.dropout}")
    if maker.activation not in ACTIVATIONS:
        raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, got '{maker.activation}'")
    if maker.upsampling not in UPSAMPLINGS:
        raise ValueError(f"upsampling is one of {', '.join(UPSAMPLINGS)}, got '{maker.upsampling}'")
    if not 0 <= maker.flat <= maker.depth:
        raise ValueError(f"flat_levels is a number from 0 to the depth, {maker.depth}, got {maker.flat}")
    if len(maker.middle) != len(DILATIONS) or min(maker.middle) < 1:
        raise ValueError(f"middle_dilations are four whole numbers from 1 on, got {maker.middle}")


_PAPER = "Knolle et al., PLoS ONE 16(8):e0255397, 2021"
_BLOCK = (
    "The authors' code added a block's input to its output until January 2021 and no longer since, the tables did not "
    "change, and the number of parameters cannot tell: `outer_residual` offers both, the default is the figure."
)
_LOGITS = "Logits come out: sigmoid or softmax is the card's decision rule."

ARCHITECTURES = (
    Architecture(
        name="monet",
        make=MoNet,
        title="MoNet",
        task="segmentation",
        dimensions=2,
        source=f"{_PAPER}, figure 1 and models/MoNet.py of the authors' code",
        counts=(
            Count({}, 401_666, 1_890, 403_556, "table 3, running statistics included"),
            Count({"channels": 4, "classes": 4}, 402_152, 1_896),
            Count({"outer_residual": True}, 401_666, 1_890, 403_556, "table 3, running statistics included"),
            Count({"upsampling": "nearest-conv3"}, 365_826, 1_890),
            Count({"upsampling": "conv1-nearest"}, 310_690, 1_794),
        ),
        grid=(256, 256),
        small={"filters": 4},
        departures=(_LOGITS,),
        remarks=(
            "Small, not fast: it does 4.76 G multiply-accumulates a slice of 256 x 256 where U-Net-16 does 3.01 G, and "
            "table 2 of its own paper has U-Net-16 at half its time (7.03 against 14.88 s for 150 slices); the paper's "
            "advantage in time is over networks of 64 filters.",
            "What it saves is storage and transfer: a round of federated learning moves 3.2 MB a site, down and up, "
            "against 15.6 MB for U-Net-16.",
            _BLOCK,
            "The published Dice was measured on scans cropped along the slices around the reference outline, so that "
            "what it finds elsewhere was never counted.",
            "The batch norm of the logits is published so; export folds it into weight and bias of the head.",
        ),
    ),
    Architecture(
        name="monet-r",
        make=partial(MoNet, activation="relu", upsampling="conv1-nearest"),
        title="MoNet-R",
        task="segmentation",
        dimensions=2,
        source=f"after {_PAPER}; activation and upsampling are our own",
        counts=(Count({}, 310_690, 1_794, where="our own setting: no figure was published for it"),),
        grid=(256, 256),
        small={"filters": 4},
        departures=(
            _LOGITS,
            "ReLU in place of ELU.",
            "A 1 x 1 convolution to half the features, then copied values, in place of 4 x 4 transposed convolutions.",
        ),
        remarks=(
            "Faster than MoNet on plain CPUs: 17 % less work, and an activation that engines fuse. U-Net-16 is faster "
            "still, in every engine; what MoNet-R keeps is the size.",
            _BLOCK,
        ),
    ),
    Architecture(
        name="monet-3d",
        make=MoNet3D,
        title="MoNet in three dimensions",
        task="segmentation",
        dimensions=3,
        source=f"after {_PAPER}; the third dimension is our own",
        counts=(
            Count({}, 1_303_586, 1_890, where="our own setting: no figure was published for it"),
            Count({"filters": 8}, 326_482, 946, where="our own setting: no figure was published for it"),
        ),
        grid=(96, 96, 96),
        small={"filters": 4},
        departures=(_LOGITS, "Every layer of MoNet in three dimensions."),
        remarks=(
            "Three times the parameters of MoNet, since kernels have 27 weights in place of 9.",
            "Give it tiles of 96 voxels or more, or smaller dilations at the middle: see `middle_dilations`.",
            "`flat_levels` is for thick slices.",
            _BLOCK,
        ),
    ),
)
