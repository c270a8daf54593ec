"""VGG-11, -13, -16 and -19, each also with batch normalisation.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1, columns
A, B, D and E. With 3 channels and 1000 classes 132,863,336, 133,047,848, 138,357,544 and 143,667,240 parameters;
132,868,840, 133,053,736, 138,365,992 and 143,678,248 with batch normalisation.

Departures: the maps are averaged to 7 x 7 before the linear layers, which changes nothing at 224 x 224 and lets images
of other sizes in; initialised as in He et al., "Delving Deep into Rectifiers", ICCV 2015, and so trained at once,
without a smaller net first; batch normalisation came after the paper (Ioffe, Szegedy, ICML 2015). Names of layers are
those of torchvision, so that its published weights load strictly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net

TABLE_1 = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers with weights -> convolutions before each maximum pooling."""


class VGG(Net):
    """3x3 convolutions and maximum poolings in turn, then three linear layers.

    blocks   convolutions before each of the five poolings
    norm     batch normalisation after each convolution
    width    features of the first block; each later one doubles them, up to eight times
    hidden   features of the two linear layers before the last
    pool     side of the maps that the linear layers see: 7 in the paper (224 / 32); 1 suits small images
    dropout  share of hidden features dropped in training
    """

    first_layer = "features.0"
    head = "classifier.6"
    left_out: tuple[str, ...] = ()

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        norm: bool,
        channels: int,
        classes: int,
        width: int = 64,
        hidden: int = 4096,
        pool: int = 7,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(blocks) != 5 or min(blocks) < 1:
            raise ValueError(f"a VGG has five blocks of at least one convolution, not blocks={tuple(blocks)}")
        if channels < 1 or classes < 2 or min(width, hidden, pool) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "a VGG needs a channel, two classes, a width, hidden features and a pool of at least one, "
                "and a dropout of at least 0 and less than 1"
            )
        features = [width * times for times in (1, 2, 4, 8, 8)]
        layers: list[nn.Module] = []
        for (inputs, outputs), count in zip(pairwise([channels, *features]), blocks, strict=True):
            for position in range(count):
                layers.append(nn.Conv2d(outputs if position else inputs, outputs, kernel_size=3, padding=1))
                layers += [nn.BatchNorm2d(outputs)] if norm else []
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.flatten = nn.Flatten(1)
        self.classifier = nn.Sequential(
            nn.Linear(features[-1] * pool * pool, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        self.channels, self.dimensions, self.least = channels, 2, 2 ** len(blocks)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def scores(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.features(image))))
        return logits


def _maker(depth: int, norm: bool) -> Callable[..., VGG]:
    own = TABLE_1[depth]

    def make(
        *,
        channels: int = 3,
        classes: int = 1000,
        width: int = 64,
        hidden: int = 4096,
        pool: int = 7,
        dropout: float = 0.5,
        blocks: Sequence[int] = own,
    ) -> VGG:
        return VGG(
            blocks,
            norm=norm,
            channels=channels,
            classes=classes,
            width=width,
            hidden=hidden,
            pool=pool,
            dropout=dropout,
        )

    return make


def _architecture(depth: int, norm: bool, trainable: int, statistics: int = 0) -> Architecture:
    departures = (
        "Maps are averaged to 7 x 7 before the linear layers, so that images need not have 224 pixels a side.",
        "Initialised for rectifiers, in place of beginning with a smaller net trained before.",
    )
    return Architecture(
        name=f"vgg{depth}{'-bn' if norm else ''}",
        make=_maker(depth, norm),
        title=f"VGG-{depth}{' with batch normalisation' if norm else ''}",
        task="classification",
        dimensions=2,
        source="Simonyan, Zisserman, ICLR 2015, table 1",
        counts=(Count({}, trainable, statistics, trainable, "torchvision 0.29, documentation of its weights"),),
        grid=(224, 224),
        small={"width": 8, "hidden": 16, "pool": 1, "blocks": (1, 1, 1, 1, 1)},
        departures=(*departures, "Batch normalisation, which came after the paper.") if norm else departures,
        remarks=("Most parameters lie in the first linear layer; with `pool` 1 it has a 49th of them.",),
    )


ARCHITECTURES = (
    _architecture(11, False, 132_863_336),
    _architecture(13, False, 133_047_848),
    _architecture(16, False, 138_357_544),
    _architecture(19, False, 143_667_240),
    _architecture(11, True, 132_868_840, 5_504),
    _architecture(13, True, 133_053_736, 5_888),
    _architecture(16, True, 138_365_992, 8_448),
    _architecture(19, True, 143_678_248, 11_008),
)
