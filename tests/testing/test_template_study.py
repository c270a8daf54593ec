"""The study of the demonstration: true to the template, and valid DICOM."""

from collections.abc import Callable

import numpy as np
import pytest

from residency.archive import Instance
from residency.archives.part10 import read_row
from residency.dicom.series import SourceSeries, open_series
from residency.errors import DependencyError, InputError
from residency.labels import Side
from residency.testing.template import hippocampus_crop, template, template_study


@pytest.fixture(scope="module")
def left() -> list[Instance]:
    return template_study(Side.LEFT)


def by_description(study: list[Instance]) -> dict[str, list[Instance]]:
    found: dict[str, list[Instance]] = {}
    for one in study:
        found.setdefault(read_row(one.data, one.uid).series_description, []).append(one)
    return found


def opened(study: list[Instance], description: str) -> SourceSeries:
    return open_series(one.data for one in by_description(study)[description])


def test_holds_a_whole_brain_a_crop_and_a_localiser(left: list[Instance]) -> None:
    found = {name: len(several) for name, several in by_description(left).items()}
    assert found == {"T1 template, skull-stripped": 189, "HippoCrop": 36, "Localiser": 3}
    assert len({read_row(one.data, one.uid).study_uid for one in left}) == 1
    assert len({one.uid for one in left}) == len(left)


def test_the_crop_says_what_a_hippocrop_series_says(left: list[Instance]) -> None:
    """No body part and no side, so that nothing but an approved rule can tell what it shows."""
    labels = opened(left, "HippoCrop").labels
    assert labels.image_type == ("DERIVED", "SECONDARY", "AXIAL")
    assert labels.regions is None
    assert labels.side is None
    assert labels.weighting is None
    assert (labels.slices, labels.rows, labels.columns) == (36, 52, 36)
    assert "BodyPartExamined" not in labels.attributes


def test_the_crop_lies_where_it_was_cut(left: list[Instance]) -> None:
    whole, crop = opened(left, "T1 template, skull-stripped").volume(), opened(left, "HippoCrop").volume()
    assert crop.grid.frame_of_reference == whole.grid.frame_of_reference
    start = np.rint(whole.grid.to_index(crop.grid.to_lps((0, 0, 0)))).astype(int)
    part = tuple(slice(a, a + n) for a, n in zip(start, crop.grid.shape, strict=True))
    assert np.array_equal(whole.array[part], crop.array)
    assert crop.grid.to_lps((0, 0, 0))[0] > 0, "the left side lies at positive x in LPS"
    assert np.array_equal(whole.array, template().array)


def test_the_two_sides_are_mirror_images() -> None:
    """The template is symmetric; both crops must show the same place, up to the half voxel of its middle plane."""
    left, right = hippocampus_crop(Side.LEFT), hippocampus_crop(Side.RIGHT)
    assert left.grid.shape == right.grid.shape
    mirrored = right.array[:, :, ::-1]
    shifts = [np.corrcoef(np.roll(mirrored, n, axis=2)[:, :, 3:-3].ravel(), left.array[:, :, 3:-3].ravel())[0, 1]
              for n in (-1, 0, 1)]  # fmt: skip
    assert max(shifts) > 0.999


def test_equal_calls_give_equal_bytes(left: list[Instance]) -> None:
    assert template_study(Side.LEFT) == left


def test_a_localiser_is_never_a_volume(left: list[Instance]) -> None:
    with pytest.raises(InputError, match="does not belong to one volume"):
        opened(left, "Localiser")


def test_an_outside_judge_finds_no_error(left: list[Instance], dciodvfy: Callable[[bytes], list[str]]) -> None:
    for several in by_description(left).values():
        dciodvfy(several[0].data)
        dciodvfy(several[-1].data)


def test_without_nilearn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.testing.template.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install '\.\[demo\]'"):
        template()
