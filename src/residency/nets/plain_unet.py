"""U-Net-16 and U-Net-64: the U-Nets that MoNet was compared with.

After Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, as in Knolle et al., PLoS ONE 16(8):e0255397, 2021, tables 2 and
3, and in the authors' code (TUM-AIMED/MoNet, models/custom_unet.py, after karolzak/keras-unet). 1,943,761 trainable
parameters with 16 filters, 31,042,369 with 64; the paper counts running statistics too: 1,946,705 and 31,054,145.

Four levels, each two convolutions 3 x 3 with ReLU and, after it, batch norm; whole channels are dropped between the two
on the way down and at the bottom. Departure: logits instead of probabilities.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.net import Net


class Concatenation(nn.Module):
    """What comes from below, then the skip."""

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([below, skip], dim=1)


class PlainUNet(Net):
    """Image (N, channels, R, C) -> logits (N, classes, R, C); R and C multiples of 2**depth.

    filters  features of the finest level; they double with each level
    depth    levels above the bottom
    dropout  share of channels dropped on the way down and at the bottom, in training

    Raises ValueError for values that make no net.
    """

    first_layer = "encoders.0.0"
    last_layers = ("head",)

    def __init__(
        self, channels: int = 1, classes: int = 1, filters: int = 16, depth: int = 4, dropout: float = 0.3
    ) -> None:
        super().__init__()
        if min(channels, classes, filters, depth) < 1:
            raise ValueError("a U-Net needs at least one channel, class, filter and level of depth")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, got {dropout}")
        self.channels, self.dimensions, self.multiple = channels, 2, 2**depth
        widths = [filters * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(
            _convolutions(a, b, dropout) for a, b in zip([channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.ups, self.joins, self.decoders = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2))
            self.joins.append(self._join(width))
            self.decoders.append(_convolutions(2 * width, width, dropout=None))
        self.head = nn.Conv2d(filters, classes, kernel_size=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                # As Keras: He where the source asks for it, else its default.
                plain = layer is self.head or isinstance(layer, nn.ConvTranspose2d)
                (nn.init.xavier_uniform_ if plain else nn.init.kaiming_uniform_)(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def _join(self, width: int) -> nn.Module:
        """How what comes from below and a skip, `width` features each, become one; of twice as many features."""
        return Concatenation()

    def scores(self, image: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = image
        for level, encode in enumerate(self.encoders):
            x = encode(self.pool(x) if level else x)
            skips.append(x)
        for up, join, decode, skip in zip(self.ups, self.joins, self.decoders, reversed(skips[:-1]), strict=True):
            x = decode(join(up(x), skip))
        logits: Tensor = self.head(x)
        return logits


def _convolutions(inputs: int, outputs: int, dropout: float | None) -> nn.Sequential:
    dropped = [] if dropout is None else [nn.Dropout2d(dropout)]
    return nn.Sequential(*_convolution(inputs, outputs), *dropped, *_convolution(outputs, outputs))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),  # the defaults of Keras
    )


_SOURCE = "Knolle et al., PLoS ONE 16(8):e0255397, 2021, table 3, and models/custom_unet.py of the authors' code"
_INCLUDED = "table 3, running statistics included"
_DEPARTURES = ("Logits come out: the sigmoid is the card's decision rule.",)

ARCHITECTURES = (
    Architecture(
        name="unet-16",
        make=PlainUNet,
        title="U-Net-16",
        task="segmentation",
        dimensions=2,
        source=_SOURCE,
        counts=(Count({}, 1_943_761, 2_944, 1_946_705, _INCLUDED),),
        grid=(256, 256),
        small={"filters": 2},
        departures=_DEPARTURES,
        remarks=(
            "The fastest network of MoNet's own table 2: 7.03 s for 150 slices of 256 x 256, MoNet 14.88 s, U-Net-64 "
            "45.34 s, Attention U-Net 53.30 s.",
            "Batch norm follows the activation, so it cannot be folded into the convolution before it; engines "
            "compute it in the same pass.",
        ),
    ),
    Architecture(
        name="unet-64",
        make=partial(PlainUNet, filters=64),
        title="U-Net-64",
        task="segmentation",
        dimensions=2,
        source=_SOURCE,
        counts=(Count({}, 31_042_369, 11_776, 31_054_145, _INCLUDED),),
        grid=(256, 256),
        small={"filters": 2},
        departures=_DEPARTURES,
        remarks=("U-Net-16 with four times the features of every level: sixteen times its parameters and work.",),
    ),
)
