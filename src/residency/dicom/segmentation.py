"""Findings as a DICOM Segmentation on the grid of the source (DICOM PS3.3 A.51, A.90, C.8.20), in three forms.

BINARY      one bit a pixel, a frame is one segment on one slice; segments may overlap. Every viewer that shows
            Segmentations shows these
LABELMAP    a SOP class of its own: the number of the one segment in each pixel, a frame is one slice
FRACTIONAL  how probable the segment is, 0 to 255 for 0 to 1; a frame is one segment on one slice

Slices on which nothing is are left out. A segment without any voxel is described but has no frame; where that goes for
all of them, there is a frame on every slice, all zero, since an image needs frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from residency.codes import Code
from residency.dicom.coding import SEGMENTATION, SIDES, code_item
from residency.dicom.colour import cielab_from_rgb
from residency.dicom.functional_groups import Frame, add_frames, add_image, add_references
from residency.dicom.part10 import Syntax
from residency.dicom.provenance import algorithm_identification
from residency.dicom.result import EncodedResult, ResultKind, add_body_part, check_size, encoded, head
from residency.dicom.rle import rle_encode
from residency.dicom.uids import ResultIdentity
from residency.dicom.wording import long_text, one_line
from residency.errors import GeometryError
from residency.findings import Findings, Mask, ModelReference, ScoreMap, Segment

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATION_CLASSES = frozenset({SEGMENTATION_STORAGE, LABEL_MAP_STORAGE})
CONTENT_LABEL = "AI_SEGMENTATION"
MOST_FRACTIONAL = 255
"""Maximum Fractional Value: the stored value that means 1."""
MOST_SEGMENTS = 65_535
"""Segment numbers are 16-bit numbers (US), and so are the pixels of the largest label map."""

_BACKGROUND = Code(scheme="DCM", value="125040", meaning="Background")


class SegmentationType(StrEnum):
    """Segmentation Type (0062,0001)."""

    BINARY = "BINARY"
    LABELMAP = "LABELMAP"
    FRACTIONAL = "FRACTIONAL"


PROBABILITIES_KIND = ResultKind("probabilities", SEGMENTATION_STORAGE, "SEG", offset=3)

BEFORE_KIND = ResultKind("seg-before", SEGMENTATION_STORAGE, "SEG", offset=5)
"""The segments of the step before, in a Segmentation of their own: another network made them. Always BINARY."""


def segmentation_kind(type: SegmentationType) -> ResultKind:
    """What the UIDs of segments as one object depend on: BINARY and LABELMAP are two objects."""
    if type is SegmentationType.LABELMAP:
        return ResultKind("seg", LABEL_MAP_STORAGE, "SEG", offset=1, form=(str(type),))
    return ResultKind("seg", SEGMENTATION_STORAGE, "SEG", offset=1)


@dataclass(frozen=True, eq=False)
class NumberedSegment:
    """A segment with its number in the object (1, 2, 3 ... without a gap, as C.8.20.2 demands) and its tracking UID."""

    number: int
    segment: Segment
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True)
class EncodedSegmentation(EncodedResult):
    """A Segmentation of ours, and its form."""

    type: SegmentationType


def numbered(findings: Findings, identity: ResultIdentity) -> tuple[NumberedSegment, ...]:
    """The segments in the order of their numbers, as SEG and SR both name them."""
    ordered = sorted(findings.segments, key=lambda s: s.number)
    return tuple(
        NumberedSegment(k, s, f"{k} {one_line(s.label)}", identity.uid("tracking", str(s.number)))
        for k, s in enumerate(ordered, start=1)
    )


def frames_of(segments: Sequence[NumberedSegment]) -> tuple[Frame, ...]:
    """The frames of one segment each, in the order in which they are written: by segment, then by slice."""
    frames = tuple(Frame(s.number, k) for s in segments for k in _slices_of(s.segment.mask))
    return frames or tuple(Frame(segments[0].number, k) for k in range(segments[0].segment.mask.shape[0]))


def overlap(segments: Sequence[Segment]) -> bool:
    """True if a voxel belongs to two segments."""
    if len(segments) < 2:
        return False
    covered = np.zeros(segments[0].mask.shape, dtype=np.bool_)
    for segment in segments:
        for k in _slices_of(segment.mask):
            if np.logical_and(covered[k], segment.mask[k]).any():
                return True
            covered[k] |= segment.mask[k]
    return False


def segmentation(
    findings: Findings,
    source: SourceSeries,
    identity: ResultIdentity,
    type: SegmentationType = SegmentationType.BINARY,
    syntax: Syntax = Syntax.RLE,
    kind: ResultKind | None = None,
) -> EncodedSegmentation:
    """The segments of the findings as one Segmentation instance in a new series of the source's study.

    type    BINARY or LABELMAP; of FRACTIONAL ones see `probabilities`
    syntax  of a label map; BINARY is always native, since no compression of single bits is widely read
    kind    what its UIDs depend on; None: the kind of the type

    Raises GeometryError where there is no segment, where the findings do not lie on the grid of the source, or where
    segments overlap that a label map cannot hold.
    """
    if not findings.segments:
        raise GeometryError("findings without a segment cannot be written as a Segmentation; write the report alone")
    _check_grid(findings, source)
    segments = numbered(findings, identity)
    if type is SegmentationType.FRACTIONAL:
        raise ValueError("segments are no probabilities; see `probabilities`")
    overlapping = overlap(findings.segments)
    kind = kind or segmentation_kind(type)
    result = _started(kind, type, findings, source, identity, overlapping=overlapping)
    result.SegmentSequence = [_segment_item(s, findings.model) for s in segments]
    if type is SegmentationType.BINARY:
        frames = frames_of(segments)
        check_size(len(frames) * result.Rows * result.Columns // 8)
        masks = {s.number: s.segment.mask for s in segments}
        _add_bits(result, 1)
        result.PixelData = packed(masks[f.segment][f.slice] for f in frames if f.segment is not None)
        result["PixelData"].VR = "OB"
        return _finished(result, kind, frames, source, identity, Syntax.NATIVE)
    if overlapping or len(segments) > MOST_SEGMENTS:
        raise GeometryError("a label map holds one segment a voxel; these overlap, or are too many: write them BINARY")
    result.SegmentSequence.insert(0, _background(coloured=any(s.segment.colour for s in segments)))
    frames, labels = _label_frames(segments)
    _add_bits(result, labels.dtype.itemsize * 8)
    result.PixelPaddingValue = 0
    _add_pixels(result, labels, syntax)
    return _finished(result, kind, frames, source, identity, syntax)


def probabilities(
    findings: Findings, source: SourceSeries, identity: ResultIdentity, syntax: Syntax = Syntax.NATIVE
) -> EncodedSegmentation:
    """The maps of the findings that are probabilities of a structure, as one FRACTIONAL Segmentation (C.8.20.2.3).

    Values are rounded to 1/255. Raises GeometryError where there is no such map, or off the grid of the source.
    """
    maps = sorted((m for m in findings.maps if m.fractional), key=lambda m: m.number)
    if not maps:
        raise GeometryError("findings without probabilities of a structure cannot be written as FRACTIONAL")
    _check_grid(findings, source)
    values = [_eight_bits(m) for m in maps]
    segments = [_as_segment(k, m, v > 0, identity) for k, (m, v) in enumerate(zip(maps, values, strict=True), start=1)]
    frames = frames_of(segments)
    kind = PROBABILITIES_KIND
    result = _started(kind, SegmentationType.FRACTIONAL, findings, source, identity, overlapping=None)
    result.SegmentationFractionalType = "PROBABILITY"
    result.MaximumFractionalValue = MOST_FRACTIONAL
    result.SegmentSequence = [_segment_item(s, findings.model) for s in segments]
    _add_bits(result, 8)
    _add_pixels(result, np.stack([values[f.segment - 1][f.slice] for f in frames if f.segment is not None]), syntax)
    return _finished(result, kind, frames, source, identity, syntax)


def packed(frames: Iterable[Mask]) -> bytes:
    """One bit a pixel, the first pixel in the lowest bit, without padding between frames, even length (PS3.5 8.1.1)."""
    whole = bytearray()
    rest = np.zeros(0, dtype=np.bool_)
    for frame in frames:
        bits = np.concatenate([rest, frame.ravel()]) if rest.size else frame.ravel()
        full = len(bits) // 8 * 8
        whole += np.packbits(bits[:full], bitorder="little").tobytes()
        rest = bits[full:]
    whole += np.packbits(rest, bitorder="little").tobytes()
    return bytes(whole) + b"\x00" * (len(whole) % 2)


def _check_grid(findings: Findings, source: SourceSeries) -> None:
    if not findings.grid.matches(source.grid):
        raise GeometryError("the findings do not lie on the grid of the source series; bring them back to it first")


def _slices_of(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Slices on which anything is."""
    hit: list[int] = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)).tolist()
    return hit


def _started(
    kind: ResultKind,
    type: SegmentationType,
    findings: Findings,
    source: SourceSeries,
    identity: ResultIdentity,
    *,
    overlapping: bool | None,
) -> Dataset:
    result = head(kind, findings.model, source, identity)
    add_body_part(result, source)
    add_image(result, source)
    add_references(result, findings.model, source)
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentLabel = CONTENT_LABEL
    result.ContentDescription = one_line(f"AI {findings.model.name}, not verified")
    result.ContentCreatorName = None
    result.SegmentationType = type.value
    result.SegmentsOverlap = "UNDEFINED" if overlapping is None else "YES" if overlapping else "NO"
    return result


def _finished(
    result: Dataset,
    kind: ResultKind,
    frames: Sequence[Frame],
    source: SourceSeries,
    identity: ResultIdentity,
    syntax: Syntax,
) -> EncodedSegmentation:
    add_frames(result, frames, source, identity.uid(f"{kind.role}-dimensions", *kind.form), SEGMENTATION)
    made = encoded(result, source, syntax)
    series_uid, type = kind.series_uid(identity), SegmentationType(result.SegmentationType)
    return EncodedSegmentation(made.uid, made.data, kind.sop_class, series_uid, type)


def _add_bits(result: Dataset, bits: int) -> None:
    result.BitsAllocated, result.BitsStored, result.HighBit, result.PixelRepresentation = bits, bits, bits - 1, 0


def _label_frames(
    segments: Sequence[NumberedSegment],
) -> tuple[tuple[Frame, ...], npt.NDArray[np.uint8 | np.uint16]]:
    """One frame for each slice on which a segment is, and the segments' numbers in it."""
    shape = segments[0].segment.mask.shape
    on = [(s, _slices_of(s.segment.mask)) for s in segments]
    slices = sorted({k for _, found in on for k in found}) or list(range(shape[0]))
    place = {k: i for i, k in enumerate(slices)}
    labels = np.zeros((len(slices), *shape[1:]), np.uint8 if len(segments) < 256 else np.uint16)
    for numbered_segment, found in on:
        for k in found:
            labels[place[k]][numbered_segment.segment.mask[k]] = numbered_segment.number
    return tuple(Frame(None, k) for k in slices), labels


def _add_pixels(result: Dataset, frames: npt.NDArray[np.uint8 | np.uint16], syntax: Syntax) -> None:
    """Pixel Data of whole bytes; packed by RLE, each frame is an item of its own (PS3.5 A.4.2)."""
    if syntax is Syntax.NATIVE:
        check_size(frames.nbytes)
        data = frames.astype(frames.dtype.newbyteorder("<"), copy=False).tobytes()
        result.PixelData = data + b"\x00" * (len(data) % 2)
        result["PixelData"].VR = "OB" if frames.dtype.itemsize == 1 else "OW"
        return
    result.PixelData = encapsulate([rle_encode(frame) for frame in frames])
    result["PixelData"].VR = "OB"
    result["PixelData"].is_undefined_length = True


def _eight_bits(map: ScoreMap) -> npt.NDArray[np.uint8]:
    values: npt.NDArray[np.uint8] = np.rint(map.array * np.float32(MOST_FRACTIONAL)).astype(np.uint8)
    return values


def _as_segment(number: int, map: ScoreMap, mask: Mask, identity: ResultIdentity) -> NumberedSegment:
    """A map of probabilities as what it is the probability of."""
    if map.category is None or map.type is None:
        raise ValueError(f"map '{map.label}' is about no structure")
    described = Segment(
        number, map.label, map.category, map.type, mask, map.modifiers, map.region, map.side, map.colour
    )
    tracking = identity.uid("tracking", "map", str(map.number))
    return NumberedSegment(number, described, f"{number} {one_line(map.label)}", tracking)


def _background(*, coloured: bool) -> Dataset:
    """Segment 0 of a label map: what belongs to no segment (C.8.20.2)."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = "Residency"
    item.SegmentedPropertyCategoryCodeSequence = [code_item(_BACKGROUND)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(_BACKGROUND)]
    if coloured:
        item.RecommendedDisplayCIELabValue = list(cielab_from_rgb((0, 0, 0)))
    return item


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
