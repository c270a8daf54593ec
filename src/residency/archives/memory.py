"""An archive in memory: for tests, for trials, and for one run that leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from residency.archive import Entry, Instance, Level, Query
from residency.archives.part10 import Row, header_of, named, read_row, same_data_set
from residency.errors import ArchiveError, ConflictError


class MemoryArchive:
    """Keeps instances in a dictionary, with every promise of `Archive` except that it outlives the process."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._data: dict[str, bytes] = {}
        self._lock = Lock()

    @property
    def url(self) -> str:
        """Always "memory:"."""
        return "memory:"

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query."""
        with self._lock:
            rows = list(self._rows.values())
        yield from entries(rows, level, query)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Headers of a series, or of some of its instances."""
        for instance in self.instances(series_uid, sop_uids):
            yield Instance(instance.uid, header_of(instance.data, instance.uid))

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        """Instances of a series, or some of them."""
        wanted = None if sop_uids is None else set(sop_uids)
        with self._lock:
            uids = [uid for uid, row in self._rows.items() if row.series_uid == series_uid]
        for uid in uids:
            if wanted is None or uid in wanted:
                yield Instance(uid, self._data[uid])

    def store(self, instances: Iterable[Instance]) -> None:
        """Store instances, one after the other."""
        for instance in instances:
            row = row_of(instance)
            with self._lock:
                known = self._data.get(row.sop_uid)
                if known is not None and not same_data_set(known, instance.data):
                    raise conflict(row.sop_uid)
                if known is None:
                    self._rows[row.sop_uid], self._data[row.sop_uid] = row, bytes(instance.data)

    def close(self) -> None:
        """Nothing is held outside the object."""


def entries(rows: Iterable[Row], level: Level, query: Query) -> Iterator[Entry]:
    """What an archive that holds these rows answers to a query."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_key(row, level), []).append(row)
    for members in groups.values():
        if any(_matches(row, query) for row in members):
            yield _entry(members, level)


def row_of(instance: Instance) -> Row:
    """The index row of an instance that is to be stored. Raises ArchiveError where it is not what it says it is."""
    row = read_row(instance.data, named(instance.uid))
    if row.sop_uid != instance.uid:
        raise ArchiveError(
            f"{named(instance.uid)} holds the SOP Instance UID {row.sop_uid}: it is not what it is called"
        )
    return row


def conflict(uid: str) -> ConflictError:
    """The error for other content under a known UID."""
    return ConflictError(
        f"the archive already holds other content under the SOP Instance UID {uid}; the first stays. "
        "Whoever made the second must give it a UID of its own"
    )


def _key(row: Row, level: Level) -> tuple[str, ...]:
    if level is Level.STUDY:
        return row.patient_id, row.study_uid
    if level is Level.SERIES:
        return row.patient_id, row.study_uid, row.series_uid, row.modality
    return (row.sop_uid,)


def _matches(row: Row, query: Query) -> bool:
    asked = {
        "patient_id": query.patient_id,
        "study_uid": query.study_uid,
        "series_uid": query.series_uid,
        "sop_uid": query.sop_uid,
        "sop_class": query.sop_class,
        "modality": query.modality,
        "content_label": query.content_label,
    }
    return all(value is None or getattr(row, name) == value for name, value in asked.items())


def _entry(members: list[Row], level: Level) -> Entry:
    row = members[0]
    if level is Level.STUDY:
        return Entry(
            row.patient_id, row.study_uid, description=max(m.study_description for m in members), instances=len(members)
        )
    if level is Level.SERIES:
        return Entry(
            row.patient_id,
            row.study_uid,
            row.series_uid,
            modality=row.modality,
            description=max(m.series_description for m in members),
            instances=len(members),
        )
    return Entry(
        row.patient_id,
        row.study_uid,
        row.series_uid,
        row.sop_uid,
        row.sop_class,
        row.modality,
        row.series_description,
        row.content_label,
        1,
    )
