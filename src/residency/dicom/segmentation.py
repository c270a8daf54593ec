"""Findings as a DICOM Segmentation, BINARY, on the grid of the source (DICOM PS3.3 A.51, C.8.20).

BINARY because every viewer shows it, and because segments may overlap. A frame is one segment on one slice; slices on
which a segment has no voxel are left out. A segment without any voxel is described but has no frame; where that goes
for all of them, the first one gets a frame on every slice, all zero, since an image needs frames.

Positions and orientation are those of the source's own slices, to the last digit. Spacing Between Slices is computed
from positions and never copied: scanners fill it with other things, and readers then take the frames for an irregular
volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from residency.dicom import dataset as datasets
from residency.dicom.coding import SEGMENTATION, SIDES, SOURCE_IMAGE, code_item
from residency.dicom.colour import cielab_from_rgb
from residency.dicom.part10 import EncodedInstance
from residency.dicom.provenance import algorithm_identification, model_reference
from residency.dicom.result import ResultKind, add_body_part, encoded, head, reference, source_references
from residency.dicom.uids import ResultIdentity
from residency.dicom.wording import decimal, long_text, one_line
from residency.errors import GeometryError
from residency.findings import Findings, Mask, ModelReference, Segment
from residency.volume import Space

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
CONTENT_LABEL = "AI_SEGMENTATION"
_KIND = ResultKind(role="seg", sop_class=SEGMENTATION_STORAGE, modality="SEG", offset=1)

_SEGMENT_NUMBER = Tag(0x0062, 0x000B)
_SEGMENT_IDENTIFICATION = Tag(0x0062, 0x000A)
_IMAGE_POSITION = Tag(0x0020, 0x0032)
_PLANE_POSITION = Tag(0x0020, 0x9113)


@dataclass(frozen=True, eq=False)
class NumberedSegment:
    """A segment with its number in the object (1, 2, 3 ... without a gap, as C.8.20.2 demands) and its tracking UID."""

    number: int
    segment: Segment
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True)
class Frame:
    """One frame: which segment, by its number in the object, on which slice of the source."""

    segment: int
    slice: int


def numbered(findings: Findings, identity: ResultIdentity) -> tuple[NumberedSegment, ...]:
    """The segments in the order of their numbers, as SEG and SR both name them."""
    ordered = sorted(findings.segments, key=lambda s: s.number)
    return tuple(
        NumberedSegment(k, s, f"{k} {one_line(s.label)}", identity.uid("tracking", str(s.number)))
        for k, s in enumerate(ordered, start=1)
    )


def frames_of(segments: Sequence[NumberedSegment]) -> tuple[Frame, ...]:
    """The frames in the order in which they are written: by segment, then by slice."""
    frames = tuple(Frame(s.number, int(k)) for s in segments for k in np.flatnonzero(s.segment.mask.any(axis=(1, 2))))
    return frames or tuple(Frame(segments[0].number, k) for k in range(segments[0].segment.mask.shape[0]))


def segmentation(findings: Findings, source: SourceSeries, identity: ResultIdentity) -> EncodedInstance:
    """The segments of the findings as one Segmentation instance in a new series of the source's study.

    Raises GeometryError where there is no segment, or where the findings do not lie on the grid of the source.
    """
    if not findings.segments:
        raise GeometryError("findings without a segment cannot be written as a Segmentation; write the report alone")
    if not findings.grid.matches(source.grid):
        raise GeometryError("the findings do not lie on the grid of the source series; bring them back to it first")
    segments = numbered(findings, identity)
    frames = frames_of(segments)
    result = head(_KIND, findings.model, source, identity)
    _add_image(result, findings, source)
    _add_segments(result, segments, findings.model)
    _add_functional_groups(result, frames, source, identity)
    _add_references(result, findings.model, source)
    masks = {s.number: s.segment.mask for s in segments}
    result.PixelData = packed(masks[f.segment][f.slice] for f in frames)
    result["PixelData"].VR = "OB"
    return encoded(result, source)


def packed(frames: Iterable[Mask]) -> bytes:
    """One bit a pixel, the first pixel in the lowest bit, without padding between frames, even length (PS3.5 8.1.1)."""
    whole = bytearray()
    rest = np.zeros(0, dtype=np.bool_)
    for frame in frames:
        bits = np.concatenate([rest, frame.ravel()])
        full = len(bits) // 8 * 8
        whole += np.packbits(bits[:full], bitorder="little").tobytes()
        rest = bits[full:]
    whole += np.packbits(rest, bitorder="little").tobytes()
    return bytes(whole) + b"\x00" * (len(whole) % 2)


def _add_image(result: Dataset, findings: Findings, source: SourceSeries) -> None:
    first = source.datasets[0]
    _, rows, columns = findings.grid.shape
    add_body_part(result, source)
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentLabel = CONTENT_LABEL
    result.ContentDescription = one_line(f"AI {findings.model.name}, not verified")
    result.ContentCreatorName = None
    result.SegmentationType = "BINARY"
    result.SegmentsOverlap = "YES" if _overlap(findings.segments) else "NO"
    result.SamplesPerPixel = 1
    result.PhotometricInterpretation = "MONOCHROME2"
    result.Rows, result.Columns = rows, columns
    result.BitsAllocated, result.BitsStored, result.HighBit, result.PixelRepresentation = 1, 1, 0, 0
    result.BurnedInAnnotation = "NO"
    lossy = datasets.text(first, "LossyImageCompression") == "01"
    ratios, methods = (datasets.texts(first, k) for k in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))
    result.LossyImageCompression = "01" if lossy else "00"
    if lossy and ratios and methods:
        result.LossyImageCompressionRatio = list(ratios)
        result.LossyImageCompressionMethod = list(methods)
    if source.grid.frame_of_reference and source.grid.space is Space.PATIENT:
        result.FrameOfReferenceUID = source.grid.frame_of_reference
        result.PositionReferenceIndicator = one_line(datasets.text(first, "PositionReferenceIndicator")) or None
    if source.grid.space is not Space.PATIENT:
        # Type 2C: without positions only this could say how the image lies, so it is there, if need be without a value.
        result.PatientOrientation = list(datasets.texts(first, "PatientOrientation")) or None


def _overlap(segments: Sequence[Segment]) -> bool:
    covered = np.zeros(segments[0].mask.shape, dtype=np.bool_)
    for segment in segments:
        if np.logical_and(covered, segment.mask).any():
            return True
        covered |= segment.mask
    return False


def _add_segments(result: Dataset, segments: Sequence[NumberedSegment], model: ModelReference) -> None:
    result.SegmentSequence = [_segment_item(s, model) for s in segments]


def _segment_item(numbered_segment: NumberedSegment, model: ModelReference) -> Dataset:
    """Item of Segment Sequence (C.8.20.2, C.8.20.4)."""
    segment = numbered_segment.segment
    item = Dataset()
    item.SegmentNumber = numbered_segment.number
    item.SegmentLabel = one_line(segment.label) or f"segment {numbered_segment.number}"
    item.SegmentDescription = long_text(f"{segment.label}: {model.notice}", 1024)
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = one_line(model.name)
    item.SegmentationAlgorithmIdentificationSequence = [algorithm_identification(model)]
    item.SegmentedPropertyCategoryCodeSequence = [code_item(segment.category)]
    kind = code_item(segment.type)
    modifiers = [*segment.modifiers, *([SIDES[segment.side]] if segment.side else [])]
    if modifiers:
        kind.SegmentedPropertyTypeModifierCodeSequence = [code_item(m) for m in dict.fromkeys(modifiers)]
    item.SegmentedPropertyTypeCodeSequence = [kind]
    if segment.region:
        item.AnatomicRegionSequence = [code_item(segment.region)]
    if segment.colour:
        item.RecommendedDisplayCIELabValue = list(cielab_from_rgb(segment.colour))
    item.TrackingID = numbered_segment.tracking_id
    item.TrackingUID = numbered_segment.tracking_uid
    return item


def _add_functional_groups(
    result: Dataset, frames: Sequence[Frame], source: SourceSeries, identity: ResultIdentity
) -> None:
    in_patient = source.grid.space is Space.PATIENT
    uid = identity.uid("seg-dimensions")
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid
    result.DimensionOrganizationSequence = [organisation]
    dimensions = [_dimension(uid, _SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION, "Segment Number")]
    if in_patient:
        dimensions.append(_dimension(uid, _IMAGE_POSITION, _PLANE_POSITION, "Image Position (Patient)"))
    result.DimensionIndexSequence = dimensions
    result.NumberOfFrames = len(frames)
    shared = _shared_groups(source)
    result.SharedFunctionalGroupsSequence = [shared]
    rank = {k: i for i, k in enumerate(sorted({f.slice for f in frames}), start=1)}
    images = source_references(source)
    result.PerFrameFunctionalGroupsSequence = [
        _frame_groups(f, [f.segment, rank[f.slice]] if in_patient else [f.segment], source, images[f.slice])
        for f in frames
    ]


def _dimension(uid: str, index: BaseTag, group: BaseTag, label: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = uid
    item.DimensionIndexPointer = index
    item.FunctionalGroupPointer = group
    item.DimensionDescriptionLabel = label
    return item


def _shared_groups(source: SourceSeries) -> Dataset:
    """Pixel Measures and Plane Orientation (C.7.6.16.2.1, C.7.6.16.2.4); neither for an image without spacing."""
    first, grid = source.datasets[0], source.grid
    shared = Dataset()
    if grid.space is Space.PIXELS:
        return shared
    gap, row, column = grid.spacing_mm
    measures = Dataset()
    measures.PixelSpacing = [decimal(row), decimal(column)]
    if grid.space is Space.PATIENT:
        thickness = datasets.number(first, "SliceThickness")
        measures.SliceThickness = decimal(thickness if thickness is not None and thickness > 0 else gap)
        if grid.shape[0] > 1:
            measures.SpacingBetweenSlices = decimal(gap)
        orientation = Dataset()
        cosines = datasets.numbers(first, "ImageOrientationPatient", 6)
        if cosines is None:
            directions = grid.affine[:3, [2, 1]] / np.array([column, row])
            cosines = tuple(float(v) for v in directions.T.ravel())
        orientation.ImageOrientationPatient = [decimal(v) for v in cosines]
        shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [measures]
    return shared


def _frame_groups(frame: Frame, indices: list[int], source: SourceSeries, slice_reference: Dataset) -> Dataset:
    """Functional groups of one frame: content, position, segment and the slice it was derived from."""
    groups = Dataset()
    content = Dataset()
    content.DimensionIndexValues = indices
    groups.FrameContentSequence = [content]
    if source.grid.space is Space.PATIENT:
        position = Dataset()
        corner = datasets.numbers(source.datasets[frame.slice], "ImagePositionPatient", 3)
        if corner is None:
            corner = tuple(float(v) for v in source.grid.to_lps((frame.slice, 0, 0)))
        position.ImagePositionPatient = [decimal(v) for v in corner]
        groups.PlanePositionSequence = [position]
    of_segment = Dataset()
    of_segment.ReferencedSegmentNumber = frame.segment
    groups.SegmentIdentificationSequence = [of_segment]
    image = reference(slice_reference.ReferencedSOPClassUID, slice_reference.ReferencedSOPInstanceUID)
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    derivation = Dataset()
    derivation.DerivationCodeSequence = [code_item(SEGMENTATION)]
    derivation.SourceImageSequence = [image]
    groups.DerivationImageSequence = [derivation]
    return groups


def _add_references(result: Dataset, model: ModelReference, source: SourceSeries) -> None:
    """Every instance referenced: the source's own series, and the manifest of the network in its study (C.12.2)."""
    series = Dataset()
    series.SeriesInstanceUID = source.labels.series_uid
    series.ReferencedInstanceSequence = source_references(source)
    result.ReferencedSeriesSequence = [series]
    result.ReferencedInstanceSequence = [model_reference(model)]
    of_model = Dataset()
    of_model.SeriesInstanceUID = model.series_uid
    of_model.ReferencedInstanceSequence = [reference(model.manifest_sop_class, model.manifest_uid)]
    study = Dataset()
    study.StudyInstanceUID = model.study_uid
    study.ReferencedSeriesSequence = [of_model]
    result.StudiesContainingOtherReferencedInstancesSequence = [study]
