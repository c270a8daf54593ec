"""From a package to an archive and back: whole and verified, or not there at all."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from residency.archive import Entry, Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.archives.memory import MemoryArchive
from residency.dicom.model_object import manifest_uid_of, plan_parts, series_uid_of
from residency.dicom.model_write import encode_manifest, encode_parts
from residency.errors import (
    ArchiveError,
    CardError,
    ConflictError,
    GraphError,
    IncompleteError,
    RevokedError,
    UntrustedKeyError,
    UsageError,
)
from residency.models import ModelIndex, PackageCache, fetch, find_models, publish, publish_statement
from residency.package import ModelPackage, parse_known_manifest, parse_manifest
from residency.standing import Approval
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.trust import Kind, Role, SignedStatement, SigningKey, Statement, TrustedKey, TrustStore, sign_statement

SHARPEN = {"steps": [{"name": "sharpen", "parameters": {}}]}


class Counting(MemoryArchive):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = self.read = self.stored = 0

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        self.queries += 1
        return super().find(level, query)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        for instance in super().headers(series_uid, sop_uids):
            self.read += 1
            yield instance

    def store(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            super().store([instance])
            self.stored += 1


def test_what_is_published_is_found_and_fetched_whole(
    archive: MemoryArchive, package: ModelPackage, trust: TrustStore, now: dt.datetime
):
    (model,) = find_models(archive, trust, now=now).models
    assert model.error is None
    assert model.standing.trusted
    assert model.standing.publisher == "Publisher"
    assert (model.digest, model.card) == (package.digest, package.card)
    assert fetch(archive, model, trust) == package


def test_a_folder_archive_serves_as_well(
    tmp_path: Path, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    publish(FolderArchive(tmp_path), package, key)
    again = FolderArchive(tmp_path)
    (model,) = find_models(again, trust, now=now).models
    assert fetch(again, model, trust) == package


def test_publishing_twice_stores_nothing_new(package: ModelPackage, key: SigningKey):
    archive = Counting()
    first = publish(archive, package, key)
    second = publish(archive, package, key)
    assert (first.stored, first.present) == (5, 0)
    assert (second.stored, second.present) == (0, 5)
    assert archive.stored == 5
    assert replace(first, stored=0, present=5) == second


def test_equal_packages_give_equal_objects_in_every_archive(package: ModelPackage, key: SigningKey):
    def contents() -> dict[str, bytes]:
        archive = MemoryArchive()
        publish(archive, package, key)
        rows = archive.find(Level.SERIES, Query())
        return {i.uid: i.data for row in rows for i in archive.instances(row.series_uid)}

    assert contents() == contents()


def test_the_same_version_under_another_key_is_a_conflict(archive: MemoryArchive, package: ModelPackage):
    with pytest.raises(ConflictError, match="already in"):
        publish(archive, package, SigningKey.new())


def test_a_bad_graph_is_refused_before_anything_is_stored(key: SigningKey):
    archive = Counting()
    with pytest.raises(GraphError):
        publish(archive, example_package(), key)
    assert archive.stored == 0


class Forgetful(MemoryArchive):
    """Says yes and drops the part with the golden input."""

    def store(self, instances: Iterable[Instance]) -> None:
        super().store(i for i in instances if b"golden-input" not in i.data or b"MANIFEST" in i.data)


def test_a_preparation_that_this_version_does_not_know_is_refused_before_anything_is_computed(
    key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """A newer publisher's card: the walk goes on with the other series, since it is this model that cannot be used."""
    newer = example_package({"parameters": 4, "inputs.0.recipe": SHARPEN}, graph=threshold_graph())
    with pytest.raises(CardError, match=r"'image' of the model card.*'sharpen'"):
        publish(MemoryArchive(), newer, key)
    archive = MemoryArchive()
    made = [*encode_parts(newer, "S"), encode_manifest(newer.manifest, key.sign(newer.manifest.text), "S")]
    archive.store(Instance(one.uid, one.data) for one in made)
    (model,) = find_models(archive, trust, now=now).models
    with pytest.raises(CardError, match="sharpen"):
        fetch(archive, model, trust)


def test_an_archive_that_says_yes_and_loses_a_part_is_caught(package: ModelPackage, key: SigningKey):
    """Success of an archive does not mean that the bytes are there; without them no manifest is stored."""
    archive = Forgetful()
    with pytest.raises(ArchiveError, match="does not give back"):
        publish(archive, package, key)
    assert not any(row.content_label == "MANIFEST" for row in archive.find(Level.INSTANCE, Query()))


class Dying(MemoryArchive):
    """Loses its connection after a number of instances."""

    def __init__(self, survives: int) -> None:
        super().__init__()
        self.left = survives

    def store(self, instances: Iterable[Instance]) -> None:
        for instance in instances:
            if self.left == 0:
                raise ArchiveError("connection lost", retry=True)
            self.left -= 1
            super().store([instance])


@pytest.mark.parametrize("survives", range(5))
def test_an_interrupted_publication_is_no_model_and_is_finished_by_the_next(
    survives: int, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    archive = Dying(survives)
    with pytest.raises(ArchiveError):
        publish(archive, package, key)
    models = find_models(archive, trust, now=now).models
    assert not any(m.standing.trusted for m in models)
    assert all(isinstance(m.error, IncompleteError) for m in models)
    assert len(models) == (1 if survives else 0)
    archive.left = 100
    assert publish(archive, package, key).stored == 5 - survives
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust) == package


def test_an_orphan_is_listed_and_never_named(package: ModelPackage, trust: TrustStore, now: dt.datetime):
    archive = MemoryArchive()
    archive.store(Instance(p.uid, p.data) for p in encode_parts(package, "S"))
    library = find_models(archive, trust, now=now)
    assert [(m.card, m.standing.trusted) for m in library.models] == [(None, False)]
    assert "parts without a manifest" in str(library.models[0].error)
    with pytest.raises(UsageError):
        library.named("example")


def test_a_manifest_with_missing_parts_names_them(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    archive = MemoryArchive()
    parts = list(encode_parts(package, "S"))
    manifest = encode_manifest(package.manifest, key.sign(package.manifest.text), "S")
    archive.store(Instance(p.uid, p.data) for p in [*parts[:1], *parts[2:], manifest])
    (model,) = find_models(archive, trust, now=now).models
    assert model.missing == (parts[1].uid,)
    assert not model.standing.trusted
    with pytest.raises(IncompleteError, match=parts[1].uid):
        fetch(archive, model, trust)


def test_only_trusted_keys_make_a_model_usable(archive: MemoryArchive, now: dt.datetime):
    (model,) = find_models(archive, TrustStore(), now=now).models
    assert model.card is not None
    assert model.standing.publisher is None
    assert not model.standing.trusted
    with pytest.raises(UntrustedKeyError):
        fetch(archive, model, TrustStore())


def test_trust_is_asked_again_when_fetching(archive: MemoryArchive, trust: TrustStore, now: dt.datetime):
    """A key that was removed between look-up and use counts no longer."""
    (model,) = find_models(archive, trust, now=now).models
    with pytest.raises(UntrustedKeyError):
        fetch(archive, model, TrustStore())


def statement(package: ModelPackage, key: SigningKey, kind: Kind, role: Role, now: dt.datetime) -> SignedStatement:
    return sign_statement(Statement(kind=kind, subject=package.digest, issuer=key.key_id, role=role, issued=now), key)


def test_statements_beside_a_model_are_heard(
    archive: MemoryArchive, package: ModelPackage, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    approver = SigningKey.new()
    both = TrustStore((*trust.keys, TrustedKey(approver.public, frozenset({Role.APPROVER}), "Dr A", now)))
    index = ModelIndex(tmp_path / "index")
    (model,) = find_models(archive, both, now=now, index=index).models
    approved = statement(package, approver, Kind.APPROVED, Role.APPROVER, now)
    assert publish_statement(archive, model, approved) == publish_statement(archive, model, approved)
    for _ in range(2):  # from the archive, then from the index
        library = find_models(archive, both, now=now, index=index)
        assert library.statements == (approved,)
        assert library.models[0].standing.approval is Approval.APPROVED
        assert library.models[0].standing.approved_by == "Dr A"


def test_a_revoked_model_is_refused_even_when_the_archive_no_longer_says_so(
    archive: MemoryArchive, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    revoked = statement(package, key, Kind.REVOKED, Role.PUBLISHER, now)
    (model,) = find_models(archive, trust, now=now, statements=[revoked]).models
    assert model.standing.approval is Approval.REVOKED
    with pytest.raises(RevokedError):
        fetch(archive, model, trust)


def test_the_index_spares_the_archive_and_may_be_thrown_away(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    archive = Counting()
    publish(archive, package, key)
    index = ModelIndex(tmp_path / "cache" / "models.sqlite")
    archive.read = archive.queries = 0
    first = find_models(archive, trust, now=now, index=index)
    assert (archive.queries, archive.read) == (1, 1)
    assert find_models(archive, trust, now=now, index=index) == first
    assert archive.read == 1
    index.path.write_bytes(b"damaged" * 1000)
    assert find_models(archive, trust, now=now, index=index) == first
    index.discard()
    assert find_models(archive, trust, now=now, index=index) == first


def test_the_index_does_not_trust_for_the_site(
    archive: MemoryArchive, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    """Filled under one trust, read under another."""
    index = ModelIndex(tmp_path / "index")
    assert find_models(archive, TrustStore(), now=now, index=index).models[0].standing.publisher is None
    assert find_models(archive, trust, now=now, index=index).models[0].standing.publisher == "Publisher"
    assert find_models(archive, TrustStore(), now=now, index=index).models[0].standing.publisher is None


def test_the_index_serves_two_archives_apart(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    index = ModelIndex(tmp_path / "index")
    full, empty = FolderArchive(tmp_path / "a"), FolderArchive(tmp_path / "b")
    publish(full, package, key)
    assert len(find_models(full, trust, now=now, index=index).models) == 1
    assert find_models(empty, trust, now=now, index=index).models == ()


class Withholding(MemoryArchive):
    """Lists everything, and does not give the header of what has one Content Label."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        kept_back = {row.sop_uid for row in self.find(Level.INSTANCE, Query(content_label=self.label))}
        return (one for one in super().headers(series_uid, sop_uids) if one.uid not in kept_back)


def test_a_statement_that_is_listed_and_not_given_does_not_go_unseen(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    """It may be the revocation."""
    archive = Withholding("STATEMENT")
    publish(archive, package, key)
    (model,) = find_models(archive, trust, now=now).models
    uid = publish_statement(archive, model, statement(package, key, Kind.REVOKED, Role.PUBLISHER, now))
    library = find_models(archive, trust, now=now)
    assert [lost.uid for lost in library.unreadable] == [uid]
    assert "does not give its header" in str(library.unreadable[0].error)
    assert library.models[0].standing.unread == 1


def test_a_manifest_that_is_listed_and_not_given_is_said_to_be(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    archive = Withholding("none yet")
    publish(archive, package, key)
    archive.label = "MANIFEST"
    (model,) = find_models(archive, trust, now=now).models
    assert model.manifest_uid == manifest_uid_of(package.digest)
    assert "does not give its header" in str(model.error)


class Chatty(MemoryArchive):
    """Ignores every filter and returns everything, as DICOMweb servers may."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        return super().find(level, Query())


def test_rows_that_were_not_asked_for_are_passed_over(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    archive = Chatty()
    publish(archive, package, key)
    (model,) = find_models(archive, trust, now=now).models
    assert model.error is None


class Unlabelled(MemoryArchive):
    """Does not answer Content Label."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        return (replace(row, content_label="") for row in super().find(level, query))


def test_an_archive_without_content_labels_is_read_all_the_same(
    package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
):
    archive = Unlabelled()
    publish(archive, package, key)
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust) == package


def test_models_are_named_by_family_name_version_digest_and_uid(key: SigningKey, trust: TrustStore, now: dt.datetime):
    archive = MemoryArchive()
    made = {}
    for family, version, sequence in (("liver", "1.0.0", 1), ("liver", "1.1.0", 2), ("kidney", "1.0.0", 1)):
        changes = {"identity.family": family, "identity.name": family.title(), "parameters": 4}
        changes |= {"identity.version": version, "identity.sequence": sequence}
        made[family, version] = example_package(changes, graph=threshold_graph())
        publish(archive, made[family, version], key)
    library = find_models(archive, trust, now=now)
    assert [m.name for m in library.models] == ["Kidney 1.0.0", "Liver 1.1.0", "Liver 1.0.0"]
    newest, oldest = made["liver", "1.1.0"], made["liver", "1.0.0"]
    for text in ("liver", "Liver", "Liver 1.1.0", newest.digest, newest.digest[7:19], manifest_uid_of(newest.digest)):
        assert library.named(text).digest == newest.digest
    assert library.named("liver 1.0.0").digest == oldest.digest
    for text in ("spleen", "", "sha256:", newest.digest[7:10]):
        with pytest.raises(UsageError):
            library.named(text)


def test_a_cached_package_is_verified_each_time_it_is_opened(
    archive: MemoryArchive, package: ModelPackage, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    cache = PackageCache(tmp_path / "packages")
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust, cache=cache) == package
    assert cache.get(package.digest) == package
    (graph,) = tmp_path.rglob("graph.onnx")
    data = bytearray(graph.read_bytes())
    data[-1] ^= 1
    graph.write_bytes(data)
    assert cache.get(package.digest) is None
    assert not list(tmp_path.rglob("graph.onnx"))
    assert fetch(archive, model, trust, cache=cache) == package


def test_a_withdrawn_model_is_not_taken_from_the_cache(
    archive: MemoryArchive, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    cache = PackageCache(tmp_path)
    (model,) = find_models(archive, trust, now=now).models
    fetch(archive, model, trust, cache=cache)
    revoked = statement(package, key, Kind.REVOKED, Role.PUBLISHER, now)
    (model,) = find_models(archive, trust, now=now, statements=[revoked]).models
    with pytest.raises(RevokedError):
        fetch(archive, model, trust, cache=cache)


def test_a_kept_manifest_is_read_the_same_way(package: ModelPackage):
    assert parse_known_manifest(package.manifest.text) == parse_manifest(package.manifest.text)


def test_parts_follow_from_the_manifest_alone(package: ModelPackage):
    assert [p.uid for p in plan_parts(package.manifest)] == [p.uid for p in encode_parts(package, "anyone")]
    assert series_uid_of(package.digest) != manifest_uid_of(package.digest)


@pytest.mark.slow
def test_a_thousand_models_are_looked_up_within_a_second(
    key: SigningKey, trust: TrustStore, now: dt.datetime, tmp_path: Path
):
    archive, index = FolderArchive(tmp_path / "archive"), ModelIndex(tmp_path / "index")
    graph = threshold_graph()

    def instances() -> Iterator[Instance]:
        for n in range(1000):
            made = example_package({"identity.family": f"family-{n}", "parameters": 4}, graph=graph)
            signed = encode_manifest(made.manifest, key.sign(made.manifest.text), "S")
            yield from (Instance(one.uid, one.data) for one in (*encode_parts(made, "S"), signed))

    archive.store(instances())
    find_models(archive, trust, now=now, index=index)
    spent = []
    for _ in range(5):
        before = time.process_time()
        library = find_models(archive, trust, now=now, index=index)
        spent.append(time.process_time() - before)
    assert sum(m.standing.trusted for m in library.models) == 1000
    assert min(spent) < 1.0
