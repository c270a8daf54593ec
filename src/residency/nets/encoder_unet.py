"""U-Net decoders on classifiers' encoders: ResNet-18, -34, -50 and EfficientNetV2-S.

After Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, with the decoder of Segmentation Models (Iakubovskii,
`segmentation_models_pytorch` 0.5, `Unet` with its defaults): five blocks of nearest upsampling, skip and two 3x3
convolutions with batch normalisation, 256, 128, 64, 32 and 16 features wide, and a 3x3 head. With 3 channels and one
class 14,328,209, 24,436,369 and 32,521,105 parameters on the ResNets, as there, and 22,093,473 on EfficientNetV2-S.

An encoder's weights have the names that they have in the classifier, behind "encoder.": published weights of a
classifier load into `net.encoder`. Layers are modules, none is a functional call, so that the net converts to three
dimensions.

Departures: a convolution with stride 2 of EfficientNetV2-S pads both sides of the grid, not the far side only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from residency.nets.architecture import Architecture, Count
from residency.nets.efficientnet import BLOCKS_S, STEM, EfficientNet
from residency.nets.net import Net
from residency.nets.resnet import TABLE_1, ResNet

WIDTHS = (256, 128, 64, 32, 16)
"""Features of the decoder's blocks, coarsest first, as in Segmentation Models."""

Encoder = ResNet | EfficientNet


class EncoderUNet(Net):
    """Five maps of an encoder, joined from coarse to fine.

    encoder  gives five maps, each with `feature_channels` at `feature_strides`; its head is taken away
    decoder  features of the five blocks, coarsest first
    """

    last_layers = ("head",)

    def __init__(self, encoder: Encoder, classes: int, decoder: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        if len(decoder) != 5 or min(decoder) < 1:
            raise ValueError(f"a decoder has five blocks of at least one feature, not decoder={tuple(decoder)}")
        if classes < 1:
            raise ValueError("needs a class at least")
        self.encoder = encoder.without_head()
        self.first_layer = f"encoder.{encoder.first_layer}"
        self.channels, self.dimensions = encoder.channels, 2
        self.multiple = self.least = encoder.feature_strides[-1]
        # The last block has no skip: it leads from the finest map to the grid of the image.
        skips = [*encoder.feature_channels[-2::-1], 0]
        factors = [coarse // fine for fine, coarse in pairwise([1, *encoder.feature_strides])][::-1]
        inputs = [encoder.feature_channels[-1], *decoder[:-1]]
        self.decoder = nn.ModuleList(_Block(*sizes) for sizes in zip(inputs, skips, decoder, factors, strict=True))
        self.head = nn.Conv2d(decoder[-1], classes, kernel_size=3, padding=1)
        for layer in self.decoder.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # it has one

    def scores(self, image: Tensor) -> Tensor:
        x, *skips = self.encoder.features(image)[::-1]
        for block, skip in zip(self.decoder, [*skips, None], strict=True):
            x = block(x, skip)
        logits: Tensor = self.head(x)
        return logits


class _Block(nn.Module):
    """Upsampling to the grid of the skip, and two convolutions of both."""

    def __init__(self, inputs: int, skipped: int, outputs: int, factor: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=factor, mode="nearest") if factor > 1 else nn.Identity()
        self.mix = nn.Sequential(*_normed(inputs + skipped, outputs), *_normed(outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.upsample(x)
        mixed: Tensor = self.mix(x if skip is None else torch.cat([x, skip], dim=1))
        return mixed


def _normed(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


def _on_resnet(depth: int) -> Callable[..., EncoderUNet]:
    own, bottleneck = TABLE_1[depth]

    def make(
        channels: int = 3,
        classes: int = 1,
        *,
        width: int = 64,
        stem: str = "image",
        blocks: Sequence[int] = own,
        decoder: Sequence[int] = WIDTHS,
    ) -> EncoderUNet:
        """A U-Net on a ResNet.

        width   features of the encoder's stem and of its first stage (before expansion); each stage doubles them
        stem    of the encoder, "image", "unstrided" or "small": what each is, `residency nets resnet18` says
        blocks  of each of the encoder's four stages
        """
        encoder = ResNet(
            blocks, bottleneck=bottleneck, dimensions=2, channels=channels, classes=2, width=width, stem=stem
        )
        return EncoderUNet(encoder, classes, decoder)

    return make


def _on_efficientnet(
    channels: int = 3,
    classes: int = 1,
    *,
    width: int = STEM,
    stem: str = "image",
    stochastic_depth: float = 0.2,
    blocks: Sequence[int] = BLOCKS_S,
    decoder: Sequence[int] = WIDTHS,
) -> EncoderUNet:
    """A U-Net on EfficientNetV2-S.

    width             features of the encoder's first convolution; its other features go with it
    stem              of the encoder, "image" or "small": what each is, `residency nets efficientnetv2-s` says
    stochastic_depth  probability with which a block of the encoder is left out in training: it grows from none at the
                      first block to nearly this at the last
    blocks            of each of the encoder's six stages
    """
    encoder = EfficientNet(
        blocks, channels=channels, classes=2, width=width, stem=stem, dropout=0.0, stochastic_depth=stochastic_depth
    )
    return EncoderUNet(encoder, classes, decoder)


def _architecture(depth: int, count: Count) -> Architecture:
    return Architecture(
        name=f"resnet{depth}-unet",
        make=_on_resnet(depth),
        title=f"U-Net on ResNet-{depth}",
        task="segmentation",
        dimensions=2,
        source="segmentation_models_pytorch 0.5, `Unet` with its defaults; encoder as of the ResNets",
        counts=(count,),
        grid=(256, 256),
        small={"width": 8, "blocks": (1, 1, 1, 1), "decoder": (16, 12, 8, 8, 4)},
        departures=("A bottleneck halves the grid in its 3x3 convolution, not in its first 1x1.",)
        if depth > 34
        else (),
        remarks=("Weights of the classifier of the same name load into its encoder.",),
    )


_WHERE = "as users of segmentation_models_pytorch report it (3 channels, 1 class); nothing was published"

ARCHITECTURES = (
    _architecture(18, Count({}, 14_328_209, 11_584, where=_WHERE)),
    _architecture(34, Count({}, 24_436_369, 19_008, where=_WHERE)),
    _architecture(50, Count({}, 32_521_105, 55_104, where=_WHERE)),
    Architecture(
        name="efficientnetv2-s-unet",
        make=_on_efficientnet,
        title="U-Net on EfficientNetV2-S",
        task="segmentation",
        dimensions=2,
        source="segmentation_models_pytorch 0.5, `Unet` with its defaults; encoder: Tan, Le, ICML 2021, table 4",
        counts=(Count({}, 22_093_473, 153_296, where="our count; no figure was published for it"),),
        grid=(256, 256),
        small={"width": 8, "blocks": (1, 1, 1, 1, 1, 1), "decoder": (16, 12, 8, 8, 4)},
        departures=("A convolution with stride 2 pads both sides of the grid, not the far side only.",),
        remarks=("Weights of the classifier of the same name load into its encoder.",),
    ),
)
