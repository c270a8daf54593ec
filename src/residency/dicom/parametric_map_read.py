"""A DICOM Parametric Map read back: values on a grid, what they are, and in which unit (PS3.3 A.75), of any maker.

Values are real world values: stored values by the slope and intercept of the Real World Value Mapping. An object with
several quantities becomes several maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian

from residency.codes import Code, canonical
from residency.decide import NO_UNITS
from residency.dicom.coding import FINDING, FINDING_CATEGORY, FINDING_SITE, LATERALITY, QUANTITY
from residency.dicom.dataset import (
    codes,
    integer,
    items,
    number,
    parse,
    pixel_bytes,
    sop_uid,
    text,
    transfer_syntax,
)
from residency.dicom.frame_places import FramePlace, check_apart, frame_places, slice_of, span
from residency.dicom.image_pixel import format_of
from residency.dicom.parametric_map import PARAMETRIC_MAP_STORAGE
from residency.dicom.pixels import NATIVE, check_syntax, found_in, stored_values
from residency.dicom.segmentation_read import model_uid_of, side_of
from residency.errors import InputError, PixelError
from residency.findings import ScoreMap
from residency.labels import Side
from residency.volume import Grid

MAX_MAP_VOXELS = 2**30
"""Most voxels of all maps together that are read, 4 GiB. A few bytes of frames may span a huge grid."""

_UNKNOWN = Code(scheme="99RESIDENCY", value="UNKNOWN", meaning="Not coded")

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MapContent:
    """What a Parametric Map holds.

    grid        the grid asked for, else the smallest regular grid that holds every frame
    maps        one a quantity; NaN where the object has no frame
    source_uids SOP Instance UIDs that the object says it was made from
    model_uid   manifest of the network, in results of ours, else None
    """

    sop_uid: str
    study_uid: str
    series_uid: str
    description: str
    grid: Grid
    maps: tuple[ScoreMap, ...]
    source_uids: tuple[str, ...]
    model_uid: str | None


@dataclass(frozen=True)
class _Mapping:
    """What stored values mean; equal ones are one map."""

    label: str
    explanation: str
    quantity: Code
    unit: Code
    category: Code | None
    type: Code | None
    region: Code | None
    side: Side | None
    slope: float
    intercept: float


def read_parametric_map(data: bytes, grid: Grid | None = None) -> MapContent:
    """The maps of a Parametric Map in DICOM's file format.

    grid  where the values shall lie, usually that of the source series; None takes the grid that the frames span

    Raises InputError for what is no Parametric Map or maps its values by a table, PixelError for incomplete pixels,
    GeometryError where frames do not lie on one regular grid, or not on the given one.
    """
    dataset = parse(data)
    uid, sop_class = sop_uid(dataset), text(dataset, "SOPClassUID")
    if sop_class != PARAMETRIC_MAP_STORAGE:
        name = UID(sop_class).name if sop_class else "no SOP Class UID"
        raise InputError(f"instance {uid} ({name}) is no Parametric Map")
    frames = frame_places(dataset)
    found = span(frames) if grid is None else grid
    mappings = [_mapping(frame) for frame in frames]
    places = [slice_of(frame, found) for frame in frames]
    check_apart(zip(mappings, places, strict=True), uid)
    if len(set(mappings)) * int(np.prod(found.shape, dtype=np.int64)) > MAX_MAP_VOXELS:
        raise InputError(f"instance {uid}: {len(set(mappings))} maps on a grid of {found.shape} are more than is read")
    arrays = {m: np.full(found.shape, np.nan, dtype=np.float32) for m in dict.fromkeys(mappings)}
    stored = _Stored(dataset)
    for frame, mapping, k in zip(frames, mappings, places, strict=True):
        # What float32 cannot hold becomes infinite: the numbers are another's, and are shown as they are.
        with np.errstate(over="ignore", invalid="ignore"):
            arrays[mapping][k] = stored.values(frame) * mapping.slope + mapping.intercept
    return MapContent(
        sop_uid=uid,
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        description=text(dataset, "SeriesDescription"),
        grid=found,
        maps=tuple(_map(n, m, array) for n, (m, array) in enumerate(arrays.items(), start=1)),
        source_uids=tuple(
            text(image, "ReferencedSOPInstanceUID")
            for series in items(dataset, "ReferencedSeriesSequence")
            for image in items(series, "ReferencedInstanceSequence")
        ),
        model_uid=model_uid_of(dataset),
    )


def _map(map_number: int, mapping: _Mapping, array: npt.NDArray[np.float32]) -> ScoreMap:
    # The label is cut to 16 characters; the explanation says it whole after the quantity.
    whole = mapping.explanation.removeprefix(f"{mapping.quantity.meaning}: ")
    cut = mapping.label.endswith("...") and whole.startswith(mapping.label[:-3].rstrip())
    return ScoreMap(
        quantity=mapping.quantity,
        unit=mapping.unit,
        array=array,
        number=map_number,
        label=whole if cut else mapping.label,
        category=mapping.category,
        type=mapping.type,
        region=mapping.region,
        side=mapping.side,
    )


def _mapping(frame: FramePlace) -> _Mapping:
    """The one linear mapping of a frame. Raises InputError where there is none or a table."""
    uid = frame.placement.uid
    found = frame.all_items("RealWorldValueMappingSequence")
    linear = [item for item in found if number(item, "RealWorldValueSlope") is not None]
    if not linear:
        raise InputError(f"instance {uid}: no slope says what its values mean; tables are not read")
    item = linear[0]
    entries = items(item, "QuantityDefinitionSequence")
    said = {
        name: code
        for entry in entries
        if (name := _concept(entry, "ConceptNameCodeSequence")) and (code := _concept(entry, "ConceptCodeSequence"))
    }
    return _Mapping(
        label=text(item, "LUTLabel"),
        explanation=text(item, "LUTExplanation"),
        quantity=said.get(QUANTITY) or next(iter(said.values()), _UNKNOWN),
        unit=_concept(item, "MeasurementUnitsCodeSequence") or NO_UNITS,
        category=said.get(FINDING_CATEGORY),
        type=said.get(FINDING),
        region=said.get(FINDING_SITE),
        side=side_of([said[LATERALITY]]) if LATERALITY in said else None,
        slope=number(item, "RealWorldValueSlope") or 0.0,
        intercept=number(item, "RealWorldValueIntercept") or 0.0,
    )


def _concept(item: Dataset, keyword: str) -> Code | None:
    found = codes(item, keyword)
    return canonical(found[0]) if found else None


class _Stored:
    """Stored values of frames: Float or Double Float Pixel Data, or Pixel Data of 8 or 16 bits."""

    def __init__(self, dataset: Dataset) -> None:
        self._integers = self._floats = None
        check_syntax(dataset)
        if "PixelData" in dataset:
            self._integers = found_in(dataset, format_of(dataset))
            return
        keyword = "FloatPixelData" if "FloatPixelData" in dataset else "DoubleFloatPixelData"
        if transfer_syntax(dataset) not in NATIVE:
            raise PixelError(f"instance {sop_uid(dataset)}: {keyword} cannot be compressed")
        data = pixel_bytes(dataset, keyword)
        order = ">" if transfer_syntax(dataset) == ExplicitVRBigEndian else "<"
        self._floats = np.frombuffer(data, f"{order}f{4 if keyword == 'FloatPixelData' else 8}")
        count = (integer(dataset, "NumberOfFrames") or 0) * (integer(dataset, "Rows") or 0)
        needed = count * (integer(dataset, "Columns") or 0)
        if self._floats.size < needed:
            raise PixelError(
                f"instance {sop_uid(dataset)}: {keyword} is cut short: {needed} values are announced, "
                f"{self._floats.size} are there. Send it again"
            )

    def values(self, frame: FramePlace) -> Values:
        """float64, (rows, columns)."""
        if self._integers is not None:
            held, _ = stored_values(self._integers, frame.index)
            return held.astype(np.float64)
        assert self._floats is not None
        rows, columns = frame.placement.rows, frame.placement.columns
        size = rows * columns
        part = self._floats[frame.index * size : (frame.index + 1) * size]
        return part.reshape(rows, columns).astype(np.float64)
