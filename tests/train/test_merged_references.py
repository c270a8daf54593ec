"""References of many values, put together to the classes that are learnt; and cases that are left out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from residency.datasets import digest
from residency.datasets.case import read_case
from residency.datasets.merged import Merged, classes_of, read_regions
from residency.errors import ConfigError, InputError, TrainingError
from residency.files.nifti import read_nifti
from residency.train.config import TrainingConfig, read_config
from residency.train.sources import gathered
from residency.volume import Grid

Written = Callable[[dict[str, Any]], Path]
CLASSES = ("background", "head", "seahorse")


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    """A data set of one case with the values 0, 1, 47, 48 and 207."""
    folder = tmp_path / "atlas"
    folder.mkdir()
    values = np.zeros((6, 5, 4), np.uint8)
    values[1], values[2], values[3], values[4] = 1, 47, 48, 207
    nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(folder / "t1.nii.gz")
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(folder / "atlas.nii.gz")
    (folder / "cases.csv").write_text("name,person,split\na,a,train\nwithout_files,b,train\n")
    return folder


def _config(values: dict[str, Any], written: Written, folder: Path, **changed: Any) -> TrainingConfig:
    values = copy.deepcopy(values)
    data = {"folder": str(folder), "classes": list(CLASSES), "image": "t1.nii.gz", "reference": "atlas.nii.gz"}
    values["data"] |= data | changed
    return read_config(written(values))


def test_values_are_put_together_and_regions_stay_apart(
    atlas: Path, small_values: dict[str, Any], written: Written
) -> None:
    merge = {"seahorse": [47, 48], "head": "rest"}
    config = _config(small_values, written, atlas, merge=merge, leave_out=["without_files"])
    (case,) = gathered(config).cases
    volume, labels = read_case(case, len(CLASSES))
    assert sorted({*zip(volume.array.ravel().tolist(), labels.ravel().tolist(), strict=True)}) == [
        (0, 0), (1, 1), (47, 2), (48, 2), (207, 1),
    ]  # fmt: skip
    assert np.array_equal(read_regions(case, volume.grid, len(CLASSES)), volume.array)


def test_a_value_of_no_class_is_background(atlas: Path, small_values: dict[str, Any], written: Written) -> None:
    config = _config(small_values, written, atlas, merge={"head": [1, 207]}, leave_out=["without_files"])
    _, labels = read_case(gathered(config).cases[0], len(CLASSES))
    assert set(np.unique(labels).tolist()) == {0, 1}
    assert int(labels.sum()) == 2 * 5 * 4


def test_other_classes_of_the_same_file_are_other_data(
    atlas: Path, small_values: dict[str, Any], written: Written
) -> None:
    def of(**merge: Any) -> tuple[str, str]:
        config = _config(small_values, written, atlas, merge=merge, leave_out=["without_files"])
        return digest(gathered(config).cases), config.digest()

    one, same, other = of(head="rest"), of(head="rest"), of(head="rest", seahorse=[47])
    assert one == same
    assert one[0] != other[0]
    assert one[1] != other[1]


@pytest.mark.parametrize(
    ("merge", "told"),
    [
        ({"hippo": [47]}, "'hippo' is none of the classes head, seahorse"),
        ({"background": [47]}, "'background' is none of the classes"),
        ({"head": [47], "seahorse": [47]}, "the value 47 is of 'head' and of 'seahorse'"),
        ({"head": "rest", "seahorse": "rest"}, "cannot both have the rest"),
        ({"head": [0]}, "values are 1 to 255"),
        ({"head": [256]}, "values are 1 to 255"),
        ({"head": "all"}, r"data\.merge"),
    ],
)
def test_what_cannot_be_put_together_is_refused_by_the_training_file(
    merge: dict[str, Any], told: str, atlas: Path, small_values: dict[str, Any], written: Written
) -> None:
    with pytest.raises(ConfigError, match=told):
        _config(small_values, written, atlas, merge=merge)


def test_only_what_is_left_out_may_be_missing(atlas: Path, small_values: dict[str, Any], written: Written) -> None:
    (atlas / "a.nii.gz").write_bytes((atlas / "t1.nii.gz").read_bytes())
    named = {"image": "{name}.nii.gz", "merge": {"head": "rest"}}
    with pytest.raises(TrainingError, match="without_files"):
        gathered(_config(small_values, written, atlas, **named))
    assert len(gathered(_config(small_values, written, atlas, **named, leave_out=["without_files"])).cases) == 1
    with pytest.raises(ConfigError, match="no case 'nobody' to leave out"):
        gathered(_config(small_values, written, atlas, **named, leave_out=["nobody"]))


def test_a_reference_that_does_not_fit_is_refused(atlas: Path) -> None:
    merged = Merged(atlas / "atlas.nii.gz", classes_of({"head": "rest"}, CLASSES))
    with pytest.raises(InputError, match="different grids"):
        merged.labels(Grid((4, 5, 7), np.eye(4)))
    large = np.full((6, 5, 4), 300, np.int16)
    nibabel.Nifti1Image(large, np.eye(4)).to_filename(atlas / "atlas.nii.gz")
    with pytest.raises(InputError, match="values up to 300"):
        merged.labels(read_nifti((atlas / "t1.nii.gz").read_bytes()).grid)
