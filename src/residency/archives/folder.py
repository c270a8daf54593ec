"""The embedded archive: a folder of DICOM files and an SQLite index that can always be made again from them.

    residency-archive     what this folder is, and its format
    objects/ab/ab12...    one file an instance, named by the SHA-256 of its SOP Instance UID: never by received text
    incoming/TOKEN/       files being received; TOKEN/owner is locked as long as their writer lives
    commit.lock           held by whoever moves files to their place; lists what it moves while it does
    index.sqlite          one row an instance, for queries

An instance is acknowledged when its bytes, its name and its row are on the disk. A file appears under its name by one
rename, so readers never see half of one. A writer that dies between rename and row leaves its list in commit.lock; the
next one to open the archive or to store adds the rows that are missing. The locks are the operating system's: they end
with their process. The folder must lie on a local file system, since SQLite's write-ahead log needs one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from residency.archive import Entry, Instance, Level, Query
from residency.archives.index import QUERIED, SCHEMA, add_rows, insert, make_tables, question
from residency.archives.memory import conflict, row_of
from residency.archives.part10 import Row, header_of, mapped, read_row, same_data_set
from residency.errors import ArchiveError

_FORMAT = "Residency folder archive, format 1\n"
_BATCH = 32
_BATCH_BYTES = 64 * 2**20
_WAIT_S = 60.0


@dataclass(frozen=True)
class Rebuilt:
    """What making the index anew found.

    unreadable  files under objects/ that are no instance or stand under a wrong name; left where they are
    """

    instances: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class _Received:
    row: Row
    file: Path


class FolderArchive:
    """A folder as an archive; several processes may use it at once. Nothing is held open between calls."""

    def __init__(self, path: Path | str) -> None:
        """Open the archive at `path`, or make one where nothing is.

        What a dead writer left is put in order, and a missing or damaged index is made anew from the files. Raises
        ArchiveError for a folder that holds something else.
        """
        self._root = Path(path).absolute()
        self._objects = self._root / "objects"
        self._incoming = self._root / "incoming"
        self._index = self._root / "index.sqlite"
        with _failures(self._root):
            self._claim()
            with self._committing():
                if not self._index_is_whole():
                    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
                        (self._root / name).unlink(missing_ok=True)
                    self._rebuild()
                self._sweep()

    @property
    def url(self) -> str:
        """file:// and the folder."""
        return self._root.as_uri()

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        asked = {name: value for name in QUERIED if (value := getattr(query, name)) is not None}
        with _failures(self._root), closing(self._connect()) as index:
            for row in index.execute(question(level, tuple(asked)), asked):
                yield Entry(*row)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances; pixels are not read from the disk."""
        for uid in self._uids(series_uid, sop_uids):
            with _failures(self._root, uid), mapped(self._file(uid)) as data:
                header = header_of(data, uid)
            yield Instance(uid, header)

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them. A file that was damaged on the disk raises ArchiveError."""
        for uid in self._uids(series_uid, sop_uids):
            with _failures(self._root, uid):
                data = self._file(uid).read_bytes()
            if read_row(data, uid).sop_uid != uid:
                raise ArchiveError(f"the file of {uid} holds another instance: run 'residency archive rebuild'")
            yield Instance(uid, data)

    def store(self, instances: Iterable[Instance]) -> None:
        """Store instances, one after the other. Those before one that is refused are stored."""
        source = iter(instances)
        with self._receiving() as folder:
            while self._store_batch(source, folder):
                pass

    def rebuild(self) -> Rebuilt:
        """Make the index anew from the files. Readers see the old one until the new one is complete."""
        with _failures(self._root), self._committing():
            rebuilt = self._rebuild()
            self._sweep()
            return rebuilt

    def close(self) -> None:
        """Nothing is held open between calls."""

    # The folder

    def _claim(self) -> None:
        """Make the folder an archive if it is new or empty. The first file in it says what it is."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self._root / "residency-archive"
        if not mark.exists() and any(self._root.iterdir()) and not mark.exists():
            raise ArchiveError(f"{self._root} is not empty and no archive of Residency: name another folder")
        with mark.open("a+", encoding="ascii", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            found = file.read(len(_FORMAT) + 1)
            if not found:
                file.write(_FORMAT)
                _sync(file)
            elif found != _FORMAT:
                raise ArchiveError(f"{self._root} is an archive of a format that this version does not know")
        for folder in (self._objects, self._incoming):
            folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self._root)

    def _file(self, uid: str) -> Path:
        name = hashlib.sha256(uid.encode()).hexdigest()
        return self._objects / name[:2] / name

    @contextmanager
    def _committing(self) -> Iterator[IO[str]]:
        """Be the only one who moves files to their place; first finish what a dead one began."""
        with (self._root / "commit.lock").open("a+", encoding="ascii", errors="replace") as lock:
            _lock(lock, self._root)
            lock.seek(0)
            left = lock.read()
            if left and self._index.exists():
                self._finish(left.split())
            _empty(lock)
            yield lock
            _empty(lock)

    def _finish(self, names: Sequence[str]) -> None:
        """Add the rows of files that a dead writer had moved; what it had not moved was never acknowledged."""
        rows = []
        for name in names:
            file = self._objects / name[:2] / name
            if re.fullmatch("[0-9a-f]{64}", name) and file.exists():
                # A file that was damaged on the disk must not keep the archive closed; reading it will tell.
                with suppress(ArchiveError), mapped(file) as data:
                    rows.append(read_row(data, name))
                _sync_folder(file.parent)
        _sync_folder(self._objects)
        if self._index_is_whole():
            with closing(self._connect()) as index:
                add_rows(index, rows)

    # Receiving

    @contextmanager
    def _receiving(self) -> Iterator[Path]:
        """A folder of one's own for files on their way; its lock tells others that its writer lives."""
        folder = self._incoming / secrets.token_hex(16)
        with _failures(self._root), self._committing():
            folder.mkdir(mode=0o700)
            owner = (folder / "owner").open("w")
            fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            owner.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what dead writers were receiving: nobody was told that it is stored."""
        for folder in self._incoming.iterdir():
            with suppress(FileNotFoundError, BlockingIOError), (folder / "owner").open("a") as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)

    def _store_batch(self, source: Iterator[Instance], folder: Path) -> bool:
        """Receive some instances, then commit them together, so that they share the waiting for the disk."""
        received: list[_Received] = []
        size = 0
        try:
            for instance in islice(source, _BATCH):
                row = row_of(instance)
                file = folder / str(len(received))
                with _failures(self._root):
                    file.write_bytes(instance.data)
                received.append(_Received(row, file))
                size += len(instance.data)
                if size >= _BATCH_BYTES:
                    break
        finally:
            if received:
                with _failures(self._root):
                    self._commit(received)
        return bool(received)

    def _commit(self, received: Sequence[_Received]) -> None:
        for one in received:
            with one.file.open("rb") as file:
                os.fsync(file.fileno())
        rows: list[Row] = []
        refused: str | None = None
        with self._committing() as lock:
            _write(lock, "\n".join(self._file(one.row.sop_uid).name for one in received))
            shards = set()
            for one in received:
                place = self._file(one.row.sop_uid)
                if not place.exists():
                    if not place.parent.is_dir():
                        place.parent.mkdir(mode=0o700)
                        shards.add(self._objects)
                    one.file.rename(place)
                elif not _same(place, one.file):
                    refused = one.row.sop_uid
                    break
                shards.add(place.parent)
                rows.append(one.row)
            for shard in shards:
                _sync_folder(shard)
            with closing(self._connect()) as index:
                add_rows(index, rows)
        if refused is not None:
            raise conflict(refused)

    # The index

    def _connect(self) -> sqlite3.Connection:
        if not self._index.exists():
            raise ArchiveError(f"the index of {self._root} is gone: run 'residency archive rebuild'")
        # A generator that reads from it may be finished by another thread than the one that began it.
        index = sqlite3.connect(self._index, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        index.execute("PRAGMA synchronous = FULL")
        return index

    def _index_is_whole(self) -> bool:
        """Whether there is an index, complete when it was made, and SQLite can read it."""
        if not self._index.exists():
            return False
        try:
            with closing(self._connect()) as index:
                known = index.execute("PRAGMA user_version").fetchone()[0]
                index.execute("SELECT max(sop_uid) FROM instances").fetchone()
                return bool(known == SCHEMA)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return False
            raise
        except sqlite3.DatabaseError:
            return False

    def _rebuild(self) -> Rebuilt:
        """Read every file and fill the index in one transaction; the caller holds the lock."""
        if not self._index.exists():
            sqlite3.connect(self._index).close()
            self._index.chmod(0o600)
        count, unreadable = 0, []
        with closing(self._connect()) as index:
            index.execute("PRAGMA journal_mode = WAL")
            index.execute("BEGIN IMMEDIATE")
            make_tables(index)
            for file in sorted(self._objects.glob("*/*")):
                try:
                    with mapped(file) as data:
                        row = read_row(data, file.name)
                except (ArchiveError, OSError):
                    unreadable.append(f"{file.parent.name}/{file.name}")
                    continue
                if self._file(row.sop_uid) != file:
                    unreadable.append(f"{file.parent.name}/{file.name}")
                    continue
                insert(index, row)
                count += 1
            index.execute(f"PRAGMA user_version = {SCHEMA}")
            index.execute("COMMIT")
        return Rebuilt(count, tuple(unreadable))

    def _uids(self, series_uid: str, sop_uids: Sequence[str] | None) -> list[str]:
        with _failures(self._root), closing(self._connect()) as index:
            found = index.execute("SELECT sop_uid FROM instances WHERE series_uid = ?", (series_uid,)).fetchall()
        wanted = None if sop_uids is None else set(sop_uids)
        return [uid for (uid,) in found if wanted is None or uid in wanted]


@contextmanager
def _failures(root: Path, uid: str = "one") -> Iterator[None]:
    """What the disk or SQLite reports, as ArchiveError; `uid` is the instance that is read."""
    try:
        yield
    except sqlite3.OperationalError as error:
        busy = "locked" in str(error) or "busy" in str(error)
        raise ArchiveError(f"the index of {root} cannot be used now: {error}", retry=busy) from None
    except sqlite3.Error as error:
        raise ArchiveError(f"the index of {root} is damaged ({error}): open the archive again to remake it") from None
    except FileNotFoundError:
        raise ArchiveError(
            f"{root} is indexed for {uid}, but its file is gone: run 'residency archive rebuild'"
        ) from None
    except OSError as error:
        raise ArchiveError(f"{root} cannot be used: {error.strerror}", retry=True) from None


def _same(first: Path, second: Path) -> bool:
    with mapped(first) as one, mapped(second) as other:
        return same_data_set(one, other)


def _lock(lock: IO[str], root: Path) -> None:
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise ArchiveError(
                    f"another process has been writing to {root} for {_WAIT_S:.0f} s: try again", retry=True
                ) from None
            time.sleep(0.005)
        else:
            return


def _write(lock: IO[str], names: str) -> None:
    lock.seek(0)
    lock.write(names)
    _sync(lock)


def _empty(lock: IO[str]) -> None:
    """Nothing under way. Not waited for: a list that comes back after a power failure does no harm."""
    if os.fstat(lock.fileno()).st_size:
        lock.truncate(0)


def _sync(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
