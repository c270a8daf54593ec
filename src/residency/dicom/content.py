"""Content items of structured reports (DICOM PS3.3 C.17.3), one function a value type."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.coding import NOT_A_NUMBER, code_item
from residency.dicom.wording import decimal, long_text, person_name

CONTAINS = "CONTAINS"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"

_TEXT_LENGTH = 100_000
"""Longest text that we write into one content item (UT itself knows no useful bound)."""


def container(name: Code, template: str, children: Sequence[Dataset], relation: str | None = CONTAINS) -> Dataset:
    """A container of a template of DICOM's mapping resource ("" for none); no relation for the root."""
    item = _item("CONTAINER", name, relation)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        of = Dataset()
        of.MappingResource = "DCMR"
        of.TemplateIdentifier = template
        item.ContentTemplateSequence = [of]
    item.ContentSequence = list(children)
    return item


def text(name: Code, value: str, relation: str = CONTAINS) -> Dataset:
    """Free text."""
    item = _item("TEXT", name, relation)
    item.TextValue = long_text(value, _TEXT_LENGTH) or "-"
    return item


def coded(name: Code, value: Code, relation: str = CONTAINS, children: Sequence[Dataset] = ()) -> Dataset:
    """A code; children modify it."""
    item = _item("CODE", name, relation)
    item.ConceptCodeSequence = [code_item(value)]
    if children:
        item.ContentSequence = list(children)
    return item


def uid(name: Code, value: str, relation: str = CONTAINS) -> Dataset:
    """A UID."""
    item = _item("UIDREF", name, relation)
    item.UID = value
    return item


def number(name: Code, value: float, unit: Code) -> Dataset:
    """A measured number with its unit; one that is not finite is written as missing, with the reason."""
    item = _item("NUM", name, CONTAINS)
    if not math.isfinite(value):
        item.MeasuredValueSequence = None
        item.NumericValueQualifierCodeSequence = [code_item(NOT_A_NUMBER)]
        return item
    measured = Dataset()
    measured.NumericValue = decimal(value)
    measured.FloatingPointValue = float(value)
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item.MeasuredValueSequence = [measured]
    return item


def person(name: Code, value: str, relation: str = CONTAINS) -> Dataset:
    """A person's name."""
    item = _item("PNAME", name, relation)
    item.PersonName = person_name(value)
    return item


def instance(name: Code | None, referenced: Dataset, value_type: str = "IMAGE", relation: str = CONTAINS) -> Dataset:
    """A reference to an image (IMAGE) or to another object (COMPOSITE); key object selections give it no name."""
    item = _item(value_type, name, relation)
    item.ReferencedSOPSequence = [referenced]
    return item


def _item(value_type: str, name: Code | None, relation: str | None) -> Dataset:
    item = Dataset()
    if relation is not None:
        item.RelationshipType = relation
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [code_item(name)]
    return item
