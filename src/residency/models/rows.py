"""Which instances of models an archive lists, asked for as cheaply as is safe.

A network archive takes milliseconds for each row of an instance, and a version has several. Where the index knows what
a series holds, the archive's number of instances and the rows of its statements tell the same. Statements are asked for
each time, so that nothing that is deleted makes room for a withdrawal that nobody hears.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from residency.archive import Archive, Entry, Level, Query
from residency.dicom.model_object import LIBRARY_PATIENT_ID, MANIFEST, PART, RAW_DATA, STATEMENT, card_series_uid_of
from residency.models.index import IndexedText

Rows = dict[str, dict[str, Entry]]
"""Rows of instances by series and SOP Instance UID."""

_MOST_CHANGED = 10
"""Series that are asked for one by one; beyond it one question for all of them is cheaper."""


def model_rows(archive: Archive, known: Mapping[str, IndexedText]) -> Rows:
    """Rows of all models: under the library's Patient ID, else wherever the archive filed them.

    known  what the index holds of this archive; where that is not enough, the archive is asked for every row
    """
    every = Query(patient_id=LIBRARY_PATIENT_ID, sop_class=RAW_DATA)
    return _counted_rows(archive, known) or _grouped(_library_rows(archive, every)) or _coerced_rows(archive)


def _counted_rows(archive: Archive, known: Mapping[str, IndexedText]) -> Rows:
    """The rows under the library's Patient ID, those of manifests and parts as the index implies them where the archive
    counts as many; nothing where it cannot tell so.

    A series with another number is asked for row by row. One manifest is asked for by its Content Label: an archive
    that does not find it by that would not find statements either.
    """
    implied = _implied_rows(known)
    counts = _counts(archive) if implied else Counter[str]()
    sample = next((uid for uid in sorted(implied) if uid in counts), None)
    if sample is None or sample not in _labelled(archive, MANIFEST, sample):
        return {}
    statements = _labelled(archive, STATEMENT)
    if statements.keys() - counts.keys():
        return {}
    cards = {card_series_uid_of(text.found.digest) for text in known.values() if text.parts}
    rows: Rows = {}
    changed = []
    for uid, count in counts.items():
        held = implied.get(uid, {}) | statements.get(uid, {})
        if uid in implied and len(held) == count:
            rows[uid] = held
        elif uid not in cards or count != 1 or held:
            changed.append(uid)
    if len(changed) > _MOST_CHANGED:
        return {}
    for uid in changed:
        asked = Query(patient_id=LIBRARY_PATIENT_ID, series_uid=uid, sop_class=RAW_DATA)
        rows |= _grouped(row for row in _library_rows(archive, asked) if row.series_uid == uid)
    return rows


def _implied_rows(known: Mapping[str, IndexedText]) -> Rows:
    """The manifests that the index holds and the parts that they imply, as the archive would list them."""
    rows: Rows = defaultdict(dict)
    for text in known.values():
        found = text.found
        for uid, label in ((found.uid, MANIFEST), *((part, PART) for part in text.parts)) if text.parts else ():
            row = Entry(LIBRARY_PATIENT_ID, found.study_uid, found.series_uid, uid, RAW_DATA, content_label=label)
            rows[found.series_uid][uid] = row
    return dict(rows)


def _counts(archive: Archive) -> Counter[str]:
    """How many instances each series of the library has; 0 where the archive does not say."""
    counts = Counter[str]()
    for row in archive.find(Level.SERIES, Query(patient_id=LIBRARY_PATIENT_ID)):
        if row.patient_id == LIBRARY_PATIENT_ID and row.series_uid:
            counts[row.series_uid] += row.instances
    return counts


def _labelled(archive: Archive, label: str, series_uid: str | None = None) -> Rows:
    """Rows of the library with this Content Label. Rows are held against it again: it may not have been looked at."""
    query = Query(patient_id=LIBRARY_PATIENT_ID, series_uid=series_uid, content_label=label)
    return _grouped(row for row in _library_rows(archive, query) if row.content_label == label)


def _library_rows(archive: Archive, query: Query) -> Iterator[Entry]:
    return (row for row in archive.find(Level.INSTANCE, query) if row.patient_id == LIBRARY_PATIENT_ID)


def _coerced_rows(archive: Archive) -> Rows:
    """The same where the archive gave the library another Patient ID: by Content Label, then each series whole.

    Asked only where nothing lies under the library's own Patient ID: it makes an archive search all its patients.
    """
    series = {
        row.series_uid
        for label in (MANIFEST, STATEMENT)
        for row in archive.find(Level.INSTANCE, Query(sop_class=RAW_DATA, content_label=label))
        if row.content_label == label
    }
    queries = (Query(series_uid=uid, sop_class=RAW_DATA) for uid in sorted(series) if uid)
    return _grouped(row for query in queries for row in archive.find(Level.INSTANCE, query) if row.series_uid in series)


def _grouped(rows: Iterable[Entry]) -> Rows:
    series: Rows = defaultdict(dict)
    for row in rows:
        if row.sop_class == RAW_DATA and row.series_uid and row.sop_uid:
            series[row.series_uid][row.sop_uid] = row
    return dict(series)
