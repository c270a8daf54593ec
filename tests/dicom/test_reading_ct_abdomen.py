"""A real CT whose organs another program outlined: they lie on the organs only if every axis points the right way."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from residency.archives.incoming import Skipped, beginnings, dicom_files
from residency.archives.mend import Mender
from residency.dicom.series import SourceSeries, open_series


@pytest.fixture(scope="module")
def abdomen(shared_data: Path) -> SourceSeries:
    """The series, its UIDs mended."""
    packed = shared_data / "ct_abdomen" / "ct_dicom_series.zip"
    mender = Mender()
    mender.learn(beginnings([packed]))
    return open_series([found[1].data for found in dicom_files([packed], mender) if not isinstance(found, Skipped)])


def test_every_organ_of_the_nifti_lies_on_its_own_hounsfield_units(abdomen: SourceSeries, shared_data: Path) -> None:
    """Liver 89 HU and aorta 177 HU; upside down, or left for right, they would be air, bone and fat."""
    folder = shared_data / "ct_abdomen"
    with (folder / "organ_labels.csv").open(newline="", encoding="utf-8") as table:
        number_of = {
            row["name"]: int(row["value"]) for row in csv.DictReader(table) if row.get("task", "total") == "total"
        }
    labels = nibabel.load(folder / "ct_dicom_series_organs.nii.gz")
    organs = np.asarray(labels.dataobj)
    hu = abdomen.volume().array
    to_voxel = np.linalg.inv(abdomen.grid.affine)
    for organ, meant in (("liver", 89.0), ("aorta", 177.0)):
        indices = np.argwhere(organs == number_of[organ])
        lps = np.c_[indices, np.ones(len(indices))] @ labels.affine.T @ np.diag([-1.0, -1.0, 1.0, 1.0])
        exact = (lps @ to_voxel.T)[:, :3]
        voxels = np.round(exact).astype(int)
        assert np.abs(exact - voxels).max() < 0.05
        assert hu[tuple(voxels.T)].mean() == pytest.approx(meant, abs=0.6)
