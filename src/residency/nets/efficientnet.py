"""EfficientNetV2-S.

Tan, Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, table 4; its inverted bottlenecks are those of
Sandler et al., "MobileNetV2", CVPR 2018, its squeeze and excitation that of Hu et al., CVPR 2018, its stochastic depth
that of Huang et al., ECCV 2016. With 3 channels and 1000 classes 21,458,488 parameters.

Departures: a convolution with stride 2 pads both sides, where the source's framework pads an even grid on its far side
only; the linear layer is initialised by the number of its inputs, not of its outputs, so that few classes do not start
with large logits. Names of layers are those of torchvision, so that its published weights load strictly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net

EPSILON = 1e-3
"""Added to the variance in each normalisation."""

SQUEEZE = 4
"""Squeeze and excitation works on one feature for so many that enter the block."""


class Stage(NamedTuple):
    """A row of table 4. Fused blocks have one 3x3 convolution in place of the 1x1 and the 3x3 of each feature alone."""

    fused: bool
    expansion: int
    stride: int
    features: int


TABLE_4 = (
    Stage(True, 1, 1, 24),
    Stage(True, 4, 2, 48),
    Stage(True, 4, 2, 64),
    Stage(False, 4, 2, 128),
    Stage(False, 6, 1, 160),
    Stage(False, 6, 2, 256),
)
BLOCKS_S = (2, 4, 4, 6, 9, 15)
"""Blocks of each stage."""

STEM, TOP = 24, 1280
"""Features of the first convolution, and of the 1x1 convolution after the stages."""

STEMS = {"image": 2, "small": 1}
"""Name of a stem -> stride of its convolution."""

DEEPEST = (1, 2, 3, 5, 6)
"""Stages, counted from 1, after which no other has the same stride: their maps are the features of an encoder."""


class EfficientNet(Net):
    """Inverted bottlenecks, fused in the first three stages, with squeeze and excitation in the last three.

    blocks            of each of the six stages
    width             features of the first convolution; the other features of table 4 go with it
    stem              "image": stride 2, as the paper has it; "small": stride 1, for small images (published weights
                      still load)
    dropout           share of the last features dropped in training
    stochastic_depth  probability with which the last block would be left out in training if there were one more: it
                      rises in a straight line from 0 at the first

    As an encoder: `features` gives five maps with `feature_channels` at `feature_strides`; `without_head` takes away
    what only `scores` needs. `first_layer`, `head` and `left_out` are for `residency.nets.weights`.
    """

    first_layer = "features.0.0"
    head = "classifier.1"
    left_out: tuple[str, ...] = ()

    def __init__(
        self,
        blocks: Sequence[int] = BLOCKS_S,
        *,
        channels: int = 3,
        classes: int = 1000,
        width: int = STEM,
        stem: str = "image",
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
    ) -> None:
        super().__init__()
        if len(blocks) != len(TABLE_4) or min(blocks) < 1:
            raise ValueError(f"an EfficientNetV2 has six stages of at least one block, not blocks={tuple(blocks)}")
        if stem not in STEMS:
            raise ValueError(f"unknown stem '{stem}' (known: {', '.join(STEMS)})")
        if channels < 1 or classes < 2 or width < 1 or not (0 <= dropout < 1 and 0 <= stochastic_depth < 1):
            raise ValueError(
                "an EfficientNetV2 needs a channel, two classes, a width of at least one feature, and a dropout and a "
                "stochastic depth of at least 0 and less than 1"
            )
        counts = [max(1, round(count * width / STEM)) for count in (STEM, *(stage.features for stage in TABLE_4), TOP)]
        parts: list[nn.Module] = [_convolution(channels, counts[0], 3, stride=STEMS[stem])]
        made, total = 0, sum(blocks)
        for stage, (inputs, outputs), depth in zip(TABLE_4, pairwise(counts[:-1]), blocks, strict=True):
            row: list[nn.Module] = []
            for position in range(depth):
                left_out = stochastic_depth * made / total
                row.append(Block(stage, outputs if position else inputs, outputs, position == 0, left_out))
                made += 1
            parts.append(nn.Sequential(*row))
        parts.append(_convolution(counts[-2], counts[-1], 1))
        self.features = Trunk(*parts)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.classifier: nn.Module = nn.Sequential(nn.Dropout(dropout), nn.Linear(counts[-1], classes))
        self.channels, self.dimensions = channels, 2
        self.feature_channels = tuple(counts[stage] for stage in DEEPEST)
        self.feature_strides = tuple(STEMS[stem] * times for times in (1, 2, 4, 8, 16))
        # A shorter side would pass, but the last stage would then be coarser than the whole image.
        self.least = self.feature_strides[-1]
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def scores(self, image: Tensor) -> Tensor:
        last = self.features.top(self.features(image)[-1])
        logits: Tensor = self.classifier(self.flatten(self.avgpool(last)))
        return logits

    def without_head(self) -> Self:
        """This net, its last 1x1 convolution and linear layer taken away in place: all that is left is the encoder."""
        self.features[-1], self.classifier = nn.Identity(), nn.Identity()
        self.left_out = (f"features.{len(self.features) - 1}", "classifier")
        return self


class Trunk(nn.Sequential):
    """The first convolution, the stages and the last 1x1 convolution; called, it gives the maps of an encoder."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps of the image (N, channels, R, C), finest first, each after the last stage of its stride."""
        maps, x = [], image
        for number, part in enumerate(list(self)[:-1]):
            x = part(x)
            if number in DEEPEST:
                maps.append(x)
        return maps

    @property
    def top(self) -> nn.Module:
        """The last 1x1 convolution: it enters the scores, no map."""
        return self[-1]


class Block(nn.Module):
    """An inverted bottleneck: to `expansion` times the features, 3x3, back; with a shortcut where the shape stays."""

    def __init__(self, stage: Stage, inputs: int, outputs: int, first: bool, left_out: float) -> None:
        super().__init__()
        stride, inner = stage.stride if first else 1, inputs * stage.expansion
        if not stage.fused:
            self.block = nn.Sequential(
                _convolution(inputs, inner, 1),
                _convolution(inner, inner, 3, stride=stride, groups=inner),
                SqueezeExcitation(inner, max(1, inputs // SQUEEZE)),
                _convolution(inner, outputs, 1, activated=False),
            )
        elif stage.expansion > 1:
            self.block = nn.Sequential(
                _convolution(inputs, inner, 3, stride=stride), _convolution(inner, outputs, 1, activated=False)
            )
        else:
            self.block = nn.Sequential(_convolution(inputs, outputs, 3, stride=stride))
        self.shortcut = stride == 1 and inputs == outputs
        self.stochastic_depth = StochasticDepth(left_out)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.block(x)
        return x + self.stochastic_depth(inner) if self.shortcut else inner


class SqueezeExcitation(nn.Module):
    """Weighs each feature by what its mean over the grid, and that of the others, says."""

    def __init__(self, features: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(features, squeezed, kernel_size=1)
        self.activation = nn.SiLU(inplace=True)
        self.fc2 = nn.Conv2d(squeezed, features, kernel_size=1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.gate(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return x * weights


class StochasticDepth(nn.Module):
    """In training, leaves out what each image of a batch adds with probability `left_out`, and scales the rest up."""

    def __init__(self, left_out: float) -> None:
        super().__init__()
        self.left_out = left_out

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.left_out == 0:
            return x
        kept = 1 - self.left_out
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(kept).div_(kept)

    def extra_repr(self) -> str:
        return f"left_out={self.left_out:.4g}"


def _convolution(
    inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON),
        *([nn.SiLU(inplace=True)] if activated else []),
    )


def _make(
    *,
    channels: int = 3,
    classes: int = 1000,
    width: int = STEM,
    stem: str = "image",
    dropout: float = 0.2,
    stochastic_depth: float = 0.2,
    blocks: Sequence[int] = BLOCKS_S,
) -> EfficientNet:
    return EfficientNet(
        blocks,
        channels=channels,
        classes=classes,
        width=width,
        stem=stem,
        dropout=dropout,
        stochastic_depth=stochastic_depth,
    )


ARCHITECTURES = (
    Architecture(
        name="efficientnetv2-s",
        make=_make,
        title="EfficientNetV2-S",
        task="classification",
        dimensions=2,
        source="Tan, Le, ICML 2021, table 4",
        counts=(Count({}, 21_458_488, 153_872, 21_458_488, "torchvision 0.29, documentation of its weights"),),
        grid=(224, 224),
        small={"width": 8, "blocks": (1, 1, 1, 1, 1, 1)},
        departures=(
            "A convolution with stride 2 pads both sides of the grid, not the far side only.",
            "The linear layer is initialised by the number of its inputs, not of its outputs.",
        ),
        remarks=(
            "The weights that torchvision publishes expect 384 pixels a side.",
            "For images of some 32 pixels a side take stem `small`; published weights still load.",
        ),
    ),
)
