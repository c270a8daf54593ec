"""The walk against a real Orthanc: published, found, run and stored by one protocol, read back equal by the other."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from residency.archive import Archive, Level, Query
from residency.archives.part10 import same_data_set
from residency.assemble import Archives, open_archive, open_archives, open_house, open_loose_files, open_site
from residency.dicom.segmentation import SegmentationType
from residency.dicom.segmentation_read import read_segmentation
from residency.models import publish, read_folder
from residency.pipeline import Ending, Outcome, read_study
from residency.selection import Policy, shipped_rules
from residency.settings import ArchiveSettings, Settings
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.trust import Role, SigningKey, TrustedKey

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
OTHER = {"web": "dimse", "dimse": "web"}


@pytest.fixture(scope="module")
def two_orthancs() -> Iterator[tuple[Orthanc, Orthanc]]:
    try:
        with ExitStack() as held:
            yield held.enter_context(running_orthanc()), held.enter_context(running_orthanc())
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture
def orthancs(two_orthancs: tuple[Orthanc, Orthanc]) -> tuple[Orthanc, Orthanc]:
    """Two of them, empty: one with the images, one that can hold models."""
    for orthanc in two_orthancs:
        orthanc.clear()
    return two_orthancs


def by(door: str, orthanc: Orthanc) -> ArchiveSettings:
    return orthanc.by_web() if door == "web" else orthanc.by_dimse()


def prepared(tmp_path: Path, package: Path, archives: dict[str, ArchiveSettings], **roles: str) -> Settings:
    """A site whose rule is approved and that trusts the publisher of the model in its archive of models."""
    settings = Settings(home=tmp_path / "home", archives=archives, threads=1, **roles)
    site, key = open_site(settings), SigningKey.new()
    site.add_key(TrustedKey(key.public, frozenset({Role.PUBLISHER}), "Test publisher", NOW))
    for rule in shipped_rules():
        site.approve_rules(rule.digest, by="A. Radiologist", now=NOW)
    places = open_archives(None, settings)
    publish(places.models, read_folder(package), key)
    places.close()
    return settings


def stored_study(folder: Path, archive: Archive) -> str:
    loose = open_loose_files(folder)
    (study,) = {row.study_uid for row in loose.find(Level.STUDY, Query())}
    for row in loose.find(Level.SERIES, Query()):
        archive.store(loose.instances(row.series_uid))
    return study


def walk(study: str, settings: Settings, places: Archives) -> Outcome:
    house = open_house(settings, images=places.images, models=places.models, results=places.results, forms=places.forms)
    reading = read_study(study, house, Policy(allow_unapproved=True))
    return next(outcome for outcome in reading.outcomes if outcome.name == "HippoCrop")


def instance(archive: Archive, uid: str, study: str) -> bytes:
    (row,) = archive.find(Level.INSTANCE, Query(study_uid=study, sop_uid=uid))
    (found,) = archive.instances(row.series_uid, [uid])
    return found.data


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("door", ["web", "dimse"])
def test_one_archive_for_everything(orthancs, studies, repository, tmp_path, door, number):
    archives = {door: by(door, orthancs[0]), OTHER[door]: by(OTHER[door], orthancs[0])}
    settings = prepared(tmp_path, repository / "models" / "hippocampus", archives, archive=door)
    places = open_archives(None, settings)
    study = stored_study(studies[number], places.images)

    outcome = walk(study, settings, places)
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert any("rule hippocrop version 1" in reason for reason in outcome.findings.reasons)
    assert {"seg", "sr"} <= set(outcome.stored)

    with closing(open_archives(OTHER[door], settings)) as others:
        for uid in outcome.stored.values():
            assert same_data_set(instance(places.results, uid, study), instance(others.results, uid, study))
        again = walk(study, settings, others)
    places.close()
    assert again.ending is Ending.PRESENT, "the result is found by either protocol"
    assert again.stored == outcome.stored


@pytest.mark.parametrize("door", ["web", pytest.param("dimse", marks=pytest.mark.slow)])
def test_models_in_an_archive_of_their_own(orthancs, studies, repository, tmp_path, door):
    """No site is forced to keep models among its patients."""
    pacs, library = orthancs
    archives = {"pacs": by(door, pacs), "other": by(OTHER[door], pacs), "library": by(OTHER[door], library)}
    settings = prepared(tmp_path, repository / "models" / "hippocampus", archives, archive="pacs", models="library")
    places = open_archives(None, settings)
    study = stored_study(studies[1], places.images)

    outcome = walk(study, settings, places)
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert {row.study_uid for row in places.images.find(Level.STUDY, Query())} == {study}
    assert study not in {row.study_uid for row in places.models.find(Level.STUDY, Query())}
    with closing(open_archive("other", settings)) as other:
        for uid in outcome.stored.values():
            assert same_data_set(instance(places.results, uid, study), instance(other, uid, study))
    places.close()


@pytest.mark.parametrize(("door", "kept"), [("web", SegmentationType.LABELMAP), ("dimse", SegmentationType.BINARY)])
def test_a_label_map_is_written_where_it_is_kept(orthancs, studies, repository, tmp_path, door, kept):
    """By STOW this Orthanc takes what it refuses by C-STORE in its default configuration."""
    changed = {"label_map": True, "shows_segmentations": True}
    archive = orthancs[0].by_web(**changed) if door == "web" else orthancs[0].by_dimse(**changed)
    settings = prepared(tmp_path, repository / "models" / "hippocampus", {"pacs": archive}, archive="pacs")
    places = open_archives(None, settings)
    study = stored_study(studies[1], places.images)
    outcome = walk(study, settings, places)
    assert outcome.ending is Ending.RESULT, outcome.reasons
    assert set(outcome.stored) == {"seg", "sr"}
    back = read_segmentation(instance(places.results, outcome.stored["seg"], study))
    assert back.type is kept
    assert any("stored as BINARY" in reason for reason in outcome.reasons) is (kept is SegmentationType.BINARY)
    for found, wanted in zip(back.segments, outcome.findings.segments, strict=True):
        assert found.segment.mask.sum() == wanted.mask.sum()
    again = walk(study, settings, places)
    places.close()
    assert again.ending is Ending.PRESENT
    assert again.stored == outcome.stored
