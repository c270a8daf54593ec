"""A folder of DICOM files, read where it lies: finds and gives, stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from residency.archive import Entry, Instance, Level, Query
from residency.archives.memory import entries
from residency.archives.part10 import Row, header_of, read_row
from residency.errors import ArchiveError, UsageError


class LooseFiles:
    """The reading half of an archive over the files below a folder.

    Files that are no whole DICOM instance (DICOMDIR too) are passed over; `passed_over` has their names and why. Of two
    files with one SOP Instance UID the first in the order of names counts.
    """

    def __init__(self, folder: Path) -> None:
        """Raises UsageError if the folder does not exist or holds no DICOM instance."""
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
        self._folder = folder
        self._rows: dict[str, tuple[Row, Path]] = {}
        self.passed_over: dict[str, str] = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                row = read_row(path.read_bytes(), path.name)
            except (ArchiveError, OSError) as error:
                self.passed_over[str(path.relative_to(folder))] = str(error)
            else:
                self._rows.setdefault(row.sop_uid, (row, path))
        if not self._rows:
            raise UsageError(f"{folder} holds no DICOM instance ({len(self.passed_over)} other files were passed over)")

    @property
    def url(self) -> str:
        """file:// and the folder."""
        return self._folder.absolute().as_uri()

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        yield from entries((row for row, _ in self._rows.values()), level, query)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances."""
        for instance in self.instances(series_uid, sop_uids):
            yield Instance(instance.uid, header_of(instance.data, instance.uid))

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them. A file that was changed meanwhile raises ArchiveError."""
        wanted = None if sop_uids is None else set(sop_uids)
        for uid, (row, path) in self._rows.items():
            if row.series_uid != series_uid or (wanted is not None and uid not in wanted):
                continue
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ArchiveError(f"{path.name} cannot be read: {error.strerror}", retry=True) from None
            if read_row(data, path.name) != row:
                raise ArchiveError(f"{path.name} was changed while it was read; run again")
            yield Instance(uid, data)

    def store(self, instances: Iterable[Instance]) -> None:
        """Refused: what is read where it lies is not written to."""
        raise ArchiveError(f"{self._folder} is only read; name the archive for results with --archive")

    def close(self) -> None:
        """Nothing is held open."""
