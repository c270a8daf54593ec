"""A DICOM Segmentation read back: masks on a grid, and who made them (DICOM PS3.3 A.51, A.90, C.8.20), of any maker.

Read are BINARY, LABELMAP and FRACTIONAL ones. Which segment a frame shows stands in its functional groups or, in a
label map, in its pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    numbers,
    parse,
    pixel_bytes,
    sop_uid,
    text,
    transfer_syntax,
)
from residency.dicom.frame_places import FramePlace, check_apart, frame_places, slice_of, span
from residency.dicom.image_pixel import format_of
from residency.dicom.pixels import check_syntax, found_in, stored_values
from residency.dicom.segmentation import LABEL_MAP_STORAGE, SEGMENTATION_CLASSES, SegmentationType
from residency.errors import InputError, PixelError
from residency.findings import Mask, Segment
from residency.labels import Side
from residency.volume import Grid

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
    """One segment with its mask, and what the object says of its origin.

    fractions  of a FRACTIONAL segmentation: float32, 0 to 1, (slices, rows, columns); the mask is then where they are
               at least one half
    """

    segment: Segment
    description: str
    algorithm_type: str
    algorithm: Algorithm
    tracking_id: str
    tracking_uid: str
    fractions: npt.NDArray[np.float32] | None = None


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
    type: SegmentationType


def read_segmentation(
    data: bytes, grid: Grid | None = None, *, only: Collection[int] | None = None
) -> SegmentationContent:
    """The segments of a Segmentation in DICOM's file format.

    grid  where the masks shall lie, usually that of the source series; None takes the grid that the frames span
    only  segment numbers to unpack; None takes all

    Raises InputError for what is no segmentation, PixelError for incomplete or damaged pixels, GeometryError where
    frames do not lie on one regular grid, or not on the given one.
    """
    dataset = parse(data)
    kind = _kind(dataset)
    frames = frame_places(dataset)
    found = span(frames) if grid is None else grid
    described = _described(dataset, kind)
    wanted = {n: item for n, item in described.items() if n and (only is None or n in only)}
    each = 1 if kind is not SegmentationType.FRACTIONAL else 5
    if each * len(wanted) * int(np.prod(found.shape, dtype=np.int64)) > MAX_MASK_VOXELS:
        raise InputError(
            f"instance {sop_uid(dataset)}: {len(wanted)} segments on a grid of {found.shape} are more than is read "
            "at once; ask for some segments only"
        )
    places = [(frame, slice_of(frame, found)) for frame in frames]
    apart = kind is not SegmentationType.LABELMAP
    check_apart(((_number(frame, described) if apart else None, k) for frame, k in places), sop_uid(dataset))
    fractions: dict[int, npt.NDArray[np.float32]] = {}
    if kind is SegmentationType.FRACTIONAL:
        fractions = _fractions(dataset, places, wanted, described, found)
        masks = {n: values >= np.float32(0.5) for n, values in fractions.items()}
    else:
        masks = {n: np.zeros(found.shape, dtype=np.bool_) for n in wanted}
        shown = _bits if kind is SegmentationType.BINARY else _labels
        for number, k, mask in shown(dataset, places, described):
            if number in masks:
                masks[number][k] |= mask
    return SegmentationContent(
        sop_uid=sop_uid(dataset),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        description=text(dataset, "SeriesDescription"),
        grid=found,
        segments=tuple(_segment(n, item, masks[n], fractions.get(n)) for n, item in wanted.items()),
        source_series_uids=tuple(
            text(item, "SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence")
        ),
        source_uids=tuple(
            text(image, "ReferencedSOPInstanceUID")
            for series in items(dataset, "ReferencedSeriesSequence")
            for image in items(series, "ReferencedInstanceSequence")
        ),
        model_uid=model_uid_of(dataset),
        type=kind,
    )


def algorithm_of(item: Dataset, name: str = "") -> Algorithm:
    """Item of an algorithm identification sequence (PS3.3 table 10-19)."""
    return Algorithm(
        name=text(item, "AlgorithmName") or name,
        version=text(item, "AlgorithmVersion"),
        source=text(item, "AlgorithmSource"),
        parameters=lines(item, "AlgorithmParameters"),
    )


def _kind(dataset: Dataset) -> SegmentationType:
    """BINARY, LABELMAP or FRACTIONAL. Raises InputError for other objects, PixelError for pixels that do not fit."""
    uid, syntax, sop_class = sop_uid(dataset), transfer_syntax(dataset), text(dataset, "SOPClassUID")
    if sop_class not in SEGMENTATION_CLASSES:
        name = UID(sop_class).name if sop_class else "no SOP Class UID"
        raise InputError(f"instance {uid} ({name}) is no Segmentation")
    said = text(dataset, "SegmentationType")
    if said not in set(SegmentationType) or (said == SegmentationType.LABELMAP) != (sop_class == LABEL_MAP_STORAGE):
        raise InputError(f"instance {uid}: Segmentation Type '{said}' does not belong to its SOP class")
    if said != SegmentationType.BINARY:
        check_syntax(dataset)
        return SegmentationType(said)
    if syntax not in _SYNTAXES:
        raise PixelError(f"instance {uid}: transfer syntax {UID(syntax).name} ({syntax}) is not read for single bits")
    if integer(dataset, "BitsAllocated") != 1:
        raise PixelError(f"instance {uid}: a BINARY segmentation has Bits Allocated 1")
    count, rows, columns = (integer(dataset, k) or 0 for k in ("NumberOfFrames", "Rows", "Columns"))
    held = len(pixel_bytes(dataset))
    if held * 8 < count * rows * columns:
        raise PixelError(
            f"instance {uid}: Pixel Data are cut short: {count} frames of {rows} x {columns} bits, {held} bytes. "
            "Send it again"
        )
    return SegmentationType.BINARY


_Places = Sequence[tuple[FramePlace, int]]
"""Frames, each with the slice of the grid that it is."""


def _number(frame: FramePlace, described: Mapping[int, Dataset]) -> int:
    """The segment that a frame shows. Raises InputError where it names none that is described."""
    segment = integer(frame.item("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
    uid = frame.placement.uid
    if segment is None:
        raise InputError(f"instance {uid} names no segment")
    if segment not in described:
        raise InputError(f"instance {uid} shows segment {segment}, which is not described")
    return segment


def _bits(dataset: Dataset, places: _Places, described: Mapping[int, Dataset]) -> Iterator[tuple[int, int, Mask]]:
    """Segment, slice and mask of each frame: lowest bit first, without padding between frames (PS3.5 8.1.1)."""
    data = pixel_bytes(dataset)
    for frame, k in places:
        rows, columns = frame.placement.rows, frame.placement.columns
        start = frame.index * rows * columns
        held = np.frombuffer(data, np.uint8, count=(start % 8 + rows * columns + 7) // 8, offset=start // 8)
        bits = np.unpackbits(held, bitorder="little")[start % 8 : start % 8 + rows * columns]
        yield _number(frame, described), k, bits.reshape(rows, columns).astype(np.bool_)


def _labels(dataset: Dataset, places: _Places, described: Mapping[int, Dataset]) -> Iterator[tuple[int, int, Mask]]:
    """Segment, slice and mask of every segment that is on a frame of a label map."""
    stored = found_in(dataset, format_of(dataset))
    background = integer(dataset, "PixelPaddingValue")
    for frame, k in places:
        labels, _ = stored_values(stored, frame.index)
        for number in np.unique(labels).tolist():
            if number in (0, background):
                continue
            if number not in described:
                raise InputError(f"instance {frame.placement.uid} shows segment {number}, which is not described")
            yield number, k, labels == number


def _fractions(
    dataset: Dataset,
    places: _Places,
    wanted: Mapping[int, Dataset],
    described: Mapping[int, Dataset],
    grid: Grid,
) -> dict[int, npt.NDArray[np.float32]]:
    """Values of each segment, 0 to 1: stored values by Maximum Fractional Value (C.8.20.2.3)."""
    stored, most = found_in(dataset, format_of(dataset)), integer(dataset, "MaximumFractionalValue") or 0
    if not 1 <= most <= 255 or stored.format.bits_allocated != 8:
        raise PixelError(
            f"instance {sop_uid(dataset)}: Maximum Fractional Value {most} of {stored.format.bits_allocated} bits; a "
            "FRACTIONAL segmentation has 8 bits, and 1 to 255 stands for 1"
        )
    values = {n: np.zeros(grid.shape, dtype=np.float32) for n in wanted}
    for frame, k in places:
        number = _number(frame, described)
        if number in values:
            held, _ = stored_values(stored, frame.index)
            if held.max(initial=0) > most:
                raise PixelError(f"instance {frame.placement.uid} holds a fraction above 1")
            values[number][k] = np.maximum(values[number][k], held.astype(np.float32) / np.float32(most))
    return values


def _described(dataset: Dataset, kind: SegmentationType) -> dict[int, Dataset]:
    """Items of Segment Sequence by their number; 0 is the background of a label map, and of nothing else."""
    found: dict[int, Dataset] = {}
    least = 0 if kind is SegmentationType.LABELMAP else 1
    for item in items(dataset, "SegmentSequence"):
        n = integer(item, "SegmentNumber")
        if n is None or n < least or n in found:
            raise InputError(f"instance {sop_uid(dataset)}: segment number {n} is missing, zero or used twice")
        found[n] = item
    return found


def _segment(segment_number: int, item: Dataset, mask: Mask, fractions: npt.NDArray[np.float32] | None) -> SegmentRead:
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
        fractions=fractions,
    )


def side_of(found: Collection[Code]) -> Side | None:
    """The side that the codes name, None unless exactly one."""
    sides = [side for side, code in SIDES.items() if code in found]
    return sides[0] if len(sides) == 1 else None


def _first(found: Sequence[Code]) -> Code | None:
    return canonical(found[0]) if found else None


def model_uid_of(dataset: Dataset) -> str | None:
    """The manifest of the network that made a result of ours; None for others."""
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
