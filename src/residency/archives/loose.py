"""A folder of DICOM files, read where it lies: finds and gives, stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from residency.archive import Entry, Instance, Level, Query
from residency.archives.incoming import DICOMDIR
from residency.archives.memory import entries
from residency.archives.mend import HOW, is_emptied
from residency.archives.part10 import Row, header_of, mapped, read_row, same_data_set
from residency.errors import ArchiveError, InputError, UsageError


class LooseFiles:
    """The reading half of an archive over the files below a folder.

    Files of other kinds, and a DICOMDIR, are passed over. Symbolic links to folders are not followed.
    """

    def __init__(self, folder: Path) -> None:
        """Look at every file. Raises UsageError if the folder does not exist or holds no DICOM instance.

        Raises InputError for damaged DICOM files, all in one go, and for two files of different content with one SOP
        Instance UID: a series without its last image would still look like a whole one, so nothing is passed over and
        nothing guessed.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
        self._folder = folder
        self._rows: dict[str, tuple[Row, Path]] = {}
        others = 0
        bad: list[_BadFileError] = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                row = _row_of(path, str(path.relative_to(folder)))
            except _BadFileError as error:
                bad.append(error)
                continue
            if row is None:
                others += 1
                continue
            _, known = self._rows.setdefault(row.sop_uid, (row, path))
            if not _same(known, path):
                raise InputError(
                    f"{known.relative_to(folder)} and {path.relative_to(folder)} hold different content under one "
                    f"SOP Instance UID, {row.sop_uid}: leave the right one in the folder"
                )
        if bad:
            raise InputError(_in_one_go(bad))
        if not self._rows:
            raise UsageError(f"{folder} holds no DICOM instance ({others} other files were passed over)")

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


class _BadFileError(Exception):
    """A DICOM file that cannot be read; `way_out` is what can be done about it."""

    def __init__(self, problem: str, way_out: str = "") -> None:
        super().__init__(problem)
        self.way_out = way_out


_TAKE_OUT = "Take out of the folder what its series can do without"
_NAMED = 3


def _in_one_go(bad: Sequence[_BadFileError]) -> str:
    problems = "; ".join(map(str, bad[:_NAMED]))
    more = f"; and {len(bad) - _NAMED} more that cannot be read" if len(bad) > _NAMED else ""
    ways = dict.fromkeys(error.way_out for error in bad if error.way_out)
    return f"{problems}{more}" + "".join(f". {way}" for way in ways)


def _row_of(path: Path, name: str) -> Row | None:
    """Where the instance in a file belongs, by its name for people; None for what is no DICOM file, or a DICOMDIR."""
    try:
        with mapped(path) as data:
            if data[128:132] != b"DICM" or DICOMDIR in data[132:1024]:
                return None
            return read_row(data, name)
    except ArchiveError as error:
        raise _BadFileError(str(error), HOW if is_emptied(path.read_bytes()) else _TAKE_OUT) from None
    except OSError as error:
        raise _BadFileError(f"{name} cannot be read: {error.strerror}") from None


def _same(first: Path, second: Path) -> bool:
    if first == second:
        return True
    with mapped(first) as one, mapped(second) as other:
        return same_data_set(one, other)
