"""The index spares an archive most rows of a look-up, and never hides what the rows would have shown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from residency.archive import Entry, Level, Query
from residency.archives.memory import MemoryArchive
from residency.archives.part10 import Row
from residency.dicom.model_object import (
    LIBRARY_PATIENT_ID,
    RAW_DATA,
    card_series_uid_of,
    manifest_uid_of,
    plan_parts,
)
from residency.models import Library, ModelIndex, find_models, publish, publish_statement
from residency.package import ModelPackage
from residency.standing import Approval
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.trust import Kind, Role, SigningKey, Statement, TrustedKey, TrustStore, sign_statement

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
PUBLISHER, APPROVER = SigningKey.new(), SigningKey.new()
TRUST = TrustStore(
    (
        TrustedKey(PUBLISHER.public, frozenset({Role.PUBLISHER}), "Publisher", NOW),
        TrustedKey(APPROVER.public, frozenset({Role.APPROVER}), "Dr A", NOW),
    )
)
Change = Callable[["Shelf"], None]


class Shelf(MemoryArchive):
    """Notes what it is asked and every row that it gives, and can lose what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[Query] = []
        self.given: list[Entry] = []

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        self.queries.append(query)
        for row in super().find(level, query):
            self.given.append(row)
            yield row

    def lose(self, uid: str) -> None:
        del self._rows[uid], self._data[uid]

    def uids(self, label: str) -> list[str]:
        return sorted(row.sop_uid for row in super().find(Level.INSTANCE, Query(content_label=label)))

    def say(self, kind: Kind, package: ModelPackage) -> None:
        said = Statement(kind=kind, subject=package.digest, issuer=APPROVER.key_id, role=Role.APPROVER, issued=NOW)
        (model,) = [m for m in find_models(self, TRUST, now=NOW).models if m.digest == package.digest]
        publish_statement(self, model, sign_statement(said, APPROVER))


class Unlabelled(Shelf):
    """Does not answer Content Label, neither in rows nor as a filter that finds anything."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        if query.content_label is None:
            yield from (replace(row, content_label="") for row in super().find(level, query))


class Uncounted(Shelf):
    """Does not say how many instances a series has."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        yield from (replace(row, instances=0) for row in super().find(level, query))


class Miscounting(Shelf):
    """Always says the same number, which is right for none."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        yield from (replace(row, instances=77) for row in super().find(level, query))


class Heedless(Shelf):
    """Ignores every filter and returns everything at the level asked for."""

    def find(self, level: Level, query: Query) -> Iterator[Entry]:
        yield from super().find(level, Query())


MODELS = [example_package({"identity.family": f"family-{n}", "parameters": 4}, graph=threshold_graph()) for n in (1, 2)]
FIRST = MODELS[0]
PART = plan_parts(FIRST.manifest)[0].uid


@cache
def published() -> tuple[dict[str, Row], dict[str, bytes]]:
    archive = Shelf()
    for package in MODELS:
        publish(archive, package, PUBLISHER)
        archive.say(Kind.APPROVED, package)
    return archive._rows, archive._data


def filled(kind: type[Shelf] = Shelf) -> Shelf:
    """Both models, each approved."""
    archive = kind()
    rows, data = published()
    archive._rows, archive._data = dict(rows), dict(data)
    return archive


@pytest.fixture
def index(tmp_path: Path) -> ModelIndex:
    return ModelIndex(tmp_path / "index")


def look(archive: Shelf, index: ModelIndex | None) -> Library:
    return find_models(archive, TRUST, now=NOW, index=index)


def standing_of(library: Library, package: ModelPackage) -> Approval:
    return library.by_digest[package.digest].standing.approval


def told(library: Library) -> list[tuple[object, ...]]:
    """What a look-up says of each model; errors are compared by their words, which stand in the problem."""
    return [(m.manifest_uid, m.series_uid, m.study_uid, m.standing, m.missing, m.coerced) for m in library.models]


def test_no_row_of_a_part_is_asked_for_where_the_index_knows_the_series(index: ModelIndex):
    archive = filled()
    first = look(archive, index)
    assert sum(row.content_label == "PART" for row in archive.given) > 2
    archive.given.clear()
    assert look(archive, index) == first
    assert not [row for row in archive.given if row.content_label == "PART"]


def lose_a_part(archive: Shelf) -> None:
    archive.lose(PART)


def lose_the_manifest(archive: Shelf) -> None:
    archive.lose(manifest_uid_of(FIRST.digest))


def lose_both_manifests(archive: Shelf) -> None:
    for package in MODELS:
        archive.lose(manifest_uid_of(package.digest))


def lose_an_approval(archive: Shelf) -> None:
    archive.lose(archive.uids("STATEMENT")[0])


def lose_everything(archive: Shelf) -> None:
    for row in list(archive.find(Level.INSTANCE, Query())):
        archive.lose(row.sop_uid)


def revoke(archive: Shelf) -> None:
    archive.say(Kind.REVOKED, FIRST)


def revoke_where_a_part_was(archive: Shelf) -> None:
    archive.say(Kind.REVOKED, FIRST)
    archive.lose(PART)


def revoke_where_an_approval_was(archive: Shelf) -> None:
    before = set(archive.uids("STATEMENT"))
    archive.say(Kind.REVOKED, FIRST)
    series = {row.sop_uid: row.series_uid for row in MemoryArchive.find(archive, Level.INSTANCE, Query())}
    (added,) = set(archive.uids("STATEMENT")) - before
    archive.lose(next(uid for uid in before if series[uid] == series[added]))


def publish_another(archive: Shelf) -> None:
    publish(archive, example_package({"identity.family": "third", "parameters": 4}, graph=threshold_graph()), PUBLISHER)


def lose_the_card_page(archive: Shelf) -> None:
    for row in MemoryArchive.find(archive, Level.INSTANCE, Query(series_uid=card_series_uid_of(FIRST.digest))):
        archive.lose(row.sop_uid)


CHANGES: list[Change] = [
    lambda archive: None,
    lose_a_part,
    lose_the_manifest,
    lose_both_manifests,
    lose_an_approval,
    lose_everything,
    revoke,
    revoke_where_a_part_was,
    revoke_where_an_approval_was,
    publish_another,
    lose_the_card_page,
]


@pytest.mark.parametrize("kind", [Shelf, Unlabelled, Uncounted, Miscounting, Heedless])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("<>"))
def test_what_changed_is_seen_as_without_an_index(kind: type[Shelf], change: Change, index: ModelIndex):
    """Also where the archive counts wrongly or not at all, or does not know Content Labels."""
    archive, same = filled(kind), filled()
    look(archive, index)
    change(same)
    archive._rows, archive._data = same._rows, same._data
    with_index, without = look(archive, index), look(archive, None)
    assert told(with_index) == told(without)
    assert {s.text for s in with_index.statements} == {s.text for s in without.statements}


@pytest.mark.parametrize("change", [revoke, revoke_where_a_part_was, revoke_where_an_approval_was])
def test_a_revocation_is_heard_also_where_the_number_of_instances_is_what_it_was(change: Change, index: ModelIndex):
    archive = filled()
    assert standing_of(look(archive, index), FIRST) is Approval.APPROVED
    change(archive)
    assert standing_of(look(archive, index), FIRST) is Approval.REVOKED
    assert standing_of(look(archive, index), MODELS[1]) is Approval.APPROVED


def test_many_changed_series_are_asked_for_at_once(index: ModelIndex):
    """Not with a question for each: after another site published a library of its own."""
    archive = filled()
    look(archive, index)
    for n in range(6):
        publish(archive, example_package({"identity.family": f"more-{n}"}, graph=threshold_graph()), PUBLISHER)
    archive.queries.clear()
    assert len(look(archive, index).models) == 8
    assert Query(patient_id=LIBRARY_PATIENT_ID, sop_class=RAW_DATA) in archive.queries
    assert len(archive.queries) < 6
