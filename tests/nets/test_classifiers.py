"""Classifiers: sizes as published, torchvision's names, the smallest image, learning, and maps for decoders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConfigError
from residency.nets import NETS, build
from residency.nets.efficientnet import StochasticDepth
from residency.nets.net import Net

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11-bn": 132_868_840,
    "vgg13-bn": 133_053_736,
    "vgg16-bn": 138_365_992,
    "vgg19-bn": 143_678_248,
    "densenet121": 7_978_856,
    "efficientnetv2-s": 21_458_488,
}
"""Parameters that torchvision 0.29 documents beside its weights."""

CLASSIFIERS = [name for name, one in NETS.items() if one.task == "classification"]


def small(name: str, **parameters: object) -> Net:
    torch.manual_seed(0)
    return build(name, **{**NETS[name].small, "classes": 3, **parameters})


def image_for(net: Net, side: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, net.channels, *[side] * net.dimensions)


def on_meta(name: str, **parameters: object) -> Net:
    with torch.device("meta"):
        return build(name, **parameters)


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_a_classifier_has_the_published_number_of_parameters(name: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == count


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_registry_counts_what_is_built(name: str) -> None:
    for count in NETS[name].counts:
        net = on_meta(name, **count.setting)
        running = [buffer for key, buffer in net.named_buffers() if not key.endswith("num_batches_tracked")]
        assert sum(parameter.numel() for parameter in net.parameters()) == count.trainable
        assert sum(buffer.numel() for buffer in running) == count.statistics


def test_a_3d_resnet18_on_colour_has_the_size_known_for_plain_3d_convolutions() -> None:
    """33.72 million with 3 channels and 1000 classes, against 11.69 million in 2D: kernels of 27 in place of 9."""
    net = on_meta("resnet18-3d", channels=3, classes=1000)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 33.72


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_of_weights_are_those_of_torchvision(name: str) -> None:
    """The listings were made from torchvision itself; the file says how."""
    known = json.loads((Path(__file__).parent / "torchvision_keys.json").read_text(encoding="utf-8"))["models"][name]
    state = on_meta(name).state_dict()
    lines = [f"{key} {'x'.join(map(str, value.shape))}\n" for key, value in sorted(state.items())]
    assert len(lines) == known["tensors"]
    assert sum(value.numel() for value in state.values()) == known["values"]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == known["sha256"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_least_side_works_and_one_less_is_refused(name: str) -> None:
    net = small(name).eval()
    with torch.inference_mode():
        assert net(image_for(net, net.least)).shape == (2, 3)
        with pytest.raises(ValueError, match=f"at least {net.least}"):
            net(image_for(net, net.least - 1))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_odd_sides_are_taken_as_they_are(name: str) -> None:
    net = small(name).eval()
    sides = [net.least + n for n in (1, 5, 2)][: net.dimensions]
    with torch.inference_mode():
        scores = net(torch.randn(2, net.channels, *sides))
    assert scores.shape == (2, 3)
    assert scores.isfinite().all()


@pytest.mark.parametrize(("name", "side"), [("vgg11", 31), ("densenet121", 28), ("densenet121-3d", 28)])
def test_below_the_least_side_nothing_is_left_to_pool(name: str, side: int) -> None:
    """What `least` refuses in one line, torch would refuse in its own words."""
    net = small(name).eval()
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"too small|smaller than kernel"):
        net.scores(image_for(net, side))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_parameter_of_a_classifier_learns(name: str) -> None:
    net = small(name)
    nn.functional.cross_entropy(net(image_for(net, 2 * net.least)), torch.tensor([0, 2])).backward()
    still = [key for key, one in net.named_parameters() if one.grad is None or not one.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_holds_no_functional_pooling(name: str) -> None:
    """What carries a 2D net into 3D replaces modules: each pooling and flattening must be one."""
    net, seen = small(name).eval(), set()
    for module in net.modules():
        module.register_forward_hook(lambda module, *_: seen.add(type(module)))
    with torch.inference_mode():
        net(image_for(net, net.least))
    names = {one.__name__ for one in seen}
    assert any(one.startswith("AdaptiveAvgPool") for one in names)
    assert "Flatten" in names


@pytest.mark.parametrize(
    ("name", "stem", "strides"),
    [
        ("resnet18", "image", (2, 4, 8, 16, 32)),
        ("resnet50", "image", (2, 4, 8, 16, 32)),
        ("resnet50", "unstrided", (1, 1, 2, 4, 8)),
        ("resnet18-3d", "image", (2, 4, 8, 16, 32)),
        ("resnet18-3d", "small", (1, 1, 2, 4, 8)),
        ("efficientnetv2-s", "image", (2, 4, 8, 16, 32)),
        ("efficientnetv2-s", "small", (1, 2, 4, 8, 16)),
    ],
)
def test_an_encoder_gives_a_map_at_each_stride(name: str, stem: str, strides: tuple[int, ...]) -> None:
    net = small(name, stem=stem).without_head().eval()
    with torch.inference_mode():
        maps = net.features(image_for(net, 32))
    assert net.feature_strides == strides
    steps = zip(net.feature_channels, strides, strict=True)
    expected = [(2, count, *[32 // stride] * net.dimensions) for count, stride in steps]
    assert [tuple(one.shape) for one in maps] == expected
    assert not any(key.startswith(net.left_out) for key in net.state_dict())
    assert sum(one.sum() for one in maps).isfinite()


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("resnet18", {"blocks": (2, 2, 2)}, "four stages"),
        ("resnet18", {"stem": "large"}, "unknown stem 'large'"),
        ("resnet18", {"classes": 1}, "two classes"),
        ("resnet50-3d", {"width": 0}, "a width"),
        ("vgg16", {"dropout": 1.0}, "less than 1"),
        ("vgg16", {"blocks": (1, 1)}, "five blocks"),
        ("densenet121", {"stem": "7x7"}, "unknown stem '7x7'"),
        ("densenet121-3d", {"blocks": ()}, "at least one layer"),
        ("efficientnetv2-s", {"blocks": (1, 1, 1)}, "six stages"),
        ("efficientnetv2-s", {"stochastic_depth": 1.0}, "less than 1"),
        ("resnet50", {"dimensions": 3}, "unknown parameter of net 'resnet50' 'dimensions'"),
    ],
)
def test_a_classifier_that_cannot_be_is_refused(name: str, parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(name, **parameters)


@pytest.mark.parametrize("name", ["densenet121", "densenet121-3d"])
@pytest.mark.parametrize("stem", ["unstrided", "small"])
def test_a_densenet_for_small_images_takes_eight_pixels(name: str, stem: str) -> None:
    net = small(name, stem=stem).eval()
    with torch.inference_mode():
        assert net.least == 8
        assert net(image_for(net, 8)).shape == (2, 3)


def test_encoders_have_the_features_of_their_table() -> None:
    assert on_meta("resnet34").feature_channels == (64, 64, 128, 256, 512)
    assert on_meta("resnet50").feature_channels == (64, 256, 512, 1024, 2048)
    assert on_meta("efficientnetv2-s").feature_channels == (24, 48, 64, 160, 256)


def test_a_3d_resnet_answers_as_monais_with_the_same_weights() -> None:
    from monai.networks.nets import ResNet as Judge

    net = small("resnet50-3d", channels=2).eval()
    judge = Judge(
        "bottleneck",
        layers=[1, 1, 1, 1],
        block_inplanes=[8, 16, 32, 64],
        n_input_channels=2,
        conv1_t_stride=2,
        num_classes=3,
        bias_downsample=False,
    ).eval()
    judge.load_state_dict(net.state_dict())
    image = torch.randn(2, 2, 33, 40, 47)
    with torch.inference_mode():
        torch.testing.assert_close(net(image), judge(image))


def test_a_3d_densenet_answers_as_monais_with_the_same_weights() -> None:
    from monai.networks.nets import DenseNet as Judge

    net = small("densenet121-3d", channels=2).eval()
    judge = Judge(3, 2, 3, init_features=8, growth_rate=4, block_config=(2, 2, 2, 2)).eval()
    theirs = judge.state_dict()
    assert [one.shape for one in theirs.values()] == [one.shape for one in net.state_dict().values()]
    judge.load_state_dict(dict(zip(theirs, net.state_dict().values(), strict=True)))
    image = torch.randn(2, 2, 33, 40, 47)
    with torch.inference_mode():
        torch.testing.assert_close(net(image), judge(image))


def test_stochastic_depth_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25), torch.ones(4000, 2, 3, 3)
    kept = layer(x)
    assert torch.equal(layer.eval()(x), x)
    # An image's maps are left out together, and what is kept is scaled so that the mean stays.
    assert torch.equal(kept, kept[:, :1, :1, :1].expand_as(kept))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)


def test_blocks_are_left_out_more_often_the_deeper_they_lie() -> None:
    net = on_meta("efficientnetv2-s", stochastic_depth=0.4)
    shares = [one.left_out for one in net.modules() if isinstance(one, StochasticDepth)]
    assert len(shares) == 40
    torch.testing.assert_close(torch.tensor(shares), torch.arange(40) * 0.01)


def test_dropout_makes_training_answers_differ_and_serving_answers_agree() -> None:
    net = small("vgg11", dropout=0.5)
    image = image_for(net, 32)
    with torch.no_grad():
        assert not torch.equal(net(image), net(image))
        net.eval()
        assert torch.equal(net(image), net(image))
