"""Recall: everything in an archive that a version of a model made, and the notes that take it out of use.

The archive is asked, not a memory of ours: results count wherever they were computed, also those of a model that was
revoked or deleted since.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from residency.archive import Archive, Entry, Instance, Level, Query
from residency.dicom.document import ObjectReference
from residency.dicom.key_objects import (
    KEY_OBJECT_SELECTION,
    NoteRead,
    Rejection,
    read_rejection,
    rejection_note,
    rejection_uid,
)
from residency.dicom.origin import RESULT_CLASSES, Origin, origin_of
from residency.errors import ArchiveError, CredentialsError, InputError, LostError, UnreachableError

_BATCH = 1000
"""Rows that are held at once while the archive's answer comes in."""

Watch = Callable[[int, int], None]
"""Called with (objects looked at, affected ones) now and then; what it raises ends the search."""


@dataclass(frozen=True)
class Affected:
    """What a version made.

    objects     by study UID, in the order of their UIDs
    unreadable  (series UID, reason) of what the archive does not give or what is no readable DICOM: not judged
    """

    digest: str
    objects: Mapping[str, tuple[ObjectReference, ...]]
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def count(self) -> int:
        """How many objects there are in all studies together."""
        return sum(map(len, self.objects.values()))


@dataclass(frozen=True)
class Note:
    """A rejection note of one study. present: it was there before."""

    study_uid: str
    uid: str
    rejected: int
    present: bool


def affected(archive: Archive, digest: str, watch: Watch | None = None) -> Affected:
    """Every result in the archive that names the version with this digest ("sha256:" and 64 digits).

    Objects are asked for by SOP class and told by their headers; those of other makers are passed over. Memory holds
    one batch of rows, one series of headers and what was found. Raises UnreachableError and CredentialsError; any other
    trouble with a series is told in `unreadable`.
    """
    found: dict[str, dict[str, ObjectReference]] = {}
    unreadable: list[tuple[str, str]] = []
    looked_at = 0
    for series_uid, uids in _series(archive):
        try:
            for origin in _origins(archive, series_uid, uids):
                if digest in origin.digests and origin.object.sop_class in RESULT_CLASSES:
                    found.setdefault(origin.study_uid, {})[origin.object.sop_uid] = origin.object
        except (UnreachableError, CredentialsError):
            raise
        except (ArchiveError, InputError) as error:
            unreadable.append((series_uid, str(error)))
        looked_at += len(uids)
        if watch is not None:
            watch(looked_at, sum(map(len, found.values())))
    studies = {uid: tuple(found[uid][one] for one in sorted(found[uid])) for uid in sorted(found)}
    return Affected(digest, studies, tuple(unreadable))


def reject(archive: Archive, recalled: Affected, why: Rejection, now: dt.datetime) -> Iterator[Note]:
    """Store one rejection note a study beside the results, and tell of each once it is there.

    A note that is there already, by its UID, is left as it is. Nothing else is written and nothing is deleted.
    """
    for study_uid, objects in recalled.objects.items():
        uid = rejection_uid(study_uid, objects, why)
        present = _holds(archive, study_uid, uid)
        if not present:
            note = rejection_note(_header(archive, objects[0]), objects, why, now)
            archive.store([Instance(note.uid, note.data)])
            if not _holds(archive, study_uid, note.uid):
                raise LostError(f"{archive.url} does not give back the rejection note {note.uid} that it accepted")
        yield Note(study_uid, uid, len(objects), present)


def rejections(archive: Archive, study_uid: str, about: Collection[str]) -> tuple[NoteRead, ...]:
    """Rejection notes in a study, of any maker, that name one of these objects by its SOP Instance UID.

    A document that cannot be read raises InputError: it may be a note.
    """
    return tuple(note for note in _notes(archive, study_uid) if not note.rejected.isdisjoint(about))


def rejected_before(
    archive: Archive, study_uid: str, digest: str, besides: Collection[str]
) -> tuple[tuple[NoteRead, int], ...]:
    """Rejection notes in a study that name results of this version, and how many of them each names.

    besides  SOP Instance UIDs of results that are not meant: those that were made just now

    Headers are looked at only where there are notes. Raises as `rejections` does.
    """
    notes = list(_notes(archive, study_uid))
    named = set[str]().union(*(note.rejected for note in notes)) - set(besides)
    series: dict[str, list[str]] = {}
    for row in archive.find(Level.INSTANCE, Query(study_uid=study_uid)) if named else ():
        if row.study_uid == study_uid and row.sop_class in RESULT_CLASSES and row.sop_uid in named:
            series.setdefault(row.series_uid, []).append(row.sop_uid)
    origins = [origin for uid, uids in series.items() for origin in _origins(archive, uid, uids)]
    ours = {origin.object.sop_uid for origin in origins if digest in origin.digests}
    counted = ((note, len(note.rejected & ours)) for note in notes)
    return tuple((note, count) for note, count in counted if count)


def _notes(archive: Archive, study_uid: str) -> Iterator[NoteRead]:
    query = Query(study_uid=study_uid, sop_class=KEY_OBJECT_SELECTION)
    for row in archive.find(Level.INSTANCE, query):
        if row.study_uid != study_uid or row.sop_class != KEY_OBJECT_SELECTION:
            continue
        for document in archive.headers(row.series_uid, [row.sop_uid]):
            note = read_rejection(document.data)
            if note is not None:
                yield note


def _series(archive: Archive) -> Iterator[tuple[str, list[str]]]:
    """(series UID, UIDs of results in it); a long series may come in several pieces."""
    for sop_class in RESULT_CLASSES:
        batch: list[Entry] = []
        for row in archive.find(Level.INSTANCE, Query(sop_class=sop_class)):
            if row.sop_class == sop_class and row.series_uid and row.sop_uid:
                batch.append(row)
            if len(batch) == _BATCH:
                yield from _by_series(batch)
                batch = []
        yield from _by_series(batch)


def _by_series(rows: Iterable[Entry]) -> Iterator[tuple[str, list[str]]]:
    grouped: dict[str, list[str]] = {}
    for row in rows:
        grouped.setdefault(row.series_uid, []).append(row.sop_uid)
    yield from grouped.items()


def _origins(archive: Archive, series_uid: str, uids: list[str]) -> Iterator[Origin]:
    """Origins of those instances of a series that this program made.

    A series is made by one equipment (DICOM PS3.3 A.1.2.3): where the first header names another, the rest is spared.
    """
    for wanted in (uids[:1], uids[1:]):
        awaited, ours = set(wanted), False
        for header in archive.headers(series_uid, wanted) if wanted else ():
            if header.uid not in awaited:
                continue
            awaited.remove(header.uid)
            origin = origin_of(header.data)
            if origin is not None and origin.object.sop_uid == header.uid:
                ours = True
                yield origin
        if awaited:
            raise LostError(f"{archive.url} lists {min(awaited)} and does not give its header")
        if not ours:
            return


def _holds(archive: Archive, study_uid: str, uid: str) -> bool:
    rows = archive.find(Level.INSTANCE, Query(study_uid=study_uid, sop_uid=uid))
    return any(row.sop_uid == uid for row in rows)


def _header(archive: Archive, one: ObjectReference) -> bytes:
    for header in archive.headers(one.series_uid, [one.sop_uid]):
        if header.uid == one.sop_uid:
            return header.data
    raise LostError(f"{archive.url} listed {one.sop_uid} and does not give it; ask again")
