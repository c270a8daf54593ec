"""What documents about stored results share: rejection notes and assessments, each in the study of what it speaks of.

They are made by a person's command, so unlike results they say when; the moment is passed in.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom import content
from residency.dicom import dataset as datasets
from residency.dicom.result import MANUFACTURER, beside, reference
from residency.dicom.uids import WRITER_VERSION
from residency.errors import InputError

_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")
_PERSON = Code(scheme="DCM", value="121006", meaning="Person")


@dataclass(frozen=True)
class ObjectReference:
    """An instance in the archive, as a document refers to it."""

    series_uid: str
    sop_class: str
    sop_uid: str


@dataclass(frozen=True)
class DocumentKind:
    """What tells one kind of document from another: SOP class, Modality, and the offset of its series number."""

    sop_class: str
    modality: str
    offset: int


def document(kind: DocumentKind, first: Dataset, uid: str, series_uid: str, moment: dt.datetime) -> Dataset:
    """All but the content of a document that lies in the study of `first` (DICOM PS3.3 C.17.1, C.17.2, C.17.6).

    moment  when it is made, with a time zone; written in the zone of the study where that is known
    """
    made = beside(first)
    zone = _zone(datasets.text(made, "TimezoneOffsetFromUTC"))
    local = moment.astimezone(zone) if zone is not None else moment
    made.Modality = kind.modality
    made.SeriesInstanceUID = series_uid
    made.SeriesNumber = _series_number(first) + kind.offset
    made.ReferencedPerformedProcedureStepSequence = None
    made.Manufacturer = MANUFACTURER
    made.SoftwareVersions = f"writer {WRITER_VERSION}"
    made.SOPClassUID = kind.sop_class
    made.SOPInstanceUID = uid
    made.InstanceNumber = 1
    made.ContentDate = local.strftime("%Y%m%d")
    made.ContentTime = local.strftime("%H%M%S")
    return made


def add_evidence(made: Dataset, referenced: Iterable[ObjectReference]) -> None:
    """Current Requested Procedure Evidence Sequence: every instance referred to, by series, each once."""
    by_series: dict[str, dict[str, Dataset]] = {}
    for one in referenced:
        by_series.setdefault(one.series_uid, {})[one.sop_uid] = reference(one.sop_class, one.sop_uid)
    series = [evidence_series(uid, list(found.values())) for uid, found in sorted(by_series.items())]
    made.CurrentRequestedProcedureEvidenceSequence = [evidence_study(str(made.StudyInstanceUID), series)]


def evidence_series(series_uid: str, instances: list[Dataset]) -> Dataset:
    """One series of an evidence sequence (DICOM PS3.3 table 10-3b)."""
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    item.ReferencedSOPSequence = instances
    return item


def evidence_study(study_uid: str, series: list[Dataset]) -> Dataset:
    """One study of an evidence sequence (DICOM PS3.3 table 10-3b)."""
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = series
    return item


def person_observer(name: str | None) -> Sequence[Dataset]:
    """TID 1002 and 1003: the person who says this; nothing where nobody is named."""
    if not name:
        return ()
    return (
        content.coded(_dcm("121005", "Observer Type"), _PERSON, content.HAS_OBS_CONTEXT),
        content.person(_dcm("121008", "Person Observer Name"), name, content.HAS_OBS_CONTEXT),
    )


def _zone(offset: str) -> dt.tzinfo | None:
    found = _OFFSET.fullmatch(offset)
    if found is None or int(found[2]) > 14:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return dt.timezone(dt.timedelta(minutes=minutes if found[1] == "+" else -minutes))


def _series_number(first: Dataset) -> int:
    """Number of the series of `first`, so that documents sort behind it; 9000 where it has none."""
    try:
        number = datasets.integer(first, "SeriesNumber") or 0
    except InputError:
        number = 0
    return number if 0 < number < 10**9 else 9000


def _dcm(value: str, meaning: str) -> Code:
    return Code(scheme="DCM", value=value, meaning=meaning)
