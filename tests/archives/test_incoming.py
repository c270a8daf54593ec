"""What comes out of folders and zip files: instances, and for everything else a reason."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from residency.archive import Instance, Level, Query
from residency.archives.incoming import Skipped, Tally, count_files, dicom_files, import_into
from residency.archives.memory import MemoryArchive
from residency.errors import ArchiveError, CredentialsError, RejectedError, UnreachableError
from residency.testing.archive import data_set, instance

ONE, TWO = (instance(data_set(f"1.2.1.1.{n}")) for n in (1, 2))


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def found(*paths: Path) -> tuple[list[str], dict[str, str]]:
    """UIDs of the instances, and reasons by the last part of the name."""
    uids, skipped = [], {}
    for one in dicom_files(paths):
        if isinstance(one, Skipped):
            skipped[one.name.split("/")[-1].split(": ")[-1]] = one.reason
        else:
            assert isinstance(one[1], Instance)
            uids.append(one[1].uid)
    return uids, skipped


def test_reads_a_folder_to_its_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.dcm").write_bytes(ONE.data)
    (tmp_path / "no-suffix").write_bytes(TWO.data)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    uids, skipped = found(tmp_path)
    assert sorted(uids) == ["1.2.1.1.1", "1.2.1.1.2"]
    assert skipped == {"notes.txt": "no DICOM file", "empty": "no DICOM file"}
    assert count_files([tmp_path]) == 4


def test_reads_a_zip_file_without_unpacking_it(tmp_path: Path) -> None:
    """Names in a zip file are written by strangers: "../../x" must not become a path."""
    file = packed(tmp_path / "study.zip", {"../../../outside.dcm": ONE.data, "/abs.dcm": TWO.data, "readme": b"hello"})
    before = sorted(tmp_path.parent.rglob("*"))
    uids, skipped = found(file)
    assert uids == ["1.2.1.1.1", "1.2.1.1.2"]
    assert skipped == {"readme": "no DICOM file"}
    assert sorted(tmp_path.parent.rglob("*")) == before
    assert count_files([file]) == 3


def test_a_directory_of_files_is_no_instance(shared_data: Path) -> None:
    assert list(found(shared_data / "dicom" / "awkward" / "DICOMDIR")[1].values()) == [
        "a directory of files (DICOMDIR), no instance"
    ]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(ONE.data[:-3])
    (tmp_path / "cut.zip").write_bytes(packed(tmp_path / "whole.zip", {"a": ONE.data}).read_bytes()[:-30])
    (tmp_path / "whole.zip").unlink()
    uids, skipped = found(tmp_path)
    assert uids == []
    assert "cut short" in skipped["cut.dcm"]
    assert any("damaged zip" in reason for reason in skipped.values())


def test_damaged_and_nested_members_are_named(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("a.dcm", ONE.data)
    path = packed(tmp_path / "z.zip", {"inner.zip": inner.getvalue(), "good": TWO.data, "bad": ONE.data})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("bad").header_offset
    data[start + 40 : start + 60] = bytes(20)
    path.write_bytes(data)
    uids, skipped = found(path)
    assert uids == ["1.2.1.1.2"]
    assert "within a zip file" in skipped["inner.zip"]
    assert "damaged member" in skipped["bad"]


def test_a_member_that_claims_too_little_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip bomb: kilobytes that become gigabytes."""
    monkeypatch.setattr("residency.archives.incoming.LARGEST_INSTANCE", 100_000)
    monkeypatch.setattr("residency.archives.part10.LARGEST_INSTANCE", 100_000)
    bomb = ONE.data + bytes(50_000_000)
    uids, skipped = found(packed(tmp_path / "bomb.zip", {"bomb": bomb}))
    assert uids == []
    assert "more than the 100000" in skipped["bomb"]


def test_one_refused_instance_keeps_no_other_out() -> None:
    archive = MemoryArchive()
    archive.store([ONE])
    other = instance(data_set("1.2.1.1.1", Rows=5))
    steps: list[int] = []
    tally = import_into(archive, [("first", other), ("second", TWO), Skipped("third", "no DICOM file")], steps.append)
    assert (tally.taken, tally.present) == (1, 0)
    assert list(tally.refused.values()) == [["first"]]
    assert dict(tally.skipped) == {"no DICOM file": ["third"]}
    assert sum(steps) == 3
    assert {e.sop_uid for e in archive.find(Level.INSTANCE, Query())} == {"1.2.1.1.1", "1.2.1.1.2"}


def test_what_was_there_and_what_came_twice_is_not_new() -> None:
    archive = MemoryArchive()
    archive.store([ONE])
    tally = import_into(archive, [("a", ONE), ("b", TWO), ("c", TWO)], lambda _: None)
    assert (tally.taken, tally.present) == (3, 2)
    other = instance(data_set("1.2.1.1.1", Rows=5))
    third = instance(data_set("1.2.1.1.3"))
    tally = import_into(archive, [("third", third), ("refused", other), ("two", TWO)], lambda _: None)
    assert (tally.taken, tally.present) == (2, 1), "counted right where one of them is refused, too"


@pytest.mark.filterwarnings("error")
def test_awkward_files_are_taken_or_skipped_with_a_reason(shared_data: Path) -> None:
    """Sixty real files that break readers: none of them breaks the import, and most belong in an archive."""
    folder = shared_data / "dicom" / "awkward"
    archive = MemoryArchive()
    tally = import_into(archive, dicom_files([folder]), lambda _: None)
    skipped = {Path(name).name: reason for reason, names in tally.skipped.items() for name in names}
    for name in ("bulk_3gb_truncated.dcm", "emr_10frames_j2k_too_short.dcm"):
        assert "cut short" in skipped[name] or "data end" in skipped[name]
    assert skipped["no_meta_explicit_le.dcm"] == "no DICOM file"
    refused = sum(map(len, tally.refused.values()))
    assert tally.taken + refused + len(skipped) == count_files([folder])
    assert tally.taken > 50
    held = {entry.sop_uid: entry.series_uid for entry in archive.find(Level.INSTANCE, Query())}
    assert sum(len(list(archive.headers(uid))) for uid in set(held.values())) == len(held)


class Choosy(MemoryArchive):
    """An archive that cannot take or give one instance, or that goes away at it."""

    def __init__(self, uid: str, error: ArchiveError) -> None:
        super().__init__()
        self._uid, self._error = uid, error

    def store(self, instances: Iterable[Instance]) -> None:
        several = list(instances)
        if any(one.uid == self._uid for one in several):
            raise self._error
        super().store(several)


def test_an_instance_that_the_archive_cannot_give_back_keeps_no_other_out() -> None:
    """Such as a label map that came by another door, which C-GET cannot send."""
    archive = Choosy(ONE.uid, RejectedError(f"dimse://pacs does not send what was asked for: status C000: {ONE.uid}"))
    tally = import_into(archive, [("first", ONE), ("second", TWO)], lambda _: None)
    assert tally.taken == 1
    assert dict(tally.refused) == {"dimse://pacs does not send what was asked for: status C000": ["first"]}


@pytest.mark.parametrize("error", [UnreachableError("away"), CredentialsError("who are you?")])
def test_an_archive_that_goes_away_ends_the_import_and_what_was_stored_is_counted(
    error: ArchiveError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("residency.archives.incoming._AT_ONCE", 1)
    tally = Tally()
    with pytest.raises(type(error)):
        import_into(Choosy(TWO.uid, error), [("first", ONE), ("second", TWO)], lambda _: None, tally)
    assert (tally.taken, tally.present, dict(tally.refused)) == (1, 0, {})
