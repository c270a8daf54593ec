"""What a real Orthanc makes of a model when it is told to anonymise or to modify it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from residency.archive import Archive
from residency.archives.memory import MemoryArchive
from residency.assemble import open_archive
from residency.errors import MisplacedError, StrippedError
from residency.models import KnownModel, find_models, publish
from residency.package import ModelPackage
from residency.settings import Settings
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.trust import SigningKey, TrustStore


@pytest.fixture(scope="module")
def running() -> Iterator[Orthanc]:
    try:
        with running_orthanc() as orthanc:
            yield orthanc
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture
def doors(running: Orthanc, package: ModelPackage, key: SigningKey) -> Iterator[list[Archive]]:
    """The same Orthanc by both protocols, with one model in it."""
    running.clear()
    archives = {"web": running.by_web(), "dimse": running.by_dimse()}
    web, dimse = (open_archive(name, Settings(archives=archives)) for name in archives)
    with closing(web), closing(dimse):
        publish(web, package, key)
        yield [web, dimse]


def changed(orthanc: Orthanc, how: str, request: dict[str, Any]) -> None:
    """Have Orthanc change the library, and keep only what came out."""
    with orthanc.rest() as client:
        (patient,) = client.get("/patients").raise_for_status().json()
        client.post(f"/patients/{patient}/{how}", json=request).raise_for_status()
        client.delete(f"/patients/{patient}")


def found(doors: list[Archive], trust: TrustStore, now: dt.datetime) -> list[tuple[KnownModel, ...]]:
    return [find_models(door, trust, now=now).models for door in doors]


def test_an_anonymised_model_is_named_and_never_usable(
    running: Orthanc, doors: list[Archive], trust: TrustStore, now: dt.datetime
):
    """Orthanc's anonymisation removes the private block and gives new UIDs and another Patient ID."""
    changed(running, "anonymize", {})
    for models in found(doors, trust, now):
        assert [type(model.error) for model in models] == [StrippedError]
        assert not models[0].standing.trusted


def test_a_modified_model_with_new_uids_is_misplaced(
    running: Orthanc, doors: list[Archive], trust: TrustStore, now: dt.datetime
):
    """Its modification keeps the private block and gives new UIDs: the parts are no longer where the digest says."""
    changed(running, "modify", {"Replace": {"PatientID": "0000815"}, "Force": True})
    for models in found(doors, trust, now):
        assert [type(model.error) for model in models] == [MisplacedError]
        assert models[0].coerced


def test_nothing_of_it_is_left_out_when_it_is_merely_kept(
    doors: list[Archive], archive: MemoryArchive, trust: TrustStore, now: dt.datetime
):
    expected = [model.digest for model in find_models(archive, trust, now=now).models]
    for models in found(doors, trust, now):
        assert [(model.digest, model.error) for model in models] == [(digest, None) for digest in expected]
