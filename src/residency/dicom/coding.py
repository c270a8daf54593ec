"""Coded concepts as data set items, and the concepts that results are built from (DICOM PS3.16, SNOMED CT, UCUM)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.wording import one_line
from residency.labels import Side

OWN_SCHEME = "99RESIDENCY"
"""Designator of the concepts that no public scheme has."""

MODEL = Code(scheme=OWN_SCHEME, value="MODEL", meaning="Trained network that made this result")
NOTICE = Code(scheme=OWN_SCHEME, value="NOTICE", meaning="Notice")
APPROVAL = Code(scheme=OWN_SCHEME, value="APPROVAL", meaning="Approval at this site")
CHOICE = Code(scheme=OWN_SCHEME, value="CHOICE", meaning="Why this network was chosen")
MAP = Code(scheme=OWN_SCHEME, value="MAP", meaning="Map of values on the images")
WARNING = Code(scheme=OWN_SCHEME, value="WARNING", meaning="Warning")
SIDE = Code(scheme=OWN_SCHEME, value="SIDE", meaning="Side of the patient")

REPORT = Code(scheme=OWN_SCHEME, value="REPORT", meaning="Report of the same result")

ARTIFICIAL_INTELLIGENCE = Code(scheme="DCM", value="123110", meaning="Artificial Intelligence")
ACQUISITION_EQUIPMENT = Code(scheme="DCM", value="109101", meaning="Acquisition Equipment")
PROCESSING_EQUIPMENT = Code(scheme="DCM", value="109102", meaning="Processing Equipment")
SEGMENTATION = Code(scheme="DCM", value="113076", meaning="Segmentation")
SOURCE_IMAGE = Code(scheme="DCM", value="121322", meaning="Source image for image processing operation")

QUANTITY = Code(scheme="SCT", value="246205007", meaning="Quantity")
FINDING = Code(scheme="DCM", value="121071", meaning="Finding")
FINDING_CATEGORY = Code(scheme="SCT", value="276214006", meaning="Finding category")
FINDING_SITE = Code(scheme="SCT", value="363698007", meaning="Finding Site")
DETECTED = Code(scheme="SCT", value="260373001", meaning="Detected")
NOT_DETECTED = Code(scheme="SCT", value="260415000", meaning="Not detected")
NOT_A_NUMBER = Code(scheme="DCM", value="114000", meaning="Not a number")

LATERALITY = Code(scheme="SCT", value="272741003", meaning="Laterality")
SIDES = {
    Side.LEFT: Code(scheme="SCT", value="7771000", meaning="Left"),
    Side.RIGHT: Code(scheme="SCT", value="24028007", meaning="Right"),
}

BOTH_SIDES = Code(scheme="SCT", value="51440002", meaning="Right and left")

_SHORT_CODE = 16
"""Longest Code Value (SH); longer ones go to Long Code Value (DICOM PS3.3 8.1)."""


def code_item(code: Code) -> Dataset:
    """A code as an item of a code sequence."""
    item = Dataset()
    if len(code.value) <= _SHORT_CODE:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = one_line(code.meaning)
    return item


def own_scheme_item() -> Dataset:
    """What the own scheme is, for Coding Scheme Identification Sequence (DICOM PS3.3 C.12.1)."""
    item = Dataset()
    item.CodingSchemeDesignator = OWN_SCHEME
    item.CodingSchemeName = "Residency concepts"
    item.CodingSchemeResponsibleOrganization = "Residency"
    return item
