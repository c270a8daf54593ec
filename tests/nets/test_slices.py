"""A 2D net that is given volumes answers for each slice as it does for an image."""

from __future__ import annotations

import pytest
import torch

from residency.nets import build
from residency.nets.slices import Slices, bare


def test_each_slice_is_answered_as_an_image() -> None:
    torch.manual_seed(1)
    flat = build("unet-16", channels=2, classes=3, filters=2, depth=2).eval()
    volumes = torch.randn(2, 2, 3, 8, 12)
    with torch.no_grad():
        found = Slices(flat)(volumes)
        assert found.shape == (2, 3, 3, 8, 12)
        for number in range(2):
            for place in range(3):
                torch.testing.assert_close(found[number, :, place], flat(volumes[number, :, place][None])[0])


def test_a_classifier_answers_with_the_mean_over_slices() -> None:
    torch.manual_seed(1)
    flat = build("resnet18", channels=1, classes=2, width=4, stem="small").eval()
    volumes = torch.randn(2, 1, 3, 32, 40)
    with torch.no_grad():
        found = Slices(flat)(volumes)
        each = torch.stack([flat(volumes[:, :, place]) for place in range(3)])
        torch.testing.assert_close(found, each.mean(0))
        torch.testing.assert_close(Slices(flat)(volumes[:, :, :1]), flat(volumes[:, :, 0]))


def test_rows_and_columns_must_fit_and_slices_need_not() -> None:
    flat = build("unet-16", channels=1, classes=2, filters=2, depth=2)
    net = Slices(flat)
    assert net.multiples == (1, flat.multiple, flat.multiple)
    assert bare(net) is flat
    assert bare(flat) is flat
    with pytest.raises(ValueError, match="grids with sides of at least"):
        net(torch.zeros(1, 1, 1, 8, flat.multiple + 1))
    with pytest.raises(ValueError, match="3 dimensions"):
        Slices(build("unet", features=(2, 4)))
