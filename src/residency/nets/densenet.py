"""DenseNet-121 in two and in three dimensions.

Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017, table 1 (DenseNet-BC,
growth 32, compression 0.5). With 3 channels and 1000 classes 7,978,856 parameters in 2D.

Departures: in three dimensions every k x k kernel becomes k x k x k, every stride acts on all three axes. Names of
layers are those of torchvision, so that its published weights load strictly, also where its file still has the names of
before 2018 ("norm.1" for "norm1"). Initialised as in He et al., "Delving Deep into Rectifiers", ICCV 2015.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.layers import LAYERS
from residency.nets.net import Net

BOTTLENECK = 4
"""A layer's 1x1 convolution gives so many times the growth."""

STEMS = {"image": (7, 2), "unstrided": (7, 1), "small": (3, 1)}
"""Name of a stem -> side and stride of its convolution; only "image" has a maximum pooling after it."""

BLOCKS_121 = (6, 12, 24, 16)
"""Layers of each dense block (table 1)."""


class DenseNet(Net):
    """Dense blocks, in which each layer sees all that came before it, joined by transitions that halve maps and grid.

    blocks   layers of each dense block
    width    features of the stem
    growth   features that each layer adds
    stem     "image": 7x7 with stride 2, then 3x3 maximum pooling with stride 2, as the paper has it; "unstrided":
             7x7 with stride 1 and no pooling, for small images and volumes (published weights still load);
             "small": 3x3 with stride 1 and no pooling, the paper's form for CIFAR-10 (section 3)
    dropout  share of the features of each layer dropped in training; the paper has 0.2 where data are not augmented
    """

    first_layer = "features.conv0"
    head = "classifier"
    left_out: tuple[str, ...] = ()
    old_names = (r"(denselayer\d+)\.(norm|conv)\.([12])\.", r"\1.\2\3.")
    """Pattern and replacement that turn names of torchvision's files of before 2018 into today's."""

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        dimensions: int,
        channels: int,
        classes: int,
        width: int = 64,
        growth: int = 32,
        stem: str = "image",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not blocks or min(blocks) < 1:
            raise ValueError(f"a DenseNet has blocks of at least one layer, not blocks={tuple(blocks)}")
        if stem not in STEMS:
            raise ValueError(f"unknown stem '{stem}' (known: {', '.join(STEMS)})")
        if channels < 1 or classes < 2 or width < 2 or growth < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "a DenseNet needs a channel, two classes, a width of two, a growth of one feature, "
                "and a dropout of at least 0 and less than 1"
            )
        layers = LAYERS[dimensions]
        side, stride = STEMS[stem]
        pooled = stem == "image"
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=layers.convolution(channels, width, side, stride=stride, padding=side // 2, bias=False),
            norm0=layers.norm(width),
            relu0=nn.ReLU(inplace=True),
            pool0=layers.maximum(kernel_size=3, stride=2, padding=1) if pooled else nn.Identity(),
        )
        count = width
        for number, depth in enumerate(blocks, start=1):
            parts[f"denseblock{number}"] = DenseBlock(dimensions, depth, count, growth, dropout)
            count += depth * growth
            if number < len(blocks):
                parts[f"transition{number}"] = _transition(dimensions, count)
                count //= 2
        parts[f"norm{len(blocks) + 1}"] = layers.norm(count)
        self.features = nn.Sequential(parts)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = layers.adaptive_average(1)
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Linear(count, classes)
        # Below its whole stride a net has no voxel left for the last block, or next to none.
        self.least = 2 ** (len(blocks) - 1) * (4 if pooled else 1)
        self.channels, self.dimensions = channels, dimensions
        for layer in self.modules():
            if isinstance(layer, layers.convolution):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.classifier.bias)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.relu(self.features(image)))))
        return logits


class DenseBlock(nn.ModuleDict):
    """Layers, each of which gets the maps of all before it and adds its own."""

    def __init__(self, dimensions: int, depth: int, inputs: int, growth: int, dropout: float) -> None:
        layers = (DenseLayer(dimensions, inputs + n * growth, growth, dropout) for n in range(depth))
        super().__init__({f"denselayer{n}": layer for n, layer in enumerate(layers, start=1)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class DenseLayer(nn.Module):
    """Normalisation, rectifier, 1x1 convolution; normalisation, rectifier, 3x3 convolution."""

    def __init__(self, dimensions: int, inputs: int, growth: int, dropout: float) -> None:
        super().__init__()
        layers = LAYERS[dimensions]
        self.norm1 = layers.norm(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = layers.convolution(inputs, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = layers.norm(BOTTLENECK * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = layers.convolution(BOTTLENECK * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.relu1(self.norm1(x)))
        added: Tensor = self.dropout(self.conv2(self.relu2(self.norm2(inner))))
        return added


def _transition(dimensions: int, inputs: int) -> nn.Sequential:
    layers = LAYERS[dimensions]
    return nn.Sequential(
        OrderedDict(
            norm=layers.norm(inputs),
            relu=nn.ReLU(inplace=True),
            conv=layers.convolution(inputs, inputs // 2, 1, bias=False),
            pool=layers.average(kernel_size=2, stride=2),
        )
    )


def _maker(dimensions: int) -> Callable[..., DenseNet]:
    def make(
        *,
        channels: int = 3 if dimensions == 2 else 1,
        classes: int = 1000 if dimensions == 2 else 2,
        width: int = 64,
        growth: int = 32,
        stem: str = "image",
        dropout: float = 0.0,
        blocks: Sequence[int] = BLOCKS_121,
    ) -> DenseNet:
        return DenseNet(
            blocks,
            dimensions=dimensions,
            channels=channels,
            classes=classes,
            width=width,
            growth=growth,
            stem=stem,
            dropout=dropout,
        )

    return make


_SOURCE = "Huang, Liu, van der Maaten, Weinberger, CVPR 2017, table 1"
_SMALL = {"width": 8, "growth": 4, "blocks": (2, 2, 2, 2)}

ARCHITECTURES = (
    Architecture(
        name="densenet121",
        make=_maker(2),
        title="DenseNet-121",
        task="classification",
        dimensions=2,
        source=_SOURCE,
        counts=(Count({}, 7_978_856, 83_648, 7_978_856, "torchvision 0.29, documentation of its weights"),),
        grid=(224, 224),
        small=_SMALL,
        remarks=("For images of some 32 pixels a side take stem `small`, or `unstrided` to keep published weights.",),
    ),
    Architecture(
        name="densenet121-3d",
        make=_maker(3),
        title="DenseNet-121 in 3D",
        task="classification",
        dimensions=3,
        source=_SOURCE,
        counts=(Count({}, 11_244_674, 83_648, None, "our own setting: no figure was published for it"),),
        grid=(64, 64, 64),
        small=_SMALL,
        departures=("Every k x k kernel is k x k x k, and every stride acts on all three axes.",),
        remarks=("For volumes of some 32 voxels a side take stem `unstrided` or `small`.",),
    ),
)
