"""Questions by QIDO-RS (PS3.18 10.6) and their rows. Every row is held against the question again.

Servers ignore filters that they do not know, match without regard to case, read ? and * as wildcards, and cap their
answers. So a filter only narrows what comes; what fits is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from residency.archive import Entry, Level, Query
from residency.archives.dicomweb.http import StatusError, Web
from residency.archives.dicomweb.model import Json, objects, text_of
from residency.archives.part10 import MOST_ROWS, Row
from residency.archives.patience import patiently
from residency.dicom.dataset import is_uid
from residency.errors import AnswerError

JSON = "application/dicom+json"
PAGE = 1000
"""Rows that are asked for at once; a server that gives fewer is asked on."""
_CAPS = (5, 16)
"""Caps are round: a page whose rows are no multiple of either, and that comes without a warning, is the last. Asking
for one more costs an archive that keeps no index of what was asked for as much as the page before."""
_UIDS_AT_ONCE = 50
"""UIDs in one URL; 64 characters each stay below the 8,000 that servers take."""

_NO_RELATIONS = frozenset((400, 404, 405, 501))
_PLAIN = re.compile(r"[A-Za-z0-9._-]")

_TAGS = {
    "patient_id": "00100020",
    "study_uid": "0020000D",
    "series_uid": "0020000E",
    "sop_uid": "00080018",
    "sop_class": "00080016",
    "modality": "00080060",
    "content_label": "00700080",
}
_KEYWORDS = {
    "patient_id": "PatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "sop_class": "SOPClassUID",
    "modality": "Modality",
    "content_label": "ContentLabel",
}
_UID_FIELDS = ("study_uid", "series_uid", "sop_uid", "sop_class")
_KNOWN_AT = {
    Level.STUDY: ("patient_id", "study_uid"),
    Level.SERIES: ("patient_id", "study_uid", "series_uid", "modality"),
    Level.INSTANCE: tuple(_TAGS),
}
_KEYS = {
    Level.STUDY: ("study_uid",),
    Level.SERIES: ("study_uid", "series_uid"),
    Level.INSTANCE: ("study_uid", "series_uid", "sop_uid"),
}
_DESCRIPTION = {Level.STUDY: "00081030", Level.SERIES: "0008103E", Level.INSTANCE: "0008103E"}
_COUNT = {Level.STUDY: "00201208", Level.SERIES: "00201209"}


class Questions:
    """Asks one archive. It remembers whether that one insists on the hierarchy: studies, then what is in each."""

    def __init__(self, web: Web, retries: int) -> None:
        self._web = web
        self._retries = retries
        self._insists = False

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        """Rows at one level that match the query, exactly."""
        if any(uid is not None and not is_uid(uid) for uid in (getattr(query, n) for n in _UID_FIELDS)):
            return
        deeper = _deepest(query)
        if level is Level.INSTANCE or _order(deeper) <= _order(level):
            yield from self._rows(level, query)
            return
        # A study is asked for by what one of its series or instances is: find those, then the rows that hold them.
        found = {tuple(getattr(row, key) for key in _KEYS[level]) for row in self._rows(deeper, query)}
        for study in sorted({key[0] for key in found}):
            narrowed = Query(patient_id=query.patient_id, study_uid=study)
            for row in self._rows(level, narrowed):
                if tuple(getattr(row, key) for key in _KEYS[level]) in found and _fits(row, query, level):
                    yield row

    def present(self, rows: Sequence[Row]) -> Iterator[Entry]:
        """Rows of those of our instances that the archive holds; wherever they lie, if it can be asked so."""
        wanted = {row.sop_uid for row in rows}
        for start in range(0, len(rows), _UIDS_AT_ONCE):
            some = rows[start : start + _UIDS_AT_ONCE]
            if not self._insists:
                try:
                    found = list(self._asked(Level.INSTANCE, "", _listed(some), {}))
                except StatusError as error:
                    self._insist(error)
                else:
                    yield from (row for row in found if row.sop_uid in wanted)
                    continue
            for (study, series), members in _by_series(some).items():
                known = {"study_uid": study, "series_uid": series}
                path = f"/studies/{study}/series/{series}"
                found = list(self._asked(Level.INSTANCE, path, _listed(members), known))
                yield from (row for row in found if row.sop_uid in wanted)

    def _insist(self, error: StatusError) -> None:
        """Take note that questions across studies are refused, if that is what the answer can mean."""
        if error.status not in _NO_RELATIONS:
            raise error
        self._insists = True

    def _rows(self, level: Level, query: Query) -> Iterator[Entry]:
        asked = {n: v for n in _KNOWN_AT[level] if (v := getattr(query, n)) is not None}
        for path, known in self._paths(level, asked):
            filters = "&".join(_filter(name, value) for name, value in asked.items() if value and name not in known)
            try:
                yield from self._fitting(level, path, filters, known, query)
            except StatusError as error:
                if path or level is Level.STUDY:
                    raise
                self._insist(error)
                yield from self._rows(level, query)

    def _paths(self, level: Level, asked: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Where to ask, and what the path says already."""
        study, series = asked.get("study_uid"), asked.get("series_uid")
        if level is Level.STUDY or (study is None and not self._insists):
            yield "", {}
        elif study is None:
            patient = asked.get("patient_id")
            for row in list(self._rows(Level.STUDY, Query(patient_id=patient))):
                yield f"/studies/{row.study_uid}", {"study_uid": row.study_uid}
        elif level is Level.INSTANCE and series is not None:
            yield f"/studies/{study}/series/{series}", {"study_uid": study, "series_uid": series}
        else:
            yield f"/studies/{study}", {"study_uid": study}

    def _fitting(
        self, level: Level, path: str, filters: str, known: Mapping[str, str], query: Query
    ) -> Iterator[Entry]:
        seen: set[tuple[str, ...]] = set()
        parents: dict[tuple[str, str], Entry] = {}
        for given in self._asked(level, path, filters, known):
            row = self._completed(given, level, parents)
            key = _identity(row)
            if key not in seen and _fits(row, query, level):
                seen.add(key)
                yield row

    def _completed(self, row: Entry, level: Level, parents: dict[tuple[str, str], Entry]) -> Entry:
        """The row with what its study and series say, where the archive leaves that out of it."""
        if not row.patient_id and level is not Level.STUDY:
            row = replace(row, patient_id=self._parent(row.study_uid, "", parents).patient_id)
        if not row.modality and level is Level.INSTANCE:
            row = replace(row, modality=self._parent(row.study_uid, row.series_uid, parents).modality)
        return row

    def _parent(self, study: str, series: str, parents: dict[tuple[str, str], Entry]) -> Entry:
        if (study, series) not in parents:
            if series:
                known = {"study_uid": study}
                rows = self._asked(Level.SERIES, f"/studies/{study}", f"SeriesInstanceUID={series}", known)
            else:
                rows = self._asked(Level.STUDY, "", f"StudyInstanceUID={study}", {})
            fitting = (row for row in rows if (row.study_uid, row.series_uid) == (study, series))
            parents[study, series] = next(fitting, Entry("", study, series))
        return parents[study, series]

    def _asked(self, level: Level, path: str, filters: str, known: Mapping[str, str]) -> Iterator[Entry]:
        """Every row that the archive gives, page by page."""
        wanted = [_TAGS[name] for name in _KNOWN_AT[level]] + [_DESCRIPTION[level]]
        if level in _COUNT:
            wanted.append(_COUNT[level])
        base = "&".join(([filters] if filters else []) + [f"includefield={tag}" for tag in wanted])
        keys: set[tuple[str, ...]] = set()
        given = 0
        while True:
            page, more = self._page(f"{path}/{_plural(level)}", f"{base}&limit={PAGE}&offset={given}", level, known)
            fresh = {key: row for row in page if (key := _identity(row)) not in keys}
            keys |= fresh.keys()
            yield from fresh.values()
            given += len(page)
            if given > MOST_ROWS:
                raise AnswerError(f"{self._web.url} answers with more than {MOST_ROWS} rows: ask for less at once")
            if more and not fresh:
                raise AnswerError(f"{self._web.url} gives {given} rows and says that there are more: raise its limit")
            if not fresh or not (more or any(len(page) % cap == 0 for cap in _CAPS)):
                return

    def _page(self, path: str, query: str, level: Level, known: Mapping[str, str]) -> tuple[list[Entry], bool]:
        """The rows of one page, and whether the archive warns that there are more (PS3.18 8.3.4.4)."""

        def ask() -> tuple[list[Entry], bool]:
            with self._web.get(path, JSON, query=query, compressed=True) as answer:
                rows = [_entry(row, level, known) for row in islice(objects(answer.chunks), MOST_ROWS + 1)]
                return rows, answer.headers.get("warning", "").startswith("299") and len(rows) > 0

        return patiently(ask, self._retries)


def _order(level: Level) -> int:
    return list(Level).index(level)


def _deepest(query: Query) -> Level:
    """The highest level at which every filter of the query can be asked and checked."""
    asked = [name for name in _TAGS if getattr(query, name) is not None]
    return next(level for level in Level if set(asked) <= set(_KNOWN_AT[level]))


def _plural(level: Level) -> str:
    return {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}[level]


def _identity(row: Entry) -> tuple[str, ...]:
    return row.patient_id, row.study_uid, row.series_uid, row.sop_uid


def _filter(name: str, value: str) -> str:
    """A filter that lets through at least what equals the value.

    Servers disagree on percent-coded values (Orthanc 1.10 does not find them), so a character that needs coding is
    asked for as a wildcard: ? for one of ASCII, * for another, which may be several bytes (PS3.4 C.2.2.2.4).
    """
    coded = (c if _PLAIN.fullmatch(c) else "?" if c.isascii() else "*" for c in value)
    return f"{_KEYWORDS[name]}={''.join(coded)}"


def _listed(rows: Sequence[Row]) -> str:
    """A list of UIDs as one filter (PS3.18 8.3.4.1)."""
    return f"SOPInstanceUID={','.join(row.sop_uid for row in rows)}"


def _by_series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.study_uid, row.series_uid), []).append(row)
    return found


def _fits(row: Entry, query: Query, level: Level) -> bool:
    asked = ((name, getattr(query, name)) for name in _KNOWN_AT[level])
    return all(value is None or getattr(row, name) == value for name, value in asked)


def _entry(row: Json, level: Level, known: Mapping[str, str]) -> Entry:
    values = {name: text_of(row, _TAGS[name]) for name in _KNOWN_AT[level]}
    for name, value in known.items():
        values[name] = values[name] or value
    if not all(is_uid(values[key]) for key in _KEYS[level]):
        raise AnswerError("the archive's answer has a row without the UIDs of its level")
    count = text_of(row, _COUNT[level]) if level in _COUNT else "1"
    description = text_of(row, _DESCRIPTION[level])
    instances = int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0
    return Entry(**{field: values.get(field, "") for field in _TAGS}, description=description, instances=instances)
