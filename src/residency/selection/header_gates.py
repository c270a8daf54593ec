"""The gates on headers, in the order in which they are told: the first that is not passed is the reason given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from residency.card import Input
from residency.codes import Code, Kind, Relation, relate
from residency.labels import Evidence, SeriesLabels
from residency.selection.gates import MISSING, Finding, Gate, RangeGate, Status, Verdict

Axis = Literal["LR", "PA", "SI"]
AXES: tuple[Axis, ...] = ("LR", "PA", "SI")
PLANES: dict[Axis, str] = {"SI": "axial", "PA": "coronal", "LR": "sagittal"}
"""Plane of the slices by the anatomical axis along which they are stacked."""

RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"
NO_PICTURES = frozenset({"SEG", "SR", "DOC", "OT", "PR", "KO", "RTSTRUCT", "REG"})
"""Modalities of results and documents."""

PROJECTIONS = frozenset({"MIP", "MINIP", "MIN_IP", "MAX_IP", "PROJECTION IMAGE", "SCREEN SAVE"})
"""Values of Image Type for pictures made from a volume: intensity projections and screen shots (PS3.3 C.8.16.1.2)."""

SECTIONAL = frozenset({"CT", "MR", "PT", "NM"})
"""Modalities whose localisers and projections only Image Type tells apart from a volume."""

OWN_CLASSES = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),
    "MR": ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),
    "PT": ("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"),
    "NM": ("1.2.840.10008.5.1.4.1.1.20",),
    "CR": ("1.2.840.10008.5.1.4.1.1.1",),
    "RG": ("1.2.840.10008.5.1.4.1.1.1",),
    "DX": ("1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"),
    "MG": ("1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1"),
    "US": ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"),
    "XA": ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1"),
}
"""The image classes made for a modality: what fits where a card names no SOP class. Never a Secondary Capture."""


CLASS_NAMES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image",
    "1.2.840.10008.5.1.4.1.1.128": "PET Image",
    "1.2.840.10008.5.1.4.1.1.1": "CR Image",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image for processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image",
    RAW_DATA: "Raw Data",
}
"""Names of the classes that are met most (PS3.4 annex B); others are told by their UID."""


def relation(labels: SeriesLabels, regions: frozenset[Code]) -> Relation | None:
    """How the series' regions stand to a card's; None where the series has none."""
    return None if labels.regions is None else _relation(frozenset(labels.regions.value), regions)


@lru_cache(maxsize=65536)
def _relation(shown: frozenset[Code], needed: frozenset[Code]) -> Relation:
    return relate(shown, needed)


def along(labels: SeriesLabels, axis: Axis) -> int | None:
    """Which index axis (0 slice, 1 row, 2 column) runs along an anatomical axis; None where that is unknown."""
    if labels.orientation is None:
        return None
    return next((i for i, letter in enumerate(labels.orientation) if letter in axis), None)


def _usable(labels: SeriesLabels, _: object) -> Finding:
    return (Status.PASS, "whole and readable") if labels.problem is None else (Status.FAIL, labels.problem)


def _not_own(labels: SeriesLabels, _: object) -> Finding:
    if labels.own_result:
        return Status.FAIL, "a result or model object of Residency"
    if RAW_DATA in labels.sop_classes or labels.modality in NO_PICTURES:
        return Status.FAIL, f"{labels.modality} object"
    return Status.PASS, "acquired images"


def _modality(labels: SeriesLabels, demand: tuple[str, ...]) -> Finding:
    if not labels.modality:
        return Status.UNKNOWN, MISSING
    return (Status.PASS if labels.modality in demand else Status.FAIL), labels.modality


def _classes(needs: Input) -> tuple[str, ...]:
    return needs.sop_classes or tuple(dict.fromkeys(uid for m in needs.modalities for uid in OWN_CLASSES[m]))


def _sop_class(labels: SeriesLabels, demand: tuple[str, ...]) -> Finding:
    if not labels.sop_classes:
        return Status.UNKNOWN, MISSING
    fits = all(uid in demand for uid in labels.sop_classes)
    return (Status.PASS if fits else Status.FAIL), ", ".join(CLASS_NAMES.get(uid, uid) for uid in labels.sop_classes)


@dataclass(frozen=True)
class _Regions:
    """What a card demands of the region."""

    codes: frozenset[Code]
    part: bool
    larger: bool

    def __str__(self) -> str:
        named = " and ".join(sorted(str(code) for code in self.codes))
        more = (", or a part of it" if self.part else "") + (", or a region around it" if self.larger else "")
        return named + more


def _region(labels: SeriesLabels, demand: _Regions) -> Finding:
    how = relation(labels, demand.codes)
    if how is None or labels.regions is None:
        return Status.UNKNOWN, MISSING
    shown = ", ".join(str(code) for code in labels.regions.value)
    fits = {
        Kind.EXACT: Status.PASS,
        Kind.CONTAINS: Status.PASS if demand.larger else Status.FAIL,
        Kind.PARTIAL: Status.PASS if demand.part else Status.FAIL,
        Kind.DISJOINT: Status.FAIL,
        Kind.UNSURE: Status.UNKNOWN,
    }[how.kind]
    return fits, f"{shown}: {how.kind}"


def _side(labels: SeriesLabels, demand: str) -> Finding:
    if labels.side is None:
        return Status.PASS, "no side named"
    return (Status.PASS if labels.side.value == demand else Status.FAIL), labels.side.value


def _no_localiser(labels: SeriesLabels, _: object) -> Finding:
    kind = set(labels.image_type)
    if "LOCALIZER" in kind:
        return Status.FAIL, "LOCALIZER"
    if labels.modality in SECTIONAL and not kind:
        return Status.UNKNOWN, MISSING
    return Status.PASS, "\\".join(labels.image_type) or MISSING


def _no_projection(labels: SeriesLabels, _: object) -> Finding:
    made = sorted(PROJECTIONS & set(labels.image_type))
    return (Status.FAIL, made[0]) if made else (Status.PASS, "\\".join(labels.image_type) or MISSING)


def _original(labels: SeriesLabels, _: object) -> Finding:
    if not labels.image_type:
        return Status.UNKNOWN, MISSING
    fits = "DERIVED" not in labels.image_type and "ORIGINAL" in labels.image_type
    return (Status.PASS if fits else Status.FAIL), "\\".join(labels.image_type)


def _plane(labels: SeriesLabels, demand: tuple[str, ...]) -> Finding:
    plane = next((name for axis, name in PLANES.items() if along(labels, axis) == 0), None)
    if plane is None:
        return Status.UNKNOWN, MISSING
    return (Status.PASS if plane in demand else Status.FAIL), plane


def _contrast(labels: SeriesLabels, demand: str) -> Finding:
    if labels.contrast is None:
        return Status.UNKNOWN, f"{MISSING}, which proves nothing"
    given = labels.contrast.value
    return (Status.PASS if given == (demand == "required") else Status.FAIL), "given" if given else "not given"


def _weighting(labels: SeriesLabels, demand: tuple[str, ...]) -> Finding:
    if labels.weighting is None:
        return Status.UNKNOWN, MISSING
    found = labels.weighting.value
    return (Status.PASS if found in demand else Status.FAIL), found


def _photometric(labels: SeriesLabels, demand: tuple[str, ...]) -> Finding:
    if labels.photometric is None:
        return Status.UNKNOWN, MISSING
    return (Status.PASS if labels.photometric in demand else Status.FAIL), labels.photometric


def _sex(labels: SeriesLabels, demand: str) -> Finding:
    if labels.patient_sex not in ("M", "F"):
        return Status.UNKNOWN, MISSING
    return (Status.PASS if labels.patient_sex == demand else Status.FAIL), labels.patient_sex


def _source(evidence: Evidence[Any] | None) -> str | None:
    return None if evidence is None else evidence.source


def _class_names(uids: Sequence[str]) -> str:
    return " or ".join(CLASS_NAMES.get(uid, uid) for uid in uids)


def _any_of(values: Sequence[object]) -> str:
    return " or ".join(str(value) for value in values)


def _spacing(axis: Axis) -> RangeGate:
    def measure(labels: SeriesLabels) -> float | None:
        at = along(labels, axis)
        return None if at is None or labels.spacing_mm is None else labels.spacing_mm[at]

    return RangeGate(
        f"spacing {axis}", f"voxel spacing along {axis}", "mm", lambda needs: needs.spacing_mm.get(axis), measure
    )


def _field_of_view(axis: Axis) -> RangeGate:
    def measure(labels: SeriesLabels) -> float | None:
        at = along(labels, axis)
        if at is None or labels.spacing_mm is None:
            return None
        count = (labels.slices, labels.rows, labels.columns)[at]
        return None if count is None else count * labels.spacing_mm[at]

    return RangeGate(
        f"field of view {axis}", f"field of view along {axis}", "mm", lambda n: n.field_of_view_mm.get(axis), measure
    )


def _count(value: int | None) -> float | None:
    return None if value is None else float(value)


FIRST_GATES: tuple[Gate, ...] = (
    Gate(
        "own results",
        "SOP Class UID",
        lambda _: True,
        lambda s: (s.own_result, s.sop_classes, s.modality),
        _not_own,
        lambda _: "acquired images",
    ),
    Gate("modality", "Modality", lambda n: n.modalities, lambda s: s.modality, _modality, _any_of),
    Gate(
        "localiser",
        "Image Type",
        lambda _: True,
        lambda s: (s.image_type, s.modality),
        _no_localiser,
        lambda _: "no localiser",
    ),
    Gate("projection", "Image Type", lambda _: True, lambda s: s.image_type, _no_projection, lambda _: "no projection"),
    Gate("SOP class", "SOP Class UID", _classes, lambda s: s.sop_classes, _sop_class, _class_names),
    Gate("series", "series", lambda _: True, lambda s: s.problem, _usable, lambda _: "one whole, readable series"),
    Gate(
        "region",
        "anatomic region",
        lambda n: _Regions(frozenset(n.regions), n.partial_cover, n.larger_region),
        lambda s: s.regions and frozenset(s.regions.value),
        _region,
        str,
        lambda s: _source(s.regions),
    ),
    Gate(
        "side", "laterality", lambda n: n.side, lambda s: s.side and s.side.value, _side, str, lambda s: _source(s.side)
    ),
    Gate(
        "original",
        "Image Type",
        lambda n: n.derived == "refused" or None,
        lambda s: s.image_type,
        _original,
        lambda _: "original images",
    ),
    Gate("plane", "plane of the slices", lambda n: n.orientations or None, lambda s: s.orientation, _plane, _any_of),
    Gate(
        "weighting",
        "MR weighting",
        lambda n: n.weightings or None,
        lambda s: s.weighting and s.weighting.value,
        _weighting,
        _any_of,
        lambda s: _source(s.weighting),
    ),
    Gate(
        "contrast",
        "Contrast/Bolus Agent",
        lambda n: n.contrast,
        lambda s: s.contrast and s.contrast.value,
        _contrast,
        lambda demand: f"an agent {demand}",
        lambda s: _source(s.contrast),
    ),
    Gate(
        "photometric",
        "Photometric Interpretation",
        lambda n: n.photometric,
        lambda s: s.photometric,
        _photometric,
        _any_of,
    ),
    Gate("sex", "Patient's Sex", lambda n: n.sex, lambda s: s.patient_sex, _sex, str),
)

RANGE_GATES: tuple[RangeGate, ...] = (
    *(_spacing(axis) for axis in AXES),
    *(_field_of_view(axis) for axis in AXES),
    RangeGate("rows", "Rows", "", lambda n: n.rows, lambda s: _count(s.rows)),
    RangeGate("columns", "Columns", "", lambda n: n.columns, lambda s: _count(s.columns)),
    RangeGate("slices", "number of slices", "", lambda n: n.slices, lambda s: float(s.slices)),
    RangeGate("age", "Patient's Age", "years", lambda n: n.age_years, lambda s: s.patient_age_years),
)

HEADER_GATES: tuple[Gate | RangeGate, ...] = (*FIRST_GATES, *RANGE_GATES)
GATE_NAMES: tuple[str, ...] = tuple(gate.name for gate in HEADER_GATES)


def header_verdicts(labels: SeriesLabels, needs: Input) -> tuple[Verdict, ...]:
    """Every header gate of one input for one series, in order."""
    return tuple(gate.verdict(labels, needs) for gate in HEADER_GATES)
