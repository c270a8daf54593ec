"""A map of values as a DICOM Parametric Map on the grid of the source (PS3.3 A.75, C.8.32): float32, nothing rounded.

One object a map, one frame a slice, every slice: a map has a value everywhere. What the values are, and in which unit,
stands in the Real World Value Mapping, whose slope is 1 and intercept 0: the stored number is the value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from residency.codes import Code, body_part_of_region, region_of_body_part
from residency.dicom.coding import (
    FINDING,
    FINDING_CATEGORY,
    FINDING_SITE,
    LATERALITY,
    QUANTITY,
    SIDES,
    code_item,
)
from residency.dicom.functional_groups import Frame, add_frames, add_image, add_references
from residency.dicom.provenance import algorithm_parameters
from residency.dicom.result import EncodedResult, ResultKind, add_body_part, check_size, encoded, head
from residency.dicom.uids import ResultIdentity, derived_uid
from residency.dicom.wording import decimal, long_text, one_line
from residency.errors import GeometryError
from residency.findings import Findings, ScoreMap

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

PARAMETRIC_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.30"
CONTENT_LABEL = "AI_MAP"
MAP_KIND = ResultKind("pm", PARAMETRIC_MAP_STORAGE, "OT", offset=4)

_DERIVATION = Code(scheme="DCM", value="110001", meaning="Image Processing")
_SHORT = 16
"""Longest LUT Label (SH), in characters."""
_ST = 1024


def parametric_map(
    findings: Findings, shown: ScoreMap, source: SourceSeries, identity: ResultIdentity, number: int = 1
) -> EncodedResult:
    """One map of the findings as one instance in a new series of the source's study.

    number  the how manieth of the result's maps it is: its Instance Number, and part of its UID

    Raises GeometryError where the findings do not lie on the grid of the source or do not fit into one object,
    ValueError for values that are not finite.
    """
    check_size(shown.array.nbytes)
    if not findings.grid.matches(source.grid):
        raise GeometryError("the findings do not lie on the grid of the source series; bring them back to it first")
    if not np.isfinite(shown.array).all():
        raise ValueError(f"map '{shown.label}' holds values that are not finite")
    kind = replace(MAP_KIND, number=number)
    result = head(kind, findings.model, source, identity)
    add_body_part(result, source)
    add_image(result, source)
    _add_map(result, findings, shown, source)
    frames = [Frame(None, k) for k in range(source.grid.shape[0])]
    add_frames(result, frames, source, identity.uid("pm-dimensions", str(number)), _DERIVATION)
    _add_shared(result.SharedFunctionalGroupsSequence[0], shown)
    sided = "FrameAnatomySequence" in result.SharedFunctionalGroupsSequence[0]
    if not sided and not _unpaired(result.get("BodyPartExamined", "")):
        # Type 2C of a body part that may be a paired one: the side is unknown, which an empty value says.
        result.Laterality = None
    add_references(result, findings.model, source)
    result.FloatPixelData = shown.array.astype("<f4", copy=False).tobytes()
    made = encoded(result, source)
    return EncodedResult(made.uid, made.data, kind.sop_class, kind.series_uid(identity))


def _unpaired(body_part: str) -> bool:
    """True for a term whose body part everybody has one of; Laterality may then not be there (C.7.3.1)."""
    region = region_of_body_part(body_part)
    return region is not None and body_part_of_region(region) == body_part


def _add_map(result: Dataset, findings: Findings, shown: ScoreMap, source: SourceSeries) -> None:
    """Parametric Map Image, Floating Point Image Pixel and Acquisition Context (C.8.32.2, C.7.6.24, C.7.6.14)."""
    if "FrameOfReferenceUID" not in result:
        # Mandatory (A.75.3) also for a picture without a place in the patient, whose pixels are a space of their own.
        result.FrameOfReferenceUID = derived_uid("frame-of-reference", *source.sop_uids)
        result.PositionReferenceIndicator = None
    result.ImageType = ["DERIVED", "PRIMARY", "QUANTITY", "NONE"]
    result.ContentLabel = CONTENT_LABEL
    result.ContentDescription = one_line(f"AI {shown.label or findings.model.name}, not verified")
    result.ContentCreatorName = None
    result.BitsAllocated = 32
    result.PixelPresentation = "MONOCHROME"
    result.PresentationLUTShape = "IDENTITY"
    result.RecognizableVisualFeatures = "NO"
    result.AcquisitionContextSequence = []
    result.DerivationDescription = long_text(
        "\n".join((findings.model.notice, *algorithm_parameters(findings.model))), _ST
    )


def _add_shared(shared: Dataset, shown: ScoreMap) -> None:
    """What goes for every frame: what the values are, how they are shown at first, and of which structure they are."""
    frame_type = Dataset()
    frame_type.FrameType = ["DERIVED", "PRIMARY", "QUANTITY", "NONE"]
    shared.ParametricMapFrameTypeSequence = [frame_type]
    low, high = _range(shown)
    window = Dataset()
    window.WindowCenter, window.WindowWidth = decimal((low + high) / 2), decimal(high - low)
    window.VOILUTFunction = "LINEAR_EXACT"
    shared.FrameVOILUTSequence = [window]
    unity = Dataset()
    unity.RescaleIntercept, unity.RescaleSlope, unity.RescaleType = "0", "1", "US"
    shared.PixelValueTransformationSequence = [unity]
    shared.RealWorldValueMappingSequence = [_mapping(shown)]
    anatomy = shown.region or shown.type
    if anatomy is not None and shown.side is not None:
        item = Dataset()
        item.AnatomicRegionSequence = [code_item(anatomy)]
        item.FrameLaterality = shown.side.value
        shared.FrameAnatomySequence = [item]


def _mapping(shown: ScoreMap) -> Dataset:
    """Item of Real World Value Mapping Sequence (C.7.6.16.2.11)."""
    mapping = Dataset()
    mapping.LUTLabel = one_line(shown.label, _SHORT) or "map"
    mapping.LUTExplanation = one_line(f"{shown.quantity.meaning}: {shown.label}" if shown.label else _said(shown))
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1.0, 0.0
    low, high = float(shown.array.min()), float(shown.array.max())
    mapping.DoubleFloatRealWorldValueFirstValueMapped = low
    mapping.DoubleFloatRealWorldValueLastValueMapped = high
    mapping.MeasurementUnitsCodeSequence = [code_item(shown.unit)]
    quantity = _coded(QUANTITY, shown.quantity)
    mapping.QuantityDefinitionSequence = [quantity, *_about(shown)]
    return mapping


def _about(shown: ScoreMap) -> list[Dataset]:
    """Of which structure the values are."""
    said = ((FINDING_CATEGORY, shown.category), (FINDING, shown.type), (FINDING_SITE, shown.region))
    items = [_coded(name, code) for name, code in said if code is not None]
    return [*items, *([_coded(LATERALITY, SIDES[shown.side])] if shown.side is not None else [])]


def _coded(name: Code, value: Code) -> Dataset:
    """A content item of coded name and value (table 10-2)."""
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = [code_item(name)]
    item.ConceptCodeSequence = [code_item(value)]
    return item


def _said(shown: ScoreMap) -> str:
    return shown.quantity.meaning


def _range(shown: ScoreMap) -> tuple[float, float]:
    """What is shown from black to white at first; never of no width, which is no window."""
    low, high = float(shown.array.min()), float(shown.array.max())
    if low >= 0.0 and high <= 1.0:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1.0)
