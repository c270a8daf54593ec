"""Recall, review and coerced models against a real Orthanc: found by one protocol what was stored by the other."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from contextlib import closing

import pydicom
import pytest

from residency.archive import Archive, Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.assemble import open_archive
from residency.dicom.assessment import Opinion, Verdict
from residency.dicom.key_objects import KEY_OBJECT_SELECTION, Rejection
from residency.models import fetch, find_models
from residency.package import ModelPackage
from residency.recall import affected, reject
from residency.review import assess, assessments_in, result_named
from residency.settings import ArchiveSettings, Settings
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.testing.results import DIGEST, store_result
from residency.trust import TrustStore

NOW = dt.datetime(2026, 11, 21, 14, 30, tzinfo=dt.UTC)
WHY = Rejection(text="recalled", by="A. Radiologist")
OTHER = {"web": "dimse", "dimse": "web"}


@pytest.fixture(scope="module")
def running() -> Iterator[Orthanc]:
    try:
        with running_orthanc(DefaultEncoding="Utf8") as orthanc:
            yield orthanc
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture
def doors(running: Orthanc) -> Iterator[dict[str, Archive]]:
    """The same empty Orthanc by both protocols."""
    running.clear()
    settings = {"web": running.by_web(), "dimse": running.by_dimse()}
    opened = {name: opened_by(described) for name, described in settings.items()}
    with closing(opened["web"]), closing(opened["dimse"]):
        yield opened


def opened_by(described: ArchiveSettings) -> Archive:
    return open_archive("pacs", Settings(archives={"pacs": described}))


@pytest.mark.parametrize("door", ["web", "dimse"])
def test_a_recall_over_one_protocol_is_seen_over_the_other(door: str, doors: dict[str, Archive]):
    here, there = doors[door], doors[OTHER[door]]
    first = store_result(here, study="a", PatientID="A")
    second = store_result(there, study="b", PatientID="B")
    store_result(here, study="c", PatientID="C", digest="sha256:" + "f" * 64)
    found = affected(here, DIGEST)
    assert {one.sop_uid for objects in found.objects.values() for one in objects} == {*first.values(), *second.values()}
    assert found.unreadable == ()
    notes = list(reject(here, found, WHY, NOW))
    assert [note.present for note in reject(there, affected(there, DIGEST), WHY, NOW)] == [True, True]
    rows = list(there.find(Level.INSTANCE, Query(sop_class=KEY_OBJECT_SELECTION)))
    assert {row.sop_uid for row in rows} == {note.uid for note in notes}
    assert {row.modality for row in rows} == {"KO"}


@pytest.mark.parametrize("door", ["web", "dimse"])
def test_an_assessment_over_one_protocol_is_seen_over_the_other(door: str, doors: dict[str, Archive]):
    here, there = doors[door], doors[OTHER[door]]
    result = store_result(here, PatientName="Ηλίας^Νίκος", SpecificCharacterSet="ISO_IR 192")
    said = Opinion(Verdict.REJECTED, "größer als 3 mm", NOW, by="Müller^Jörg", segment=2)
    stored = assess(here, result_named(result["seg"], here), said)
    assert assessments_in(there, stored.study_uid).found == (stored,)


@pytest.mark.parametrize("door", ["web", "dimse"])
def test_a_coerced_model_is_found_and_fetched(
    door: str,
    doors: dict[str, Archive],
    archive: MemoryArchive,
    package: ModelPackage,
    trust: TrustStore,
    now: dt.datetime,
):
    """As an archive leaves it that puts its own Patient ID on everything it takes in."""
    for row in archive.find(Level.SERIES, Query()):
        for one in archive.instances(row.series_uid):
            ds = pydicom.dcmread(io.BytesIO(one.data))
            ds.PatientID, ds.PatientName = "0000815", "Library^Imported"
            out = io.BytesIO()
            ds.save_as(out)
            doors["web"].store([Instance(one.uid, out.getvalue())])
    (model,) = find_models(doors[door], trust, now=now).models
    assert (model.coerced, model.error) == (True, None)
    assert fetch(doors[door], model, trust) == package
