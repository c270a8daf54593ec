"""What the converter cannot see into is refused unless it is told to go on, and no copy uses the network it is of."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residency.errors import ConversionError
from residency.nets.acs import ACSConv3d, convert, fold, with_channels


class Headed(nn.Module):
    """A convolution, the mean of all places, and a head that is reached through what `prepare` gives."""

    def __init__(self, prepare: Callable[[Any], Any]) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
        self.f: Any = prepare(self)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.f(self.conv(image).flatten(2).mean(2))
        return answer

    def head(self, x: Tensor) -> Tensor:
        answer: Tensor = self.linear(x)
        return answer


UNCHECKABLE: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "a number of a tensor": lambda m, x: x * x.mean().item(),
    "a branch on values": lambda m, x: x if bool((x > -100).all()) else -x,
    "NumPy": lambda m, x: x + torch.from_numpy(x.detach().numpy()),
    "in training alone": lambda m, x: x * float(x.mean()) if m.training else x,
}


class Doing(nn.Module):
    def __init__(self, does: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.does = nn.Conv2d(3, 4, 3, padding=1), does

    def forward(self, x: Tensor) -> Tensor:
        return self.does(self, self.conv(x))


@pytest.mark.parametrize("name", UNCHECKABLE)
def test_a_forward_that_needs_values_is_refused_or_converted_unchecked(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Doing(UNCHECKABLE[name])).eval()
    for example, tried in ((None, "images of 3 channels and 64x96"), (torch.zeros(2, 3, 8, 8), "the example")):
        with pytest.raises(ConversionError, match=f"does not take {tried}.*in '1'.*`unchecked=True`") as caught:
            convert(model, example=example)
        assert caught.value.places == ("1",)
        assert "\n" not in str(caught.value)
    converted = convert(model, unchecked=True)
    assert converted.report.checked is None
    assert "not checked" in converted.report.notes[0]
    assert converted.model(torch.randn(2, 3, 4, 5, 6)).shape == (2, 4, 4, 5, 6)


def test_unchecked_does_not_switch_off_the_check_of_what_runs() -> None:
    with pytest.raises(ConversionError, match=r"mean\(\)"):
        convert(Doing(lambda m, x: x.mean((2, 3))), unchecked=True)
    assert convert(Doing(lambda m, x: x.relu()), unchecked=True).report.checked == (2, 3, 64, 96)


class Holder:
    """An object like any other."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, x: Tensor) -> Tensor:
        answer: Tensor = self.held(x)
        return answer


def enclosing(used: Any) -> Any:
    def f(x: Tensor) -> Any:
        return used(x)

    return f


def of_a_global(m: Headed) -> Any:
    """As in a notebook."""
    names: dict[str, Any] = {"net": m}
    exec("def f(x):\n    return net.linear(x)\n", names)
    return names["f"]


def with_a_hook(m: Headed) -> Any:
    m.linear.register_forward_hook(lambda module, given, answer: answer + m.linear.bias)
    return m.linear


def beside(name: str, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def prepare(m: Any) -> Any:
        setattr(m, name, make(m))
        return m.linear

    return prepare


ITSELF = "'1'"
REFERRING: Mapping[str, tuple[Callable[[Any], Any], str, str]] = {
    "a lambda over the network": (lambda m: lambda x: m.linear(x) * 1, "'f'", ITSELF),
    "a function over a layer": (lambda m: enclosing(m.linear), "'f'", "'1.linear'"),
    "a function over a weight": (lambda m: enclosing(m.linear.weight), "'f'", "'1.linear.weight'"),
    "a function over a method": (lambda m: enclosing(m.head), "'f'", ITSELF),
    "a default": (lambda m: lambda x, layer=m.linear: layer(x), "'f'", "'1.linear'"),
    "a function in a function": (lambda m: enclosing(enclosing(m)), "'f'", ITSELF),
    "an object in a function": (lambda m: enclosing(Holder(m.linear)), "'f'", "'1.linear'"),
    "a partial of a function": (lambda m: functools.partial(enclosing(m)), "'f'", ITSELF),
    "a function in an object": (lambda m: Holder(enclosing(m)), "'f'", ITSELF),
    "a cached function": (lambda m: functools.cache(enclosing(m)), "'f'", ITSELF),
    "a global": (of_a_global, "'f'", ITSELF),
    "a network that is not its own": (lambda m: enclosing(nn.Linear(4, 2)), "'f'", "a Linear"),
    "a branch on values": (lambda m: lambda x: m.linear(x) if float(x.mean()) > 0 else x, "'f'", ITSELF),
    "a function in a list": (beside("all", lambda m: [enclosing(m)]), "'all'", ITSELF),
    "a weak reference": (beside("parent", weakref.ref), "'parent'", ITSELF),
    "a method of a layer that becomes another": (beside("look", lambda m: m.conv.forward), "'look'", "'1.conv'"),
    "a hook": (with_a_hook, "hooks", ITSELF),
}


@pytest.mark.parametrize("name", REFERRING)
@pytest.mark.parametrize("unchecked", [False, True])
def test_functions_that_refer_to_the_network_are_refused_by_attribute(name: str, unchecked: bool) -> None:
    prepare, attribute, told = REFERRING[name]
    with pytest.raises(ConversionError, match=f"refers to {told}, and a copy would go on using that one") as caught:
        convert(nn.Sequential(nn.Conv2d(1, 1, 1), Headed(prepare)), unchecked=unchecked)
    assert attribute in str(caught.value)
    assert caught.value.places == ("1.linear" if name == "a hook" else "1",)


def triple(x: Tensor) -> Tensor:
    return 3 * x


CARRIED: Mapping[str, Callable[[Any], Any]] = {
    "a layer": lambda m: m.linear,
    "a method of its own": lambda m: m.head,
    "a method of a layer that stays": lambda m: m.linear.forward,
    "a partial of a method": lambda m: functools.partial(m.head),
    "a partial with the network": lambda m: functools.partial(Headed.head, m),
    "an object with a layer": lambda m: Holder(m.linear),
    "an object with a method": lambda m: Holder(m.head),
    "functions of nobody beside": beside("extra", lambda m: [triple, lambda x: x, torch.relu, max, torch.ones(3)]),
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_deep_copy_carries_over_uses_the_weights_of_the_copy(name: str) -> None:
    model = Headed(CARRIED[name])
    converted = convert(model)
    made: Any = converted.model
    assert converted.report.checked is not None
    volume = torch.randn(1, 1, 5, 6, 7)
    before = made(volume)
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.zero_()
    assert torch.equal(made(volume), before)
    nn.init.zeros_(made.linear.weight)
    assert not torch.equal(made(volume), before)


def test_tensors_held_in_lists_do_not_stand_against_the_check() -> None:
    converted = convert(Headed(lambda m: functools.partial(torch.mul, torch.ones(4))))
    assert converted.report.checked is not None


def test_a_layer_whose_forward_is_called_is_seen_as_a_layer() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv.forward(x)

    converted = convert(Direct())
    made: Any = converted.model
    assert converted.report.checked is not None
    volume = torch.randn(1, 1, 5, 6, 7)
    assert torch.equal(made(volume), made.conv(volume))


def test_a_forward_taken_from_the_class_is_advised_to_be_called() -> None:
    with pytest.raises(ConversionError, match=r"have an nn\.Conv2d, and call the layer"):
        convert(Doing(lambda m, x: nn.Conv2d.forward(m.conv, x[:, :3])))


@pytest.mark.parametrize("to", ["acs", "soft-acs", "mean-acs", "i3d", "slicewise"])
@pytest.mark.parametrize("born_inside", [False, True])
def test_networks_made_in_inference_mode_can_be_trained(to: Any, born_inside: bool) -> None:
    with torch.inference_mode(born_inside):
        model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.ConvTranspose2d(3, 4, 2, stride=2))
    with torch.inference_mode():
        made = convert(model, to).model
        grey = with_channels(made, 1)
        forms = [made, grey, fold(grey)] if to.endswith("acs") else [made, grey]
    for form in forms:
        assert not any(one.is_inference() for one in [*form.parameters(), *form.buffers()])
        channels = 3 if form is made else 1
        form(torch.randn(2, channels, 5, 6, 7)).square().mean().backward()
        assert all(one.grad is not None for one in form.parameters())


class Backwards(nn.Module):
    """The convolution that is named first comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.first(x))
        return answer


def test_channels_are_changed_of_the_convolution_that_the_image_enters() -> None:
    torch.manual_seed(0)
    model, image, volume = Backwards(), torch.randn(1, 1, 8, 9), torch.randn(1, 1, 6, 8, 9)
    torch.testing.assert_close(with_channels(model, 1)(image), model(image.expand(-1, 3, -1, -1)))
    solid: Any = convert(model).model
    torch.testing.assert_close(with_channels(solid, 1)(volume), solid(volume.expand(-1, 3, -1, -1, -1)))
    assert isinstance(solid.first, ACSConv3d)
