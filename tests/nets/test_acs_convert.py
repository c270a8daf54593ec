"""The converter: what it keeps of a network, what layers become, and that the network it is given stays as it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConversionError
from residency.nets import build
from residency.nets.acs import ACSConv3d, ACSConvTranspose3d
from residency.nets.acs.convert import convert, first_layer, fold, with_channels
from residency.nets.net import Net

ALL = ("acs", "soft-acs", "mean-acs", "i3d", "slicewise")


def small() -> nn.Sequential:
    """Convolution, norm, pooling, and a linear layer on the mean."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 7, 3, padding=1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(7, 3),
    )
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def constant_along(axis: int, image: Tensor, length: int) -> Tensor:
    return image.unsqueeze(axis + 2).expand(*image.shape[: axis + 2], length, *image.shape[axis + 2 :]).contiguous()


@pytest.mark.parametrize("to", ALL)
def test_the_given_network_stays_as_it_was_bit_for_bit(to: Any) -> None:
    model = small()
    before, text, image = copy.deepcopy(model.state_dict()), str(model), torch.randn(2, 2, 20, 20)
    drawn, answer = torch.get_rng_state(), model.eval()(image)
    model.train()
    made = convert(model, to).model
    assert torch.equal(torch.get_rng_state(), drawn)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    assert str(model) == text
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.eval()(image), answer)


@pytest.mark.parametrize("to", ALL)
def test_every_layer_is_reported(to: Any) -> None:
    rows = {row.path: row for row in convert(small(), to).report.rows}
    assert list(rows) == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert [path for path, row in rows.items() if row.outcome == "kept"] == ["2", "6", "7"]
    assert rows["0"].was.startswith("Conv2d(2, 6")
    assert rows["0"].became.startswith("ACSConv3d(2, 6" if to.endswith("acs") else "Conv3d(2, 6")
    assert (rows["1"].became[:11], rows["3"].became[:9]) == ("BatchNorm3d", "MaxPool3d")


def test_the_report_says_on_what_image_both_networks_were_compared() -> None:
    report = convert(small(), example=torch.zeros(1, 2, 24, 26)).report
    assert report.checked == (1, 2, 24, 26)
    assert str(report).startswith("5 of 8 layers converted to acs")


def test_a_printed_report_has_one_line_for_all_layers_of_one_kind() -> None:
    layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(30)), nn.MaxPool2d(2))
    head, convolutions, pooling = str(convert(layers).report).splitlines()
    assert head == "31 of 31 layers converted to acs"
    assert convolutions == "  0 ... 29: Conv2d -> ACSConv3d, 30 layers"
    assert pooling.startswith("  30: MaxPool2d(kernel_size=2")


@pytest.mark.parametrize("to", ["acs", "mean-acs"])
def test_state_dicts_of_the_2d_network_load_strictly_and_go_back(to: Any) -> None:
    model, other = small(), small()
    converted = convert(model, to).model
    nn.init.normal_(other[0].weight)
    converted.load_state_dict(other.state_dict())
    assert torch.equal(converted[0].weight, other[0].weight)
    model.load_state_dict(converted.state_dict())
    assert torch.equal(model[0].weight, other[0].weight)


@pytest.mark.parametrize("to", ALL)
def test_2d_weights_load_into_every_conversion_and_stay_as_they_are(to: Any) -> None:
    other = small()
    nn.init.normal_(other[0].weight)
    state, wanted = other.state_dict(), convert(other, to).model.state_dict()
    shapes = {name: value.shape for name, value in state.items()}
    converted = convert(small(), to)
    converted.load(state)
    assert {name: value.shape for name, value in state.items()} == shapes
    assert all(torch.equal(value, wanted[name]) for name, value in converted.model.state_dict().items())
    del state["4.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        converted.load(state)


@pytest.mark.parametrize("to", ["i3d", "slicewise"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_constant_along_the_axis_is_answered_as_its_slice_is_in_2d(to: Any, axis: int) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Conv2d(3, 2, 3))
    image = torch.randn(1, 2, 10, 13)
    with torch.inference_mode():
        flat, solid = model(image), convert(model, to, axis=axis).model(constant_along(axis, image, 9))
    for place in range(solid.shape[axis + 2]):
        torch.testing.assert_close(solid.select(axis + 2, place), flat, atol=1e-5, rtol=1e-5)


def test_slicewise_answers_each_slice_by_itself() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 4, (3, 5), padding=(1, 2)), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    volume = torch.randn(1, 1, 5, 9, 10)
    with torch.inference_mode():
        solid = convert(model.eval(), "slicewise").model(volume)
        flat = [model(volume[:, :, k]) for k in range(5)]
    torch.testing.assert_close(solid, torch.stack(flat, dim=2))


@pytest.mark.parametrize("to", ALL)
def test_modes_frozen_parameters_and_dtype_are_kept(to: Any) -> None:
    model = small().double()
    model[1].eval().requires_grad_(False)
    model[4].weight.requires_grad_(False)
    made = convert(model, to).model
    assert [layer.training for layer in made] == [layer.training for layer in model]
    frozen = {name for name, one in model.named_parameters() if not one.requires_grad}
    assert {n for n, one in made.named_parameters() if not one.requires_grad and "logits" not in n} == frozen
    assert {one.dtype for one in made.parameters()} == {torch.float64}
    assert made(torch.randn(2, 2, 9, 12, 11, dtype=torch.float64)).dtype == torch.float64


def test_bfloat16_is_kept() -> None:
    made = convert(small().bfloat16()).model
    assert {one.dtype for one in made.parameters()} == {torch.bfloat16}
    assert made.eval()(torch.randn(1, 2, 9, 12, 11, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("to", ALL)
def test_a_network_without_memory_stays_without_memory(to: Any) -> None:
    with torch.device("meta"):
        model = small_on_meta()
    made = convert(model, to).model
    assert {one.device.type for one in [*made.parameters(), *made.buffers()]} == {"meta"}


def small_on_meta() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_network_stays_on_its_device() -> None:
    made = convert(small().cuda()).model
    assert {one.device.type for one in [*made.parameters(), *made.buffers()]} == {"cuda"}


class Shared(nn.Module):
    """The same convolution twice in one parent, once more in another, and a weight tied to a fourth."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.first
        self.inner = nn.Sequential(self.first, nn.Conv2d(3, 3, 3, padding=1))
        self.inner[1].weight = self.first.weight
        self.aside = [self.first]

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(self.again(self.first(x))) + self.aside[0](x)
        return answer


@pytest.mark.parametrize("to", ALL)
def test_shared_layers_and_tied_weights_stay_one(to: Any) -> None:
    model = Shared()
    made: Any = convert(model, to).model
    assert made.first is made.again is made.inner[0] is made.aside[0]
    assert made.first.weight is made.inner[1].weight
    assert made.first is not model.first
    assert len(list(made.parameters())) - 2 * (to == "soft-acs") == len(list(model.parameters()))
    folded: Any = fold(made) if to.endswith("acs") else made
    assert folded.first is folded.aside[0]
    volume = torch.randn(1, 3, 5, 6, 7)
    torch.testing.assert_close(folded(volume), made(volume), atol=1e-5, rtol=1e-5)
    if to != "soft-acs":  # two layers with mixtures of their own have no kernel in common
        assert folded.first.weight is folded.inner[1].weight


def test_a_single_layer_is_converted() -> None:
    assert isinstance(convert(nn.Conv2d(1, 3, 3)).model, ACSConv3d)
    assert isinstance(convert(nn.ConvTranspose2d(3, 3, 2, stride=2)).model, ACSConvTranspose3d)
    assert isinstance(fold(convert(nn.Conv2d(1, 3, 3)).model), nn.Conv3d)


class Watched(nn.Module):
    """Remembers what comes out of its convolution by a hook that belongs to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []
        self.conv = nn.Conv2d(1, 3, 3)
        self.conv.register_forward_hook(self.remember)
        self.conv.register_full_backward_hook(self.forget)

    def remember(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen.append(tuple(output.shape))

    def forget(self, *_: Any) -> None:
        self.seen.clear()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.conv(x)
        return answer


def test_hooks_come_along_and_none_is_called_meanwhile() -> None:
    model = Watched()
    made: Any = convert(model).model
    assert model.seen == made.seen == []
    answer = made(torch.randn(1, 1, 5, 6, 7, requires_grad=True))
    assert (made.seen, model.seen) == ([(1, 3, 3, 4, 5)], [])
    answer.sum().backward()
    assert made.seen == []
    model(torch.randn(1, 1, 6, 7))
    assert (made.seen, model.seen) == ([], [(1, 3, 4, 5)])


def test_the_copy_is_a_module_like_any_other() -> None:
    made = convert(small()).model
    again = copy.deepcopy(nn.Sequential(made, nn.Identity())).eval()
    volume = torch.randn(1, 2, 9, 12, 11)
    assert torch.equal(again(volume), made.eval()(volume))


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
def test_copies_and_pickles_answer_bit_for_bit_and_stand_alone(to: Any, again: Any) -> None:
    made = convert(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 4, 2, stride=2), nn.BatchNorm2d(4)), to
    ).model
    twin, volume = again(made), torch.randn(2, 2, 5, 7, 6)
    assert (str(twin), list(twin.state_dict())) == (str(made), list(made.state_dict()))
    before = made.eval()(volume)
    assert torch.equal(twin.eval()(volume), before)
    nn.init.zeros_(twin[0].weight)
    assert torch.equal(made(volume), before)
    assert not torch.equal(twin(volume), before)
    if to.endswith("acs"):
        assert torch.equal(fold(again(made))(volume), fold(made)(volume))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 2, stride=2)], ids=["conv", "transposed"]
)
def test_scripting_says_to_fold_first_and_changes_nothing(layer: nn.Module) -> None:
    made = convert(nn.Sequential(layer, nn.ReLU())).model
    before, volume = dict(made.named_modules()), torch.randn(1, 2, 5, 6, 7)
    with pytest.raises(NotImplementedError, match=r"fold the network \(residency\.nets\.acs\.fold\) and script that"):
        torch.jit.script(made)
    assert dict(made.named_modules()) == before
    torch.testing.assert_close(torch.jit.script(fold(made))(volume), made(volume))
    torch.testing.assert_close(torch.jit.trace(made, volume)(volume[..., :6]), made(volume[..., :6]))


def test_gradients_reach_every_parameter() -> None:
    made = convert(small(), "soft-acs").model
    made(torch.randn(2, 2, 9, 12, 11)).square().sum().backward()
    assert all(one.grad is not None and bool(one.grad.any()) for one in made.parameters())


def test_a_net_becomes_a_net_of_three_dimensions() -> None:
    net = build("unet-16", filters=2, depth=2)
    made = convert(net).model
    assert isinstance(made, Net)
    assert type(made) is type(net)
    assert (net.dimensions, made.dimensions, made.channels, made.multiple) == (2, 3, 1, 4)
    assert made(torch.zeros(1, 1, 8, 12, 8)).shape == (1, 1, 8, 12, 8)
    with pytest.raises(ValueError, match=r"\(N, 1, S, R, C\)"):
        made(torch.zeros(1, 1, 12, 8))


def test_a_head_that_is_blind_along_an_axis_is_noted() -> None:
    notes = [convert(nn.Conv2d(4, outputs, 3)).report.rows[0].note for outputs in (1, 2, 3)]
    assert ["coronal and sagittal" in notes[0], "no sagittal" in notes[1], notes[2]] == [True, True, ""]


def test_two_conversions_in_a_row_and_nothing_to_convert_are_said() -> None:
    with pytest.raises(ConversionError, match=r"0: ACSConv3d\(.*three-dimensional already"):
        convert(convert(small()).model)
    with pytest.raises(ConversionError) as caught:
        convert(build("unet", features=(2, 4)))
    assert str(caught.value) == (
        "UNet cannot be carried into 3D: it is three-dimensional already; "
        "give a network that is two-dimensional throughout"
    )
    with pytest.raises(ConversionError, match="nothing to convert"):
        convert(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ConversionError, match="nothing to fold"):
        fold(small())


def test_unknown_conversions_are_refused_with_a_hint() -> None:
    with pytest.raises(ConversionError, match="unknown conversion 'asc', did you mean 'acs'"):
        convert(small(), "asc")  # type: ignore[arg-type]
    with pytest.raises(ConversionError, match="axis 1"):
        convert(small(), axis=1)


class Two(nn.Module):
    """Takes two images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        answer: Tensor = self.conv(one) + self.conv(other)
        return answer


class Packed(nn.Module):
    """Takes its images in one argument of any form."""

    def __init__(self, taken: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.taken = taken
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, given: Any) -> Tensor:
        answer: Tensor = self.conv(self.taken(given))
        return answer


class Named(NamedTuple):
    image: Tensor


def by_name(given: Mapping[str, Tensor]) -> Tensor:
    return given["image"]


def of_a_list(given: Sequence[Mapping[str, Tensor]]) -> Tensor:
    return given[0]["image"]


def of_a_tuple_with_names(given: Named) -> Tensor:
    return given.image


@pytest.mark.parametrize(
    ("taken", "packed"),
    [
        (by_name, lambda image: {"image": image, "spacing": 1.0}),
        (of_a_list, lambda image: [{"image": image}]),
        (of_a_tuple_with_names, Named),
    ],
)
def test_images_within_an_argument_become_volumes(
    taken: Callable[[Any], Tensor], packed: Callable[[Tensor], Any]
) -> None:
    converted = convert(Packed(taken), example=(packed(torch.zeros(1, 1, 8, 9)),))
    assert converted.report.checked == (1, 1, 8, 9)
    assert converted.model(packed(torch.zeros(1, 1, 5, 8, 9))).shape == (1, 3, 5, 8, 9)


def test_a_dict_alone_is_no_tuple_of_arguments() -> None:
    with pytest.raises(ConversionError, match="put the dict, one argument, into a tuple"):
        convert(Packed(by_name), example={"image": torch.zeros(1, 1, 8, 9)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "to", "said"), [(nn.Conv2d(1, 3, 3), None, "unknown conversion 'None'"), (3, "acs", "not int")]
)
def test_what_is_no_model_or_no_conversion_is_said_in_one_line(model: Any, to: Any, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        convert(model, to=to)


def test_a_network_of_two_images_is_checked_on_an_example_or_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"give arguments that it takes as `example`"):
        convert(Two())
    report = convert(Two(), unchecked=True).report
    assert report.checked is None
    assert "not checked" in report.notes[0]
    image = torch.zeros(1, 1, 8, 9)
    assert convert(Two(), example=(image, image)).report.checked == (1, 1, 8, 9)
    with pytest.raises(ConversionError, match="does not take the example: TypeError"):
        convert(Two(), example=image)


@pytest.mark.parametrize(
    ("layer", "became"),
    [
        (nn.BatchNorm2d(4), nn.BatchNorm3d),
        (nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm3d),
        (nn.Dropout2d(0.3), nn.Dropout3d),
        (nn.MaxPool2d((2, 2), stride=(1, 1)), nn.MaxPool3d),
        (nn.AvgPool2d((3, 3), padding=1, ceil_mode=True, count_include_pad=False), nn.AvgPool3d),
        (nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool3d),
        (nn.AdaptiveAvgPool2d((None, None)), nn.AdaptiveAvgPool3d),
        (nn.AdaptiveMaxPool2d((1, 1)), nn.AdaptiveMaxPool3d),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Upsample),
        (nn.Upsample(scale_factor=(2, 2), mode="nearest"), nn.Upsample),
        (nn.Upsample(size=(12, 12), mode="bilinear"), nn.Upsample),
        (nn.UpsamplingBilinear2d(scale_factor=2), nn.Upsample),
        (nn.UpsamplingNearest2d(scale_factor=2), nn.Upsample),
        (nn.ZeroPad2d(1), nn.ZeroPad3d),
        (nn.ZeroPad2d((0, 1, 0, 1)), nn.ZeroPad3d),
        (nn.ConstantPad2d(2, 1.5), nn.ConstantPad3d),
        (nn.ReflectionPad2d(1), nn.ReflectionPad3d),
        (nn.ReplicationPad2d(1), nn.ReplicationPad3d),
        (nn.CircularPad2d(1), nn.CircularPad3d),
        (nn.Softmax2d(), nn.Softmax),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_layer_does_to_a_volume_constant_along_slices_what_it_did_to_the_slice(
    layer: nn.Module, became: type[nn.Module]
) -> None:
    """Away from the ends, where there are no more slices. Every layer here answers a constant with a constant."""
    torch.manual_seed(2)
    layer.eval()
    image = torch.randn(2, 4, 9, 9)
    made = convert(layer).model
    assert type(made) is became
    flat, solid = layer(image), made(constant_along(0, image, 9))
    assert solid.shape[-2:] == flat.shape[-2:]
    assert solid.shape[2] in (1, flat.shape[-1])
    torch.testing.assert_close(solid[:, :, solid.shape[2] // 2], flat)


def test_pooling_to_a_fixed_size_keeps_what_the_classifier_has_weights_for() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d((2, 4)), nn.Flatten(), nn.Linear(24, 2))
    converted = convert(model)
    assert converted.model[1].output_size == (1, 2, 4)
    assert "weights" in next(row.note for row in converted.report.rows if row.path == "1")
    converted.model.load_state_dict(model.state_dict())
    assert converted.model(torch.zeros(1, 1, 9, 11, 10)).shape == (1, 2)


def test_unpooling_finds_the_places_of_the_pooling() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.back(*self.pool(x))
            return answer

    volume = torch.randn(1, 2, 4, 6, 8)
    kept = convert(Around(), example=torch.zeros(1, 2, 8, 12)).model(volume)
    assert int((kept != 0).sum()) == volume.numel() // 8
    assert torch.equal(kept[kept != 0], volume[kept != 0])


@pytest.mark.parametrize(("channels", "factor"), [(1, 3), (2, 1), (4, 1), (6, 1)])
def test_a_first_layer_answers_a_grey_image_as_it_did_its_copies(channels: int, factor: int) -> None:
    weight = torch.randn(5, 3, 3, 3)
    other = first_layer(weight, channels)
    assert other.shape == (5, channels, 3, 3)
    if channels in (1, 6):
        torch.testing.assert_close(other.sum(dim=1), weight.sum(dim=1))
    else:
        turned = torch.stack([weight[:, k % 3] for k in range(channels)], dim=1)
        torch.testing.assert_close(other, turned * 3 / channels)
    with pytest.raises(ValueError, match="at least one channel"):
        first_layer(weight, 0)


def test_a_network_for_other_channels_answers_grey_images_as_before() -> None:
    net = build("resnet18", width=4, blocks=(1, 1, 1, 1), classes=3, stem="small").eval()
    grey = with_channels(net, 1)
    assert isinstance(grey, Net)
    assert (net.channels, grey.channels) == (3, 1)
    image = torch.randn(1, 1, 32, 40)
    torch.testing.assert_close(grey(image), net(image.expand(1, 3, 32, 40)))
    assert convert(grey).model(torch.zeros(1, 1, 17, 19, 18)).shape == (1, 3)
    with pytest.raises(ConversionError, match="in 2 groups"):
        with_channels(nn.Conv2d(2, 4, 3, groups=2), 1)
