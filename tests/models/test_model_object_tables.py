"""The tables of the model object are what is written: every attribute is listed, and every mandatory one is there."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator

import pydicom
import pytest
from pydicom.datadict import tag_for_keyword

from residency.dicom.model_attributes import ATTRIBUTES, CARD, KINDS, PRIVATE_ATTRIBUTES
from residency.dicom.model_object import (
    BYTES,
    ELEMENTS,
    KEY_ID,
    MANIFEST,
    PART,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    SIGNATURE,
    STATEMENT,
)
from residency.dicom.model_write import encode_card_page, encode_manifest, encode_parts, encode_statement
from residency.package import ModelPackage, Payload, build_package
from residency.testing.cards import example_card, example_package
from residency.trust import Kind, Role, SigningKey, Statement, sign_statement

TYPES = {"1", "1C", "2", "2C", "3"}


def approval(subject: str, key: SigningKey, expires: dt.datetime | None) -> Statement:
    """With an expiry it also has a comment."""
    return Statement(
        kind=Kind.APPROVED,
        subject=subject,
        issuer=key.key_id,
        role=Role.APPROVER,
        issued=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        expires=expires,
        comment="for the ward" if expires else "",
    )


def packages() -> list[ModelPackage]:
    """Whole, without any payload byte, and with another region."""
    empty = [
        Payload("graph", "graph.onnx", "application/onnx", b""),
        Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", b""),
        Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", b""),
    ]
    return [example_package(), build_package(example_card(), empty)]


def written(key: SigningKey) -> Iterator[tuple[str, pydicom.Dataset]]:
    """Every kind of instance, in every form that the conditions allow."""
    for package in packages():
        manifest = package.manifest
        made = [(PART, one) for one in encode_parts(package, "SITE")]
        signatures = (None, key.sign(manifest.text))
        made += [(MANIFEST, encode_manifest(manifest, signature, "SITE")) for signature in signatures]
        for expires in (None, dt.datetime(2027, 1, 1, tzinfo=dt.UTC)):
            signed = sign_statement(approval(package.digest, key, expires), key)
            made.append((STATEMENT, encode_statement(signed, manifest, "SITE")))
        made.append((CARD, encode_card_page(manifest, b"%PDF-1.4\n%%EOF", "SITE")))
        for kind, one in made:
            yield kind, pydicom.dcmread(io.BytesIO(one.data))


def paths(ds: pydicom.Dataset, before: str = "") -> Iterator[tuple[str, bool]]:
    """(path, has a value) of every standard attribute; what is within a code is the standard's own."""
    for element in ds:
        if element.tag.is_private:
            continue
        yield before + element.keyword, not element.is_empty
        if element.VR == "SQ" and not element.keyword.endswith("CodeSequence"):
            for item in element.value:
                yield from paths(item, f"{before}{element.keyword}>")


def test_every_attribute_written_is_in_the_table(key: SigningKey):
    """What a reader meets in an archive and does not find in the reference, it cannot trust."""
    for kind, ds in written(key):
        listed = {one.path: one for one in ATTRIBUTES if kind in one.kinds}
        unlisted = {path for path, _ in paths(ds)} - set(listed)
        assert not unlisted, kind
        empty = {path for path, filled in paths(ds) if not filled}
        assert not {path for path in empty if listed[path].type not in ("2", "2C")}, kind


def test_every_mandatory_attribute_is_written(key: SigningKey):
    for kind, ds in written(key):
        there = dict(paths(ds))
        for one in ATTRIBUTES:
            if kind in one.kinds and one.type in ("1", "2"):
                assert one.path in there, (kind, one.path)
                assert one.type == "2" or there[one.path], (kind, one.path)


def test_conditions_hold_in_both_directions(key: SigningKey):
    """An attribute of type 1C that is always or never there has a wrong condition."""
    seen: dict[tuple[str, str], set[bool]] = {}
    for kind, ds in written(key):
        there = dict(paths(ds))
        for one in ATTRIBUTES:
            if kind in one.kinds and one.type in ("1C", "2C"):
                seen.setdefault((kind, one.path), set()).add(one.path in there)
    without_term = example_package({"inputs.0.regions": [_NOWHERE]})
    ds = pydicom.dcmread(io.BytesIO(encode_manifest(without_term.manifest, None, "SITE").data))
    assert "BodyPartExamined" not in ds
    seen[MANIFEST, "BodyPartExamined"].add(False)
    expiry = "ApprovalSequence>AssertionExpirationDateTime"
    assert seen[STATEMENT, expiry] == {True, False}
    assert seen[MANIFEST, "BodyPartExamined"] == {True, False}


_NOWHERE = {"scheme": "SCT", "value": "113346000", "meaning": "Omental bursa"}


def test_the_private_block_is_as_its_table_says(key: SigningKey):
    for kind, ds in written(key):
        block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR) if kind != CARD else None
        held = {e.tag.element & 0xFF: e for e in ds.group_dataset(PRIVATE_GROUP) if e.tag.element > 0xFF}
        listed = {one.offset: one.types[kind] for one in PRIVATE_ATTRIBUTES if kind in one.types}
        assert set(held) <= set(listed), kind
        assert {at for at, type_ in listed.items() if type_ in ("1", "2")} <= set(held), kind
        assert not {at for at, e in held.items() if e.is_empty and listed[at] != "2"}, kind
        assert all(ELEMENTS[at][0] == e.VR for at, e in held.items())
        assert (SIGNATURE in held) == (KEY_ID in held)
        assert block is not None or not held


def test_the_tables_are_whole():
    assert {one.offset for one in PRIVATE_ATTRIBUTES} == set(ELEMENTS)
    assert {one.type for one in ATTRIBUTES} <= TYPES
    assert {type_ for one in PRIVATE_ATTRIBUTES for type_ in one.types.values()} <= TYPES
    assert PRIVATE_ATTRIBUTES[-1].offset == BYTES, "last, so that all before it can be read cheaply"
    assert all(tag_for_keyword(one.path.split(">")[-1]) for one in ATTRIBUTES)
    for kind in KINDS:
        named = [one.path for one in ATTRIBUTES if kind in one.kinds]
        assert len(named) == len(set(named)), "an attribute stands twice"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_what_finding_it_needs(kind: str):
    """Patient, study, series and SOP attributes of type 1: without them no archive files the object."""
    mandatory = {one.path for one in ATTRIBUTES if kind in one.kinds and one.type == "1"}
    assert {
        "PatientID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "SOPClassUID",
        "Modality",
    } <= mandatory
