"""The same anatomy gives the same millilitres, whatever file and orientation it comes in, and on either side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from residency.assemble import open_engine
from residency.decide import segments
from residency.dicom.series import open_series
from residency.engine import Precision
from residency.files.nifti import read_nifti, write_nifti
from residency.labels import Side
from residency.measure import volume_mm3
from residency.models import read_folder
from residency.pipeline import compute
from residency.prepare.orient import Orient
from residency.settings import Settings
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop
from residency.volume import Volume

Volumes = dict[str, float]


@pytest.fixture(scope="module")
def volumes_of(repository: Path) -> Callable[[Volume], Volumes]:
    """Runs the shipped network: class name -> mm3."""
    package = read_folder(repository / "models" / "hippocampus")
    network = open_engine(Settings(threads=1)).load(package.with_role("graph").data, precision=Precision.F32)
    card = package.card
    output = card.outputs[0]

    def run(volume: Volume) -> Volumes:
        decided = compute(card, network, {card.inputs[0].name: volume})[output.name]
        return {s.label: volume_mm3(s.mask, volume.grid) for s in segments(decided, output, volume.grid)}

    return run


@pytest.fixture(scope="module", params=[Side.LEFT, Side.RIGHT])
def crop(request: pytest.FixtureRequest) -> Volume:
    """The MNI152 template round its left or right hippocampus."""
    return hippocampus_crop(request.param)


@pytest.fixture(scope="module")
def as_it_is(crop: Volume, volumes_of: Callable[[Volume], Volumes]) -> Volumes:
    """What the network finds in the template itself."""
    return volumes_of(crop)


@pytest.mark.parametrize("letters", ["SPL", "IAR", "LPS", "PSL", "RSA", "ALI"])
def test_a_dicom_series_in_any_orientation_gives_the_same_millilitres(crop, letters, volumes_of, as_it_is):
    turned = Orient(letters=letters).apply(crop)
    again = open_series(mr_series(turned)).volume()
    assert volumes_of(again) == pytest.approx(as_it_is, rel=1e-6)


@pytest.mark.parametrize("letters", ["SPL", "RAS", "PIR"])
def test_a_nifti_in_any_orientation_gives_the_same_millilitres(crop, letters, volumes_of, as_it_is):
    turned = Orient(letters=letters).apply(crop)
    again = read_nifti(write_nifti(turned.array, turned.grid))
    assert volumes_of(again) == pytest.approx(as_it_is, rel=1e-6)


def test_both_sides_of_the_template_have_plausible_hippocampi(as_it_is):
    assert len(as_it_is) == 2
    assert 1500 < sum(as_it_is.values()) < 5000


def test_a_network_that_sees_left_as_right_would_be_noticed(crop, volumes_of, as_it_is):
    """Guards the tests above: without the orientation step, the same voxels give other volumes."""
    wrong = crop.with_array(np.ascontiguousarray(crop.array[::-1]))
    assert volumes_of(wrong) != pytest.approx(as_it_is, rel=0.02)
