"""A fingerprint says what is in the images, and warns of what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from residency.datasets import Case, Table, read_cases
from residency.datasets.fingerprint import Intensities, measure, missing_values, warnings_of
from residency.errors import TrainingError


def _case(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> Case:
    for what, array in (("image", image.astype(np.float32)), ("label", labels.astype(np.uint8))):
        nibabel.Nifti1Image(array, affine).to_filename(folder / f"{name}-{what}.nii.gz")
    return Case(name, name, "train", {"image": folder / f"{name}-image.nii.gz"}, folder / f"{name}-label.nii.gz")


@pytest.fixture
def sagittal(tmp_path: Path) -> Case:
    """Stored with its thick axis, to the left, first; a box of label 1 on the left, 2 in one voxel."""
    labels = np.zeros((6, 10, 8))
    labels[0:2, 4:8, 1:3] = 1
    labels[5, 0, 0] = 2
    image = np.where(labels == 1, 50.0, -100.0)
    image[labels == 2] = 300
    return _case(tmp_path, "a", image, labels, np.diag([-4.0, 1.0, 2.0, 1.0]))  # RAS: the first axis to the left


def test_figures_are_by_anatomical_axis_whatever_the_storage(sagittal: Case) -> None:
    (facts,) = measure([sagittal]).cases
    assert facts.shape == (8, 10, 6)  # superior, posterior, left
    assert facts.spacing == (2.0, 1.0, 4.0)
    assert facts.orientation == "SAL"
    middle = facts.structures[1].middle
    assert middle == pytest.approx((2 / 8, 1 - 6 / 10, 1 / 6))


def test_volumes_and_intensities_are_those_of_the_structures(sagittal: Case) -> None:
    found = measure([sagittal], classes=("background", "box", "dot"))
    (facts,) = found.cases
    assert {value: one.voxels for value, one in facts.structures.items()} == {0: 463, 1: 16, 2: 1}
    assert facts.millilitres[1] == pytest.approx(16 * 8 / 1000)
    assert (facts.structures[1].mean, facts.structures[1].deviation) == (50, 0)
    within = found.within["image"]
    assert (within.least, within.most) == (50, 300)
    assert within.mean == pytest.approx((16 * 50 + 300) / 17, rel=1e-5)
    assert found.overall["image"].least == -100
    assert facts.inside == (3, 8, 6)  # the smallest box about everything but -100


def test_percentiles_are_those_of_all_voxels_where_there_are_few() -> None:
    values = np.arange(1001, dtype=np.float64)
    found = Intensities.of(values)
    assert (found.low, found.median, found.high) == (5, 500, 995)
    assert found.deviation == pytest.approx(values.std(), rel=1e-5)


def test_gaps_in_label_values_empty_classes_and_few_persons_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image, eye = random.normal(size=(5, 5, 5)), np.eye(4)
    labels = np.zeros((5, 5, 5))
    labels[1, 1, 1] = 4
    one = _case(tmp_path, "one", image, labels, eye)
    two = _case(tmp_path, "two", image, labels * 0, eye)
    found = measure([one, two])
    assert found.values == (0, 4)
    assert missing_values(found) == (1, 2, 3)
    told = "\n".join(warnings_of(found))
    assert "2 values up to 4, not 1, 2, 3" in told
    assert "references are empty, that of 'two'" in told
    assert "2 persons" in told
    assert "nothing says which modality" in told
    named = measure([one, two], classes=("background", "a", "b", "c", "d"), modalities={"image": "MR"})
    told = "\n".join(warnings_of(named))
    assert "'d' is missing in 1 cases (50 %), 'two' among them" in told
    assert "modality" not in told


def test_a_scale_like_hu_is_pointed_out(tmp_path: Path) -> None:
    image = np.full((4, 4, 4), -1000)
    image[2] = 40
    found = measure([_case(tmp_path, "c", image, image > 0, np.eye(4))])
    assert any("look like HU" in warning for warning in warnings_of(found))


def test_a_reference_on_another_grid_is_an_error_with_the_case(tmp_path: Path) -> None:
    case = _case(tmp_path, "moved", np.zeros((4, 4, 4)), np.ones((4, 4, 4)), np.eye(4))
    nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([1, 1, 2, 1])).to_filename(
        tmp_path / "moved-label.nii.gz"
    )
    with pytest.raises(TrainingError, match=r"case 'moved': image and reference lie on different grids"):
        measure([case])


def test_labels_that_are_no_whole_numbers_are_an_error_with_the_case(tmp_path: Path) -> None:
    case = _case(tmp_path, "soft", np.zeros((4, 4, 4)), np.ones((4, 4, 4)), np.eye(4))
    nibabel.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)).to_filename(tmp_path / "soft-label.nii.gz")
    with pytest.raises(TrainingError, match=r"case 'soft': labels must be whole numbers 0\.\.255, got \[0\.5\]"):
        measure([case])


def test_the_same_set_has_the_same_fingerprint(small_set: Path) -> None:
    cases = read_cases(small_set, Table())
    assert measure(cases) == measure(cases)


def test_hippocampus_crops_are_as_their_source_describes_them(shared_data: Path) -> None:
    cases = [c for c in read_cases(shared_data / "hippocampus", Table(person="pair")) if c.split == "train"][::6]
    found = measure(cases, modalities={"image": "MR"})
    assert found.spacing == (1, 1, 1)
    assert found.values == (0, 1, 2)
    assert found.shape == pytest.approx((36, 50, 35), abs=2)
    assert {case.orientation for case in found.cases} == {"SAR"}
    assert 0.02 < found.share(1) + found.share(2) < 0.08
    assert found.filled > 0.9
