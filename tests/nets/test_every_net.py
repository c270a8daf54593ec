"""Every net of the registry keeps the contract; its export is tried on one net of each form, and on all where slow."""

from __future__ import annotations

import pytest

from residency.nets import NETS
from residency.nets.architecture import Architecture
from residency.testing.net import NetContract, NetExportContract

FORMS = ("unet", "monet-r", "resnet18", "resnet18-3d")
"""Segmenting in 3D with a norm of the image and in 2D with running statistics; classifying in 2D and in 3D."""


class TestEveryNet(NetContract):
    @pytest.fixture(params=sorted(NETS))
    def architecture(self, request: pytest.FixtureRequest) -> Architecture:
        return NETS[request.param]


class TestExportOfEachForm(NetExportContract):
    @pytest.fixture(params=FORMS)
    def architecture(self, request: pytest.FixtureRequest) -> Architecture:
        return NETS[request.param]


@pytest.mark.slow
class TestExportOfEveryNet(NetExportContract):
    @pytest.fixture(params=sorted(set(NETS) - set(FORMS)))
    def architecture(self, request: pytest.FixtureRequest) -> Architecture:
        return NETS[request.param]


def test_names_are_said_as_in_a_training_file() -> None:
    assert all(name == name.lower() and " " not in name and "_" not in name for name in NETS)
    titles = [architecture.title for architecture in NETS.values()]
    assert len(set(titles)) == len(titles)
