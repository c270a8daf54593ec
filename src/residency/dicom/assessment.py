"""Assessments: what a person says of a stored result, as a document of its own (Comprehensive SR, DICOM PS3.3 A.35.3).

The result is referred to and never touched. An assessment replaces none: of several the latest counts, and all stay.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom import content
from residency.dicom import dataset as datasets
from residency.dicom.coding import NOTICE, OWN_SCHEME, own_scheme_item
from residency.dicom.document import DocumentKind, ObjectReference, add_evidence, document, person_observer
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report_read import REPORT_CLASSES
from residency.dicom.result import encoded_beside, reference
from residency.dicom.uids import WRITER_VERSION, derived_uid
from residency.dicom.wording import one_line
from residency.errors import InputError, UsageError

ASSESSMENT_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"

_KIND = DocumentKind(ASSESSMENT_CLASS, "SR", 90)
_REPLACES_NOTHING = "This assessment replaces no other; where there are several, the latest counts."
_LONGEST = 4000
"""Characters of a reason that are read back."""


def _own(value: str, meaning: str) -> Code:
    return Code(scheme=OWN_SCHEME, value=value, meaning=meaning)


_TITLE = _own("ASSESSMENT", "Assessment of a result")
_VERDICT = _own("VERDICT", "Verdict")
_REASON = _own("REASON", "Reason")
_SUBJECT = _own("ASSESSED", "Assessed object")


class Verdict(StrEnum):
    """What a person can say of a result."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


_CODES = {
    Verdict.ACCEPTED: _own("ACCEPTED", "Accepted"),
    Verdict.REJECTED: _own("REJECTED", "Rejected"),
}


@dataclass(frozen=True)
class Opinion:
    """A verdict with its reason.

    segment  the segment that it is about, None: the whole object
    by       name of the person; it stands in the document. None: nobody was named
    at       when, with a time zone
    """

    verdict: Verdict
    reason: str
    at: dt.datetime
    by: str | None = None
    segment: int | None = None


@dataclass(frozen=True)
class Assessment:
    """An assessment as it stands in an archive."""

    uid: str
    study_uid: str
    series_uid: str
    subject: ObjectReference
    opinion: Opinion

    def __str__(self) -> str:
        said = self.opinion
        what = f"segment {said.segment} " if said.segment is not None else ""
        by = f" by {said.by}" if said.by else ""
        return f"{what}{said.verdict}{by} on {said.at:%Y-%m-%d %H:%M %z}: {said.reason}"


def assessment(header: bytes, opinion: Opinion) -> EncodedInstance:
    """The document that says this of an object, in the object's study.

    header  the object's, in DICOM's file format

    Raises UsageError where the object has no such segment, InputError where the header cannot be read.
    """
    first = datasets.parse(header, pixels=False)
    subject = ObjectReference(
        datasets.text(first, "SeriesInstanceUID"), datasets.text(first, "SOPClassUID"), datasets.sop_uid(first)
    )
    _check_segment(first, opinion.segment)
    series_uid = derived_uid("assessment-series", subject.sop_uid)
    made = document(_KIND, first, _uid(subject, opinion), series_uid, opinion.at)
    made.SeriesDescription = one_line(f"Assessment: {opinion.verdict}")
    made.CompletionFlag = "COMPLETE"
    made.VerificationFlag = "UNVERIFIED"
    made.PerformedProcedureCodeSequence = None
    made.CodingSchemeIdentificationSequence = [own_scheme_item()]
    add_evidence(made, [subject])
    verdict = content.coded(_VERDICT, _CODES[opinion.verdict])
    verdict.ObservationDateTime = opinion.at.strftime("%Y%m%d%H%M%S.%f%z")
    referenced = reference(subject.sop_class, subject.sop_uid)
    if opinion.segment is not None:
        referenced.ReferencedSegmentNumber = opinion.segment
    children = [
        *person_observer(opinion.by),
        verdict,
        content.text(_REASON, opinion.reason),
        content.instance(_SUBJECT, referenced, "COMPOSITE" if subject.sop_class in REPORT_CLASSES else "IMAGE"),
        content.text(NOTICE, _REPLACES_NOTHING),
    ]
    for element in content.container(_TITLE, "", children, relation=None):
        made.add(element)
    return encoded_beside(made, first)


def read_assessment(data: bytes) -> Assessment | None:
    """The assessment in a document in DICOM's file format; None for a document of another kind.

    Raises InputError where it is one and its verdict, moment or subject cannot be read.
    """
    found = datasets.parse(data, pixels=False)
    if _TITLE not in datasets.codes(found, "ConceptNameCodeSequence"):
        return None
    children = {name: item for item in datasets.items(found, "ContentSequence") if (name := _name(item)) is not None}
    where = datasets.sop_uid(found)
    try:
        verdict, subject = children[_VERDICT], children[_SUBJECT]
        (referenced,) = datasets.items(subject, "ReferencedSOPSequence")
        (code,) = datasets.codes(verdict, "ConceptCodeSequence")
        (said,) = [verdict for verdict, known in _CODES.items() if known == code]
        at = dt.datetime.strptime(datasets.text(verdict, "ObservationDateTime"), "%Y%m%d%H%M%S.%f%z")
    except (KeyError, ValueError):
        raise InputError(f"the assessment {where} lacks a verdict, its moment or its subject") from None
    who = next((i for i in children.values() if datasets.text(i, "ValueType") == "PNAME"), None)
    return Assessment(
        uid=where,
        study_uid=datasets.text(found, "StudyInstanceUID"),
        series_uid=datasets.text(found, "SeriesInstanceUID"),
        subject=ObjectReference(
            _series_of(found, datasets.text(referenced, "ReferencedSOPInstanceUID")),
            datasets.text(referenced, "ReferencedSOPClassUID"),
            datasets.text(referenced, "ReferencedSOPInstanceUID"),
        ),
        opinion=Opinion(
            verdict=said,
            reason=" ".join(datasets.lines(children.get(_REASON, Dataset()), "TextValue", _LONGEST)),
            at=at,
            by=datasets.text(who, "PersonName") or None if who is not None else None,
            segment=datasets.integer(referenced, "ReferencedSegmentNumber"),
        ),
    )


def _uid(subject: ObjectReference, opinion: Opinion) -> str:
    """A hash of all that is said: saying the same again at the same moment is the same document."""
    said = (opinion.verdict, str(opinion.segment or ""), opinion.by or "", opinion.at.isoformat())
    return derived_uid("assessment", subject.sop_uid, *said, one_line(opinion.reason, _LONGEST), WRITER_VERSION)


def _check_segment(first: Dataset, segment: int | None) -> None:
    if segment is None:
        return
    known = [datasets.integer(item, "SegmentNumber") for item in datasets.items(first, "SegmentSequence")]
    if segment not in known:
        has = f"has segments {', '.join(map(str, known))}" if known else "has no segments"
        raise UsageError(f"{datasets.sop_uid(first)} {has}: there is no segment {segment} to assess")


def _name(item: Dataset) -> Code | None:
    found = datasets.codes(item, "ConceptNameCodeSequence")
    return found[0] if found else None


def _series_of(found: Dataset, sop_uid: str) -> str:
    """The series of a referenced instance, by the evidence."""
    for study in datasets.items(found, "CurrentRequestedProcedureEvidenceSequence"):
        for series in datasets.items(study, "ReferencedSeriesSequence"):
            for one in datasets.items(series, "ReferencedSOPSequence"):
                if datasets.text(one, "ReferencedSOPInstanceUID") == sop_uid:
                    return datasets.text(series, "SeriesInstanceUID")
    return ""
