"""DICOM files out of folders and zip files, on their way into an archive; what is none is named with the reason.

Names of files and of members of a zip file are only ever shown: nothing is unpacked to disk, no path is built of them.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from residency.archive import Archive, Instance, Level, Query
from residency.archives.mend import HOW, META_BYTES, Mender, Place, is_emptied
from residency.archives.part10 import LARGEST_INSTANCE, read_row
from residency.errors import ArchiveError, ConflictError, CredentialsError, InputError, UnreachableError

DICOMDIR = b"1.2.840.10008.1.3.10"
"""SOP class of a directory of files (PS3.10 8); it is no instance of a study."""

NO_DICOM = "no DICOM file"
"""Why files of other kinds are skipped."""
_CONFLICT = (
    "the archive holds other content under its SOP Instance UID (one of the two was changed; the first stays, until "
    "somebody deletes it there)"
)
_ZIP = b"PK\x03\x04"
_AT_ONCE = 64
_AT_ONCE_BYTES = 64 * 2**20
"""Files held in memory to be stored together."""


@dataclass(frozen=True)
class Skipped:
    """A file that is not taken, and why."""

    name: str
    reason: str


@dataclass
class Tally:
    """What an import did.

    taken    instances that are in the archive now, those that were there before included
    present  how many of them were there before, or came twice
    skipped  names of files that are no DICOM instance, by reason
    refused  names of instances that the archive refused, by reason
    """

    taken: int = 0
    present: int = 0
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def count_files(paths: Iterable[Path]) -> int:
    """How many files and members of zip files `dicom_files` will look at."""
    return sum(_members(path) for _, path in _files(paths))


def dicom_files(paths: Iterable[Path], mender: Mender | None = None) -> Iterator[tuple[str, Instance] | Skipped]:
    """Every file below the paths, and every member of a zip file: an instance with its name, or why it is none.

    mender  gives UIDs to files that were emptied of them; it has learnt of `beginnings`

    Symbolic links to folders are not followed. Reads one file at a time.
    """
    for found in _contents(paths, LARGEST_INSTANCE + 1):
        yield found if isinstance(found, Skipped) else _instance(found, mender)


def beginnings(paths: Iterable[Path]) -> Iterator[tuple[Place, bytes]]:
    """Where every DICOM file lies, and its first bytes: what `Mender.learn` needs."""
    for found in _contents(paths, META_BYTES):
        if isinstance(found, _File):
            yield found.place, found.data


@dataclass(frozen=True)
class _File:
    """A DICOM file, or its beginning."""

    name: str
    place: Place
    data: bytes


def _contents(paths: Iterable[Path], most: int) -> Iterator[_File | Skipped]:
    """At most so many bytes of every DICOM file, and why others are none."""
    for named, path in _files(paths):
        name = str(path)
        try:
            with path.open("rb") as file:
                start = file.read(132)
                if start.startswith(_ZIP) and start[128:] != b"DICM":
                    yield from _zipped(path, named, most)
                    continue
                if start[128:] != b"DICM":
                    yield Skipped(name, NO_DICOM)
                    continue
                yield _File(name, Place(named, str(path.parent)), start + file.read(most - 132))
        except OSError as error:
            yield Skipped(name, f"cannot be read: {error.strerror}")


def import_into(
    archive: Archive,
    found: Iterable[tuple[str, Instance] | Skipped],
    step: Callable[[int], None],
    tally: Tally | None = None,
) -> Tally:
    """Store what was found; an instance that is refused, or does not come back, does not keep the others out.

    step   told of how many more files have been dealt with
    tally  counted in here, for those who want to know it where this ends with an error

    Raises ArchiveError where the archive itself fails: it cannot be reached, asked, or does not let us in.
    """
    tally = Tally() if tally is None else tally
    for several in _batches(found):
        for one in several:
            if isinstance(one, Skipped):
                tally.skipped[one.reason].append(one.name)
        _store(archive, [one for one in several if not isinstance(one, Skipped)], tally)
        step(len(several))
    return tally


def _batches(found: Iterable[tuple[str, Instance] | Skipped]) -> Iterator[list[tuple[str, Instance] | Skipped]]:
    batch: list[tuple[str, Instance] | Skipped] = []
    size = 0
    for one in found:
        batch.append(one)
        size += 0 if isinstance(one, Skipped) else len(one[1].data)
        if len(batch) >= _AT_ONCE or size >= _AT_ONCE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _store(archive: Archive, several: Sequence[tuple[str, Instance]], tally: Tally) -> None:
    """All at once, since that is fast; one by one where something is wrong with one of them."""
    there = {one.uid for _, one in several if any(archive.find(Level.INSTANCE, Query(sop_uid=one.uid)))}
    stored: list[str] = []
    try:
        archive.store(instance for _, instance in several)
        stored = [instance.uid for _, instance in several]
    except (UnreachableError, CredentialsError):
        raise
    except ArchiveError:
        _store_each(archive, several, stored, tally)
    finally:
        tally.taken += len(stored)
        tally.present += len(stored) - len(set(stored) - there)


def _store_each(archive: Archive, several: Sequence[tuple[str, Instance]], stored: list[str], tally: Tally) -> None:
    """One by one; `stored` gets the UIDs of those that were."""
    for name, instance in several:
        try:
            archive.store([instance])
        except (UnreachableError, CredentialsError):
            raise
        except ConflictError:
            tally.refused[_CONFLICT].append(name)
        except ArchiveError as error:
            # Without the UID, files that are refused for one reason are counted together.
            reason = str(error).replace(f": {instance.uid}", "").replace(instance.uid, "it")
            tally.refused[reason].append(name)
        else:
            stored.append(instance.uid)


def _files(paths: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Files, each with what was named for import and holds it: a folder, or of a single file the folder it lies in."""
    for path in paths:
        if path.is_file():
            yield str(path.parent), path
        for folder, folders, names in os.walk(path):
            folders.sort()
            yield from ((str(path), file) for name in sorted(names) if (file := Path(folder) / name).is_file())


def _members(path: Path) -> int:
    try:
        with path.open("rb") as file:
            if file.read(4) != _ZIP:
                return 1
        with zipfile.ZipFile(path) as packed:
            return len(packed.infolist())
    except (OSError, zipfile.BadZipFile):
        return 1


def _zipped(path: Path, named: str, most: int) -> Iterator[_File | Skipped]:
    try:
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                if not member.is_dir():
                    place = Place(named, f"{path}: {member.filename.rpartition('/')[0]}")
                    yield _member(packed, member, f"{path}: {_shown(member.filename)}", place, most)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        yield Skipped(str(path), f"a damaged zip file: {error}")


def _member(packed: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, place: Place, most: int) -> _File | Skipped:
    """One member, inflated within bounds whatever its header claims."""
    if member.flag_bits & 1:
        return Skipped(name, "locked with a password")
    try:
        with packed.open(member) as stream:
            data = stream.read(132)
            if data[128:] == b"DICM":
                data += stream.read(most - 132)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError):
        return Skipped(name, "a damaged member of a zip file")
    if data.startswith(_ZIP) and data[128:] != b"DICM":
        return Skipped(name, "a zip file within a zip file; unpack it first")
    return _File(name, place, data) if data[128:132] == b"DICM" else Skipped(name, NO_DICOM)


def _instance(file: _File, mender: Mender | None) -> tuple[str, Instance] | Skipped:
    if DICOMDIR in file.data[132:1024]:
        return Skipped(file.name, "a directory of files (DICOMDIR), no instance")
    try:
        data = file.data if mender is None else mender.mend(file.place, file.data)
        row = read_row(data, "it")
    except (ArchiveError, InputError) as error:
        return Skipped(file.name, f"{error}; {HOW}" if mender is None and is_emptied(file.data) else str(error))
    return file.name, Instance(row.sop_uid, data)


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:200])
