"""Pages that show findings as Secondary Capture images (DICOM PS3.3 A.8.1): single frames of RGB, uncompressed.

This class is the one that every archive takes and every viewer shows; the multi-frame ones are newer and refused by
some. What stands on the pages is burned in, and said to be. They are no measurement: the report is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from residency.codes import Code, body_part_of_region, region_of_body_part
from residency.dicom import dataset as datasets
from residency.dicom.coding import REPORT, SOURCE_IMAGE, code_item
from residency.dicom.functional_groups import add_lossy_history, add_references
from residency.dicom.provenance import algorithm_parameters
from residency.dicom.report import report_class, report_kind
from residency.dicom.result import (
    MANUFACTURER,
    EncodedResult,
    ResultKind,
    encoded,
    head,
    image_references,
    reference,
)
from residency.dicom.segmentation import SegmentationType
from residency.dicom.uids import ResultIdentity
from residency.dicom.wording import long_text, one_line
from residency.errors import PixelError
from residency.findings import ModelReference, Picture
from residency.volume import Space

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

SECONDARY_CAPTURE_STORAGE = "1.2.840.10008.5.1.4.1.1.7"

_PROCESSING = Code(scheme="DCM", value="113085", meaning="Spatial resampling")
_ST, _LT = 1024, 10240
_DIRECTIONS = (("L", "R"), ("P", "A"), ("H", "F"))
_NEGLIGIBLE = 0.2
"""Share of a direction, as a cosine, below which Patient Orientation leaves it out: 12 degrees off."""
_TERMS = frozenset("LRAPHF")


def captures(
    pictures: Sequence[Picture],
    model: ModelReference,
    source: SourceSeries,
    identity: ResultIdentity,
    segmentation: SegmentationType | None = None,
) -> tuple[EncodedResult, ...]:
    """The pages as one series in the source's study, one instance a page, in their order.

    segmentation  of which kind the result's Segmentation is; the report to which the pages refer depends on it

    Raises PixelError for a page whose pixels are no uint8 RGB.
    """
    document = report_kind(report_class(source), segmentation)
    kind = capture_kind(segmentation)
    return tuple(
        _capture(page, replace(kind, number=number), document, model, source, identity)
        for number, page in enumerate(pictures, start=1)
    )


def capture_kind(segmentation: SegmentationType | None) -> ResultKind:
    """What the UIDs of pages depend on: as those of the report to which they refer."""
    return ResultKind("sc", SECONDARY_CAPTURE_STORAGE, "OT", offset=3, form=report_kind("", segmentation).form)


def report_of_page(data: bytes) -> str | None:
    """SOP Instance UID of the report that a page names; None for what is no page of a result of ours.

    Raises InputError for bytes that are no DICOM file.
    """
    dataset = datasets.parse(data, pixels=False)
    if datasets.text(dataset, "SOPClassUID") != SECONDARY_CAPTURE_STORAGE:
        return None
    for item in datasets.items(dataset, "ReferencedInstanceSequence"):
        if REPORT in datasets.codes(item, "PurposeOfReferenceCodeSequence"):
            return datasets.text(item, "ReferencedSOPInstanceUID") or None
    return None


def page_number(data: bytes) -> int:
    """The how manieth page it is, from 1. Raises InputError for bytes that are no DICOM file."""
    return datasets.integer(datasets.parse(data, pixels=False), "InstanceNumber") or 0


def patient_orientation(source: SourceSeries) -> tuple[str, str] | None:
    """Where columns and rows of the source's images increase to, as Patient Orientation says it (PS3.3 C.7.6.1.1.1).

    From the grid where it lies in the patient, else what the source says; None where that is nothing usable.

    An axial series gives ("L", "P"); an oblique one more letters, the largest share first.
    """
    if source.grid.space is Space.PATIENT:
        return _letters(source.grid.affine[:3, 2]), _letters(source.grid.affine[:3, 1])
    said = tuple(text.upper() for text in datasets.texts(source.datasets[0], "PatientOrientation"))
    usable = len(said) == 2 and all(text and set(text) <= _TERMS for text in said)
    return (said[0], said[1]) if usable else None


def _letters(step: npt.NDArray[np.float64]) -> str:
    direction = step / np.linalg.norm(step)
    shares = sorted(range(3), key=lambda axis: (-abs(direction[axis]), axis))
    return "".join(_DIRECTIONS[k][0 if direction[k] > 0 else 1] for k in shares if abs(direction[k]) > _NEGLIGIBLE)


def _capture(
    page: Picture,
    kind: ResultKind,
    document: ResultKind,
    model: ModelReference,
    source: SourceSeries,
    identity: ResultIdentity,
) -> EncodedResult:
    result = head(kind, model, source, identity)
    _add_body_part(result, source)
    _add_equipment(result, model)
    _add_image(result, page, model, source)
    _add_pixels(result, page)
    add_references(result, model, source)
    _add_report(result, document, identity)
    made = encoded(result, source)
    return EncodedResult(made.uid, made.data, kind.sop_class, kind.series_uid(identity))


def _add_report(result: Dataset, document: ResultKind, identity: ResultIdentity) -> None:
    """The report of the same result, by which a program finds the whole from one page."""
    in_series = Dataset()
    in_series.SeriesInstanceUID = document.series_uid(identity)
    in_series.ReferencedInstanceSequence = [reference(document.sop_class, document.sop_uid(identity))]
    result.ReferencedSeriesSequence.append(in_series)
    with_purpose = reference(document.sop_class, document.sop_uid(identity))
    with_purpose.PurposeOfReferenceCodeSequence = [code_item(REPORT)]
    result.ReferencedInstanceSequence.append(with_purpose)


def _add_body_part(result: Dataset, source: SourceSeries) -> None:
    """Body Part Examined where the source names one that has no sides; of any other the side is said to be unknown.

    A side belongs to a segment or a class, each only where it is proven; of a page as a whole none is.
    """
    region = region_of_body_part(datasets.text(source.datasets[0], "BodyPartExamined"))
    term = body_part_of_region(region) if region is not None else None
    if term is not None:
        result.BodyPartExamined = term
    else:
        result.Laterality = None


def _add_equipment(result: Dataset, model: ModelReference) -> None:
    """SC Equipment Module (C.8.6.1): a workstation's drawing, nothing scanned or filmed."""
    result.ConversionType = "WSD"
    result.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    result.SecondaryCaptureDeviceManufacturerModelName = one_line(model.name)
    result.SecondaryCaptureDeviceSoftwareVersions = [one_line(model.version), one_line(model.engine)]


def _add_image(result: Dataset, page: Picture, model: ModelReference, source: SourceSeries) -> None:
    """General Image and General Reference Modules (C.7.6.1, C.12.4)."""
    result.ImageType = ["DERIVED", "SECONDARY"]
    # Type 2C: without positions only this could say how the image lies, so it is there, if need be without a value.
    result.PatientOrientation = list(page.orientation) if page.orientation else None
    result.BurnedInAnnotation = "YES"
    result.ImageComments = long_text(f"AI result, not verified by a person: {page.title}", _LT)
    result.DerivationDescription = long_text("\n".join((model.notice, *algorithm_parameters(model))), _ST)
    result.DerivationCodeSequence = [code_item(_PROCESSING)]
    add_lossy_history(result, source)
    if page.slices:
        result.SourceImageSequence = image_references(source, page.slices)
        for image in result.SourceImageSequence:
            image.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]


def _add_pixels(result: Dataset, page: Picture) -> None:
    """Image Pixel Module (C.7.6.3), colour by pixel."""
    pixels = page.pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not 0 < max(pixels.shape) < 65536:
        raise PixelError(f"a page of a summary is uint8 RGB, not {pixels.dtype} {pixels.shape}")
    result.SamplesPerPixel = 3
    result.PhotometricInterpretation = "RGB"
    result.PlanarConfiguration = 0
    result.Rows, result.Columns = pixels.shape[:2]
    result.BitsAllocated, result.BitsStored, result.HighBit, result.PixelRepresentation = 8, 8, 7, 0
    data = np.ascontiguousarray(pixels).tobytes()
    result.PixelData = data + b"\x00" * (len(data) % 2)
    result["PixelData"].VR = "OB"
