"""A measurement report read back: the numbers with their units and what they are about (DICOM PS3.16 TID 1500).

Items are found by their concept names wherever they stand in their container: makers nest and order them differently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from residency.codes import Code, canonical
from residency.dicom.coding import APPROVAL, BOTH_SIDES, CHOICE, LATERALITY, MODEL, NOTICE, WARNING
from residency.dicom.dataset import clean, codes, integer, items, lines, number, parse, sop_uid, text, value_of
from residency.dicom.segmentation_read import Algorithm, side_of
from residency.errors import InputError
from residency.findings import Measurement
from residency.labels import Side

REPORT_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D
    }
)
MAX_DEPTH = 32
"""Deepest nesting of content items that is followed; TID 1500 needs six."""

_GROUP = ("DCM", "125007")
_TRACKING_ID, _TRACKING_UID = ("DCM", "112039"), ("DCM", "112040")
_FINDING = ("DCM", "121071")
_CATEGORY, _SITE = ("SCT", "276214006"), ("SCT", "363698007")
_SEGMENTS = frozenset({("DCM", "121191"), ("DCM", "121214")})
_OBSERVER_NAME, _OBSERVER_MODEL, _OBSERVER_SERIAL = ("DCM", "121013"), ("DCM", "121015"), ("DCM", "121016")
_ALGORITHM_NAME, _ALGORITHM_VERSION = ("DCM", "111001"), ("DCM", "111003")
_ALGORITHM_PARAMETERS, _ALGORITHM_MAKER = ("DCM", "111002"), ("DCM", "122405")


@dataclass(frozen=True)
class NumberRead:
    """A measurement and what modifies it, such as its derivation (mean, maximum) or method: (concept, answer)."""

    measurement: Measurement
    modifiers: tuple[tuple[Code, str], ...] = ()


@dataclass(frozen=True)
class MeasurementGroup:
    """One measurement group: what is measured, by what, and the numbers.

    segmentation_uid, segment  the segment that is measured, where the group refers to one
    numbers                    the value is NaN where the report says that there is none
    evaluations                coded or textual statements that are no numbers: (concept, answer)
    both_sides                 it says that it is about left and right together
    """

    tracking_id: str
    tracking_uid: str
    finding: Code | None
    category: Code | None
    site: Code | None
    side: Side | None
    segmentation_uid: str | None
    segment: int | None
    algorithm: Algorithm
    numbers: tuple[NumberRead, ...]
    evaluations: tuple[tuple[Code, str], ...]
    both_sides: bool = False

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The numbers without what modifies them; all that reports of ours need."""
        return tuple(n.measurement for n in self.numbers)


@dataclass(frozen=True)
class ReportContent:
    """What a measurement report says; notices, approval, choice, warnings and model_uid only in reports of ours.

    evidence  SOP Instance UIDs of this study that the report rests on, by series
    network   of reports of ours: the one whose result this is, named even where it found nothing
    """

    sop_uid: str
    study_uid: str
    series_uid: str
    title: Code
    groups: tuple[MeasurementGroup, ...]
    notices: tuple[str, ...]
    approval: tuple[str, ...]
    choice: tuple[str, ...]
    warnings: tuple[str, ...]
    model_uid: str | None
    evidence: Mapping[str, tuple[str, ...]]
    network: Algorithm = field(default_factory=Algorithm)

    def of_step_before(self, group: MeasurementGroup) -> bool:
        """True of what the first network of a cascade measures: a report of ours refers to the other as its model."""
        lines_of = (line for said in group.algorithm.parameters for line in said.splitlines())
        manifest = next((line.removeprefix("manifest: ") for line in lines_of if line.startswith("manifest: ")), None)
        return None not in (self.model_uid, manifest) and manifest != self.model_uid

    @property
    def measurements(self) -> dict[str, tuple[Measurement, ...]]:
        """Measurements by Tracking Identifier; groups of the same identifier one after the other."""
        found: dict[str, tuple[Measurement, ...]] = {}
        for group in self.groups:
            found[group.tracking_id] = found.get(group.tracking_id, ()) + group.measurements
        return found


def read_report(data: bytes) -> ReportContent:
    """The measurement groups and remarks of a structured report in DICOM's file format.

    Raises InputError for what is no structured report, or one without a title or any measurement group and not of
    TID 1500.
    """
    dataset = parse(data, pixels=False)
    if text(dataset, "SOPClassUID") not in REPORT_CLASSES:
        raise InputError(f"instance {sop_uid(dataset)} is no structured report of a kind that is read")
    title = _name(dataset)
    groups = tuple(_group(item) for item in _containers(dataset, _GROUP))
    templates = [text(item, "TemplateIdentifier") for item in items(dataset, "ContentTemplateSequence")]
    if title is None or (not groups and "1500" not in templates):
        raise InputError(f"instance {sop_uid(dataset)} is a structured report, but no measurement report (TID 1500)")
    top = items(dataset, "ContentSequence")
    model_uid = _referenced(top, MODEL)
    return ReportContent(
        sop_uid=sop_uid(dataset),
        study_uid=text(dataset, "StudyInstanceUID"),
        series_uid=text(dataset, "SeriesInstanceUID"),
        title=title,
        groups=groups,
        notices=_texts(top, NOTICE),
        approval=_texts(top, APPROVAL),
        choice=_texts(top, CHOICE),
        warnings=_texts(top, WARNING),
        model_uid=model_uid,
        network=_observer(top) if model_uid else Algorithm(),
        evidence={
            text(series, "SeriesInstanceUID"): tuple(
                text(item, "ReferencedSOPInstanceUID") for item in items(series, "ReferencedSOPSequence")
            )
            for study in items(dataset, "CurrentRequestedProcedureEvidenceSequence")
            for series in items(study, "ReferencedSeriesSequence")
        },
    )


def _name(item: Dataset) -> Code | None:
    found = codes(item, "ConceptNameCodeSequence")
    return found[0] if found else None


def _key(item: Dataset) -> tuple[str, str]:
    """Scheme and value of the concept name in its present coding."""
    found = _name(item)
    if found is None:
        return ("", "")
    now = canonical(found)
    return (now.scheme, now.value)


def _containers(item: Dataset, key: tuple[str, str], depth: int = 0) -> Iterator[Dataset]:
    """Containers of this concept name, outermost first; not those within one of them."""
    if depth > MAX_DEPTH:
        return
    for child in items(item, "ContentSequence"):
        if text(child, "ValueType") == "CONTAINER" and _key(child) == key:
            yield child
        else:
            yield from _containers(child, key, depth + 1)


def _texts(children: tuple[Dataset, ...], name: Code) -> tuple[str, ...]:
    return tuple("\n".join(lines(child, "TextValue")) for child in children if _name(child) == name)


def _observer(children: tuple[Dataset, ...]) -> Algorithm:
    """The first device that observed (TID 1004), as reports of ours name a network: its family with its version."""
    said = {_key(child): _answer(child) for child in reversed(children)}
    family, _, version = said.get(_OBSERVER_MODEL, "").rpartition(" ")
    parameters = {"digest": said.get(_OBSERVER_SERIAL, ""), "family": family}
    stated = tuple(f"{key}: {value}" for key, value in parameters.items() if value)
    return Algorithm(name=said.get(_OBSERVER_NAME, ""), version=version, parameters=stated)


def _referenced(children: tuple[Dataset, ...], name: Code) -> str | None:
    for child in children:
        for item in items(child, "ReferencedSOPSequence"):
            if _name(child) == name:
                return text(item, "ReferencedSOPInstanceUID")
    return None


def _group(container: Dataset) -> MeasurementGroup:
    children = items(container, "ContentSequence")
    by_key: dict[tuple[str, str], list[Dataset]] = {}
    for child in children:
        by_key.setdefault(_key(child), []).append(child)

    def said(key: tuple[str, str]) -> str:
        return _answer(by_key[key][0]) if key in by_key else ""

    sites = [child for child in children if _key(child) == _SITE and _coded(child)]
    said_sides = _sides((*children, *(c for site in sites for c in items(site, "ContentSequence"))))
    segmentation, segment = _segment(children)
    return MeasurementGroup(
        tracking_id=said(_TRACKING_ID),
        tracking_uid=said(_TRACKING_UID),
        finding=_coded(by_key[_FINDING][0]) if _FINDING in by_key else None,
        category=next((_coded(child) for child in children if _key(child) == _CATEGORY), None),
        site=_coded(sites[0]) if sites else None,
        side=side_of(said_sides),
        segmentation_uid=segmentation,
        segment=segment,
        algorithm=Algorithm(
            name=said(_ALGORITHM_NAME),
            version=said(_ALGORITHM_VERSION),
            source=said(_ALGORITHM_MAKER),
            parameters=tuple(map(_answer, by_key.get(_ALGORITHM_PARAMETERS, ()))),
        ),
        numbers=tuple(m for child in children if (m := _measurement(child, segment)) is not None),
        evaluations=tuple(e for child in children if (e := _evaluation(child)) is not None),
        both_sides=BOTH_SIDES in said_sides,
    )


def _coded(item: Dataset) -> Code | None:
    found = codes(item, "ConceptCodeSequence")
    return canonical(found[0]) if found else None


def _answer(item: Dataset) -> str:
    """What an item of text, code or UID says, as text."""
    kind = text(item, "ValueType")
    if kind == "UIDREF":
        return text(item, "UID")
    if kind == "CODE":
        return str(_coded(item) or "")
    return "\n".join(lines(item, "TextValue"))


def _sides(children: tuple[Dataset, ...]) -> list[Code]:
    return [code for child in children if _name(child) == LATERALITY and (code := _coded(child)) is not None]


def _segment(children: tuple[Dataset, ...]) -> tuple[str | None, int | None]:
    """Segmentation instance and segment number that the group refers to."""
    for child in children:
        for item in items(child, "ReferencedSOPSequence"):
            if _key(child) in _SEGMENTS:
                return text(item, "ReferencedSOPInstanceUID") or None, integer(item, "ReferencedSegmentNumber")
    return None, None


def _measurement(item: Dataset, segment: int | None) -> NumberRead | None:
    name = _name(item)
    if text(item, "ValueType") != "NUM" or name is None:
        return None
    measured = items(item, "MeasuredValueSequence")
    units = codes(measured[0], "MeasurementUnitsCodeSequence") if measured else ()
    unit = units[0] if units else Code(scheme="UCUM", value="1", meaning="no units")
    value = _value(measured[0]) if measured else math.nan
    modifiers = tuple(
        (concept, _answer(child))
        for child in items(item, "ContentSequence")
        if text(child, "RelationshipType") == "HAS CONCEPT MOD" and (concept := _name(child)) is not None
    )
    return NumberRead(Measurement(canonical(name), value, unit, segment), modifiers)


def _value(measured: Dataset) -> float:
    """Numeric Value, to the digits of Floating Point Value where the two agree: viewers show the first."""
    shown = number(measured, "NumericValue")
    if shown is None:
        return math.nan
    exact = value_of(measured, "FloatingPointValue")
    if isinstance(exact, float) and math.isclose(exact, shown, rel_tol=1e-6, abs_tol=1e-12):
        return exact
    return shown


_NO_EVALUATION = frozenset(
    {
        _TRACKING_ID,
        _TRACKING_UID,
        _FINDING,
        _CATEGORY,
        _SITE,
        _ALGORITHM_NAME,
        _ALGORITHM_VERSION,
        _ALGORITHM_PARAMETERS,
        _ALGORITHM_MAKER,
    }
)


def _evaluation(item: Dataset) -> tuple[Code, str] | None:
    name = _name(item)
    if name is None or text(item, "ValueType") not in ("CODE", "TEXT") or text(item, "RelationshipType") != "CONTAINS":
        return None
    if _key(item) in _NO_EVALUATION:
        return None
    return canonical(name), clean(_answer(item))
