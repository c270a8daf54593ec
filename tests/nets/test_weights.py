"""Weights from a user's file: strictly, safely, and what is adapted is said."""

from __future__ import annotations

import os
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from residency.errors import TrainingError
from residency.nets import NETS, build, weights
from residency.nets.acs import convert
from residency.nets.acs.table import To
from residency.nets.net import Net
from residency.nets.weights import load_weights

Save = Callable[[dict[str, Tensor], Path], None]


def save_old(state: dict[str, Tensor], file: Path) -> None:
    """The form of before torch 1.6, in which many published files still are."""
    torch.save(state, file, _use_new_zipfile_serialization=False)


SAVES: dict[str, Save] = {"safetensors": save_file, "torch": torch.save, "torch-old": save_old}


def small(name: str = "resnet18", *, seed: int = 0, **parameters: object) -> Net:
    torch.manual_seed(seed)
    net = build(name, **{"classes": 5, **NETS[name].small, **parameters}).eval()
    for key, buffer in net.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net


def image_for(net: Net, side: int = 32) -> Tensor:
    return torch.randn(2, net.channels, *[side] * net.dimensions)


def answers_alike(one: Net, other: Net) -> bool:
    image = image_for(one)
    with torch.inference_mode():
        return torch.equal(one(image), other(image))


def refusal(net: nn.Module, file: Path, **how: object) -> str:
    """What is said of a file that does not load; the net must not have changed."""
    said = refusal_of(net, file, **how)
    assert "\n" not in said
    assert str(file) in said
    return said


def refusal_of(net: nn.Module, file: Path, **how: object) -> str:
    """As `refusal`, of what need not name the file."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(TrainingError) as caught:
        load_weights(net, file, **how)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("form", SAVES)
@pytest.mark.parametrize("name", ["resnet50", "vgg11-bn", "densenet121", "efficientnetv2-s", "resnet18-3d"])
def test_a_net_answers_as_the_one_whose_weights_it_took(tmp_path: Path, form: str, name: str) -> None:
    given, net = small(name), small(name, seed=1)
    SAVES[form](given.state_dict(), tmp_path / "weights")
    assert not answers_alike(net, given)
    loaded = load_weights(net, tmp_path / "weights")
    assert answers_alike(net, given)
    assert (loaded.tensors, loaded.notes) == (len(given.state_dict()), ())


def test_weights_of_an_encoder_leave_the_head_of_the_file(tmp_path: Path) -> None:
    for name, dropped in [("resnet18", 2), ("efficientnetv2-s", 8)]:
        given, net = small(name), small(name, seed=1).without_head()
        torch.save(given.state_dict(), tmp_path / "weights")
        loaded = load_weights(net, tmp_path / "weights")
        assert loaded.tensors == len(given.state_dict()) - dropped
        assert "this net has no head" in loaded.notes[0]
        image = image_for(net)
        with torch.inference_mode():
            assert all(torch.equal(a, b) for a, b in zip(net.features(image), given.features(image), strict=True))


def test_other_classes_need_a_fresh_head(tmp_path: Path) -> None:
    given, net = small(classes=7), small(seed=1)
    torch.save(given.state_dict(), tmp_path / "weights")
    said = refusal(net, tmp_path / "weights")
    assert "fc.weight: 7 x 64, in the net 5 x 64" in said
    assert said.endswith("only the classifier differs: head='fresh' loads the rest")
    before = net.fc.weight.clone()
    loaded = load_weights(net, tmp_path / "weights", head="fresh")
    assert loaded.notes == ("The classifier 'fc' begins anew.",)
    assert str(loaded) == f"{loaded.tensors} tensors loaded. The classifier 'fc' begins anew."
    assert torch.equal(net.fc.weight, before)
    assert torch.equal(net.layer4[0].conv1.weight, given.layer4[0].conv1.weight)


def test_a_fresh_head_leaves_every_other_layer_strict(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["layer2.0.bn1.weight"]
    torch.save(state, tmp_path / "weights")
    assert "1 missing ('layer2.0.bn1.weight')" in refusal(small(), tmp_path / "weights", head="fresh")


def test_a_net_without_a_named_head_has_none_to_keep_fresh(tmp_path: Path) -> None:
    net = nn.Linear(2, 3)
    torch.save(net.state_dict(), tmp_path / "weights")
    assert load_weights(net, tmp_path / "weights").tensors == 2
    with pytest.raises(TrainingError, match="Linear does not say which of its layers give the scores"):
        load_weights(net, tmp_path / "weights", head="fresh")


@pytest.mark.parametrize("option", ["head", "into"])
def test_options_that_are_none_are_refused(tmp_path: Path, option: str) -> None:
    torch.save(small().state_dict(), tmp_path / "weights")
    assert refusal_of(small(), tmp_path / "weights", **{option: "new"}).startswith(f"{option} is '")


def test_a_path_may_be_text(tmp_path: Path) -> None:
    given, net = small(), small(seed=1)
    torch.save(given.state_dict(), tmp_path / "weights")
    load_weights(net, str(tmp_path / "weights"))
    assert answers_alike(net, given)


@pytest.mark.parametrize("name", ["monet", "monet-3d", "unet-16", "attention-unet", "unet", "brainmage-resunet"])
def test_a_segmentation_net_takes_a_file_of_other_channels_and_classes(tmp_path: Path, name: str) -> None:
    given = build(name, **{**NETS[name].small, "channels": 3, "classes": 5})
    net = build(name, **{**NETS[name].small, "channels": 1, "classes": 2})
    torch.save(given.state_dict(), tmp_path / "weights")
    assert refusal_of(net, tmp_path / "weights").endswith("only the last layer differs: head='fresh' loads the rest")
    kept = {key: value.clone() for key, value in net.state_dict().items() if key.startswith(net.last_layers)}
    loaded = load_weights(net, tmp_path / "weights", head="fresh")
    assert loaded.notes == (
        f"The last layer '{net.last_layers[0]}' begins anew.",
        "First layer made for 3 channels, adapted to 1: their sum.",
    )
    first, state = f"{net.first_layer}.weight", given.state_dict()
    for key, value in net.state_dict().items():
        wanted = kept[key] if key in kept else state[key].sum(1, keepdim=True) if key == first else state[key]
        torch.testing.assert_close(value, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name, one in NETS.items() if one.task == "segmentation"])
def test_what_depends_on_channels_and_classes_is_what_the_net_names(name: str) -> None:
    with torch.device("meta"):
        one, other = (
            build(name, **{**NETS[name].small, "channels": channels, "classes": classes}).state_dict()
            for channels, classes in [(1, 2), (3, 5)]
        )
        net = build(name, **NETS[name].small)
    differs = {key for key in one if one[key].shape != other[key].shape}
    named = {key for key in differs if key == f"{net.first_layer}.weight" or key.startswith(net.last_layers)}
    assert differs == named
    assert f"{net.first_layer}.weight" in differs


def test_deep_supervision_begins_anew_with_the_head(tmp_path: Path) -> None:
    small_ = {**NETS["resenc-unet"].small, "deep_supervision": True}
    given, net = (build("resenc-unet", **{**small_, "classes": classes}) for classes in (5, 2))
    torch.save(given.state_dict(), tmp_path / "weights")
    assert "'head'" in load_weights(net, tmp_path / "weights", head="fresh").notes[0]


def test_an_encoder_has_no_classifier_that_could_begin_anew(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "weights")
    loaded = load_weights(small(seed=1).without_head(), tmp_path / "weights", head="fresh")
    assert "this net has no head" in str(loaded)
    assert "anew" not in str(loaded)


@pytest.mark.parametrize("solid", [False, True])
def test_a_classifiers_file_goes_into_an_encoder_only_when_asked(tmp_path: Path, solid: bool) -> None:
    given = small()
    torch.save(given.state_dict(), tmp_path / "weights")
    net = build("resnet18-unet", **NETS["resnet18-unet"].small, channels=1)
    net = convert(net).model if solid else net
    assert refusal(net, tmp_path / "weights").endswith("load_weights(..., into='encoder') loads them there")
    loaded = load_weights(net, tmp_path / "weights", into="encoder")
    assert "adapted to 1: their sum" in str(loaded)
    assert torch.equal(net.encoder.layer4[0].conv1.weight, given.layer4[0].conv1.weight)
    assert "net 'resnet18' has no encoder of its own" in refusal_of(small(), tmp_path / "weights", into="encoder")


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121", "efficientnetv2-s"])
def test_a_grey_image_is_answered_as_if_repeated_in_each_channel(tmp_path: Path, name: str) -> None:
    given = small(name)
    torch.save(given.state_dict(), tmp_path / "weights")
    image = torch.randn(2, 1, 40, 33)
    with torch.inference_mode():
        wanted = given(image.expand(-1, 3, -1, -1))
        for channels in (1, 6):
            net = small(name, seed=1, channels=channels)
            loaded = load_weights(net, tmp_path / "weights")
            assert loaded.notes[0].startswith(f"First layer made for 3 channels, adapted to {channels}:")
            torch.testing.assert_close(net(image.expand(-1, channels, -1, -1)), wanted)


def test_channels_beyond_those_of_the_file_are_taken_in_turn(tmp_path: Path) -> None:
    given = small()
    torch.save(given.state_dict(), tmp_path / "weights")
    for channels, in_turn in [(2, [0, 1]), (5, [0, 1, 2, 0, 1])]:
        net = small(seed=1, channels=channels)
        assert load_weights(net, tmp_path / "weights").notes == (
            f"First layer made for 3 channels, adapted to {channels}: in turn, times 3/{channels}.",
        )
        torch.testing.assert_close(net.conv1.weight, given.conv1.weight[:, in_turn] * 3 / channels)


def test_another_stem_cannot_take_the_first_layer(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "weights")
    said = refusal(small(stem="small", channels=1), tmp_path / "weights")
    assert "conv1.weight: 8 x 3 x 7 x 7, in the net 8 x 1 x 3 x 3" in said
    net = small(stem="unstrided", seed=1)
    load_weights(net, tmp_path / "weights")
    assert torch.equal(net.conv1.weight, small().conv1.weight)


def test_half_precision_is_converted_and_said(tmp_path: Path) -> None:
    given, net = small(), small(seed=1)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in given.state_dict().items()}, tmp_path / "w")
    assert load_weights(net, tmp_path / "w").notes == ("Converted from float16.",)
    assert net.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(net.conv1.weight, given.conv1.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["densenet121", "densenet121-3d"])
def test_names_of_an_old_densenet_file_are_understood(tmp_path: Path, name: str) -> None:
    """As in the file that torchvision publishes: "norm.1" for "norm1", and no counters."""
    given, net = small(name), small(name, seed=1)
    old = {key: value for key, value in given.state_dict().items() if not key.endswith("num_batches_tracked")}
    for layer in ("norm1", "norm2", "conv1", "conv2"):
        old = {k.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}."): v for k, v in old.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert "features.norm0.weight" in old
    torch.save(old, tmp_path / "weights")
    assert load_weights(net, tmp_path / "weights").notes == (f"{8 * 10} tensors had names of an older form.",)
    assert answers_alike(net, given)
    old["features.denseblock1.denselayer1.norm1.weight"] = old["features.denseblock1.denselayer1.norm.1.weight"]
    torch.save(old, tmp_path / "weights")
    assert "under its old and its new name" in refusal(net, tmp_path / "weights")


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "densenet121", "efficientnetv2-s"])
def test_a_net_carried_into_3d_takes_the_file_of_the_2d_net(tmp_path: Path, name: str) -> None:
    """And answers as the 2D net that was carried over with these weights in it; its first layer is adapted too."""
    given = small(name)
    torch.save(given.state_dict(), tmp_path / "weights")
    solid = convert(small(name, seed=1)).model
    assert load_weights(solid, tmp_path / "weights").tensors == len(given.state_dict())
    image, wanted = torch.randn(2, 3, 32, 35, 33), convert(given).model
    with torch.inference_mode():
        assert torch.equal(solid(image), wanted(image))
        grey = convert(small(name, seed=1, channels=1)).model
        assert "their sum" in load_weights(grey, tmp_path / "weights").notes[0]
        torch.testing.assert_close(grey(image[:, :1]), wanted(image[:, :1].expand(-1, 3, -1, -1, -1)))


def test_differences_are_counted_and_the_first_named(tmp_path: Path) -> None:
    state = small().state_dict()
    for key in [key for key in state if key.startswith("layer3.0.bn")]:
        del state[key]
    state |= {"extra": torch.zeros(2), "bn1.weight": torch.zeros(9), "bn1.bias": torch.zeros(8, dtype=torch.int64)}
    torch.save(state, tmp_path / "weights")
    said = refusal(small(), tmp_path / "weights")
    assert "do not fit net 'resnet18': 8 missing ('layer3.0.bn1.weight', 'layer3.0.bn1.bias', " in said
    assert ", ...), 1 unexpected ('extra'), 2 of another shape or type (" in said
    assert "bn1.weight: 9, in the net 8; bn1.bias: 8 int64, in the net 8)" in said


def test_hints_say_what_is_probably_wrong(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    torch.save(small("vgg11").state_dict(), file)
    assert refusal(small(), file).endswith("weights of another architecture")
    torch.save({f"module.{key}": value for key, value in small().state_dict().items()}, file)
    assert refusal(small(), file).endswith("every name begins with 'module.', which is to be taken away")


def of_ones_own(channels: int, classes: int) -> nn.Sequential:
    torch.manual_seed(channels)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)
    )


def test_what_a_net_of_ones_own_must_name_is_told(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    torch.save(of_ones_own(3, 5).state_dict(), file)
    net = of_ones_own(1, 2)
    said = refusal(net, file)
    assert "; net.first_layer = '0' lets it be adapted" in said
    assert "; net.last_layers = ('4',) and head='fresh' let it begin anew" in said
    assert "name them, as net.last_layers = ('4',)" in refusal_of(net, file, head="fresh")
    net.first_layer, net.last_layers = "0", ("4",)  # type: ignore[assignment]  # as the hints say
    begun = net[4].weight.clone()
    assert load_weights(net, file, head="fresh").tensors == 2
    assert torch.equal(net[0].weight, of_ones_own(3, 5)[0].weight.sum(1, keepdim=True))
    assert torch.equal(net[4].weight, begun)


@pytest.mark.parametrize("places", [("5",), ("4", "head"), ("1",), "fc", ("",)])
def test_a_last_layer_that_the_net_does_not_have_is_refused(tmp_path: Path, places: object) -> None:
    """Else the layer that was meant would be loaded from the file, unsaid."""
    torch.save(of_ones_own(1, 2).state_dict(), tmp_path / "weights")
    net = of_ones_own(1, 2)
    net.last_layers = places  # type: ignore[assignment]  # a name of our own
    wrong = places if isinstance(places, str) else places[-1]
    said = refusal_of(net, tmp_path / "weights", head="fresh")
    assert said == f"net.last_layers names '{wrong}', where Sequential has no weights: its layers are named as '0', '4'"


def test_a_first_layer_that_the_net_does_not_have_is_refused(tmp_path: Path) -> None:
    torch.save(of_ones_own(1, 2).state_dict(), tmp_path / "weights")
    net = of_ones_own(1, 2)
    net.first_layer = "stem.0"  # type: ignore[assignment]  # a name of our own
    assert refusal_of(net, tmp_path / "weights").startswith("net.first_layer names 'stem.0', where ")


@pytest.mark.parametrize("name", NETS)
def test_every_net_of_the_registry_names_layers_that_it_has(tmp_path: Path, name: str) -> None:
    net = build(name, **NETS[name].small)
    torch.save(net.state_dict(), tmp_path / "weights")
    assert "anew" in str(load_weights(net, tmp_path / "weights", head="fresh"))


def test_layers_that_are_called_first_and_last_are_no_names(tmp_path: Path) -> None:
    net = nn.Module()
    net.first_layer, net.last_layers = nn.Conv2d(1, 2, 3), nn.ModuleList([nn.Linear(2, 2)])
    torch.save(net.state_dict(), tmp_path / "weights")
    assert load_weights(net, tmp_path / "weights").tensors == 4
    assert "name them, as net.last_layers = ('last_layers.0',)" in refusal_of(net, tmp_path / "weights", head="fresh")


def test_no_hint_names_a_place_without_a_name(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 5, 3).state_dict(), tmp_path / "weights")
    assert refusal(nn.Conv2d(1, 5, 3), tmp_path / "weights").endswith("in the net 5 x 1 x 3 x 3)")
    assert refusal(nn.Conv2d(3, 2, 3), tmp_path / "weights").endswith("in the net 2)")
    for net in (nn.Conv2d(3, 5, 3), nn.ReLU()):
        assert refusal_of(net, tmp_path / "weights", head="fresh").endswith("so that none can begin anew")


def test_a_net_built_in_3d_is_not_told_that_it_was_converted(tmp_path: Path) -> None:
    torch.save(nn.Conv2d(3, 5, 3).state_dict(), tmp_path / "weights")
    said = refusal(nn.Conv3d(3, 5, 3), tmp_path / "weights")
    assert "where this one came from it by `convert`" in said
    assert said.endswith("a net built in 3D takes those of 3D nets alone")


def test_other_widths_within_a_net_are_no_matter_of_its_ends(tmp_path: Path) -> None:
    def chain(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, width, 3), nn.Conv2d(width, 2, 3))

    torch.save(chain(3).state_dict(), tmp_path / "weights")
    assert refusal(chain(4), tmp_path / "weights").endswith("in the net 2 x 4 x 3 x 3)")
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).state_dict(), tmp_path / "weights")
    assert refusal(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), tmp_path / "weights").endswith("in the net 2 x 8)")


@pytest.mark.parametrize("to", ["i3d", "slicewise"])
def test_weights_of_the_2d_net_for_an_inflated_one_are_sent_where_they_load(tmp_path: Path, to: To) -> None:
    flat = small()
    torch.save(flat.state_dict(), tmp_path / "weights")
    converted = convert(small(seed=1), to=to)
    assert "or by `load` of what `convert` gave" in refusal(converted.model, tmp_path / "weights")
    converted.load(flat.state_dict())
    loaded = converted.model.state_dict()
    assert torch.equal(loaded["bn1.running_mean"], flat.bn1.running_mean)
    given = flat.conv1.weight
    sides = given.shape[-1] if to == "i3d" else 1
    inflated = given.unsqueeze(2).expand(-1, -1, sides, -1, -1) / sides
    torch.testing.assert_close(loaded["conv1.weight"], inflated)


@pytest.mark.parametrize("wrapper", weights.WRAPPERS)
def test_the_state_dict_in_a_checkpoint_is_found_and_said(tmp_path: Path, wrapper: str) -> None:
    given = small(seed=1)
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, wrapper: given.state_dict()}, tmp_path / "weights")
    net = small()
    assert f"Taken from '{wrapper}' of the file." in str(load_weights(net, tmp_path / "weights"))
    assert answers_alike(net, given)


def test_two_state_dicts_in_a_file_are_not_chosen_from(tmp_path: Path) -> None:
    torch.save({"model": small().state_dict(), "state_dict": small(seed=1).state_dict()}, tmp_path / "weights")
    assert refusal(small(), tmp_path / "weights").endswith("save the state dict of a net alone")


def test_a_file_is_judged_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    given = small(seed=1)
    torch.save(given.state_dict(), tmp_path / "weights.safetensors")
    save_file(given.state_dict(), tmp_path / "weights.pt")
    for name in ("weights.safetensors", "weights.pt"):
        net = small()
        load_weights(net, tmp_path / name)
        assert answers_alike(net, given)


def test_a_state_dict_in_memory_is_sent_where_it_goes() -> None:
    with pytest.raises(TrainingError, match=r"got OrderedDict: .* net\.load_state_dict\(state\)"):
        load_weights(small(), small().state_dict())  # type: ignore[arg-type]  # what the test is about


NO_STATE_DICT = (
    {"net": small().state_dict()},
    {"model": {"a": 1}},
    {"model": {}},
    [torch.zeros(1)],
    {},
    {"a": 1},
    {1: 2},
)


@pytest.mark.parametrize("content", NO_STATE_DICT)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights")
    assert refusal(small(), tmp_path / "weights").endswith("save the state dict of a net alone")


@pytest.mark.parametrize(
    "odd", [torch.zeros(5, device="meta"), torch.zeros(5).to_sparse()], ids=["without memory", "sparse"]
)
def test_what_is_no_plain_tensor_is_refused(tmp_path: Path, odd: Tensor) -> None:
    torch.save({**small().state_dict(), "fc.bias": odd}, tmp_path / "weights")
    assert "hold more than tensors: 'torch._utils _rebuild_" in refusal(small(), tmp_path / "weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    state = small().state_dict()
    state["fc.bias"] = torch.full((5,), value)
    save_file(state, tmp_path / "weights")
    assert "not finite: 'fc.bias'" in refusal(small(), tmp_path / "weights")


def test_a_value_beyond_the_nets_format_is_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    state["fc.bias"] = torch.full((5,), 1e300, dtype=torch.float64)
    save_file(state, tmp_path / "weights")
    assert "in the net's format, not finite: 'fc.bias'" in refusal(small(), tmp_path / "weights")


def test_half_precision_channels_are_summed_in_the_nets_format(tmp_path: Path) -> None:
    state = small().state_dict()
    state["conv1.weight"] = torch.full_like(state["conv1.weight"], 60000.0).half()
    save_file(state, tmp_path / "weights")
    net = small(channels=1)
    assert load_weights(net, tmp_path / "weights").notes[-1] == "Converted from float16."
    assert torch.equal(net.conv1.weight, state["conv1.weight"].float().sum(1, keepdim=True))


def test_a_shape_that_no_memory_holds_is_refused_before_it_is_made(tmp_path: Path) -> None:
    state = small().state_dict()
    state["fc.bias"] = torch.zeros(1, dtype=torch.float16).expand(2**45)
    torch.save(state, tmp_path / "weights")
    assert "fc.bias: 35184372088832 float16, in the net 5" in refusal(small(), tmp_path / "weights")


@pytest.mark.parametrize("form", SAVES)
@pytest.mark.parametrize("kept", [0, 7, 12, 100, 0.5, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, form: str, kept: float) -> None:
    file = tmp_path / "weights"
    SAVES[form](small().state_dict(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert len(refusal(small(), file)) < 500


class Calls:
    """Pickled, it is a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    file, trace = tmp_path / "weights", tmp_path / "trace"
    content = {"conv1.weight": Calls(os.mkdir, str(trace))}
    if form == "bare":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    said = refusal(small(), file)
    assert f"hold more than tensors: '{'STACK_GLOBAL' if form == 'bare' else 'posix mkdir'}'" in said
    assert len(said) < 500
    assert not trace.exists()


@pytest.mark.parametrize("form", ["zip", "old"])
def test_a_pickle_that_asks_for_memory_is_refused_before_it_is_carried_out(tmp_path: Path, form: str) -> None:
    """A few hundred bytes, and torch's reader, which knows this name, would make three gigabytes of them."""
    file = tmp_path / "weights"
    content = {"conv1.weight": Calls(bytearray, 3 * 10**9)}
    torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "more than tensors: '__builtin__ bytearray'" in refusal(small(), file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # KiB


def test_entries_of_the_same_name_are_refused(tmp_path: Path) -> None:
    """Two readers of a zip may take either."""
    file = tmp_path / "weights"
    torch.save(small().state_dict(), file)
    with zipfile.ZipFile(file, "a") as archive:
        name = next(one for one in archive.namelist() if one.endswith("data.pkl"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, archive.read(name))
    assert "packed in a way that torch never writes" in refusal(small(), file)


def test_parameters_in_place_of_tensors_are_taken(tmp_path: Path) -> None:
    given, net = small(), small(seed=1)
    torch.save(given.state_dict(keep_vars=True), tmp_path / "weights")
    load_weights(net, tmp_path / "weights")
    assert answers_alike(net, given)
    assert net.conv1.weight.requires_grad


def test_a_zip_of_compressed_entries_is_refused(tmp_path: Path) -> None:
    """torch stores its entries as they are; a packed one could be a thousand times what the file takes."""
    torch.save(small().state_dict(), tmp_path / "plain")
    with zipfile.ZipFile(tmp_path / "plain") as plain, zipfile.ZipFile(tmp_path / "weights", "w", 8) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    assert "packed in a way that torch never writes" in refusal(small(), tmp_path / "weights")


def test_a_file_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(small().state_dict(), tmp_path / "weights")
    size = (tmp_path / "weights").stat().st_size
    monkeypatch.setattr(weights, "LARGEST_FILE", size - 1)
    assert f"have {size} bytes, more than the {size - 1} that are read" in refusal(small(), tmp_path / "weights")
    monkeypatch.setattr(weights, "LARGEST_FILE", size)
    load_weights(small(), tmp_path / "weights")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"hello, these are no weights",
        struct.pack("<Q", 2**60) + b"{" * 40,
        struct.pack("<Q", 30) + b"{" * 40,
    ],
    ids=["empty", "short", "text", "endless header", "broken header"],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    refusal(small(), tmp_path / "weights")


def test_a_missing_file_or_a_folder_is_said(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(small(), tmp_path / "none")
    assert "cannot be read: Is a directory" in refusal(small(), tmp_path)


def test_a_tensor_that_is_larger_than_its_file_is_measured_not_read(tmp_path: Path) -> None:
    """One value, seen as a million million."""
    state = {**small().state_dict(), "fc.bias": torch.zeros(1).expand(10**12)}
    torch.save(state, tmp_path / "weights")
    assert "fc.bias: 1000000000000, in the net 5" in refusal(small(), tmp_path / "weights")


def test_names_from_a_file_stay_on_one_line(tmp_path: Path) -> None:
    torch.save({**small().state_dict(), "a\nb\x1b[31m" + "c" * 500: torch.zeros(1)}, tmp_path / "weights")
    said = refusal(small(), tmp_path / "weights")
    assert "\x1b" not in said
    assert len(said) < 400
