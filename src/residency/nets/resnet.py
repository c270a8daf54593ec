"""ResNet-18, -34, -50, -101 and -152 in two dimensions, ResNet-18 and -50 in three.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, with projections where the size
changes (option B of section 4.1). With 3 channels and 1000 classes 11,689,512, 21,797,672, 25,557,032, 44,549,160 and
60,192,808 parameters. Initialised as in He et al., "Delving Deep into Rectifiers", ICCV 2015.

Departures: a bottleneck halves the grid in its 3x3 convolution, not in its first 1x1 (table 1), which gains accuracy at
the same size (torchvision calls this form v1.5). In three dimensions every k x k kernel becomes k x k x k, every stride
acts on all three axes. Names of layers are those of torchvision, so that its published weights load strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.layers import LAYERS
from residency.nets.net import Net

EXPANSION = 4
"""A bottleneck gives so many times the features that its 3x3 convolution has."""

STEMS = {"image": (7, 2), "unstrided": (7, 1), "small": (3, 1)}
"""Name of a stem -> side and stride of its convolution; only "image" has a maximum pooling after it."""


class ResNet(Net):
    """Residual stages behind a stem, mean over the grid, one linear layer.

    blocks      of each of the four stages
    bottleneck  blocks of 1x1, 3x3, 1x1 convolutions in place of two 3x3
    width       features of the stem and the first stage (before expansion); each stage doubles them
    stem        "image": 7x7 with stride 2, then 3x3 maximum pooling with stride 2, as the paper has it; "unstrided":
                7x7 with stride 1 and no pooling, for small images and volumes (published weights still load);
                "small": 3x3 with stride 1 and no pooling, the paper's form for CIFAR-10 (section 4.2)

    As an encoder: `features` gives five maps with `feature_channels` at `feature_strides`; `without_head` takes away
    what only `scores` needs. `first_layer`, `head` and `left_out` are for `residency.nets.weights`.
    """

    first_layer = "conv1"
    head = "fc"
    left_out: tuple[str, ...] = ()

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        bottleneck: bool,
        dimensions: int,
        channels: int,
        classes: int,
        width: int = 64,
        stem: str = "image",
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"a ResNet has four stages of at least one block, not blocks={tuple(blocks)}")
        if stem not in STEMS:
            raise ValueError(f"unknown stem '{stem}' (known: {', '.join(STEMS)})")
        if channels < 1 or classes < 2 or width < 1:
            raise ValueError("a ResNet needs a channel, two classes and a width of at least one feature")
        layers = LAYERS[dimensions]
        side, stride = STEMS[stem]
        self.conv1 = layers.convolution(channels, width, side, stride=stride, padding=side // 2, bias=False)
        self.bn1 = layers.norm(width)
        self.relu = nn.ReLU(inplace=True)
        pooled = stem == "image"
        self.maxpool = layers.maximum(kernel_size=3, stride=2, padding=1) if pooled else nn.Identity()
        outputs = [width * 2**level * (EXPANSION if bottleneck else 1) for level in range(4)]
        inputs = [width, *outputs[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(dimensions, inputs[level], outputs[level], blocks[level], 2 if level else 1, bottleneck)
            for level in range(4)
        )
        self.avgpool = layers.adaptive_average(1)
        self.flatten = nn.Flatten(1)
        self.fc: nn.Module = nn.Linear(outputs[-1], classes)
        self.channels, self.dimensions = channels, dimensions
        self.feature_channels = (width, *outputs)
        first = stride * (2 if pooled else 1)
        self.feature_strides = (stride, first, 2 * first, 4 * first, 8 * first)
        # A shorter side would pass, but the last stage would then be coarser than the whole image.
        self.least = self.feature_strides[-1]
        for layer in self.modules():
            if isinstance(layer, layers.convolution):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.flatten(self.avgpool(self.features(image)[-1])))
        return logits

    def without_head(self) -> Self:
        """This net, its linear layer taken away in place: an encoder without parameters that never learn."""
        self.fc, self.left_out = nn.Identity(), ("fc",)
        return self

    def features(self, image: Tensor) -> list[Tensor]:
        """Maps of the image (N, channels, *grid), finest first: after the stem and after each of the four stages."""
        maps = [self.relu(self.bn1(self.conv1(image)))]
        maps.append(self.layer1(self.maxpool(maps[-1])))
        for stage in (self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        return maps


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, dimensions: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        layers = LAYERS[dimensions]
        self.conv1 = layers.convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = layers.norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = layers.convolution(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = layers.norm(outputs)
        self.downsample = _shortcut(dimensions, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        total: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.downsample(x))
        return total


class Bottleneck(nn.Module):
    """A 3x3 convolution on a quarter of the features, between two 1x1, and a shortcut."""

    def __init__(self, dimensions: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        layers = LAYERS[dimensions]
        inner = outputs // EXPANSION
        self.conv1 = layers.convolution(inputs, inner, 1, bias=False)
        self.bn1 = layers.norm(inner)
        self.conv2 = layers.convolution(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = layers.norm(inner)
        self.conv3 = layers.convolution(inner, outputs, 1, bias=False)
        self.bn3 = layers.norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(dimensions, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        total: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(x))
        return total


def _shortcut(dimensions: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    layers = LAYERS[dimensions]
    return nn.Sequential(layers.convolution(inputs, outputs, 1, stride=stride, bias=False), layers.norm(outputs))


def _stage(dimensions: int, inputs: int, outputs: int, blocks: int, stride: int, bottleneck: bool) -> nn.Sequential:
    block = Bottleneck if bottleneck else Basic
    later = (block(dimensions, outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(block(dimensions, inputs, outputs, stride), *later)


TABLE_1 = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
"""Layers -> blocks of each stage, and whether they are bottlenecks."""


def _maker(depth: int, dimensions: int) -> Callable[..., ResNet]:
    own, bottleneck = TABLE_1[depth]

    def make(
        *,
        channels: int = 3 if dimensions == 2 else 1,
        classes: int = 1000 if dimensions == 2 else 2,
        width: int = 64,
        stem: str = "image",
        blocks: Sequence[int] = own,
    ) -> ResNet:
        return ResNet(
            blocks,
            bottleneck=bottleneck,
            dimensions=dimensions,
            channels=channels,
            classes=classes,
            width=width,
            stem=stem,
        )

    return make


def _architecture(depth: int, dimensions: int, counts: tuple[Count, ...]) -> Architecture:
    flat = dimensions == 2
    bottleneck = TABLE_1[depth][1]
    departures = []
    if bottleneck:
        departures.append("A bottleneck halves the grid in its 3x3 convolution, not in its first 1x1.")
    if not flat:
        departures.append("Every k x k kernel is k x k x k, and every stride acts on all three axes.")
    return Architecture(
        name=f"resnet{depth}" if flat else f"resnet{depth}-3d",
        make=_maker(depth, dimensions),
        title=f"ResNet-{depth}" if flat else f"ResNet-{depth} in 3D",
        task="classification",
        dimensions=dimensions,
        source="He, Zhang, Ren, Sun, CVPR 2016, table 1",
        counts=counts,
        grid=(224, 224) if flat else (64, 64, 64),
        small={"width": 8, "blocks": (1, 1, 1, 1)},
        departures=tuple(departures),
        remarks=("For images of some 32 pixels a side take stem `small`, or `unstrided` to keep published weights.",)
        if flat
        else ("For volumes of some 32 voxels a side take stem `unstrided` or `small`.",),
    )


_WHERE = "torchvision 0.29, documentation of its weights"
_OWN = "our own setting: no figure was published for it"
_AS_2D = {"channels": 3, "classes": 1000}

ARCHITECTURES = (
    _architecture(18, 2, (Count({}, 11_689_512, 9_600, 11_689_512, _WHERE),)),
    _architecture(34, 2, (Count({}, 21_797_672, 17_024, 21_797_672, _WHERE),)),
    _architecture(50, 2, (Count({}, 25_557_032, 53_120, 25_557_032, _WHERE),)),
    _architecture(101, 2, (Count({}, 44_549_160, 105_344, 44_549_160, _WHERE),)),
    _architecture(152, 2, (Count({}, 60_192_808, 151_424, 60_192_808, _WHERE),)),
    _architecture(18, 3, (Count({}, 33_161_026, 9_600, None, _OWN), Count(_AS_2D, 33_716_904, 9_600, None, _OWN))),
    _architecture(50, 3, (Count({}, 46_159_170, 53_120, None, _OWN), Count(_AS_2D, 48_247_976, 53_120, None, _OWN))),
)
