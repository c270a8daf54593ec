"""What is stored to find out what an archive does: marked, of a patient of its own, and the same at every trial.

A probe is built like a part of a model object, since what matters is what becomes of its private block.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag

from residency.dicom.dataset import parse, quiet
from residency.dicom.model_object import (
    BYTES,
    CREATOR_VERSION_UID,
    ELEMENTS,
    KIND,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    RAW_DATA,
    TEXT,
)
from residency.dicom.part10 import EncodedInstance, encode
from residency.dicom.uids import derived_uid

PROBE_PATIENT_ID = "RESIDENCY-PROBE"
PROBE_PATIENT_NAME = "Probe^Residency"
PROBE_LABEL = "PROBE"
"""Content Label of every raw probe."""

PROBE_SERIES = derived_uid("probe", "raw", "series")
_STUDY = derived_uid("probe", "raw", "study")


@dataclass(frozen=True)
class PrivateBlock:
    """What came back of a private block.

    place  group and first element, such as "(7311,10xx)"
    vr     value representation of its bytes as they were transferred
    """

    place: str
    vr: str


def raw_probe(name: str, content: bytes) -> EncodedInstance:
    """One Raw Data instance (PS3.3 A.37) with a private block that holds a text and the content.

    The UID follows from the name alone, so that two contents can be given under one UID. `content` has an even length.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = PROBE_PATIENT_NAME, PROBE_PATIENT_ID
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.QualityControlSubject = "YES"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = _STUDY, PROBE_SERIES
    ds.StudyDate = ds.StudyTime = ds.StudyID = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Probes of Residency: what this archive can do; may be deleted"
    ds.Modality, ds.SeriesNumber = "OT", 1
    ds.Manufacturer = "Residency"
    ds.SOPClassUID, ds.SOPInstanceUID = RAW_DATA, derived_uid("probe", "raw", name)
    ds.InstanceNumber, ds.ContentLabel, ds.ContentDescription = 1, PROBE_LABEL, name
    ds.ContentDate, ds.ContentTime = "20260101", "000000"
    ds.AcquisitionContextSequence = Items([])
    ds.CreatorVersionUID = CREATOR_VERSION_UID
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    for at, value in ((KIND, PROBE_LABEL), (TEXT, '{"probe":"\\u00e4"}'), (BYTES, content)):
        block.add_new(at, ELEMENTS[at][0], value)
    return encode(ds)


def private_block_of(data: bytes) -> PrivateBlock | None:
    """What is left of the private block of a probe as an archive gave it back; None where it is gone.

    Raises InputError for what is no instance.
    """
    ds = parse(data)
    for tag in list(ds.keys()):
        if tag.is_private_creator and _creator(ds, tag) == PRIVATE_CREATOR:
            at = Tag(tag.group, (tag.element << 8) | BYTES)
            return PrivateBlock(f"({tag.group:04X},{tag.element:02X}xx)", ds[at].VR if at in ds else "gone")
    return None


def _creator(ds: Dataset, tag: BaseTag) -> str:
    with quiet():
        return str(ds[tag].value).strip()
