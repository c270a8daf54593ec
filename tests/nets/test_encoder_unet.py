"""U-Net decoders on ResNet and EfficientNet encoders: sizes, names of weights, grids, and that all of it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from residency.errors import ConfigError, TrainingError
from residency.nets import build
from residency.nets.acs.convert import convert, fold
from residency.nets.encoder_unet import EncoderUNet
from residency.nets.net import Net
from residency.nets.rewrites import prepared_for_export
from residency.nets.weights import load_weights

ON_RESNET = ("resnet18-unet", "resnet34-unet", "resnet50-unet")
ALL = (*ON_RESNET, "efficientnetv2-s-unet")
DECODER = (12, 10, 8, 6, 4)


def small(name: str, **parameters: object) -> EncoderUNet:
    torch.manual_seed(0)
    blocks = (1,) * (4 if name in ON_RESNET else 6)
    net = build(name, **{"width": 8, "blocks": blocks, "decoder": DECODER, **parameters})
    assert isinstance(net, EncoderUNet)
    return net


def parameters_of(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18-unet", 14_328_209), ("resnet34-unet", 24_436_369), ("resnet50-unet", 32_521_105)],
)
def test_sizes_are_those_of_segmentation_models(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert parameters_of(build(name)) == parameters


@pytest.mark.parametrize("name", ALL)
def test_the_decoder_has_as_many_parameters_as_its_blocks_say(name: str) -> None:
    with torch.device("meta"):
        net = build(name)
    assert isinstance(net, EncoderUNet)
    *skipped, deepest = net.encoder.feature_channels
    expected, inputs = 9 * 16 + 1, deepest
    for skip, outputs in zip([*skipped[::-1], 0], (256, 128, 64, 32, 16), strict=True):
        expected += 9 * (inputs + skip) * outputs + 9 * outputs * outputs + 4 * outputs
        inputs = outputs
    assert parameters_of(net) - parameters_of(net.encoder) == expected


@pytest.mark.parametrize("name", ALL)
def test_the_encoder_takes_the_weights_of_the_classifier_by_their_own_names(name: str) -> None:
    net = small(name, channels=1, classes=2)
    blocks = (1,) * (4 if name in ON_RESNET else 6)
    torch.manual_seed(1)
    classifier: Net = build(name.removesuffix("-unet"), channels=1, classes=5, width=8, blocks=blocks)
    own = net.encoder.state_dict()
    weights = {key: value for key, value in classifier.state_dict().items() if key in own}
    left = classifier.state_dict().keys() - weights.keys()
    assert left == {key for key in classifier.state_dict() if key.startswith(net.encoder.left_out)}
    net.encoder.load_state_dict(weights)
    net.eval(), classifier.eval()
    image = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        wanted = classifier.features(image)  # type: ignore[operator]
        for found, map_ in zip(net.encoder.features(image), wanted, strict=True):
            torch.testing.assert_close(found, map_)


@pytest.mark.parametrize("name", ALL)
def test_a_file_of_a_classifiers_weights_loads_into_the_encoder(name: str, tmp_path: Path) -> None:
    """As for published ones: three channels, a thousand classes, everything that the classifier has."""
    blocks = (1,) * (4 if name in ON_RESNET else 6)
    classifier = build(name.removesuffix("-unet"), width=8, blocks=blocks)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    net = small(name)
    loaded = load_weights(net.encoder, tmp_path / "weights.pth")
    assert loaded.tensors == len(net.encoder.state_dict())
    theirs = classifier.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in net.encoder.state_dict().items())
    with pytest.raises(TrainingError):
        load_weights(net, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ALL)
def test_maps_are_joined_from_coarse_to_fine(name: str) -> None:
    net, shapes = small(name, channels=1).eval(), []
    for block in net.decoder:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        assert net(torch.zeros(1, 1, 64, 96)).shape == (1, 1, 64, 96)
    assert shapes == [(12, 4, 6), (10, 8, 12), (8, 16, 24), (6, 32, 48), (4, 64, 96)]


@pytest.mark.parametrize(("name", "stem", "multiple"), [(n, "small", 8 if n in ON_RESNET else 16) for n in ALL])
def test_a_stem_for_small_images_keeps_scores_on_their_grid(name: str, stem: str, multiple: int) -> None:
    net = small(name, channels=1, classes=3, stem=stem).eval()
    assert net.multiple == multiple
    with torch.inference_mode():
        assert net(torch.zeros(2, 1, 32, 48)).shape == (2, 3, 32, 48)


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_learns(name: str) -> None:
    net = small(name, channels=1, **({} if name in ON_RESNET else {"stochastic_depth": 0.0}))
    net(torch.randn(2, 1, 64, 64)).square().mean().backward()
    still = [key for key, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", ALL)
def test_before_export_no_batch_norm_is_left_and_scores_are_the_same(name: str) -> None:
    net = small(name, channels=1)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(2, 1, 64, 64) * 2 + 1)
    prepared = prepared_for_export(net)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in prepared.modules())
    image = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        wanted, got = net.eval()(image), prepared(image)
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("name", ["resnet18-unet", "resnet50-unet", "efficientnetv2-s-unet"])
def test_it_converts_to_three_dimensions_with_as_many_parameters_and_folds_there(name: str) -> None:
    net = small(name, channels=1)
    with torch.no_grad():
        net(torch.randn(2, 1, 64, 64) * 2 + 1)
    solid = convert(net.eval()).model
    assert isinstance(solid, EncoderUNet)
    assert (solid.dimensions, solid.multiple) == (3, 32)
    assert parameters_of(solid) == parameters_of(net)
    prepared, volume = prepared_for_export(solid), torch.randn(1, 1, 32, 64, 32)
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in prepared.modules())
    with torch.inference_mode():
        wanted = solid(volume)
        assert wanted.shape == (1, 1, 32, 64, 32)
        for other in (fold(solid), prepared):
            assert (other(volume) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 3, 16, 64), (1, 1, 64, 64), (1, 3, 64, 64, 64)])
def test_an_image_that_it_cannot_take_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes (grids with sides of at least 32|images of shape)") as refusal:
        small("resnet18-unet")(torch.zeros(shape))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"decoder": (8, 8)}, "a decoder has five blocks"),
        ({"decoder": (8, 8, 8, 8, 0)}, "a decoder has five blocks"),
        ({"classes": 0}, "a class at least"),
        ({"stem": "large"}, "unknown stem 'large'"),
        ({"blocks": (1,)}, "stages of at least one block"),
    ],
)
@pytest.mark.parametrize("name", ["resnet18-unet", "efficientnetv2-s-unet"])
def test_what_cannot_be_built_is_refused(name: str, parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        small(name, **parameters)
