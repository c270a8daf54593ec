"""What every result object has: the patient and study of its source, a new series, our equipment, its bytes.

Nothing here reads the clock: dates are the source's, UIDs come from the result's identity, so that a second run gives
equal bytes. Facts that the source lacks are left empty, never made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pydicom.config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from residency.dicom import dataset as datasets
from residency.dicom.coding import own_scheme_item
from residency.dicom.part10 import LARGEST_VALUE_BYTES, EncodedInstance, Syntax, encode
from residency.dicom.provenance import contributing_equipment, series_description
from residency.dicom.uids import WRITER_VERSION, ResultIdentity
from residency.dicom.wording import character_set, one_line
from residency.errors import GeometryError, InputError
from residency.findings import ModelReference

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

MANUFACTURER = "Residency"
"""Manufacturer in everything this program writes; reading tells its own results by it."""

UNKNOWN_DATE = "19000101"
"""Content Date where the source has no date at all (de-identified): the attribute may not be empty."""

_PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
)
_STUDY = (
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "TimezoneOffsetFromUTC",
    "LongitudinalTemporalInformationModified",
)
_MAY_BE_EMPTY = frozenset(
    {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    }
)
"""Type 2: written without a value where the source has none."""

_SEXES = frozenset({"M", "F", "O"})

_TRIAL = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
_TRIAL_SUBJECT = ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID")
_TRIAL_MAY_BE_EMPTY = ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName")
"""The Clinical Trial Subject Module (DICOM PS3.3 C.7.1.3): both of the first, one of the second, all of the third."""

_FORMS = {
    "DA": re.compile(r"(\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))?"),
    "TM": re.compile(r"(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?)?"),
    "AS": re.compile(r"(\d{3}[DWMY])?"),
    "CS": re.compile(r"[A-Z0-9 _]{0,16}"),
    "DS": re.compile(r"[ 0-9+\-.eE]{0,16}"),
}
"""What values of these representations look like (DICOM PS3.5 6.2); others are left out rather than handed on."""

_WHO = frozenset({"PatientName", "PatientID"})
"""What a result may not lack where the source has it: it would be filed under another patient."""

_VERBATIM = _WHO | {"IssuerOfPatientID", "AccessionNumber", "StudyID"}
"""Handed on even where longer than their representation allows: archives file by them."""

_LENGTHS = {"SH": 16, "LO": 64}


@dataclass(frozen=True)
class ResultKind:
    """One kind of result object: its role in UIDs, SOP class, Modality, and offset of its series number.

    form    what else the UIDs depend on: the same findings in another form are other objects
    number  Instance Number in its series
    """

    role: str
    sop_class: str
    modality: str
    offset: int
    form: tuple[str, ...] = ()
    number: int = 1

    def series_uid(self, identity: ResultIdentity) -> str:
        """UID of the series that objects of this kind lie in."""
        return identity.uid(f"{self.role}-series", *self.form)

    def sop_uid(self, identity: ResultIdentity) -> str:
        """UID of the object: of the first by its role alone, of others by their number too."""
        more = (str(self.number),) if self.number > 1 else ()
        return identity.uid(self.role, *self.form, *more)


@dataclass(frozen=True)
class EncodedResult(EncodedInstance):
    """An object of a result with what a report needs to refer to it: SOP Class and Series Instance UID."""

    sop_class: str
    series_uid: str


def head(kind: ResultKind, model: ModelReference, source: SourceSeries, identity: ResultIdentity) -> Dataset:
    """Patient, study, series, equipment and SOP attributes of a result (DICOM PS3.3 C.7.1 to C.7.5, C.12.1)."""
    first = source.datasets[0]
    result = beside(first)
    result.StudyInstanceUID = source.labels.study_uid

    result.Modality = kind.modality
    result.SeriesInstanceUID = kind.series_uid(identity)
    result.SeriesNumber = _series_number(first, kind.offset)
    result.SeriesDescription = series_description(model)
    for keyword in ("SeriesDate", "SeriesTime"):
        _copy(first, result, keyword)

    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = one_line(model.name)
    result.DeviceSerialNumber = one_line(model.digest.removeprefix("sha256:"))
    result.SoftwareVersions = [one_line(model.version), one_line(model.engine), f"writer {WRITER_VERSION}"]
    result.ContributingEquipmentSequence = contributing_equipment(MANUFACTURER, model, first)

    result.SOPClassUID = kind.sop_class
    result.SOPInstanceUID = kind.sop_uid(identity)
    result.InstanceNumber = kind.number
    result.ContentDate, result.ContentTime = content_moment(first)
    result.ContentQualification = "RESEARCH"
    result.CodingSchemeIdentificationSequence = [own_scheme_item()]
    return result


def beside(first: Dataset) -> Dataset:
    """Patient and study of an instance, for an object that is to lie beside it (DICOM PS3.3 C.7.1 and C.7.2).

    Raises InputError where what says who the patient is cannot be read.
    """
    result = Dataset()
    for keyword in (*_PATIENT, *_STUDY):
        _copy(first, result, keyword)
    _drop_invalid(result)
    result.StudyInstanceUID = datasets.text(first, "StudyInstanceUID")
    return result


def _drop_invalid(result: Dataset) -> None:
    """What DICOM allows only together with an attribute that the source lacks, as careless de-identification leaves it,
    and a sex that is none of its terms. Handed on, it would make every result invalid.
    """
    person = [k for k in ("ResponsiblePerson", "ResponsiblePersonRole") if k in result]
    for keyword in person if len(person) == 1 else ():
        delattr(result, keyword)
    if result.get("PatientSex") not in _SEXES:
        result.PatientSex = None
    if "ClinicalTrialTimePointDescription" in result and "ClinicalTrialTimePointID" not in result:
        result.ClinicalTrialTimePointID = None
    held = [k for k in (*_TRIAL, *_TRIAL_SUBJECT, *_TRIAL_MAY_BE_EMPTY) if k in result]
    whole = all(k in held for k in _TRIAL) and any(k in held for k in _TRIAL_SUBJECT)
    for keyword in held if not whole else ():
        delattr(result, keyword)
    for keyword in _TRIAL_MAY_BE_EMPTY if whole else ():
        if keyword not in result:
            setattr(result, keyword, None)


def add_body_part(result: Dataset, source: SourceSeries) -> None:
    """Body Part Examined as the source names it; nothing where it names none, since that would be a guess.

    Laterality is never copied: sides belong to segments, each only where it is proven.
    """
    _copy(source.datasets[0], result, "BodyPartExamined")


def encoded(result: Dataset, source: SourceSeries, syntax: Syntax = Syntax.NATIVE) -> EncodedInstance:
    """The bytes of a result, its text in the source's character set where that can express it, else in UTF-8.

    syntax  what its Pixel Data are in already
    """
    return encoded_beside(result, source.datasets[0], syntax)


def encoded_beside(result: Dataset, first: Dataset, syntax: Syntax = Syntax.NATIVE) -> EncodedInstance:
    """The same for an object that lies beside an instance."""
    terms = character_set(result, datasets.texts(first, "SpecificCharacterSet"))
    if terms:
        result.SpecificCharacterSet = terms
    return encode(result, syntax=syntax)


def check_size(pixel_bytes: int) -> None:
    """Raises GeometryError for pixels that no one object can hold."""
    if pixel_bytes > LARGEST_VALUE_BYTES:
        raise GeometryError(
            f"a result of {pixel_bytes} bytes of pixels does not fit into one DICOM object of {LARGEST_VALUE_BYTES}; "
            "send a smaller part of the body, or thicker slices"
        )


def content_moment(first: Dataset) -> tuple[str, str]:
    """Content Date and Time of a result: the source's, the first known of series, content, acquisition and study.

    The series comes first because in de-identified data an acquisition can lie years before its own study.
    """
    for of in ("Series", "Content", "Acquisition", "Study"):
        date = _valid(first, f"{of}Date")
        if date:
            return date, _valid(first, f"{of}Time") or _valid(first, "StudyTime") or "000000"
    return UNKNOWN_DATE, "000000"


def has_date(first: Dataset) -> bool:
    """False where Content Date of a result is only a placeholder."""
    return content_moment(first)[0] != UNKNOWN_DATE


def reference(sop_class: str, sop_uid: str) -> Dataset:
    """One item that references an instance (DICOM PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_uid
    return item


def source_references(source: SourceSeries) -> list[Dataset]:
    """A reference to each instance of the source, in the order of its slices."""
    classes = {found.sop_uid: found.sop_class for found in source.references}
    return [reference(sop_class, uid) for uid, sop_class in classes.items()]


def slice_references(source: SourceSeries) -> list[Dataset]:
    """A reference to each slice of the source: its instance, and of a multi-frame one its frame (table 10-3)."""
    images = []
    for found in source.references:
        image = reference(found.sop_class, found.sop_uid)
        if found.frame is not None:
            image.ReferencedFrameNumber = found.frame
        images.append(image)
    return images


def image_references(source: SourceSeries, slices: Iterable[int]) -> list[Dataset]:
    """A reference to each instance that holds one of these slices, the frames of a multi-frame one together."""
    items: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    references = source.references
    for image in (references[k] for k in slices):
        items.setdefault(image.sop_uid, reference(image.sop_class, image.sop_uid))
        if image.frame is not None:
            frames.setdefault(image.sop_uid, []).append(image.frame)
    for uid, numbers in frames.items():
        items[uid].ReferencedFrameNumber = sorted(numbers)
    return list(items.values())


def _valid(dataset: Dataset, keyword: str) -> str:
    """The value as text if it has the form of its value representation, else ""."""
    found = datasets.text(dataset, keyword)
    form = _FORMS.get(dictionary_VR(keyword))
    return found if form is None or form.fullmatch(found) else ""


def _copy(source: Dataset, result: Dataset, keyword: str) -> None:
    """Copy one attribute, its text decoded; absent or unreadable it stays absent, or empty where the IOD demands it.

    Raises InputError where it cannot be read and says who the patient is.
    """
    copied = None
    if keyword in source:
        with datasets.quiet():
            try:
                copied = _decoded(source[keyword])
            except Exception:  # whatever pydicom's converters raise for hostile bytes
                if keyword in _WHO:
                    raise InputError(
                        f"instance {datasets.sop_uid(source)}: {keyword} cannot be read; correct it at the source"
                    ) from None
    if copied is not None and copied.VR in _LENGTHS and keyword not in _VERBATIM:
        setattr(result, keyword, one_line("/".join(datasets.texts(source, keyword)), _LENGTHS[copied.VR]))
    elif copied is not None and copied.value not in (None, ""):
        result.add(copied)
    elif keyword in _MAY_BE_EMPTY:
        setattr(result, keyword, None)


def _decoded(element: DataElement) -> DataElement | None:
    """The element with its text as Unicode, so that it is written anew in whatever character set the result has."""
    form = _FORMS.get(element.VR)
    if element.VR == "SQ":
        return (
            DataElement(element.tag, "SQ", [_decoded_item(item) for item in element.value]) if element.value else None
        )
    values = list(element.value) if element.VM > 1 else [element.value]
    if element.VM == 0 or (form is not None and not (len(values) == 1 and form.fullmatch(str(values[0])))):
        return None
    if element.VR == "PN":
        values = [PersonName(str(value)) for value in values]
    value = values[0] if len(values) == 1 else values
    # Not validated: that would print the value, which may be a patient's, as a warning.
    return DataElement(element.tag, element.VR, value, validation_mode=pydicom.config.IGNORE)


def _decoded_item(item: Dataset) -> Dataset:
    decoded = Dataset()
    for element in item:
        if not element.tag.is_private and element.tag != tag_for_keyword("SpecificCharacterSet"):
            copied = _decoded(element)
            if copied is not None:
                decoded.add(copied)
    return decoded


def _series_number(first: Dataset, offset: int) -> int:
    """A number that sorts our series behind its source: 100 times the source's and the offset; 9000 and the offset."""
    try:
        number = datasets.integer(first, "SeriesNumber") or 0
    except InputError:
        number = 0
    return number * 100 + offset if 0 < number <= 9_999_999 else 9000 + offset
