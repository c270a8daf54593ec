"""What all multi-frame results share: how frames are ordered, where they lie, and what each was derived from.

Positions and orientation are those of the source's own slices, to the last digit. Spacing Between Slices is computed
from positions and never copied: scanners fill it with other things, and readers then take the frames for an irregular
volume. Sources: DICOM PS3.3 C.7.6.16, C.7.6.17, C.12.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from residency.codes import Code
from residency.dicom import dataset as datasets
from residency.dicom.coding import SOURCE_IMAGE, code_item
from residency.dicom.provenance import cascade, model_reference
from residency.dicom.result import reference, slice_references, source_references
from residency.dicom.wording import decimal, one_line
from residency.findings import ModelReference
from residency.volume import Space

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

_SEGMENT_NUMBER = Tag(0x0062, 0x000B)
_SEGMENT_IDENTIFICATION = Tag(0x0062, 0x000A)
_IMAGE_POSITION = Tag(0x0020, 0x0032)
_PLANE_POSITION = Tag(0x0020, 0x9113)
_IN_STACK_POSITION = Tag(0x0020, 0x9057)
_FRAME_CONTENT = Tag(0x0020, 0x9111)


@dataclass(frozen=True)
class Frame:
    """One frame: which segment, by its number in the object (None: all of them, or none), on which source slice."""

    segment: int | None
    slice: int


def add_image(result: Dataset, source: SourceSeries) -> None:
    """Size, grey values, lossy history and frame of reference of a derived image (C.7.6.1, C.7.6.3, C.7.4.1)."""
    first = source.datasets[0]
    _, rows, columns = source.grid.shape
    result.SamplesPerPixel = 1
    result.PhotometricInterpretation = "MONOCHROME2"
    result.Rows, result.Columns = rows, columns
    result.BurnedInAnnotation = "NO"
    add_lossy_history(result, source)
    if source.grid.frame_of_reference and source.grid.space is Space.PATIENT:
        result.FrameOfReferenceUID = source.grid.frame_of_reference
        result.PositionReferenceIndicator = one_line(datasets.text(first, "PositionReferenceIndicator")) or None
    if source.grid.space is not Space.PATIENT:
        # Type 2C: without positions only this could say how the image lies, so it is there, if need be without a value.
        result.PatientOrientation = list(datasets.texts(first, "PatientOrientation")) or None


def add_lossy_history(result: Dataset, source: SourceSeries) -> None:
    """What is lost stays lost: a picture of lossy images is lossy (C.7.6.1.1.5)."""
    first = source.datasets[0]
    lossy = datasets.text(first, "LossyImageCompression") == "01"
    ratios, methods = (datasets.texts(first, k) for k in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))
    result.LossyImageCompression = "01" if lossy else "00"
    if lossy and ratios and methods:
        result.LossyImageCompressionRatio = list(ratios)
        result.LossyImageCompressionMethod = list(methods)


def add_frames(
    result: Dataset, frames: Sequence[Frame], source: SourceSeries, organisation_uid: str, derivation: Code
) -> None:
    """Dimensions and functional groups of every frame: content, position, segment, and the slice it was derived from.

    Frames are indexed by segment where they have one, and by position; by their place in a stack where neither is.
    """
    in_patient = source.grid.space is Space.PATIENT
    by_segment = all(frame.segment is not None for frame in frames)
    organisation = Dataset()
    organisation.DimensionOrganizationUID = organisation_uid
    result.DimensionOrganizationSequence = [organisation]
    dimensions = []
    if by_segment:
        dimensions.append((_SEGMENT_NUMBER, _SEGMENT_IDENTIFICATION, "Segment Number"))
    if in_patient:
        dimensions.append((_IMAGE_POSITION, _PLANE_POSITION, "Image Position (Patient)"))
    if not dimensions:
        dimensions.append((_IN_STACK_POSITION, _FRAME_CONTENT, "In-Stack Position Number"))
    result.DimensionIndexSequence = [_dimension(organisation_uid, *dimension) for dimension in dimensions]
    result.NumberOfFrames = len(frames)
    result.SharedFunctionalGroupsSequence = [_shared_groups(source)]
    rank = {k: i for i, k in enumerate(sorted({f.slice for f in frames}), start=1)}
    origins = _origins(source, sorted(rank), derivation)
    result.PerFrameFunctionalGroupsSequence = [
        _frame_groups(frame, rank[frame.slice], origins[frame.slice], by_segment, in_patient) for frame in frames
    ]


def add_references(result: Dataset, model: ModelReference, source: SourceSeries) -> None:
    """Every instance referenced: the source's own series, and manifests of networks in their studies (C.12.2)."""
    series = Dataset()
    series.SeriesInstanceUID = source.labels.series_uid
    series.ReferencedInstanceSequence = source_references(source)
    result.ReferencedSeriesSequence = [series]
    networks = cascade(model)
    result.ReferencedInstanceSequence = [model_reference(one) for one in networks]
    result.StudiesContainingOtherReferencedInstancesSequence = [_manifest_of(one) for one in networks]


def _manifest_of(model: ModelReference) -> Dataset:
    of_model = Dataset()
    of_model.SeriesInstanceUID = model.series_uid
    of_model.ReferencedInstanceSequence = [reference(model.manifest_sop_class, model.manifest_uid)]
    study = Dataset()
    study.StudyInstanceUID = model.study_uid
    study.ReferencedSeriesSequence = [of_model]
    return study


def _dimension(uid: str, index: BaseTag, group: BaseTag, label: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = uid
    item.DimensionIndexPointer = index
    item.FunctionalGroupPointer = group
    item.DimensionDescriptionLabel = label
    return item


def _shared_groups(source: SourceSeries) -> Dataset:
    """Pixel Measures and Plane Orientation (C.7.6.16.2.1, C.7.6.16.2.4); neither without a place in the patient.

    The spacing of a radiograph is that of its detector, and Pixel Spacing would say that it is one in the patient.
    """
    first, grid = source.datasets[0], source.grid
    shared = Dataset()
    if grid.space is not Space.PATIENT:
        return shared
    gap, row, column = grid.spacing_mm
    measures = Dataset()
    measures.PixelSpacing = [decimal(row), decimal(column)]
    thickness = datasets.number(first, "SliceThickness")
    measures.SliceThickness = decimal(thickness if thickness is not None and thickness > 0 else gap)
    if grid.shape[0] > 1:
        measures.SpacingBetweenSlices = decimal(gap)
    shared.PixelMeasuresSequence = [measures]
    orientation = Dataset()
    cosines = datasets.numbers(first, "ImageOrientationPatient", 6)
    if cosines is None:
        directions = grid.affine[:3, [2, 1]] / np.array([column, row])
        cosines = tuple(float(v) for v in directions.T.ravel())
    orientation.ImageOrientationPatient = [decimal(v) for v in cosines]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def _frame_groups(frame: Frame, rank: int, origin: Dataset, by_segment: bool, in_patient: bool) -> Dataset:
    """Functional groups of one frame. rank: of its slice among those that have a frame, from 1."""
    groups = Dataset()
    groups.update(origin)
    content = Dataset()
    content.DimensionIndexValues = [
        *([frame.segment] if by_segment else []),
        *([rank] if in_patient or not by_segment else []),
    ]
    if not (by_segment or in_patient):
        content.StackID, content.InStackPositionNumber = "1", rank
    groups.FrameContentSequence = [content]
    if frame.segment is not None:
        of_segment = Dataset()
        of_segment.ReferencedSegmentNumber = frame.segment
        groups.SegmentIdentificationSequence = [of_segment]
    return groups


def _origins(source: SourceSeries, slices: Sequence[int], derivation: Code) -> dict[int, Dataset]:
    """Plane Position and Derivation Image of each slice, which all frames on it have in common."""
    images, headers = slice_references(source), source.datasets
    return {k: _origin(source, k, headers[k], images[k], derivation) for k in slices}


def _origin(source: SourceSeries, index: int, header: Dataset, image: Dataset, derivation: Code) -> Dataset:
    origin = Dataset()
    if source.grid.space is Space.PATIENT:
        position = Dataset()
        corner = datasets.numbers(header, "ImagePositionPatient", 3)
        if corner is None:
            corner = tuple(float(v) for v in source.grid.to_lps((index, 0, 0)))
        position.ImagePositionPatient = [decimal(v) for v in corner]
        origin.PlanePositionSequence = [position]
    image.SpatialLocationsPreserved = "YES"
    image.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    derived = Dataset()
    derived.DerivationCodeSequence = [code_item(derivation)]
    derived.SourceImageSequence = [image]
    origin.DerivationImageSequence = [derived]
    return origin
