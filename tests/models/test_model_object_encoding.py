"""The model object as bytes: fixed once and for all, since objects in archives must stay readable."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ImplicitVRLittleEndian

from residency.dicom.model_object import (
    MANIFEST,
    PART,
    PRIVATE_CREATOR,
    PRIVATE_GROUP,
    ManifestObject,
    PartObject,
    StatementObject,
    manifest_uid_of,
    plan_parts,
    series_uid_of,
    statement_uid_of,
)
from residency.dicom.model_read import check_place, decode
from residency.dicom.model_write import encode_card_page, encode_manifest, encode_parts, encode_statement
from residency.errors import DigestError, ManifestError, MisplacedError, StrippedError
from residency.package import PART_BYTES, ModelPackage, Payload, build_package, parse_manifest, verified_package
from residency.standing import Scope
from residency.testing.cards import example_card, example_package
from residency.trust import Kind, Role, SigningKey, Statement, sign_statement

ISSUER = "SITE"
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "model_object"


@pytest.fixture
def encoded(package: ModelPackage, key: SigningKey) -> dict[str, bytes]:
    """One instance of each kind."""
    manifest = package.manifest
    statement = Statement(
        kind=Kind.EVALUATED,
        subject=package.digest,
        issuer=key.key_id,
        role=Role.PUBLISHER,
        issued=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    return {
        "part": next(iter(encode_parts(package, ISSUER))).data,
        "card": encode_card_page(manifest, b"%PDF-1.4\n%%EOF", ISSUER).data,
        "manifest": encode_manifest(manifest, key.sign(manifest.text), ISSUER).data,
        "statement": encode_statement(sign_statement(statement, key), manifest, ISSUER).data,
    }


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def written(ds: pydicom.Dataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


def test_bytes_of_a_version_are_fixed():
    """Golden bytes: were they to change, a published version would conflict with itself when publishing resumes.

    The files were written by the first release; they must be read, and written again, byte for byte.
    """
    stored = [(GOLDEN / name).read_bytes() for name in ("part-1.dcm", "part-2.dcm", "part-3.dcm", "manifest.dcm")]
    *parts, manifest = (decode(data) for data in stored)
    assert isinstance(manifest, ManifestObject)
    payloads = {part.payload: part.data for part in parts if isinstance(part, PartObject)}
    package = verified_package(parse_manifest(manifest.text), payloads)
    check_place(manifest, package.card)
    made = [*encode_parts(package, ISSUER), encode_manifest(package.manifest, manifest.signature, ISSUER)]
    assert [one.data for one in made] == stored
    assert made[-1].uid == manifest_uid_of(package.digest)


def test_every_object_passes_the_validator(encoded: dict[str, bytes], tmp_path: Path):
    """dciodvfy (dicom3tools) knows the modules of each SOP class; private elements are only unknown to it."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    for kind, data in encoded.items():
        file = tmp_path / f"{kind}.dcm"
        file.write_bytes(data)
        said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], kind


def test_a_part_and_a_manifest_come_back(encoded: dict[str, bytes], package: ModelPackage, key: SigningKey):
    part, manifest = decode(encoded["part"]), decode(encoded["manifest"])
    first = plan_parts(package.manifest)[0]
    assert isinstance(part, PartObject)
    assert (part.uid, part.payload, part.index, part.offset) == (first.uid, first.payload, 1, 0)
    assert part.data == package.payload(first.payload).data
    assert part.digest == package.digest
    assert isinstance(manifest, ManifestObject)
    assert manifest.text == package.manifest.text
    assert manifest.signature == key.sign(package.manifest.text)
    check_place(manifest, package.card)


def test_a_statement_comes_back_and_lies_in_the_series_of_its_model(encoded: dict[str, bytes], package: ModelPackage):
    found = decode(encoded["statement"])
    assert isinstance(found, StatementObject)
    assert found.signed.statement.kind is Kind.EVALUATED
    assert found.series_uid == series_uid_of(package.digest)
    assert found.uid == statement_uid_of(found.signed)


@pytest.mark.parametrize("kind", [k for k in Kind if k not in (Kind.ADMITTED, Kind.FAILED)])
def test_a_statement_says_the_same_as_protocol_approval_does(
    kind: Kind, package: ModelPackage, key: SigningKey, tmp_path: Path
):
    """Assertion Macro (PS3.3 10.30): an export copies the item; codes are those of CID 800."""
    statement = Statement(
        kind=kind,
        subject=package.digest,
        issuer=key.key_id,
        role=Role.APPROVER,
        issued=dt.datetime(2026, 11, 21, 14, 30, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        expires=None if kind is Kind.REVOKED else dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
        scope=Scope(modalities=("MR",)),
        comment="Größe\ngeprüft",
        evidence={"by": "Müller^Ann", "report": "a.pdf"},
    )
    made = encode_statement(sign_statement(statement, key), package.manifest, ISSUER)
    ds = read(made.data)
    (item,), (subject,) = ds.ApprovalSequence, ds.ApprovalSubjectSequence
    (code,), (who,) = item.AssertionCodeSequence, item.AsserterIdentificationSequence
    if code.CodingSchemeDesignator == "DCM":
        named = {getattr(codes.CID800, name) for name in codes.CID800.dir()}
        assert Code(code.CodeValue, "DCM", code.CodeMeaning) in named
    else:
        assert (code.CodingSchemeDesignator, code.CodeValue) == ("99RESIDENCY", kind.name)
    assert item.AssertionUID == ds.SOPInstanceUID == made.uid
    assert subject.ReferencedSOPInstanceUID == manifest_uid_of(package.digest)
    assert item.AssertionDateTime == "20261121123000.000000+0000"
    assert item.get("AssertionExpirationDateTime") == (None if kind is Kind.REVOKED else "20270101000000.000000+0000")
    assert item.AssertionComments == "Größe\r\ngeprüft\r\nScope: modality MR\r\nreport: a.pdf"
    assert (who.ObserverType, who.PersonName) == ("PSN", "Müller^Ann")
    assert who.PersonIdentificationCodeSequence[0].LongCodeValue == key.key_id.removeprefix("sha256:")
    assert who.OrganizationalRoleCodeSequence[0].CodeValue == "APPROVER"
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    (tmp_path / "statement.dcm").write_bytes(made.data)
    judged = subprocess.run(
        ["dciodvfy", "-new", str(tmp_path / "statement.dcm")], capture_output=True, text=True, check=False
    )
    assert [line for line in (judged.stdout + judged.stderr).splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("kind", ["part", "manifest", "statement"])
def test_implicit_vr_changes_nothing(kind: str, encoded: dict[str, bytes]):
    """Transfer as Implicit VR Little Endian makes every private value UN; the bytes are the same."""
    ds = read(encoded[kind])
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, implicit_vr=True, little_endian=True)
    again = read(out.getvalue())
    assert {e.VR for e in again.group_dataset(PRIVATE_GROUP) if e.tag.element > 0xFF} == {"UN"}
    assert decode(out.getvalue()) == decode(encoded[kind])


@pytest.mark.parametrize("kind", ["part", "manifest"])
def test_a_moved_block_is_found_by_its_creator(kind: str, encoded: dict[str, bytes]):
    """Archives may renumber private blocks; another creator may sit in ours."""
    ds = read(encoded[kind])
    moved = read(encoded[kind])
    for element in list(ds.group_dataset(PRIVATE_GROUP)):
        del moved[element.tag]
    moved.private_block(PRIVATE_GROUP, "SOMEONE ELSE", create=True).add_new(1, "LO", "PART")
    for element in ds.group_dataset(PRIVATE_GROUP):
        number = element.tag.element
        tag = (PRIVATE_GROUP, 0x42 if number <= 0xFF else 0x4200 | (number & 0xFF))
        moved.add_new(tag, element.VR, element.value)
    assert moved[PRIVATE_GROUP, 0x42].value == PRIVATE_CREATOR
    assert decode(written(moved)) == decode(encoded[kind])


def test_padding_of_the_text_is_not_content(encoded: dict[str, bytes], package: ModelPackage):
    ds = read(encoded["manifest"])
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
    block[0x0A].value = package.manifest.text.decode() + "   "
    found = decode(written(ds))
    assert isinstance(found, ManifestObject)
    assert found.text == package.manifest.text


def test_a_removed_private_block_is_named(encoded: dict[str, bytes]):
    """De-identification removes private elements: this must be said, not look like damage."""
    ds = read(encoded["part"])
    ds.remove_private_tags()
    with pytest.raises(StrippedError, match="private block missing: stripped or anonymised in transit"):
        decode(written(ds))


def test_a_removed_payload_element_is_named(encoded: dict[str, bytes]):
    ds = read(encoded["part"])
    del ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[0x10]
    with pytest.raises(ManifestError, match="payload missing"):
        decode(written(ds))


def test_the_block_is_announced_as_safe(encoded: dict[str, bytes]):
    """PS3.15 E.3.10 lets de-identifiers keep private elements that say they are safe; it must list all we write."""
    for kind in ("part", "manifest", "statement"):
        ds = read(encoded[kind])
        item = ds.PrivateDataElementCharacteristicsSequence[0]
        assert (item.PrivateGroupReference, item.PrivateCreatorReference) == (PRIVATE_GROUP, PRIVATE_CREATOR)
        assert item.BlockIdentifyingInformationStatus == "SAFE"
        announced = {
            d.PrivateDataElement: d.PrivateDataElementValueRepresentation
            for d in item.PrivateDataElementDefinitionSequence
        }
        used = {e.tag.element & 0xFF: e.VR for e in ds.group_dataset(PRIVATE_GROUP) if e.tag.element > 0xFF}
        assert used.items() <= announced.items()
        assert not {"OV", "UV", "SV"} & set(announced.values())


def test_what_archives_index_tells_the_kinds_apart(encoded: dict[str, bytes]):
    assert read(encoded["part"]).ContentLabel == PART
    assert read(encoded["manifest"]).ContentLabel == MANIFEST
    for data in encoded.values():
        ds = read(data)
        assert ds.PatientID == "RESIDENCY-MODELS"
        assert ds.IssuerOfPatientID == ISSUER
        assert ds.QualityControlSubject == "YES"
        assert ds.SeriesNumber == 1
        assert ds.SeriesDate == "20260101"
    assert read(encoded["manifest"]).BodyPartExamined == "BRAIN"
    assert read(encoded["card"]).Modality == "DOC"
    assert read(encoded["card"]).SeriesInstanceUID != read(encoded["manifest"]).SeriesInstanceUID


def test_a_study_holds_a_family_and_nothing_of_one_version():
    """Two versions in one study must agree in every attribute of patient and study, or archives split or merge them."""
    first, second = (
        read(encode_manifest(example_package(c).manifest, None, ISSUER).data)
        for c in ({}, {"identity.version": "2.0.0", "identity.sequence": 2, "identity.name": "Another name"})
    )
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    for keyword in ("StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "PatientName"):
        assert first[keyword].value == second[keyword].value


def test_large_payloads_are_cut_into_parts_that_cover_them_once():
    data = bytes(PART_BYTES) + b"\1\2\3"
    package = build_package(
        example_card(),
        [
            Payload("graph", "graph.onnx", "application/onnx", data),
            Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", b""),
            Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", b"x"),
        ],
    )
    plans = plan_parts(package.manifest)
    assert [(p.payload, p.offset, p.length) for p in plans] == [
        ("golden-expected.nii.gz", 0, 1),
        ("golden-input.nii.gz", 0, 0),
        ("graph.onnx", 0, PART_BYTES),
        ("graph.onnx", PART_BYTES, 3),
    ]
    assert len({p.uid for p in plans}) == 4
    parts = [decode(one.data) for one in encode_parts(package, ISSUER)]
    assert b"".join(p.data for p in parts if isinstance(p, PartObject) and p.payload == "graph.onnx") == data


def test_an_odd_part_is_padded_and_the_pad_is_no_content(encoded: dict[str, bytes]):
    package = example_package(graph=b"odd")
    last = list(encode_parts(package, ISSUER))[-1]
    assert len(read(last.data).private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[0x10].value) == 4
    found = decode(last.data)
    assert isinstance(found, PartObject)
    assert found.data == b"odd"


def test_a_flipped_byte_in_a_part_is_found_in_the_part_itself(encoded: dict[str, bytes]):
    ds = read(encoded["part"])
    block = ds.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)
    value = bytearray(block[0x10].value)
    value[0] ^= 1
    block[0x10].value = bytes(value)
    with pytest.raises(DigestError, match="its bytes were changed"):
        decode(written(ds))


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(2000), b"\x80\x04pickle", bytes(128) + b"DICM" + bytes(64)])
def test_what_is_no_model_instance_is_refused_in_words(data: bytes):
    with pytest.raises(ManifestError):
        decode(data)


def test_a_statement_about_another_model_is_not_stored_beside_this_one(package: ModelPackage, key: SigningKey):
    statement = Statement(
        kind=Kind.REVOKED,
        subject="sha256:" + "0" * 64,
        issuer=key.key_id,
        role=Role.PUBLISHER,
        issued=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    with pytest.raises(MisplacedError):
        encode_statement(sign_statement(statement, key), package.manifest, ISSUER)
