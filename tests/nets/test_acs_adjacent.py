"""A 2D net on every slice of a volume with its neighbours."""

from __future__ import annotations

import pytest
import torch

from residency.nets import build
from residency.nets.acs import AdjacentSlices, convert, with_channels
from residency.nets.net import Net
from residency.train.export import export_graph, prove_parity


def flat(channels: int) -> Net:
    torch.manual_seed(0)
    return build("unet-16", channels=channels, classes=2, filters=2, depth=1).eval()


@pytest.mark.parametrize(("channels", "reach"), [(3, 1), (6, 1), (5, 2), (2, 0)])
def test_each_slice_is_answered_as_the_2d_net_answers_it_with_its_neighbours(channels: int, reach: int) -> None:
    net = flat(channels)
    wrapped = AdjacentSlices(net, reach)
    each = channels // (2 * reach + 1)
    assert (wrapped.channels, wrapped.dimensions, wrapped.multiple) == (each, 3, 2)
    volume = torch.randn(2, each, 4, 8, 6)
    with torch.inference_mode():
        scores = wrapped(volume)
        assert scores.shape == (2, 2, 4, 8, 6)
        for place in range(4):
            near = [volume[:, :, min(max(place + k, 0), 3)] for k in range(-reach, reach + 1)]
            torch.testing.assert_close(scores[:, :, place], net(torch.cat(near, dim=1)))


def test_a_net_of_one_channel_answers_a_volume_of_equal_slices_as_its_slice() -> None:
    net = flat(1)
    wrapped = AdjacentSlices(with_channels(net, 3))
    image = torch.randn(1, 1, 8, 6)
    with torch.inference_mode():
        scores = wrapped(image.unsqueeze(2).expand(1, 1, 4, 8, 6))
    torch.testing.assert_close(scores[:, :, 2], net(image))


@pytest.mark.slow
def test_it_is_exported_like_any_net() -> None:
    wrapped = AdjacentSlices(flat(3))
    volume = torch.randn(2, 1, 4, 10, 8)
    prove_parity(wrapped, export_graph(wrapped), [volume.numpy()])


def test_nets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels of the net are not those of 3 slices"):
        AdjacentSlices(flat(4))
    with pytest.raises(ValueError, match="three-dimensional"):
        AdjacentSlices(build("unet", channels=3, features=(2, 4)))
    classifier = build("resnet18", channels=3, classes=2, width=2, blocks=(1, 1, 1, 1), stem="small")
    with pytest.raises(ValueError, match="have no grid"):
        AdjacentSlices(classifier)(torch.zeros(1, 1, 16, 16, 16))
    assert convert(flat(3)).model.dimensions == 3
