"""The objects of a stored result: one UID names it, and the report names the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from residency.archive import Archive, Entry, Instance, Level, Query
from residency.dicom.capture import SECONDARY_CAPTURE_STORAGE, page_number, report_of_page
from residency.dicom.findings import ReportContent, read_report
from residency.dicom.parametric_map import PARAMETRIC_MAP_STORAGE
from residency.dicom.report_read import REPORT_CLASSES
from residency.dicom.segmentation import BEFORE_KIND, SEGMENTATION_CLASSES
from residency.errors import InputError, UsageError

PICTURE_CLASSES = SEGMENTATION_CLASSES | {PARAMETRIC_MAP_STORAGE}
"""SOP classes of what a report refers to."""
_SEVERAL = frozenset({PARAMETRIC_MAP_STORAGE, SECONDARY_CAPTURE_STORAGE})
"""What one result may have several of in one series."""


def objects_of(uid: str, results: Archive) -> dict[str, Instance]:
    """The objects of the result that a UID names, by role: "seg", "seg-before", "sr", "map", "map-2", "sc" ...

    uid  of a Segmentation, of a Parametric Map, of a page that shows them, of a report, or of a series of one of them

    Raises UsageError where the UID names no result or several, InputError where the report cannot be read.
    """
    row = _row_of(uid, results)
    document, report = _report_of(row, results)
    if document is None or report is None:
        role = "map" if row.sop_class == PARAMETRIC_MAP_STORAGE else "seg"
        return {role: _one(row, results)}
    named = list(dict.fromkeys(group.segmentation_uid for group in report.groups))
    there = {other.sop_uid: other for other in _rows(results, row.study_uid) if other.sop_class in PICTURE_CLASSES}
    # Either of the two may be missing: the model found nothing, or the archive has lost it.
    located = {group.segmentation_uid for group in report.groups if report.of_step_before(group)}
    pictures: dict[str, Entry] = {}
    for named_uid in named:
        if named_uid in there:
            pictures.setdefault(BEFORE_KIND.role if named_uid in located else "seg", there[named_uid])
    found = {role: _one(one, results) for role, one in pictures.items()}
    found["sr"] = document
    maps = [uid for uids in report.evidence.values() for uid in uids if uid in there and uid not in named]
    for map_uid in maps:
        base = "map" if there[map_uid].sop_class == PARAMETRIC_MAP_STORAGE else "probabilities"
        count = sum(role.startswith(base) for role in found)
        found[f"{base}-{count + 1}" if count else base] = _one(there[map_uid], results)
    pages = _pages_of(document.uid, row.study_uid, results)
    return found | {"sc" if n == 1 else f"sc-{n}": page for n, page in enumerate(pages, start=1)}


def _pages_of(report_uid: str, study_uid: str, results: Archive) -> list[Instance]:
    """The pages that name a report, in their order; they lie in one series."""
    rows = results.find(Level.INSTANCE, Query(study_uid=study_uid))
    first = {row.series_uid: row for row in rows if row.sop_class == SECONDARY_CAPTURE_STORAGE}
    for series_uid, row in sorted(first.items()):
        for header in results.headers(series_uid, [row.sop_uid]):
            if _names(header.data) == report_uid:
                return sorted(results.instances(series_uid), key=lambda page: page_number(page.data))
    return []


def _row_of(uid: str, results: Archive) -> Entry:
    rows = list(results.find(Level.INSTANCE, Query(sop_uid=uid))) or list(
        results.find(Level.INSTANCE, Query(series_uid=uid))
    )
    fitting = [row for row in rows if row.sop_class in PICTURE_CLASSES | REPORT_CLASSES]
    fitting = fitting or _page_rows(rows, results)
    if len(fitting) > 1 and any(row.sop_class not in _SEVERAL for row in fitting):
        raise UsageError(f"the series holds {len(fitting)} results; name one of them: {fitting[0].sop_uid} ...")
    if not fitting:
        raise UsageError(
            f"{results.url} holds no result {uid!r}: give the UID of a Segmentation or a report, or of its series; "
            "'residency archive ls STUDY_UID' lists the series of a study"
        )
    # The maps or pages in one series are one result's.
    return min(fitting, key=lambda row: row.sop_uid)


def _page_rows(rows: Sequence[Entry], results: Archive) -> list[Entry]:
    """Those that are pages of a result: any scanner may store Secondary Captures of its own."""
    captures = [row for row in rows if row.sop_class == SECONDARY_CAPTURE_STORAGE]
    for row in captures[:1]:
        for header in results.headers(row.series_uid, [row.sop_uid]):
            if _names(header.data):
                return captures
    return []


def _names(header: bytes) -> str | None:
    """The report that a page names; None for other pictures, which may be anything."""
    try:
        return report_of_page(header)
    except InputError:
        return None


def _report_of(row: Entry, results: Archive) -> tuple[Instance | None, ReportContent | None]:
    """The report that `row` is, or that refers to it."""
    if row.sop_class in REPORT_CLASSES:
        document = _one(row, results)
        return document, read_report(document.data)
    if row.sop_class == SECONDARY_CAPTURE_STORAGE:
        return _report_of_page(row, results)
    for other in _rows(results, row.study_uid):
        if other.sop_class in REPORT_CLASSES:
            document = _one(other, results)
            report = _readable_report(document.data)
            if report is not None and row.sop_uid in _refers_to(report):
                return document, report
    return None, None


def _report_of_page(row: Entry, results: Archive) -> tuple[Instance, ReportContent]:
    for header in results.headers(row.series_uid, [row.sop_uid]):
        named = _names(header.data) or ""
        for other in results.find(Level.INSTANCE, Query(study_uid=row.study_uid, sop_uid=named)) if named else ():
            document = _one(other, results)
            return document, read_report(document.data)
    raise UsageError(f"{results.url} does not hold the report of the page {row.sop_uid}: its result is not whole")


def _refers_to(report: ReportContent) -> set[str | None]:
    """Objects of the same result; of a report of ours all that it rests on, of others what its groups measure."""
    measured = {group.segmentation_uid for group in report.groups}
    return measured | ({uid for uids in report.evidence.values() for uid in uids} if report.model_uid else set())


def _rows(archive: Archive, study_uid: str) -> Iterator[Entry]:
    return iter(sorted(archive.find(Level.INSTANCE, Query(study_uid=study_uid)), key=lambda e: e.sop_uid))


def _one(row: Entry, archive: Archive) -> Instance:
    for instance in archive.instances(row.series_uid, [row.sop_uid]):
        return instance
    raise UsageError(f"{archive.url} lists {row.sop_uid}, but does not give it")


def _readable_report(data: bytes) -> ReportContent | None:
    """None for another kind of report, of which a study may hold any number."""
    try:
        return read_report(data)
    except InputError:
        return None
