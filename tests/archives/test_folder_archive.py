"""The embedded archive: files and an index, safe when processes die and when others write beside it."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from residency.archive import Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.errors import ArchiveError
from residency.testing.archive import ArchiveContract, data_set, instance, read

INDEX = ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm")


class TestFolder(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Iterator[FolderArchive]:
        archive = FolderArchive(tmp_path / "archive")
        yield archive
        archive.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def filled(root: Path) -> FolderArchive:
    archive = FolderArchive(root)
    archive.store(instance(data_set(f"1.2.1.1.{n}", SeriesDescription="T1", Rows=4 + n)) for n in range(40))
    return archive


def rows(archive: FolderArchive) -> set[object]:
    return {entry for level in Level for entry in archive.find(level, Query())}


def content(archive: FolderArchive, series: str = "1.2.1.1") -> dict[str, bytes]:
    return {i.uid: i.data for i in archive.instances(series)}


def files(root: Path) -> list[Path]:
    return sorted((root / "objects").glob("*/*"))


# The folder itself


def test_what_was_stored_is_there_after_opening_again(filled: FolderArchive, root: Path) -> None:
    before, data = rows(filled), content(filled)
    filled.close()
    again = FolderArchive(root)
    assert rows(again) == before
    assert content(again) == data


def test_another_folder_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    """A slip in a path must not strew an archive over somebody's home."""
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ArchiveError, match="not empty"):
        FolderArchive(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_archive_of_an_unknown_format_is_left_alone(filled: FolderArchive, root: Path) -> None:
    (root / "residency-archive").write_text("Residency folder archive, format 2\n")
    with pytest.raises(ArchiveError, match="format"):
        FolderArchive(root)


def test_no_received_text_becomes_a_path(root: Path) -> None:
    """UIDs and descriptions come from anywhere: "../../etc/cron.d/x" is a legal Series Description."""
    archive = FolderArchive(root)
    hostile = {"SeriesDescription": "../../outside", "PatientID": "/tmp/outside", "StudyDescription": "a\x00b"}
    archive.store([instance(data_set("1.2.1.1.1", **hostile))])
    with pytest.raises(ArchiveError):
        archive.store([Instance("../../outside", instance(data_set("1.2.1.1.2")).data)])
    assert not list(root.parent.rglob("outside*"))
    assert all(set(file.name) <= set("0123456789abcdef") for file in files(root))
    assert list(archive.instances("../../outside")) == []


def test_others_on_the_machine_cannot_read_it(filled: FolderArchive, root: Path) -> None:
    assert root.stat().st_mode & 0o077 == 0


# The index


@pytest.mark.parametrize("lost", [INDEX, INDEX[:1]], ids=["index", "index but not its log"])
def test_a_lost_index_is_made_again(filled: FolderArchive, root: Path, lost: tuple[str, ...]) -> None:
    before = rows(filled)
    for name in lost:
        (root / name).unlink(missing_ok=True)
    assert rows(FolderArchive(root)) == before


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000, b"SQLite format 3\0" + bytes(100)])
def test_a_damaged_index_is_made_again(filled: FolderArchive, root: Path, damage: bytes) -> None:
    before = rows(filled)
    (root / "index.sqlite").write_bytes(damage)
    assert rows(FolderArchive(root)) == before


def test_rebuilding_changes_nothing_that_is_right(filled: FolderArchive) -> None:
    before = rows(filled)
    assert filled.rebuild() == (rebuilt := filled.rebuild())
    assert (rebuilt.instances, rebuilt.unreadable) == (40, ())
    assert rows(filled) == before


def test_rebuilding_names_what_does_not_belong(filled: FolderArchive, root: Path) -> None:
    first, second = files(root)[:2]
    stray = first.with_name("0" * 64)
    stray.write_bytes(second.read_bytes())
    first.write_bytes(b"rubbish")
    rebuilt = filled.rebuild()
    assert rebuilt.instances == 39
    assert set(rebuilt.unreadable) == {f"{p.parent.name}/{p.name}" for p in (first, stray)}
    assert first.read_bytes() == b"rubbish", "what is not understood is not deleted"


def test_a_lost_file_is_named(filled: FolderArchive, root: Path) -> None:
    """An image that is gone must not look like a series with one slice less."""
    lost = read(files(root)[0].read_bytes()).SOPInstanceUID
    files(root)[0].unlink()
    for give in (filled.instances, filled.headers):
        with pytest.raises(ArchiveError, match=rf"{lost}.*rebuild"):
            list(give("1.2.1.1"))


@pytest.mark.parametrize("damage", [b"", b"rubbish", None], ids=["empty", "rubbish", "cut"])
def test_a_damaged_file_is_named(filled: FolderArchive, root: Path, damage: bytes | None) -> None:
    file = files(root)[0]
    uid = str(read(file.read_bytes()).SOPInstanceUID)
    file.write_bytes(file.read_bytes()[:-5] if damage is None else damage)
    with pytest.raises(ArchiveError, match=uid):
        list(filled.instances("1.2.1.1"))


def test_exchanged_files_are_noticed(filled: FolderArchive, root: Path) -> None:
    first, second = files(root)[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArchiveError, match="holds another instance"):
        list(filled.instances("1.2.1.1"))


def test_a_locked_index_says_that_asking_again_helps(
    filled: FolderArchive, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("residency.archives.folder._WAIT_S", 0.05)
    other = sqlite3.connect(root / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ArchiveError) as error:
        filled.store([instance(data_set("1.2.1.1.99"))])
    assert error.value.retry
    other.close()
    filled.store([instance(data_set("1.2.1.1.99"))])
    assert "1.2.1.1.99" in content(filled)


def test_a_full_disk_stores_nothing_by_half(filled: FolderArchive, root: Path) -> None:
    """The limit on file size stands for a full disk: the write fails in the middle."""
    script = f"""
import resource, signal
from residency.archive import Instance
from residency.archives.folder import FolderArchive
from residency.errors import ArchiveError
from residency.testing.archive import data_set, instance
archive = FolderArchive({str(root)!r})
big = data_set("1.2.1.1.99")
big.PixelData = bytes(3_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    archive.store([instance(big)])
except ArchiveError as error:
    print("retry", error.retry)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "retry True\n"
    assert len(content(filled)) == 40
    assert list((root / "incoming").iterdir()) == []


# Processes that die, and processes beside one another

WRITER = """
import sys
from residency.archives.folder import FolderArchive
from residency.testing.archive import data_set, instance

archive = FolderArchive(sys.argv[1])
for group in range(int(sys.argv[2]), 100_000, int(sys.argv[3])):
    several = [instance(data_set(f"1.2.1.{group}.{n}", series=f"1.2.1.{group}", Rows=group % 1000)) for n in range(3)]
    archive.store(several)
    print(group, flush=True)
"""


def start_writer(root: Path, first: int = 0, step: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(first), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(writer: subprocess.Popen[str]) -> list[int]:
    """kill -9; what the writer had been told is stored."""
    writer.send_signal(signal.SIGKILL)
    said, _ = writer.communicate()
    return [int(line) for line in said.splitlines(keepends=True) if line.endswith("\n")]


def check_whole(archive: FolderArchive) -> None:
    """Every row has its whole instance."""
    for entry in archive.find(Level.SERIES, Query()):
        for one in archive.instances(entry.series_uid):
            dataset = read(one.data)
            assert dataset.SOPInstanceUID == one.uid
            assert len(dataset.PixelData) == 32


def kill_at_random(root: Path, times: int, seed: int = 4711) -> None:
    """Kill a writer at random moments while this process reads; each goes on where the last one died."""
    dice = random.Random(seed)
    FolderArchive(root)
    first = 0
    for _ in range(times):
        writer = start_writer(root, first)
        assert writer.stdout is not None
        # Two, so that the next writer begins further on however slow the machine is.
        acknowledged = [int(writer.stdout.readline()) for _ in range(2)]
        archive = FolderArchive(root)
        end = time.monotonic() + dice.uniform(0, 0.12)
        while time.monotonic() < end:
            check_whole(archive)
        acknowledged += kill(writer)

        archive = FolderArchive(root)
        check_whole(archive)
        for group in acknowledged:
            assert len(content(archive, f"1.2.1.{group}")) == 3, f"group {group} was acknowledged and is lost"
        found = rows(archive)
        assert archive.rebuild().unreadable == ()
        assert rows(archive) == found, "a file without a row, or a row without a file, was left"
        assert list((root / "incoming").iterdir()) == []
        first = acknowledged[-1]
    assert first > 0


def test_nothing_is_lost_or_half_there_after_a_kill(root: Path) -> None:
    """The ward's computer is switched off in the middle of an examination."""
    kill_at_random(root, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_half_there_after_fifty_kills(root: Path, seed: int) -> None:
    kill_at_random(root, 10, seed)


@pytest.mark.parametrize("step", ["_write", "rename", "_sync_folder", "add_rows"])
def test_a_death_at_each_step_is_put_right(root: Path, step: str) -> None:
    """Die just behind each step of a commit, which random moments seldom hit."""
    script = f"""
import os, signal
from pathlib import Path
from residency.archives import folder
from residency.testing.archive import data_set, instance

archive = folder.FolderArchive({str(root)!r})
archive.store([instance(data_set("1.2.1.1.0"))])
owner = Path if {step!r} == "rename" else folder
real = getattr(owner, {step!r})
def dying(*given):
    real(*given)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, {step!r}, dying)
archive.store(instance(data_set(f"1.2.1.1.{{n}}")) for n in range(1, 4))
"""
    died = subprocess.run([sys.executable, "-c", script], check=False)
    assert died.returncode == -signal.SIGKILL
    archive = FolderArchive(root)
    check_whole(archive)
    assert len(files(root)) == len(content(archive))
    assert "1.2.1.1.0" in content(archive)
    assert list((root / "incoming").iterdir()) == []
    archive.store(instance(data_set(f"1.2.1.1.{n}")) for n in range(4))
    assert len(content(archive)) == 4


def test_a_damaged_file_does_not_keep_the_archive_closed(filled: FolderArchive, root: Path) -> None:
    """A writer died in a commit, and the disk has lost one of its files: the others are still wanted."""
    damaged = files(root)[0]
    damaged.write_bytes(b"rubbish")
    (root / "commit.lock").write_text("\n".join(file.name for file in files(root)) + "\nno/name\n")
    archive = FolderArchive(root)
    assert len(list(archive.find(Level.INSTANCE, Query()))) == 40
    assert (root / "commit.lock").read_text() == ""


def test_a_living_writer_is_not_swept_away(root: Path) -> None:
    """Another process opens the archive while instances are still on their way."""
    archive = FolderArchive(root)

    def slowly() -> Iterator[Instance]:
        for n in range(3):
            yield instance(data_set(f"1.2.1.1.{n}"))
            FolderArchive(root).rebuild()

    archive.store(slowly())
    assert len(content(archive)) == 3


def test_processes_may_store_at_once(root: Path) -> None:
    FolderArchive(root)
    writers = [start_writer(root, first, 3) for first in range(3)]
    archive = FolderArchive(root)
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(4):
            writer.stdout.readline()
    check_whole(archive)
    for writer in writers:
        kill(writer)
    archive = FolderArchive(root)
    for group in (0, 1, 2, 3, 4, 5):
        assert len(content(archive, f"1.2.1.{group}")) == 3


def test_processes_may_make_one_archive_at_once(root: Path) -> None:
    command = [
        sys.executable,
        "-c",
        f"from residency.archives.folder import FolderArchive; FolderArchive({str(root)!r})",
    ]
    makers = [subprocess.Popen(command) for _ in range(3)]
    assert [maker.wait() for maker in makers] == [0, 0, 0]
    assert rows(FolderArchive(root)) == set()
