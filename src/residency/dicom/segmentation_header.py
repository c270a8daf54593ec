"""What a DICOM Segmentation says of itself before its masks are unpacked."""

from __future__ import annotations

from dataclasses import dataclass

from residency.codes import Code, canonical
from residency.dicom.dataset import codes, integer, items, parse, sop_uid, text
from residency.dicom.segmentation import SEGMENTATION_CLASSES
from residency.dicom.segmentation_read import model_uid_of
from residency.errors import InputError


@dataclass(frozen=True)
class SegmentationHeader:
    """Where a Segmentation comes from and what it shows.

    source_series_uids  series that it refers to
    segments            number and type of each segment; None where it has no code
    model_uid           manifest of the network, in results of ours, else None
    """

    sop_uid: str
    source_series_uids: tuple[str, ...]
    segments: tuple[tuple[int, Code | None], ...]
    model_uid: str | None


def read_segmentation_header(data: bytes) -> SegmentationHeader:
    """The header of a Segmentation in DICOM's file format, with or without Pixel Data.

    Raises InputError for what is no segmentation, or one whose segments have no number of their own.
    """
    dataset = parse(data, pixels=False)
    uid = sop_uid(dataset)
    if text(dataset, "SOPClassUID") not in SEGMENTATION_CLASSES:
        raise InputError(f"instance {uid} is no Segmentation")
    found: dict[int, Code | None] = {}
    for item in items(dataset, "SegmentSequence"):
        number = integer(item, "SegmentNumber")
        if number is None or number in found:
            raise InputError(f"instance {uid}: segment number {number} is missing or used twice")
        types = codes(item, "SegmentedPropertyTypeCodeSequence")
        found[number] = canonical(types[0]) if types else None
    return SegmentationHeader(
        sop_uid=uid,
        source_series_uids=tuple(
            text(item, "SeriesInstanceUID") for item in items(dataset, "ReferencedSeriesSequence")
        ),
        segments=tuple(found.items()),
        model_uid=model_uid_of(dataset),
    )
