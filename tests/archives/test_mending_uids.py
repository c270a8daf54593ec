"""Files that were emptied of their UIDs: refused with the way out, or given UIDs that are the same every time."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from residency.archive import Instance
from residency.archives.incoming import Skipped, beginnings, dicom_files
from residency.archives.loose import LooseFiles
from residency.archives.mend import Mender
from residency.dicom.dataset import parse, pixel_bytes
from residency.dicom.series import open_series
from residency.errors import InputError
from residency.testing.phantoms import ct_series
from residency.volume import Volume, regular_grid

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def _files(seed: int = 0, **attributes: object) -> list[bytes]:
    values = np.random.default_rng(seed).integers(0, 900, (3, 5, 6)).astype(np.float32)
    return ct_series(Volume(values, regular_grid((3, 5, 6), (2.0, 1.0, 0.5))), **attributes)


def _emptied(data: bytes, *, keep_meta: bool = True, missing: bool = False) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    for keyword in UIDS:
        if missing:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, "")
    if not keep_meta:
        del dataset.file_meta.MediaStorageSOPInstanceUID
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset)
    return stream.getvalue()


def _write(folder: Path, files: list[bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, data in enumerate(files):
        (folder / f"{k}.dcm").write_bytes(data)
    return folder


def _mended(*paths: Path) -> tuple[list[bytes], list[str]]:
    mender = Mender()
    mender.learn(beginnings(paths))
    taken, skipped = [], []
    for found in dicom_files(paths, mender):
        if isinstance(found, Skipped):
            skipped.append(found.reason)
        else:
            assert isinstance(found[1], Instance)
            taken.append(found[1].data)
    return taken, skipped


def _place(data: bytes) -> tuple[str, str]:
    dataset = parse(data, pixels=False)
    return dataset.StudyInstanceUID, dataset.SeriesInstanceUID


@pytest.mark.parametrize("missing", [False, True])
def test_emptied_files_become_one_series_with_their_old_instances(tmp_path: Path, missing: bool) -> None:
    files = _files()
    taken, skipped = _mended(_write(tmp_path / "a", [_emptied(data, missing=missing) for data in files]))
    assert (len(taken), skipped) == (3, [])
    assert len({_place(data) for data in taken}) == 1
    read, original = open_series(taken), open_series(files)
    assert read.sop_uids == original.sop_uids
    np.testing.assert_array_equal(read.volume().array, original.volume().array)


def test_new_uids_depend_on_the_instances_alone(tmp_path: Path) -> None:
    """A second import, from another computer or out of a zip file, must not double the study."""
    files = [_emptied(data) for data in _files()]
    first, _ = _mended(_write(tmp_path / "a", files))
    again, _ = _mended(_write(tmp_path / "elsewhere", files[::-1]))
    packed = tmp_path / "b.zip"
    with zipfile.ZipFile(packed, "w") as out:
        for k, data in enumerate(files):
            out.writestr(f"x/{k}", data)
    zipped, _ = _mended(packed)
    assert sorted(first) == sorted(again) == sorted(zipped)


def test_each_folder_is_a_series_and_each_path_a_study(tmp_path: Path) -> None:
    _write(tmp_path / "one" / "a", [_emptied(data) for data in _files(1)])
    _write(tmp_path / "one" / "b", [_emptied(data) for data in _files(2)])
    _write(tmp_path / "two", [_emptied(data) for data in _files(3)])
    taken, _ = _mended(tmp_path / "one", tmp_path / "two")
    places = {_place(data) for data in taken}
    assert len(places) == 3
    assert len({study for study, _ in places}) == 2


def test_whole_files_and_what_a_file_still_says_stay_as_they_are(tmp_path: Path) -> None:
    whole, *rest = _files()
    dataset = pydicom.dcmread(BytesIO(rest[0]))
    dataset.SeriesInstanceUID = ""
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset)
    taken, _ = _mended(_write(tmp_path / "a", [whole, stream.getvalue()]))
    assert taken[0] == whole
    assert _place(taken[1])[0] == _place(whole)[0]
    assert _place(taken[1])[1] != _place(whole)[1]


def test_two_patients_are_not_put_into_one_study(tmp_path: Path) -> None:
    mine, others = _files(), _files(PatientID="OTHER")
    taken, skipped = _mended(_write(tmp_path / "a", [_emptied(data) for data in (*mine, others[0])]))
    assert len(taken) == 3
    assert skipped == ["it lies beside files of another patient; import each patient's files on their own"]


def test_without_an_instance_in_the_file_meta_group_nothing_is_made_up(tmp_path: Path) -> None:
    taken, skipped = _mended(_write(tmp_path / "a", [_emptied(_files()[0], keep_meta=False)]))
    assert taken == []
    assert "names no class and instance" in skipped[0]


def test_unless_asked_nothing_is_mended_and_the_way_out_is_named(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", [_emptied(data) for data in _files()])
    (skipped, *_) = dicom_files([folder])
    assert isinstance(skipped, Skipped)
    assert "no valid SOP Class UID" in skipped.reason
    assert "--mend-uids" in skipped.reason
    with pytest.raises(InputError, match="--mend-uids"):
        LooseFiles(folder)


def test_a_real_emptied_series_is_a_volume_again(shared_data: Path) -> None:
    """JPEG 2000 pixels go through untouched, and instance UIDs are those of the scanner."""
    packed = shared_data / "ct_abdomen" / "ct_dicom_series.zip"
    taken, skipped = _mended(packed)
    assert (len(taken), skipped) == (20, [])
    with zipfile.ZipFile(packed) as file:
        before = {
            name.split("CT.")[-1].removesuffix(".dcm"): parse(file.read(name))
            for name in file.namelist()
            if name.endswith(".dcm")
        }
    for data in taken:
        after = parse(data)
        assert pixel_bytes(after) == pixel_bytes(before[str(after.SOPInstanceUID)])
    series = open_series(taken)
    assert series.grid.shape == (20, 512, 512)
    assert series.grid.spacing_mm == pytest.approx((2.0, 0.977, 0.977), abs=1e-3)
