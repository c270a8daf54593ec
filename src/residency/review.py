"""Review: what people say of results, stored beside them. Nothing is overwritten; the latest assessment counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from residency.archive import Archive, Entry, Instance, Level, Query
from residency.dicom.assessment import ASSESSMENT_CLASS, Assessment, Opinion, assessment, read_assessment
from residency.dicom.origin import RESULT_CLASSES
from residency.errors import InputError, LostError, UsageError

_MOST = 10_000
"""Most documents of one study that are looked through."""


@dataclass(frozen=True)
class Assessments:
    """The assessments of a study or a result, the oldest first.

    unreadable  (SOP Instance UID, reason) of documents of that class that are damaged: one may be an assessment
    """

    found: tuple[Assessment, ...]
    unreadable: tuple[tuple[str, str], ...] = ()

    @property
    def latest(self) -> tuple[Assessment, ...]:
        """The one that counts for each object, and for each segment that was assessed by itself."""
        counting = {(one.subject.sop_uid, one.opinion.segment): one for one in self.found}
        return tuple(counting.values())


def result_named(uid: str, results: Archive) -> Entry:
    """The result object that a UID names: its own, or that of the series that it is alone in. Raises UsageError."""
    rows = [row for row in results.find(Level.INSTANCE, Query(sop_uid=uid)) if row.sop_uid == uid]
    rows = rows or [row for row in results.find(Level.INSTANCE, Query(series_uid=uid)) if row.series_uid == uid]
    fitting = [row for row in rows if row.sop_class in RESULT_CLASSES]
    if len(fitting) > 1:
        raise UsageError(f"the series holds {len(fitting)} results; name one of them: {fitting[0].sop_uid} ...")
    if not fitting:
        raise UsageError(
            f"{results.url} holds no result {uid!r}: give the UID of a result or of its series; "
            "'residency archive ls STUDY_UID' lists the series of a study"
        )
    return fitting[0]


def assess(results: Archive, subject: Entry, opinion: Opinion) -> Assessment:
    """Store what a person says of a result beside it, and give back what the archive then holds.

    Raises UsageError where the result has no such segment or is itself an assessment, LostError where the archive does
    not give the document back.
    """
    for header in results.headers(subject.series_uid, [subject.sop_uid]):
        if header.uid == subject.sop_uid:
            break
    else:
        raise LostError(f"{results.url} lists {subject.sop_uid} and does not give its header")
    if subject.sop_class == ASSESSMENT_CLASS and read_assessment(header.data) is not None:
        raise UsageError(f"{subject.sop_uid} is an assessment; assess the result itself")
    made = assessment(header.data, opinion)
    results.store([Instance(made.uid, made.data)])
    for one in assessments_in(results, subject.study_uid, about=[subject.sop_uid]).found:
        if one.uid == made.uid:
            return one
    raise LostError(f"{results.url} does not give back the assessment {made.uid} that it accepted")


def assessments_in(results: Archive, study_uid: str, about: Collection[str] | None = None) -> Assessments:
    """The assessments in a study, or of some of its objects.

    about  SOP Instance UIDs of the objects; None: of all

    Raises InputError for a study with more than 10,000 documents of that class.
    """
    found: list[Assessment] = []
    unreadable: list[tuple[str, str]] = []
    for series_uid, uids in _documents(results, study_uid).items():
        for instance in results.headers(series_uid, uids):
            try:
                one = read_assessment(instance.data) if instance.uid in uids else None
            except InputError as error:
                unreadable.append((instance.uid, str(error)))
                continue
            if one is not None and one.study_uid == study_uid and (about is None or one.subject.sop_uid in about):
                found.append(one)
    return Assessments(tuple(sorted(found, key=lambda one: (one.opinion.at, one.uid))), tuple(unreadable))


def _documents(results: Archive, study_uid: str) -> dict[str, list[str]]:
    rows: Iterable[Entry] = results.find(Level.INSTANCE, Query(study_uid=study_uid, sop_class=ASSESSMENT_CLASS))
    series: dict[str, list[str]] = {}
    for count, row in enumerate(rows):
        if count == _MOST:
            raise InputError(f"study {study_uid} holds more than {_MOST} reports: its assessments are not searched")
        if row.study_uid == study_uid and row.sop_class == ASSESSMENT_CLASS:
            series.setdefault(row.series_uid, []).append(row.sop_uid)
    return series
