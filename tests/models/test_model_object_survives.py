"""What archives do to a model object: its payload comes back byte for byte, or the loss has a name."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from residency.archive import Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.cli.library import standing_words
from residency.dicom import model_object, model_read
from residency.dicom.model_object import PRIVATE_CREATOR, PRIVATE_GROUP, ManifestObject, PartObject, StatementObject
from residency.dicom.model_read import decode
from residency.dicom.model_write import encode_manifest, encode_parts, encode_statement
from residency.errors import ManifestError, StrippedError
from residency.models import fetch, find_models, publish
from residency.package import PART_BYTES, ModelPackage, Payload, build_package
from residency.testing.cards import example_card
from residency.trust import Kind, Role, SigningKey, Statement, TrustStore, sign_statement

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
CONVERSIONS = {
    "explicit": ["+te"],
    "implicit": ["+ti"],
    "big endian": ["+tb"],
    "deflated": ["+td"],
    "without the younger value representations": ["+te", "-u"],
    "group lengths": ["+te", "+g"],
    "trailing padding": ["+te", "+p", "512", "128"],
    "undefined lengths": ["+te", "-e"],
    "Latin-1": ["+te", "+L1"],
    "implicit, then explicit": ["+ti", "then", "+te"],
    "big endian, then implicit": ["+tb", "then", "+ti"],
    "without file meta information": ["-F", "then", "-f", "-te", "+ti"],
}
SMALL = 64


def package_of(data: bytes) -> ModelPackage:
    """A package whose graph is these bytes."""
    more = [
        Payload("golden/input", "golden-input.nii.gz", "application/x-nifti+gzip", b""),
        Payload("golden/expected", "golden-expected.nii.gz", "application/x-nifti+gzip", b"x"),
    ]
    return build_package(example_card(), [Payload("graph", "graph.onnx", "application/onnx", data), *more])


def graph_of(parts: list[object]) -> bytes:
    """The graph, put together again."""
    found = [part for part in parts if isinstance(part, PartObject) and part.payload == "graph.onnx"]
    return b"".join(part.data for part in sorted(found, key=lambda part: part.offset))


def rewritten(data: bytes, syntax: UID) -> bytes:
    """The instance in another transfer syntax, by pydicom."""
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.file_meta.TransferSyntaxUID = syntax
    out = io.BytesIO()
    pydicom.dcmwrite(
        out, ds, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, force_encoding=True
    )
    return out.getvalue()


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., bytes]:
    """Runs one of DCMTK's programs on an instance; what is written after "then" goes into a second run."""

    def run(name: str, data: bytes, *options: str) -> bytes:
        if shutil.which(name) is None:
            pytest.skip(f"{name} missing: apt install dcmtk")
        rounds = " ".join(options).split(" then ") if options else [""]
        for each in rounds:
            before, after = tmp_path / "before.dcm", tmp_path / "after.dcm"
            before.write_bytes(data)
            files = [str(before)] if name == "dcmodify" else [str(before), str(after)]
            done = subprocess.run([name, *each.split(), *files], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            data = (before if name == "dcmodify" else after).read_bytes()
        return data

    return run


@pytest.fixture(scope="session")
def instances(key: SigningKey) -> dict[str, bytes]:
    """A manifest, a statement and parts of odd, even and no length."""
    package = package_of(bytes(range(256)) * 5 + b"odd")
    manifest = package.manifest
    issued = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    revoked = Statement(
        kind=Kind.REVOKED, subject=package.digest, issuer=key.key_id, role=Role.PUBLISHER, issued=issued
    )
    parts = {f"part {number}": one.data for number, one in enumerate(encode_parts(package, "SITE"), 1)}
    return parts | {
        "manifest": encode_manifest(manifest, key.sign(manifest.text), "SITE").data,
        "statement": encode_statement(sign_statement(revoked, key), manifest, "SITE").data,
    }


@given(
    size=st.one_of(
        st.sampled_from([0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL - 1, 3 * SMALL, 3 * SMALL + 1]),
        st.integers(0, 4 * SMALL),
    ),
    seed=st.binary(min_size=1, max_size=8),
    syntax=st.sampled_from(sorted(SYNTAXES)),
)
@settings(max_examples=30, deadline=None)
def test_any_payload_comes_back_in_any_transfer_syntax(size: int, seed: bytes, syntax: str):
    """Padding of odd lengths, cuts between parts and conversion must not change one byte of a network."""
    data = (seed * (size // len(seed) + 1))[:size]
    with patch.object(model_object, "PART_BYTES", SMALL), patch.object(model_read, "PART_BYTES", SMALL):
        package = package_of(data)
        made = list(encode_parts(package, "SITE"))
        read = [decode(rewritten(one.data, SYNTAXES[syntax])) for one in made]
        assert len(made) == max(1, -(-size // SMALL)) + 2
    assert graph_of(read) == data
    assert {part.digest for part in read if isinstance(part, PartObject)} == {package.digest}


@pytest.mark.slow
@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 3])
@pytest.mark.parametrize("syntax", sorted(SYNTAXES))
def test_payloads_of_the_real_part_size_come_back(size: int, syntax: str, tool: Callable[..., bytes]):
    package = package_of((bytes(range(251)) * (size // 251 + 1))[:size])
    parts = [decode(tool("dcmconv", one.data, *CONVERSIONS[syntax])) for one in encode_parts(package, "SITE")]
    assert graph_of(parts) == package.with_role("graph").data


@pytest.mark.parametrize("conversion", sorted(CONVERSIONS))
def test_what_dcmtk_rewrites_is_read_as_before(
    conversion: str, instances: dict[str, bytes], tool: Callable[..., bytes]
):
    for kind, data in instances.items():
        again = tool("dcmconv", data, *CONVERSIONS[conversion])
        assert again != data, "the conversion does nothing"
        assert decode(again) == decode(data), kind


@pytest.mark.parametrize(
    "conversion", ["implicit", "big endian", "deflated", "without the younger value representations"]
)
def test_a_library_that_was_converted_is_found_and_fetched(
    conversion: str,
    archive: MemoryArchive,
    package: ModelPackage,
    trust: TrustStore,
    now: dt.datetime,
    tool: Callable[..., bytes],
):
    """As it lies in an archive after a migration: found, verified and equal."""
    place = MemoryArchive()
    for row in archive.find(Level.SERIES, Query()):
        for one in archive.instances(row.series_uid):
            place.store([Instance(one.uid, tool("dcmconv", one.data, *CONVERSIONS[conversion]))])
    (model,) = find_models(place, trust, now=now).models
    assert (model.error, model.coerced) == (None, False)
    assert fetch(place, model, trust) == package


def test_a_block_that_was_moved_is_found_within_its_group(instances: dict[str, bytes], tool: Callable[..., bytes]):
    """PS3.5 7.8 lets an archive give a block another number, also behind another one's; the group stays."""
    for data in instances.values():
        ds = pydicom.dcmread(io.BytesIO(data))
        ours = list(ds.group_dataset(PRIVATE_GROUP))
        for element in ours:
            del ds[element.tag]
        ds.private_block(PRIVATE_GROUP, "SOMEONE ELSE", create=True).add_new(0x01, "LO", "PART")
        for element in ours:
            number = element.tag.element
            ds.add_new((PRIVATE_GROUP, 0xA3 if number <= 0xFF else 0xA300 | number & 0xFF), element.VR, element.value)
        out = io.BytesIO()
        ds.save_as(out)
        moved = tool("dcmconv", out.getvalue(), "+ti")
        assert decode(moved) == decode(data)


class TestCoercion:
    """An archive may put its own Patient ID and names on everything that it stores."""

    COERCED = ("-nb", "-m", "PatientID=0000815", "-m", "PatientName=Library^Imported", "-i", "IssuerOfPatientID=MPI")

    @pytest.fixture
    def coerced(self, archive: MemoryArchive, tool: Callable[..., bytes]) -> MemoryArchive:
        place = MemoryArchive()
        for row in archive.find(Level.SERIES, Query()):
            for one in archive.instances(row.series_uid):
                place.store([Instance(one.uid, tool("dcmodify", one.data, *self.COERCED))])
        return place

    def test_a_coerced_model_is_found_told_and_whole(
        self, coerced: MemoryArchive, package: ModelPackage, trust: TrustStore, now: dt.datetime
    ):
        (model,) = find_models(coerced, trust, now=now).models
        assert model.coerced
        assert "coerced: the archive filed it under another patient" in standing_words(model)
        assert model.error is None
        assert fetch(coerced, model, trust) == package

    def test_a_model_under_its_own_patient_is_not_called_coerced(
        self, archive: MemoryArchive, trust: TrustStore, now: dt.datetime
    ):
        (model,) = find_models(archive, trust, now=now).models
        assert not model.coerced

    def test_a_revocation_is_heard_although_it_was_coerced(
        self,
        coerced: MemoryArchive,
        package: ModelPackage,
        key: SigningKey,
        trust: TrustStore,
        now: dt.datetime,
        tool: Callable[..., bytes],
    ):
        """A withdrawn network that is offered because its withdrawal moved is the worst of all outcomes."""
        said = Statement(kind=Kind.REVOKED, subject=package.digest, issuer=key.key_id, role=Role.PUBLISHER, issued=now)
        made = encode_statement(sign_statement(said, key), package.manifest, "SITE")
        coerced.store([Instance(made.uid, tool("dcmodify", made.data, *self.COERCED))])
        (model,) = find_models(coerced, trust, now=now).models
        assert not model.standing.trusted

    def test_publishing_again_into_such_an_archive_adds_nothing(
        self, coerced: MemoryArchive, package: ModelPackage, key: SigningKey
    ):
        published = publish(coerced, package, key)
        assert (published.stored, published.coerced) == (0, True)

    def test_publishing_where_nothing_is_coerced_says_so(
        self, archive: MemoryArchive, package: ModelPackage, key: SigningKey
    ):
        assert not publish(archive, package, key).coerced


class TestAnonymised:
    """De-identification takes private blocks out and gives new UIDs: what is left must never be taken for a model."""

    STRIPPED = ("-nb", "-ep", "-gst", "-gse", "-gin")

    @pytest.mark.parametrize("patient", [(), ("-m", "PatientID=ANON-1")], ids=["library's patient", "other patient"])
    def test_it_is_listed_as_stripped_and_never_usable(
        self,
        patient: tuple[str, ...],
        archive: MemoryArchive,
        trust: TrustStore,
        now: dt.datetime,
        tool: Callable[..., bytes],
    ):
        place = MemoryArchive()
        for row in archive.find(Level.SERIES, Query()):
            for one in archive.instances(row.series_uid):
                data = tool("dcmodify", one.data, *self.STRIPPED, *patient)
                uid = str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)
                place.store([Instance(uid, data)])
        models = find_models(place, trust, now=now).models
        assert any(isinstance(model.error, StrippedError) for model in models)
        assert not any(model.standing.trusted for model in models)
        assert "private block missing: stripped or anonymised in transit" in {standing_words(one) for one in models}
        problems = " ".join(str(model.standing.problem) for model in models)
        assert "private block missing: stripped or anonymised in transit" in problems

    def test_a_stripped_part_is_named_before_anything_is_unpacked(
        self, archive: MemoryArchive, trust: TrustStore, now: dt.datetime, tool: Callable[..., bytes]
    ):
        """One part that went through another door: the manifest is sound, the model is not."""
        place = MemoryArchive()
        for row in archive.find(Level.INSTANCE, Query()):
            for one in archive.instances(row.series_uid, [row.sop_uid]):
                data = tool("dcmodify", one.data, "-nb", "-ep") if row.content_label == "PART" else one.data
                place.store([Instance(one.uid, data)])
        (model,) = find_models(place, trust, now=now).models
        with pytest.raises(StrippedError, match="private block missing"):
            fetch(place, model, trust)

    def test_what_was_never_ours_is_not_called_stripped(self, instances: dict[str, bytes], tool: Callable[..., bytes]):
        erased = ("-nb", "-ep", "-e", "CreatorVersionUID", "-ea", "(0008,0300)", "-m", "PatientID=1")
        with pytest.raises(ManifestError, match="is no instance of a model") as raised:
            decode(tool("dcmodify", instances["manifest"], *erased))
        assert not isinstance(raised.value, StrippedError)


def test_kinds_are_told_apart_after_all_that(instances: dict[str, bytes], tool: Callable[..., bytes]):
    read = {kind: decode(tool("dcmconv", data, "+ti")) for kind, data in instances.items()}
    assert isinstance(read["manifest"], ManifestObject)
    assert isinstance(read["statement"], StatementObject)
    assert all(isinstance(one, PartObject) for kind, one in read.items() if kind.startswith("part"))
    assert PRIVATE_CREATOR == "RESIDENCY MODEL 1"
