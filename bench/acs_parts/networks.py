"""The networks of the bench: described in 2D, carried into 3D by each method, at random or with 2D weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from residency.nets import build
from residency.nets.acs import convert
from residency.nets.net import Net

M = TypeVar("M", bound=nn.Module)

METHODS = {
    "Conv3d": "i3d",
    "ACS": "acs",
    "soft ACS": "soft-acs",
    "mean ACS": "mean-acs",
    "slicewise": "slicewise",
}
"""Name in the tables -> form of the converter. With 2D weights "Conv3d" is I3D: each 2D kernel is repeated along the
first axis and divided by its depth; without them its kernels are drawn as torch draws those of any Conv3d."""

HEADS = {"shapes": "head.", "resnet18": "fc."}
"""Net -> prefix of its last layer, which is never carried over: the classes differ."""


class ShapesNet(Net):
    """The U-Net of the proof of concept of Yang et al., JBHI 2021, with `width` features in place of 64.

    Two levels down, one skip (from the pooled first level), the last upsampling after the last 3x3 convolution. With 16
    features, 1 channel and 6 classes 24,750 parameters in 2D and with ACS convolutions, 73,422 with Conv3d.
    """

    dimensions = 2
    multiple = 4

    def __init__(self, channels: int = 1, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.fine = _twice(channels, width, width)
        self.coarse = _twice(width, 2 * width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.joined = _twice(3 * width, width, width // 2)
        self.head = nn.Conv2d(width // 2, classes, 1)
        self.channels = channels

    def scores(self, image: Tensor) -> Tensor:
        fine = self.pool(self.fine(image))
        coarse = self.pool(self.coarse(fine))
        logits: Tensor = self.head(self.up(self.joined(torch.cat([self.up(coarse), fine], dim=1))))
        return logits


def _twice(inputs: int, between: int, outputs: int) -> nn.Sequential:
    pairs = ((inputs, between), (between, outputs))
    layers = ((nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True)) for a, b in pairs)
    return nn.Sequential(*(layer for three in layers for layer in three))


def flat(net: str, seed: int, **parameters: Any) -> Net:
    """The named net in 2D, drawn from the seed as torch draws layers by default, whatever the net prefers.

    One way of drawing for all methods: a preference would be another one for Conv3d than for its rivals.
    """
    torch.manual_seed(seed)
    made = ShapesNet(**parameters) if net == "shapes" else build(net, **parameters)
    return _drawn_anew(made, seed)


def solid(net: str, method: str, seed: int, learned: Mapping[str, Tensor] | None, **parameters: Any) -> nn.Module:
    """The named net in 3D by a method; with `learned`, the weights of its 2D form, all but the last layer's."""
    two = flat(net, seed, **parameters)
    if learned is not None:
        carry(two, learned, HEADS[net])
    three: nn.Module = convert(two, to=METHODS[method]).model
    return _drawn_anew(three, seed) if method == "Conv3d" and learned is None else three


def published_weights(file: Path) -> Mapping[str, Tensor]:
    """Of a ResNet-18 for 3 channels and 1000 classes, with torchvision's names."""
    from residency.nets.weights import load_weights

    net = build("resnet18", channels=3, classes=1000)
    load_weights(net, file)
    held: Mapping[str, Tensor] = net.state_dict()
    return held


def carry(net: nn.Module, learned: Mapping[str, Tensor], head: str) -> None:
    """Load all but the last layer; raises RuntimeError where anything else is missing or left over."""
    own = {name: value for name, value in net.state_dict().items() if name.startswith(head)}
    net.load_state_dict({name: value for name, value in learned.items() if not name.startswith(head)} | own)


def _drawn_anew(net: M, seed: int) -> M:
    torch.manual_seed(seed)
    for layer in net.modules():
        if not list(layer.children()) and hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return net
