"""Rejection notes: Key Object Selection documents that mark instances as not to be used (DICOM PS3.3 A.35.4,
PS3.16 TID 2010). Archives and viewers that follow IHE's Imaging Object Change Management hide what such a note names;
nothing is deleted or changed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom import content
from residency.dicom import dataset as datasets
from residency.dicom.document import (
    DocumentKind,
    ObjectReference,
    add_evidence,
    document,
    person_observer,
)
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report_read import REPORT_CLASSES
from residency.dicom.result import encoded_beside, reference
from residency.dicom.uids import WRITER_VERSION, derived_uid
from residency.dicom.wording import one_line

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"

PATIENT_SAFETY = Code(scheme="DCM", value="113037", meaning="Rejected for Patient Safety Reasons")
QUALITY = Code(scheme="DCM", value="113001", meaning="Rejected for Quality Reasons")
RETENTION = Code(scheme="DCM", value="113039", meaning="Data Retention Policy Expired")
TITLES = (PATIENT_SAFETY, QUALITY, RETENTION)
"""Document titles of rejection notes (of CID 7010, as IHE RAD TF-3 4.66 uses them)."""
REJECTING = (*TITLES, Code(scheme="DCM", value="113038", meaning="Incorrect Modality Worklist Entry"))
"""Document titles of all rejection notes; those that we read are not only our own."""

SOFTWARE_FAILURE = Code(scheme="DCM", value="111218", meaning="Software failure")
MODIFIERS = (
    SOFTWARE_FAILURE,
    Code(scheme="DCM", value="111219", meaning="Inappropriate image processing"),
    Code(scheme="DCM", value="111220", meaning="Other failure"),
    Code(scheme="DCM", value="111221", meaning="Unknown failure"),
)
"""Those quality reasons (of CID 7011) that can be said of a computed result."""

_KIND = DocumentKind(KEY_OBJECT_SELECTION, "KO", 80)
_MODIFIER = Code(scheme="DCM", value="113011", meaning="Document Title Modifier")
_DESCRIPTION = Code(scheme="DCM", value="113012", meaning="Key Object Description")


@dataclass(frozen=True)
class Rejection:
    """Why instances are not to be used any longer.

    modifier  what was wrong; only with the title QUALITY, which must have one
    text      for people
    by        name of the person who rejects; it stands in the note
    """

    title: Code = PATIENT_SAFETY
    modifier: Code | None = None
    text: str = ""
    by: str | None = None

    @property
    def modifiers(self) -> tuple[Code, ...]:
        """Title modifiers as TID 2010 demands them: one for QUALITY, none for the other titles."""
        return (self.modifier or SOFTWARE_FAILURE,) if self.title == QUALITY else ()


def rejection_uid(study_uid: str, rejected: Sequence[ObjectReference], why: Rejection) -> str:
    """UID of the note that rejects these instances for this reason; the moment is not in it."""
    said = (why.title.value, *(code.value for code in why.modifiers), one_line(why.text, 1024), why.by or "")
    return derived_uid("rejection", study_uid, *said, *sorted(one.sop_uid for one in rejected), WRITER_VERSION)


def rejection_note(
    header: bytes, rejected: Sequence[ObjectReference], why: Rejection, moment: dt.datetime
) -> EncodedInstance:
    """One note for all rejected instances of a study.

    header  one of them, in DICOM's file format: whose patient and study the note has
    moment  when it is made, with a time zone

    Raises InputError where the header cannot be read.
    """
    first = datasets.parse(header, pixels=False)
    uid = rejection_uid(datasets.text(first, "StudyInstanceUID"), rejected, why)
    note = document(_KIND, first, uid, derived_uid("rejection-series", uid), moment)
    note.SeriesDescription = one_line(why.title.meaning)
    add_evidence(note, rejected)
    children = [
        *(content.coded(_MODIFIER, code, content.HAS_CONCEPT_MOD) for code in why.modifiers),
        *person_observer(why.by),
        *([content.text(_DESCRIPTION, why.text)] if why.text else []),
        *(_named(one) for one in rejected),
    ]
    for element in content.container(why.title, "2010", children, relation=None):
        note.add(element)
    return encoded_beside(note, first)


@dataclass(frozen=True)
class NoteRead:
    """What a rejection note in an archive says, whoever wrote it, and SOP Instance UIDs of what it names."""

    title: Code
    text: str
    by: str | None
    rejected: frozenset[str]

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by else ""
        return self.title.meaning + by + (f": {self.text}" if self.text else "")


def read_rejection(data: bytes) -> NoteRead | None:
    """The rejection note in a document in DICOM's file format; None for a document of another kind.

    Raises InputError where the document cannot be read.
    """
    found = datasets.parse(data, pixels=False)
    said = [code.value for code in datasets.codes(found, "ConceptNameCodeSequence") if code.scheme == "DCM"]
    titles = [code for code in REJECTING if code.value in said]
    if datasets.text(found, "SOPClassUID") != KEY_OBJECT_SELECTION or not titles:
        return None
    children = datasets.items(found, "ContentSequence")
    texts = (" ".join(datasets.lines(item, "TextValue", 1024)) for item in children)
    names = (datasets.text(item, "PersonName") for item in children)
    referenced = (one for item in children for one in datasets.items(item, "ReferencedSOPSequence"))
    return NoteRead(
        title=titles[0],
        text=" ".join(filter(None, texts)),
        by=next(filter(None, names), None),
        rejected=frozenset(datasets.text(one, "ReferencedSOPInstanceUID") for one in referenced),
    )


def _named(one: ObjectReference) -> Dataset:
    kind = "COMPOSITE" if one.sop_class in REPORT_CLASSES else "IMAGE"
    return content.instance(None, reference(one.sop_class, one.sop_uid), kind)
