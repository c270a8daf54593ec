"""The registry of nets, and the U-Net: shapes, size, and that an image is told apart from its batch."""

from __future__ import annotations

import pytest
import torch

from residency.errors import ConfigError
from residency.nets import build
from residency.nets.shifted import Shifted
from residency.nets.symmetric import Symmetric


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 3)])
def test_scores_lie_on_the_grid_of_the_image(channels: int, classes: int) -> None:
    net = build("unet", channels=channels, classes=classes)
    shape = tuple(net.multiple * n for n in (2, 4, 3))
    with torch.inference_mode():
        scores = net(torch.zeros(2, channels, *shape))
    assert scores.shape == (2, classes, *shape)


def test_the_shipped_unet_has_the_documented_number_of_parameters() -> None:
    net = build("unet", channels=1, classes=3, features=(16, 40, 96))
    assert sum(parameter.numel() for parameter in net.parameters()) == 607_451
    assert "607,451" in (type(net).__doc__ or "")


def test_an_image_gets_the_same_answer_whatever_it_is_batched_with() -> None:
    torch.manual_seed(0)
    net = build("unet", features=(4, 8)).eval()
    one, other = torch.randn(2, 1, 1, 8, 12, 10).unbind()
    with torch.inference_mode():
        alone, together = net(one), net(torch.cat([one, 100 * other]))
    torch.testing.assert_close(together[:1], alone)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    net = build("unet", features=(4, 8, 8))
    net(torch.randn(1, 1, 16, 16, 16)).square().mean().backward()
    still = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # What is added before an instance normalisation is taken away again by it, so these two have no say.
    assert still == [] or all(name.startswith("grow") and name.endswith("bias") for name in still)


def test_the_same_seed_gives_the_same_net() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        made.append(build("unet", features=(4, 8)).state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("unett", {}, "unknown net 'unett', did you mean 'unet'"),
        ("unet", {"feature": (4, 8)}, "unknown parameter of net 'unet' 'feature', did you mean 'features'"),
        ("unet", {"features": (4,)}, "two levels"),
        ("unet", {"features": 4}, "list of whole numbers"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_hint(name: str, parameters: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(name, **parameters)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_symmetric_net_answers_a_mirrored_image_with_mirrored_scores(axis: int) -> None:
    torch.manual_seed(3)
    net = Symmetric(build("unet", features=(4, 8)), axis).eval()
    image = torch.randn(2, 1, 8, 12, 10)
    with torch.inference_mode():
        plain, mirrored = net(image), net(image.flip(axis + 2))
    torch.testing.assert_close(mirrored.flip(axis + 2), plain)
    assert not torch.allclose(mirrored, plain, atol=1e-3)


def test_shifts_are_added_to_the_scores_of_their_class() -> None:
    torch.manual_seed(3)
    net = build("unet", features=(4, 8)).eval()
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        moved = Shifted(net, [0.5, 0.0, -1.0])(image) - net(image)
    torch.testing.assert_close(moved.mean(dim=(0, 2, 3, 4)), torch.tensor([0.5, 0.0, -1.0]))
    assert Shifted(net, [0.0, 0.0, 0.0]).multiple == net.multiple
