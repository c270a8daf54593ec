"""A folder read where it lies: everything in it counts, or the reader says what does not."""

from pathlib import Path

import pytest

from residency.archive import Level, Query
from residency.archives.loose import LooseFiles
from residency.errors import ArchiveError, InputError, UsageError
from residency.testing.archive import data_set, instance

ONE, TWO = (instance(data_set(f"1.2.1.1.{n}")) for n in (1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "1.dcm").write_bytes(ONE.data)
    (tmp_path / "deep" / "2").write_bytes(TWO.data)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


def uids(folder: Path) -> list[str]:
    return sorted(row.sop_uid for row in LooseFiles(folder).find(Level.INSTANCE, Query()))


def test_instances_are_found_to_the_depth_of_a_folder_and_other_files_passed_over(folder: Path) -> None:
    assert uids(folder) == [ONE.uid, TWO.uid]


def test_the_same_instance_twice_counts_once(folder: Path) -> None:
    (folder / "copy.dcm").write_bytes(ONE.data)
    assert uids(folder) == [ONE.uid, TWO.uid]


def test_a_damaged_image_is_named_and_never_left_out(folder: Path) -> None:
    """A series that has lost its last image still forms a regular stack: the volume would silently be too small."""
    (folder / "deep" / "2").write_bytes(TWO.data[:-7])
    with pytest.raises(InputError, match=r"^deep/2 is not a whole DICOM file"):
        LooseFiles(folder)


def test_other_content_under_a_known_uid_is_never_chosen_between(folder: Path) -> None:
    (folder / "other.dcm").write_bytes(instance(data_set(ONE.uid, PatientID="another")).data)
    with pytest.raises(InputError, match=r"1\.dcm and other\.dcm hold different content"):
        LooseFiles(folder)


def test_a_folder_without_images_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UsageError, match="no DICOM instance"):
        LooseFiles(tmp_path)


def test_what_is_read_where_it_lies_is_not_written_to(folder: Path) -> None:
    with pytest.raises(ArchiveError, match="--archive"):
        LooseFiles(folder).store([ONE])


def test_every_file_that_cannot_be_read_is_told_in_one_go(folder: Path) -> None:
    """One a run would cost as many runs as there are bad files."""
    for n in range(4):
        (folder / f"bad{n}.dcm").write_bytes(TWO.data[:-7])
    nowhere = instance(data_set("1.2.1.1.9")).data.replace(b"1.2.1.1.9", b"x.2.1.1.9")
    (folder / "a.dcm").write_bytes(nowhere)
    with pytest.raises(InputError) as raised:
        LooseFiles(folder)
    said = str(raised.value)
    assert said.startswith("a.dcm has no valid")
    assert "bad0.dcm is not a whole DICOM file" in said
    assert "bad1.dcm" in said
    assert "and 2 more that cannot be read" in said
    assert said.endswith("Take out of the folder what its series can do without")
