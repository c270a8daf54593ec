"""Fixtures: a publisher, a site that trusts them, and a small package whose graph is real, published.

A conftest takes them by `pytest_plugins = ["residency.testing.publisher"]`.
"""

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
    """The clock of a test."""
    return dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def key() -> SigningKey:
    """A publisher's."""
    return SigningKey.new()


@pytest.fixture
def trust(key: SigningKey, now: dt.datetime) -> TrustStore:
    """A site that trusts the publisher and nobody else."""
    return TrustStore((TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Publisher", now),))


@pytest.fixture(scope="session")
def package() -> ModelPackage:
    """A small package whose graph is real."""
    return example_package({"parameters": 4}, graph=threshold_graph())


@pytest.fixture
def archive(package: ModelPackage, key: SigningKey) -> MemoryArchive:
    """An archive that holds the package, published."""
    made = MemoryArchive()
    publish(made, package, key)
    return made
