"""Which network made a stored object: what recall needs of a header, whatever kind of result it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset

from residency.dicom.capture import SECONDARY_CAPTURE_STORAGE
from residency.dicom.dataset import items, lines, parse, sop_uid, text, texts
from residency.dicom.document import ObjectReference
from residency.dicom.parametric_map import PARAMETRIC_MAP_STORAGE
from residency.dicom.report import COMPREHENSIVE_3D_SR, COMPREHENSIVE_SR
from residency.dicom.result import MANUFACTURER
from residency.dicom.segmentation import LABEL_MAP_STORAGE, SEGMENTATION_STORAGE

RESULT_CLASSES = {
    SEGMENTATION_STORAGE: "SEG",
    LABEL_MAP_STORAGE: "label map SEG",
    COMPREHENSIVE_3D_SR: "SR",
    COMPREHENSIVE_SR: "SR",
    PARAMETRIC_MAP_STORAGE: "parametric map",
    SECONDARY_CAPTURE_STORAGE: "secondary capture",
}
"""SOP classes that results of networks can have, and what people call them."""

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_STATED = re.compile(r"digest: (sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Origin:
    """One object of this program, and the networks that its header names by digest; none in a document about results.

    digests  each as "sha256:" and 64 digits
    """

    study_uid: str
    object: ObjectReference
    digests: frozenset[str]


def origin_of(header: bytes) -> Origin | None:
    """What made an object, by its header in DICOM's file format; None where it was not this program.

    The digest stands in Device Serial Number, in Contributing Equipment and among the parameters of the algorithm: one
    that an archive or a person changed does not hide the others. Raises InputError where the header cannot be read.
    """
    dataset = parse(header, pixels=False)
    if text(dataset, "Manufacturer") != MANUFACTURER:
        return None
    where = ObjectReference(text(dataset, "SeriesInstanceUID"), text(dataset, "SOPClassUID"), sop_uid(dataset))
    return Origin(text(dataset, "StudyInstanceUID"), where, _equipment(dataset) | _parameters(dataset))


def _equipment(dataset: Dataset) -> frozenset[str]:
    """Digests in the equipment that made the object and that this program says has contributed to it."""
    ours = [dataset]
    ours += [i for i in items(dataset, "ContributingEquipmentSequence") if text(i, "Manufacturer") == MANUFACTURER]
    said = [value for item in ours for k in ("DeviceSerialNumber", "SoftwareVersions") for value in texts(item, k)]
    return frozenset(f"sha256:{found[1]}" for value in said if (found := _DIGEST.fullmatch(value)))


def _parameters(dataset: Dataset) -> frozenset[str]:
    """Digests that segments state of their algorithm."""
    stated: set[str] = set()
    for segment in items(dataset, "SegmentSequence"):
        for item in items(segment, "SegmentationAlgorithmIdentificationSequence"):
            stated.update(found[1] for line in lines(item, "AlgorithmParameters") if (found := _STATED.fullmatch(line)))
    return frozenset(stated)
