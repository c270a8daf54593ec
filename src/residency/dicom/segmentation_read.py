"""A DICOM Segmentation read back: masks on a grid, and who made them (DICOM PS3.3 A.51, C.8.20). BINARY, of any maker.

A frame is placed by its Plane Position and its Referenced Segment Number, never by its index: writers leave empty
frames out and order the others as they like.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from residency.codes import Code, canonical
from residency.dicom.coding import MODEL, SIDES
from residency.dicom.colour import rgb_from_cielab
from residency.dicom.dataset import (
    codes,
    integer,
    items,
    lines,
    number,
    numbers,
    parse,
    pixel_bytes,
    sop_uid,
    text,
    transfer_syntax,
)
from residency.dicom.segmentation import SEGMENTATION_STORAGE
from residency.dicom.stack import LINE_TOLERANCE_MM, Placement, directions, image_grid
from residency.errors import GeometryError, InputError, PixelError
from residency.findings import Mask, Segment
from residency.geometry import ORIENTATION_TOLERANCE, SPACING_TOLERANCE_MM
from residency.labels import Side
from residency.volume import Grid, Space

MAX_MASK_VOXELS = 2**32
"""Most voxels of all masks together that are unpacked, 4 GiB. A few bytes of frames may span a huge grid."""

_SYNTAXES = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
_UNKNOWN = Code(scheme="99RESIDENCY", value="UNKNOWN", meaning="Not coded")


@dataclass(frozen=True)
class Algorithm:
    """What made a segment or a measurement, as the object says; "" and () where it does not."""

    name: str = ""
    version: str = ""
    source: str = ""
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SegmentRead:
    """One segment with its mask, and what the object says of its origin."""

    segment: Segment
    description: str
    algorithm_type: str
    algorithm: Algorithm
    tracking_id: str
    tracking_uid: str


@dataclass(frozen=True, eq=False)
class SegmentationContent:
    """What a Segmentation holds.

    grid        the grid asked for, else the smallest regular grid that holds every frame
    source_uids SOP Instance UIDs that the object says it was made from
    model_uid   manifest of the network, in results of ours, else None
    """

    sop_uid: str
    study_uid: str
    series_uid: str
    description: str
    grid: Grid
    segments: tuple[SegmentRead, ...]
    source_series_uids: tuple[str, ...]
    source_uids: tuple[str, ...]
    model_uid: str | None


@dataclass(frozen=True)
class _Frame:
    index: int
    segment: int
    place: Placement
    spacing_between_mm: float | None


def read_segmentation(
    data: bytes, grid: Grid | None = None, *, only: Collection[int] | None = None
) -> SegmentationContent:
    """The segments of a Segmentation in DICOM's file format.

    grid  where the masks shall lie, usually that of the source series; None takes the grid that the frames span
    only  segment numbers to unpack; None takes all

    Raises InputError for what is no BINARY segmentation, PixelError for incomplete or compressed pixels, GeometryError
    where frames do not lie on one regular grid, or not on the given one.
    """
    dataset = parse(data)
    _check_kind(dataset)
    frames = _frames(dataset)
    found = _span(frames) if grid is None else grid
    described = _described(dataset, frames)
    if only is not None:
        described = {n: item for n, item in described.items() if n in only}
    if len(described) * int(np.prod(found.shape, dtype=np.int64)) > MAX_MASK_VOXELS:
        raise InputError(
            f"instance {sop_uid(dataset)}: {len(described)} segments on a grid of {found.shape} are more than is read "
            "at once; ask for some segments only"
        )
    masks = {n: np.zeros(found.shape, dtype=np.bool_) for n in described}
    for frame in frames:
        if frame.segment in masks:
            masks[frame.segment][_slice_of(frame, found)] |= _pixels(dataset, frame)
    return SegmentationContent(
        sop_uid=sop_uid(dataset),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        description=text(dataset, "SeriesDescription"),
        grid=found,
        segments=tuple(_segment(n, item, masks[n]) for n, item in described.items()),
        source_series_uids=tuple(
            text(item, "SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence")
        ),
        source_uids=tuple(
            text(image, "ReferencedSOPInstanceUID")
            for series in items(dataset, "ReferencedSeriesSequence")
            for image in items(series, "ReferencedInstanceSequence")
        ),
        model_uid=_model_uid(dataset),
    )


def algorithm_of(item: Dataset, name: str = "") -> Algorithm:
    """Item of an algorithm identification sequence (PS3.3 table 10-19)."""
    return Algorithm(
        name=text(item, "AlgorithmName") or name,
        version=text(item, "AlgorithmVersion"),
        source=text(item, "AlgorithmSource"),
        parameters=lines(item, "AlgorithmParameters"),
    )


def _check_kind(dataset: Dataset) -> None:
    uid, syntax = sop_uid(dataset), transfer_syntax(dataset)
    sop_class = text(dataset, "SOPClassUID")
    if sop_class != SEGMENTATION_STORAGE:
        name = UID(sop_class).name if sop_class else "no SOP Class UID"
        raise InputError(f"instance {uid} ({name}) is no Segmentation of the kind that is read")
    kind = text(dataset, "SegmentationType")
    if kind != "BINARY":
        raise InputError(f"instance {uid}: Segmentation Type '{kind}' is not read yet; BINARY is")
    if syntax not in _SYNTAXES:
        raise PixelError(f"instance {uid}: transfer syntax {UID(syntax).name} ({syntax}) is not read for segmentations")
    if integer(dataset, "BitsAllocated") != 1:
        raise PixelError(f"instance {uid}: a BINARY segmentation has Bits Allocated 1")


def _frames(dataset: Dataset) -> tuple[_Frame, ...]:
    """Segment and place of every frame, checked against the bytes that are there."""
    uid = sop_uid(dataset)
    count, rows, columns = (integer(dataset, k) or 0 for k in ("NumberOfFrames", "Rows", "Columns"))
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if min(count, rows, columns) < 1 or len(groups) != count:
        raise InputError(f"instance {uid}: {count} frames of {rows} x {columns} pixels, {len(groups)} are described")
    held = len(pixel_bytes(dataset))
    if held * 8 < count * rows * columns:
        raise PixelError(
            f"instance {uid}: Pixel Data are cut short: {count} frames of {rows} x {columns} bits, {held} bytes. "
            "Send it again"
        )
    shared = next(iter(items(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    return tuple(_frame(k, group, shared, dataset) for k, group in enumerate(groups))


def _frame(index: int, group: Dataset, shared: Dataset, dataset: Dataset) -> _Frame:
    def item(name: str) -> Dataset:
        return next(iter((*items(group, name), *items(shared, name))), Dataset())

    uid = sop_uid(dataset)
    segment = integer(item("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
    if segment is None:
        raise InputError(f"instance {uid}: frame {index + 1} names no segment")
    measures, frame_uid = item("PixelMeasuresSequence"), text(dataset, "FrameOfReferenceUID")
    spacing = numbers(measures, "PixelSpacing", 2)
    position = numbers(item("PlanePositionSequence"), "ImagePositionPatient", 3)
    place = Placement(
        uid=f"{uid} frame {index + 1}",
        rows=integer(dataset, "Rows") or 0,
        columns=integer(dataset, "Columns") or 0,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(item("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        frame_of_reference=frame_uid or None,
        extent_mm=number(measures, "SliceThickness"),
    )
    return _Frame(index, segment, place, number(measures, "SpacingBetweenSlices"))


def _span(frames: Sequence[_Frame]) -> Grid:
    """The smallest regular grid on which every frame is a slice."""
    first_frame = min(frames, key=lambda f: f.place.position or ())
    first, spacing_between = first_frame.place, first_frame.spacing_between_mm or 0.0
    if all(f.place.position is None for f in frames):
        return image_grid(first)
    if first.position is None or first.spacing_mm is None or min(first.spacing_mm) <= 0.0:
        raise GeometryError(f"instance {first.uid} has no place in the patient, others have")
    row, column = directions(first)
    positions = np.unique([f.place.position for f in frames], axis=0)
    along = positions @ np.cross(row, column)
    lowest, highest = positions[np.argmin(along)], positions[np.argmax(along)]
    slices = 1 + _steps(np.sort(along) - along.min(), spacing_between, first.uid)
    affine = np.eye(4)
    affine[:3, 0] = (
        (highest - lowest) / (slices - 1)
        if slices > 1
        else np.cross(row, column) * (spacing_between or first.extent_mm or 1.0)
    )
    affine[:3, 1], affine[:3, 2] = column * first.spacing_mm[0], row * first.spacing_mm[1]
    affine[:3, 3] = lowest
    return Grid((slices, first.rows, first.columns), affine, first.frame_of_reference)


def _steps(offsets: npt.NDArray[np.float64], spacing_between: float, uid: str) -> int:
    """Slices from the lowest to the highest frame: by Spacing Between Slices where that fits, else by the least gap."""
    gaps = np.diff(offsets)
    gaps = gaps[gaps > SPACING_TOLERANCE_MM]
    if gaps.size == 0:
        return 0
    for spacing in (spacing_between, float(gaps.min())):
        if spacing <= SPACING_TOLERANCE_MM:
            continue
        steps = np.round(offsets / spacing)
        if np.abs(offsets - steps * (offsets[-1] / max(steps[-1], 1.0))).max() <= LINE_TOLERANCE_MM:
            return int(steps[-1])
    raise GeometryError(f"the frames of instance {uid.split(maxsplit=1)[0]} do not lie at equal distances")


def _slice_of(frame: _Frame, grid: Grid) -> int:
    """The slice of the grid that the frame is. Raises GeometryError where it is none."""
    place = frame.place
    if (place.rows, place.columns) != grid.shape[1:]:
        raise GeometryError(
            f"instance {place.uid}: {place.rows} x {place.columns} pixels; the grid has {grid.shape[1:]}"
        )
    if grid.space is not Space.PATIENT:
        if place.position is not None:
            raise GeometryError(f"instance {place.uid} lies in the patient, the grid does not")
        return 0
    if place.position is None or place.spacing_mm is None:
        raise GeometryError(f"instance {place.uid} has no place in the patient")
    if None not in (place.frame_of_reference, grid.frame_of_reference):
        same = place.frame_of_reference == grid.frame_of_reference
        if not same:
            raise GeometryError(f"instance {place.uid} lies in another frame of reference than the grid")
    row, column = directions(place)
    steps = np.stack([column * place.spacing_mm[0], row * place.spacing_mm[1]], axis=1)
    # What a different direction or spacing adds up to at the far corner is what counts.
    reach = np.abs(steps - grid.affine[:3, 1:3]) * np.array(grid.shape[1:])
    k = round(float(grid.to_index(place.position)[0]))
    off = np.abs(np.array(place.position) - grid.to_lps((k, 0, 0))).max()
    tolerance = LINE_TOLERANCE_MM + ORIENTATION_TOLERANCE * max(grid.shape[1:]) * max(place.spacing_mm)
    if reach.max() > tolerance or off > tolerance or not 0 <= k < grid.shape[0]:
        raise GeometryError(f"instance {place.uid} is no slice of the grid (off by {max(reach.max(), off):.2f} mm)")
    return k


def _pixels(dataset: Dataset, frame: _Frame) -> Mask:
    """The bits of one frame: lowest bit first, without padding between frames (PS3.5 8.1.1)."""
    rows, columns = frame.place.rows, frame.place.columns
    start = frame.index * rows * columns
    held = np.frombuffer(pixel_bytes(dataset), np.uint8, count=(start % 8 + rows * columns + 7) // 8, offset=start // 8)
    bits = np.unpackbits(held, bitorder="little")[start % 8 : start % 8 + rows * columns]
    return bits.reshape(rows, columns).astype(np.bool_)


def _described(dataset: Dataset, frames: Sequence[_Frame]) -> dict[int, Dataset]:
    """Items of Segment Sequence by their number. Raises InputError where frames and descriptions do not fit."""
    found: dict[int, Dataset] = {}
    for item in items(dataset, "SegmentSequence"):
        n = integer(item, "SegmentNumber")
        if n is None or n < 1 or n in found:
            raise InputError(f"instance {sop_uid(dataset)}: segment number {n} is missing, zero or used twice")
        found[n] = item
    unknown = {frame.segment for frame in frames} - set(found)
    if unknown:
        raise InputError(f"instance {sop_uid(dataset)}: frames show segment {min(unknown)}, which is not described")
    return found


def _segment(segment_number: int, item: Dataset, mask: Mask) -> SegmentRead:
    kinds = items(item, "SegmentedPropertyTypeCodeSequence")
    modifiers = tuple(map(canonical, codes(kinds[0], "SegmentedPropertyTypeModifierCodeSequence") if kinds else ()))
    algorithms = items(item, "SegmentationAlgorithmIdentificationSequence")
    name = text(item, "SegmentAlgorithmName")
    segment = Segment(
        number=segment_number,
        label=text(item, "SegmentLabel"),
        category=_first(codes(item, "SegmentedPropertyCategoryCodeSequence")) or _UNKNOWN,
        type=_first(codes(item, "SegmentedPropertyTypeCodeSequence")) or _UNKNOWN,
        mask=mask,
        modifiers=tuple(m for m in modifiers if m not in SIDES.values()),
        region=_first(codes(item, "AnatomicRegionSequence")),
        side=side_of(modifiers),
        colour=_colour(item),
    )
    return SegmentRead(
        segment=segment,
        description=" ".join(lines(item, "SegmentDescription")),
        algorithm_type=text(item, "SegmentAlgorithmType"),
        algorithm=algorithm_of(algorithms[0], name) if algorithms else Algorithm(name=name),
        tracking_id=text(item, "TrackingID"),
        tracking_uid=text(item, "TrackingUID"),
    )


def side_of(found: Collection[Code]) -> Side | None:
    """The side that the codes name, None unless exactly one."""
    sides = [side for side, code in SIDES.items() if code in found]
    return sides[0] if len(sides) == 1 else None


def _first(found: Sequence[Code]) -> Code | None:
    return canonical(found[0]) if found else None


def _model_uid(dataset: Dataset) -> str | None:
    for item in items(dataset, "ReferencedInstanceSequence"):
        if MODEL in codes(item, "PurposeOfReferenceCodeSequence"):
            return text(item, "ReferencedSOPInstanceUID")
    return None


def _colour(item: Dataset) -> tuple[int, int, int] | None:
    """Recommended Display CIELab Value as sRGB; None where it is missing or no such value."""
    values = numbers(item, "RecommendedDisplayCIELabValue", 3)
    if values is None or not all(0 <= v <= 65535 for v in values):
        return None
    return rgb_from_cielab((int(values[0]), int(values[1]), int(values[2])))
