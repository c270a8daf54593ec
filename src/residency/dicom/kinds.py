"""Which kinds of images are read, by SOP class, and why the others are not (DICOM PS3.4 annex B)."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import UID

from residency.dicom.dataset import is_uid, sop_uid, text
from residency.errors import InputError

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Taken as a slice if it has a place, else as a radiograph."""

STACKED_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2",  # CT
        "1.2.840.10008.5.1.4.1.1.4",  # MR
        "1.2.840.10008.5.1.4.1.1.128",  # PET
    }
)
"""Single-frame slices that must have a place in the patient."""

PROJECTION_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",  # CR
        "1.2.840.10008.5.1.4.1.1.1.1",  # DX for presentation
        "1.2.840.10008.5.1.4.1.1.1.1.1",  # DX for processing
        "1.2.840.10008.5.1.4.1.1.1.2",  # MG for presentation
        "1.2.840.10008.5.1.4.1.1.1.2.1",  # MG for processing
    }
)
"""Radiographs."""

MULTI_FRAME_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
        "1.2.840.10008.5.1.4.1.1.2.2",  # Legacy Converted Enhanced CT
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
        "1.2.840.10008.5.1.4.1.1.130",  # Enhanced PET
        "1.2.840.10008.5.1.4.1.1.128.1",  # Legacy Converted Enhanced PET
    }
)
"""Images whose frames have functional groups and may be the slices of a volume."""

_READ = SECONDARY_CAPTURE, *STACKED_CLASSES, *PROJECTION_CLASSES, *MULTI_FRAME_CLASSES

_PICTURES = "its frames are a loop or a set of pictures, which say no place in the patient. It is no volume"
_DERIVED = "it was made from images and is no image of a patient. Choose the series that it was made from"
_REASONS = {
    "1.2.840.10008.5.1.4.1.1.3.1": _PICTURES,  # US multi-frame
    "1.2.840.10008.5.1.4.1.1.7.1": _PICTURES,  # multi-frame Secondary Captures: bit, grey byte, grey word, colour
    "1.2.840.10008.5.1.4.1.1.7.2": _PICTURES,
    "1.2.840.10008.5.1.4.1.1.7.3": _PICTURES,
    "1.2.840.10008.5.1.4.1.1.7.4": _PICTURES,
    "1.2.840.10008.5.1.4.1.1.12.1": _PICTURES,  # X-ray angiography and fluoroscopy
    "1.2.840.10008.5.1.4.1.1.12.2": _PICTURES,
    # Nuclear Medicine
    "1.2.840.10008.5.1.4.1.1.20": "only its first frame says where it lies, and the others are not placed by guess",
    "1.2.840.10008.5.1.4.1.1.4.3": "it is in colour; only grey images are read",  # Enhanced MR Color
    "1.2.840.10008.5.1.4.1.1.30": _DERIVED,  # Parametric Map
    "1.2.840.10008.5.1.4.1.1.66.4": _DERIVED,  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7": _DERIVED,  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.481.2": _DERIVED,  # RT Dose
}
_MEND = "'residency archive import --mend-uids' gives new UIDs to files that were emptied of theirs"
_OTHERS = "CT, MR and PET are, single-frame or enhanced, and single frames of Secondary Capture, CR, DX and MG"


def check_kind(dataset: Dataset) -> None:
    """Raises InputError for what is no image of a kind that is read, or cannot be referred to."""
    sop_class = text(dataset, "SOPClassUID")
    if is_uid(sop_class) and sop_class not in _READ:
        raise InputError(
            f"instance {sop_uid(dataset)} ({UID(sop_class).name}) is not an image of a kind that is read: "
            f"{_REASONS.get(sop_class, _OTHERS)}"
        )
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        found = text(dataset, keyword)
        if not is_uid(found):
            cure = "Correct it at the source" if found else _MEND
            raise InputError(f"instance {sop_uid(dataset)} has no valid {keyword}: no result could refer to it. {cure}")
