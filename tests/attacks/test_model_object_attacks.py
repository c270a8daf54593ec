"""Attacks on the model object by someone who can write to the archive, kept as working code.

Each one changes what is stored and ends in its own error; none gets a network to an engine. `find_models` says what is
wrong without fetching, or `fetch` stops before the graph is used.
"""

from __future__ import annotations

import datetime as dt
import io
import pickle
from collections.abc import Callable
from typing import Any

import pydicom
import pytest

from residency.archive import Instance
from residency.archives.memory import MemoryArchive
from residency.dicom.model_object import BYTES, BYTES_DIGEST, LENGTH, plan_parts, series_uid_of
from residency.dicom.model_write import encode_statement
from residency.errors import (
    DigestError,
    GraphError,
    IncompleteError,
    ManifestError,
    MisplacedError,
    ModelError,
    PackageError,
    RevokedError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)
from residency.models import KnownModel, Library, fetch, find_models
from residency.package import ModelPackage, digest_of
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.testing.tampering import edited, forged, instances, under_its_own_uids, with_text
from residency.trust import Kind, Role, Signature, SigningKey, Statement, TrustedKey, TrustStore, sign_statement


def looked_up(stored: list[Instance], trust: TrustStore, now: dt.datetime) -> tuple[MemoryArchive, Library]:
    archive = MemoryArchive()
    archive.store(stored)
    return archive, find_models(archive, trust, now=now)


def used(stored: list[Instance], trust: TrustStore, now: dt.datetime) -> ModelPackage:
    """Look up the one model and fetch it."""
    archive, library = looked_up(stored, trust, now)
    (model,) = library.models
    return fetch(archive, model, trust)


def test_the_untouched_model_is_used(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    """The attacks below start from this; were it refused, they would prove nothing."""
    assert used(instances(package, key), trust, now) == package


@pytest.mark.parametrize("number", range(3))
def test_a_flipped_byte_in_any_part(
    number: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    def flip(_: pydicom.Dataset, block: Any) -> None:
        block[BYTES].value = bytes([block[BYTES].value[0] ^ 1]) + block[BYTES].value[1:]

    stored = instances(package, key)
    stored[number] = edited(stored[number], flip)
    with pytest.raises(DigestError):
        used(stored, trust, now)


@pytest.mark.parametrize("number", range(3))
def test_a_flipped_byte_in_any_part_with_its_own_digest_put_right(
    number: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """The part's digest is only a help; the signed manifest's decides."""

    def flip(_: pydicom.Dataset, block: Any) -> None:
        value = bytes([block[BYTES].value[0] ^ 1]) + block[BYTES].value[1:]
        block[BYTES].value = value
        block[BYTES_DIGEST].value = digest_of(value[: block[LENGTH].value]).removeprefix("sha256:")

    stored = instances(package, key)
    stored[number] = edited(stored[number], flip)
    with pytest.raises(DigestError, match="manifest lists"):
        used(stored, trust, now)


@pytest.mark.parametrize("at", [0, 10, 500, -1])
def test_a_flipped_byte_in_the_manifest(
    at: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    text = bytearray(package.manifest.text)
    text[at] ^= 1
    stored = instances(package, key)
    stored[-1] = with_text(stored[-1], bytes(text))
    with pytest.raises(SignatureError):
        used(stored, trust, now)


def test_a_flipped_bit_in_the_signature(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    good = key.sign(package.manifest.text)
    bad = Signature(good.key_id, bytes([good.value[0] ^ 1]) + good.value[1:])
    stored = instances(package, key)
    stored[-1] = with_text(stored[-1], package.manifest.text, bad)
    with pytest.raises(SignatureError):
        used(stored, trust, now)


@pytest.mark.parametrize("number", range(3))
def test_a_missing_part(number: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    stored = instances(package, key)
    del stored[number]
    with pytest.raises(IncompleteError, match="missing"):
        used(stored, trust, now)


def test_a_part_that_vanishes_between_look_up_and_use(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    _, library = looked_up(instances(package, key), trust, now)
    robbed = MemoryArchive()
    robbed.store(instances(package, key)[1:])
    with pytest.raises(IncompleteError):
        fetch(robbed, library.models[0], trust)


def test_a_wrong_key_under_a_trusted_name(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    """Signed by a stranger who writes the publisher's key id beside it."""
    stored = instances(package, key)
    wrong = Signature(key.key_id, SigningKey.new().sign(package.manifest.text).value)
    stored[-1] = with_text(stored[-1], package.manifest.text, wrong)
    with pytest.raises(SignatureError, match="does not fit"):
        used(stored, trust, now)


def test_an_untrusted_key(package: ModelPackage, trust: TrustStore, now: dt.datetime):
    with pytest.raises(UntrustedKeyError):
        used(instances(package, SigningKey.new()), trust, now)


def test_an_approvers_key_publishes_nothing(package: ModelPackage, now: dt.datetime):
    approver = SigningKey.new()
    trust = TrustStore((TrustedKey(approver.public, frozenset({Role.APPROVER}), "Dr A", now),))
    with pytest.raises(UntrustedKeyError, match="trusted as approver"):
        used(instances(package, approver), trust, now)


def test_no_signature(package: ModelPackage, trust: TrustStore, now: dt.datetime):
    with pytest.raises(UnsignedError):
        used(instances(package, None), trust, now)


def test_a_manifest_over_another_models_parts(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """A soundly signed manifest laid into the series of another model."""
    other = example_package({"identity.family": "other", "parameters": 4}, graph=threshold_graph(scale=2.0))
    stored = instances(other, key)
    stored[-1] = with_text(stored[-1], package.manifest.text, key.sign(package.manifest.text))
    with pytest.raises(MisplacedError):
        used(stored, trust, now)


def test_parts_of_another_model_under_this_ones_uids(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    other = example_package({"identity.family": "other", "parameters": 4}, graph=threshold_graph(scale=2.0))
    plans = plan_parts(package.manifest)

    def steal(number: int) -> Callable[[pydicom.Dataset, Any], None]:
        def change(ds: pydicom.Dataset, _: Any) -> None:
            ds.SOPInstanceUID, ds.SeriesInstanceUID = plans[number].uid, series_uid_of(package.digest)

        return change

    parts = [edited(part, steal(n)) for n, part in enumerate(instances(other, key)[:-1])]
    with pytest.raises(MisplacedError, match="belongs to"):
        used([*parts, instances(package, key)[-1]], trust, now)


def test_two_parts_exchanged(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    stored = instances(package, key)
    first, second = stored[0], stored[1]

    def named(uid: str) -> Callable[[pydicom.Dataset, Any], None]:
        def change(ds: pydicom.Dataset, _: Any) -> None:
            ds.SOPInstanceUID = uid

        return change

    stored[:2] = [edited(first, named(second.uid)), edited(second, named(first.uid))]
    with pytest.raises(MisplacedError, match="says that it is part"):
        used(stored, trust, now)


def test_two_manifests_in_one_series(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    """The second is refused, whatever its signature; the first stays what it was."""
    other = example_package(
        {"identity.version": "9.0.0", "identity.sequence": 9, "parameters": 4}, graph=threshold_graph()
    )

    def join(ds: pydicom.Dataset, _: Any) -> None:
        ds.SeriesInstanceUID = series_uid_of(package.digest)

    archive, library = looked_up([*instances(package, key), edited(instances(other, key)[-1], join)], trust, now)
    good, bad = sorted(library.models, key=lambda m: m.error is not None)
    assert fetch(archive, good, trust) == package
    assert isinstance(bad.error, MisplacedError)
    with pytest.raises(MisplacedError):
        fetch(archive, bad, trust)


def test_a_copy_of_a_manifest_elsewhere_does_not_keep_the_model_from_use(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """Anyone who may write to the archive could switch a model off by storing its manifest a second time."""

    def stray(ds: pydicom.Dataset, _: Any) -> None:
        ds.SOPInstanceUID, ds.SeriesInstanceUID = "2.25.1", "2.25.1"

    whole = instances(package, key)
    archive, library = looked_up([*whole, edited(whole[-1], stray)], trust, now)
    assert [type(model.error) for model in library.models] == [MisplacedError, type(None)]
    assert fetch(archive, library.by_digest[package.digest], trust) == package
    for name in ("example", package.digest[:20]):
        assert fetch(archive, library.named(name), trust) == package


def test_an_older_manifest_replayed_in_place_of_the_newer(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """Both are soundly signed; the older one lies under the newer one's UIDs."""
    newer = example_package(
        {"identity.version": "2.0.0", "identity.sequence": 2, "parameters": 4}, graph=threshold_graph()
    )
    stored = instances(newer, key)
    stored[-1] = with_text(stored[-1], package.manifest.text, key.sign(package.manifest.text))
    with pytest.raises(MisplacedError, match="replayed"):
        used(stored, trust, now)


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return _sprung, ("",)


def _sprung(_: str) -> None:
    raise AssertionError("a pickle was opened")


def test_a_pickle_as_graph_signed_by_a_trusted_publisher(key: SigningKey, trust: TrustStore, now: dt.datetime):
    """Trust in a person is no reason to run their code."""
    package = example_package({"parameters": 4}, graph=pickle.dumps(_Trap()))
    with pytest.raises(GraphError, match="pickle"):
        used(instances(package, key), trust, now)


@pytest.mark.parametrize("length", [2**40, -1, 10**30, True, "1", None])
def test_absurd_lengths_in_a_signed_manifest(
    length: Any, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    def change(body: dict[str, Any]) -> None:
        body["payloads"][0]["length"] = length

    text = forged(package.manifest, change)
    stored = instances(package, key)
    stored[-1] = under_its_own_uids(with_text(stored[-1], text, key.sign(text)), text)
    archive, library = looked_up(stored[-1:], trust, now)
    assert isinstance(library.models[0].error, PackageError)
    with pytest.raises(PackageError):
        fetch(archive, library.models[0], trust)


def test_many_large_payloads_together(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    """Each within its bound, all together more than this machine should hold: refused before a byte is reserved."""

    def change(body: dict[str, Any]) -> None:
        entry = dict(body["payloads"][0])
        body["payloads"] += [entry | {"name": f"x{n:02d}", "role": "report", "length": 2**29} for n in range(8)]
        body["payloads"].sort(key=lambda e: e["name"])

    text = forged(package.manifest, change)
    stored = instances(package, key)
    stored[-1] = under_its_own_uids(with_text(stored[-1], text, key.sign(text)), text)
    archive, library = looked_up(stored[-1:], trust, now)
    model = library.models[0]
    assert isinstance(model.error, IncompleteError)
    whole = KnownModel(
        model.manifest_uid, model.series_uid, model.study_uid, model.card, model.manifest, model.found, model.standing
    )
    with pytest.raises(PackageError, match="are fetched"):
        fetch(archive, whole, trust)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/b", "..", ".hidden", "UPPER", "a\x00b", "con:1", ""])
def test_payload_names_are_no_paths(
    name: str, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    def change(body: dict[str, Any]) -> None:
        body["payloads"][0]["name"] = name

    text = forged(package.manifest, change)
    stored = instances(package, key)
    stored[-1] = under_its_own_uids(with_text(stored[-1], text, key.sign(text)), text)
    _, library = looked_up(stored[-1:], trust, now)
    assert isinstance(library.models[0].error, PackageError)


def test_a_part_longer_than_it_should_be(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    def grow(_: pydicom.Dataset, block: Any) -> None:
        value = bytes(1_000_000)
        block[BYTES].value, block[LENGTH].value = value, len(value)
        block[BYTES_DIGEST].value = digest_of(value).removeprefix("sha256:")

    stored = instances(package, key)
    stored[0] = edited(stored[0], grow)
    with pytest.raises(DigestError, match="manifest implies"):
        used(stored, trust, now)


def test_a_manifest_of_megabytes(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    text = package.manifest.text + b" " * 2_000_000 + b"x"
    stored = instances(package, key)
    stored[-1] = with_text(stored[-1], text, key.sign(text))
    _, library = looked_up(stored, trust, now)
    assert isinstance(library.models[0].error, ManifestError)
    assert library.models[0].card is None


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b"[" * 5000,
        b'{"a":' * 5000,
        b'{"card":{},"card":{},"format":"residency-model/1","payload_sha256":"","payloads":[]}',
        b'{"card":NaN}',
        b"\\u0000",
    ],
)
def test_signed_nonsense(text: bytes, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    stored = instances(package, key)
    stored[-1] = with_text(stored[-1], text, key.sign(text))
    _, library = looked_up(stored, trust, now)
    assert isinstance(library.models[0].error, ModelError)
    assert library.models[0].card is None


def test_a_revoked_model(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    statement = Statement(kind=Kind.REVOKED, subject=package.digest, issuer=key.key_id, role=Role.PUBLISHER, issued=now)
    made = encode_statement(sign_statement(statement, key), package.manifest, "S")
    with pytest.raises(RevokedError):
        used([*instances(package, key), Instance(made.uid, made.data)], trust, now)


def test_a_strangers_revocation_stops_nothing(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """Otherwise anyone who can write to the archive could switch every model off."""
    stranger = SigningKey.new()
    statement = Statement(
        kind=Kind.REVOKED, subject=package.digest, issuer=stranger.key_id, role=Role.APPROVER, issued=now
    )
    made = encode_statement(sign_statement(statement, stranger), package.manifest, "S")
    assert used([*instances(package, key), Instance(made.uid, made.data)], trust, now) == package


def test_a_broken_statement_harms_no_model(package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime):
    statement = Statement(
        kind=Kind.EVALUATED, subject=package.digest, issuer=key.key_id, role=Role.PUBLISHER, issued=now
    )
    made = encode_statement(sign_statement(statement, key), package.manifest, "S")
    broken = with_text(Instance(made.uid, made.data), b"nonsense")
    assert used([*instances(package, key), broken], trust, now) == package


def test_a_model_whose_private_block_was_removed(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """A de-identifier on the way: said in words, and no other model suffers."""
    stored = instances(package, key)
    ds = pydicom.dcmread(io.BytesIO(stored[-1].data))
    ds.remove_private_tags()
    out = io.BytesIO()
    ds.save_as(out)
    stored[-1] = Instance(stored[-1].uid, out.getvalue())
    other = example_package({"identity.family": "other", "parameters": 4}, graph=threshold_graph())
    archive, library = looked_up([*stored, *instances(other, key)], trust, now)
    good, bad = library.models
    assert fetch(archive, good, trust) == other
    assert "private block missing" in str(bad.error)


def test_a_foreign_raw_data_object_of_the_library_patient(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """Someone else's Raw Data under the same Patient ID is listed as unusable and disturbs nothing."""
    other = example_package({"identity.family": "other", "parameters": 4}, graph=threshold_graph())
    ds = pydicom.dcmread(io.BytesIO(instances(other, key)[-1].data))
    ds.remove_private_tags()
    del ds.ContentLabel
    out = io.BytesIO()
    ds.save_as(out)
    foreign = Instance(str(ds.SOPInstanceUID), out.getvalue())
    archive, library = looked_up([*instances(package, key), foreign], trust, now)
    assert fetch(archive, library.named("example"), trust) == package
    assert sum(m.error is None for m in library.models) == 1
