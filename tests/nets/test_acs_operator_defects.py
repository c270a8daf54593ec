"""What implementations of ACS convolutions have got wrong, one by one.

Answers are compared with those of the folded convolution, which test_acs_operator.py holds against the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from residency.nets.acs import ACSConv3d, ACSConvTranspose3d

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
"""Said by torch of folded convolutions."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def check(layer: ACSConv3d | ACSConvTranspose3d, *grid: int) -> Tensor:
    image = torch.randn(2, layer.in_channels, *grid)
    answer: Tensor = layer(image)
    torch.testing.assert_close(answer, layer.fold()(image), rtol=1e-5, atol=1e-5)
    return answer


@pytest.mark.parametrize(("size", "padding"), [(2, 0), (4, 1)])
def test_even_kernels_look_at_the_same_place_whatever_the_parity_of_the_image(size: int, padding: int) -> None:
    layer = ACSConv3d(2, 6, size, 2, padding)
    check(layer, 8, 8, 8)
    check(layer, 9, 7, 11)
    image = torch.randn(1, 2, 8, 8, 8)
    longer = functional.pad(image, (0, 1, 0, 1, 0, 1))
    torch.testing.assert_close(layer(longer)[..., :3, :3, :3], layer(image)[..., :3, :3, :3])


@pytest.mark.parametrize(("size", "grid"), [(3, (4, 4, 4)), (7, (12, 12, 12)), (5, (8, 9, 9))])
def test_grids_that_unpadded_kernels_halve_are_not_taken_for_strided_ones(size: int, grid: Sequence[int]) -> None:
    assert check(ACSConv3d(2, 6, size), *grid).shape[2:] == tuple(side - size + 1 for side in grid)


@pytest.mark.parametrize(("dilation", "padding"), [(2, 0), (2, 1), (4, 3), (2, 5)])
def test_dilated_kernels_stay_in_register_with_any_padding(dilation: int, padding: int) -> None:
    check(ACSConv3d(2, 6, 3, padding=padding, dilation=dilation), 9, 10, 11)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 8, 2), (6, 9, 3), (4, 12, 4), (8, 8, 8), (10, 10, 5)])
@pytest.mark.parametrize("kind", ["hard", "soft", "mean"])
def test_groups_of_any_number_and_depthwise_multipliers(inputs: int, outputs: int, groups: int, kind: Any) -> None:
    check(ACSConv3d(inputs, outputs, 3, padding=1, groups=groups, kind=kind), 5, 6, 7)
    check(ACSConvTranspose3d(inputs, outputs, 4, 2, 1, groups=groups, kind=kind), 5, 6, 7)


def test_groups_that_do_not_divide_the_channels_are_refused_when_the_layer_is_made() -> None:
    for layer in (ACSConv3d, ACSConvTranspose3d):
        with pytest.raises(ValueError, match="3 groups do not divide 4 input and 6 output channels"):
            layer(4, 6, 3, groups=3)


@pytest.mark.parametrize("padding", [0, 1])
def test_strided_depthwise_layers_take_odd_sizes(padding: int) -> None:
    layer = ACSConv3d(6, 6, 3, 2, padding, groups=6)
    check(layer, 8, 8, 8)
    check(layer, 7, 9, 11)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_are_padded_as_asked_and_not_with_zeros(mode: str) -> None:
    layer = ACSConv3d(2, 6, 3, padding=1, padding_mode=mode)
    plain = ACSConv3d(2, 6, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    image = torch.randn(1, 2, 5, 6, 7)
    assert (layer(image) - plain(image)).abs().max() > 0.01
    check(layer, 5, 6, 7)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_padding_same_keeps_the_grid(size: int, mode: str) -> None:
    assert check(ACSConv3d(2, 6, size, padding="same", padding_mode=mode), 5, 6, 7).shape[2:] == (5, 6, 7)
    assert check(ACSConv3d(2, 6, size, padding="valid"), 5, 6, 7).shape[2:] == (6 - size, 7 - size, 8 - size)


@pytest.mark.parametrize(
    ("arguments", "grid"),
    [
        ({"kernel_size": (1, 7), "padding": (0, 3)}, (7, 8, 9)),
        ({"kernel_size": (7, 1), "padding": (3, 0)}, (7, 8, 9)),
        ({"kernel_size": (7, 1)}, (1, 2, 9)),
        ({"kernel_size": 3, "stride": (2, 1), "padding": 1}, (4, 4, 9)),
        ({"kernel_size": 3, "stride": (1, 2), "padding": 1}, (7, 8, 5)),
        ({"kernel_size": 3, "padding": (1, 0)}, (7, 8, 7)),
        ({"kernel_size": 3, "padding": (0, 1)}, (5, 6, 9)),
        ({"kernel_size": 3, "padding": (1, 2), "dilation": (1, 2)}, (7, 8, 9)),
    ],
)
def test_pairs_are_of_row_and_column_and_all_views_answer_on_one_grid(arguments: Any, grid: Sequence[int]) -> None:
    for kind in ("hard", "soft"):
        assert check(ACSConv3d(2, 6, **arguments, kind=kind), 7, 8, 9).shape[2:] == grid
    conv = nn.Conv2d(2, 6, **arguments)
    assert conv(torch.zeros(1, 2, 8, 9)).shape[2:] == grid[1:]


@pytest.mark.parametrize(
    ("layer", "arguments", "complaint"),
    [
        (ACSConv3d, {"kernel_size": (3, 2)}, "half a voxel apart"),
        (ACSConv3d, {"kernel_size": (2, 1)}, "half a voxel apart"),
        (ACSConv3d, {"kernel_size": 2, "dilation": (1, 2)}, "takes one dilation"),
        (ACSConv3d, {"kernel_size": (3, 3, 3)}, "kernel_size must be one or two whole numbers"),
        (ACSConv3d, {"kernel_size": 0}, "kernel_size must be one or two whole numbers of at least 1"),
        (ACSConv3d, {"kernel_size": 3, "padding": -1}, "padding must be one or two whole numbers of at least 0"),
        (ACSConv3d, {"kernel_size": 3, "padding": "Same"}, "neither 'same' nor 'valid'"),
        (ACSConv3d, {"kernel_size": 3, "padding": "same", "stride": 2}, "not for strided"),
        (ACSConv3d, {"kernel_size": 3, "padding_mode": "mirror"}, "is none of zeros, reflect"),
        (ACSConv3d, {"kernel_size": 3, "kind": "banana"}, "is none of hard, soft, mean"),
        (ACSConvTranspose3d, {"kernel_size": 3, "padding_mode": "reflect"}, "has 'zeros' only"),
        (ACSConvTranspose3d, {"kernel_size": 3, "output_padding": 1}, "smaller than stride or dilation"),
    ],
)
def test_what_cannot_be_is_refused_when_the_layer_is_made(layer: Any, arguments: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        layer(2, 6, **arguments)


@pytest.mark.parametrize("layer", [ACSConv3d, ACSConvTranspose3d])
@pytest.mark.parametrize("split", [(2, 2, 2), (4, 4, 0), (5, 5, 5), (12, -1, -1), (5, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_split_that_does_not_share_out_the_outputs_is_refused(layer: Any, split: Sequence[int], bias: bool) -> None:
    with pytest.raises(ValueError, match="does not share 10 outputs out among three views"):
        layer(2, 10, 3, bias=bias, split=split)


def test_a_split_is_kept_to_and_is_of_hard_layers_only() -> None:
    layer = ACSConv3d(2, 10, 3, padding=1, split=(0, 7, 3))
    check(layer, 5, 6, 7)
    assert layer.fold().weight[:7, :, :, 0].abs().max() == 0
    assert [ACSConv3d(1, outputs, 3).split for outputs in (1, 2, 3, 8)] == [(1, 0, 0), (1, 1, 0), (1, 1, 1), (3, 3, 2)]
    with pytest.raises(ValueError, match="of kind 'hard' only"):
        ACSConv3d(2, 10, 3, kind="soft", split=(4, 3, 3))


def test_unbatched_images_devices_and_types() -> None:
    layer = ACSConv3d(4, 6, 3, padding=1, groups=2, dtype=torch.float64)
    image = torch.randn(4, 5, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(image), layer(image[None])[0])
    for made in (ACSConv3d(4, 6, 3, kind="soft", device="meta"), ACSConvTranspose3d(4, 6, 3, device="meta")):
        assert {parameter.device.type for parameter in made.parameters()} == {"meta"}
        assert made(torch.zeros(1, 4, 5, 5, 5, device="meta")).shape[:2] == (1, 6)
        assert made.fold().weight.device.type == "meta"


def test_soft_layers_start_with_even_mixtures_whatever_the_seed() -> None:
    image = torch.randn(1, 2, 5, 6, 7)
    soft, mean = ACSConv3d(2, 6, 3, padding=1, kind="soft"), ACSConv3d(2, 6, 3, padding=1, kind="mean")
    assert soft.view_logits.tolist() == [[0, 0, 0]] * 6
    mean.load_state_dict({key: value for key, value in soft.state_dict().items() if key != "view_logits"}, strict=True)
    torch.testing.assert_close(soft(image), mean(image))
    soft(image).square().sum().backward()
    assert soft.view_logits.grad is not None
    assert soft.view_logits.grad.abs().min() > 0


def test_a_soft_layer_of_a_single_tap_has_no_mixture_to_learn() -> None:
    assert set(ACSConv3d(2, 6, 1, kind="soft").state_dict()) == {"weight", "bias"}
    check(ACSConv3d(2, 6, 1, kind="soft"), 3, 4, 5)
