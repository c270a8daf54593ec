"""A publisher, a site that trusts them, and a small package whose graph is real."""

from __future__ import annotations

import datetime as dt

import pytest

from residency.archives.memory import MemoryArchive
from residency.models import publish
from residency.package import ModelPackage
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.trust import Role, SigningKey, TrustedKey, TrustStore


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return SigningKey.new()


@pytest.fixture
def trust(key: SigningKey, now: dt.datetime) -> TrustStore:
    return TrustStore((TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Publisher", now),))


@pytest.fixture(scope="session")
def package() -> ModelPackage:
    return example_package({"parameters": 4}, graph=threshold_graph())


@pytest.fixture
def archive(package: ModelPackage, key: SigningKey) -> MemoryArchive:
    """An archive that holds the package, published."""
    made = MemoryArchive()
    publish(made, package, key)
    return made
