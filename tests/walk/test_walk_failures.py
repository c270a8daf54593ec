"""One bad series never holds up the others, and every ending says why."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.cli.run import exit_status
from residency.errors import ArchiveError
from residency.labels import Side
from residency.models import publish
from residency.pipeline import Ending, read_study
from residency.selection import Policy
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop

RESEARCH = Policy(allow_unapproved=True)


def crop_series(series: str, **attributes: object) -> list[bytes]:
    said = {"SeriesDescription": "HippoCrop", "BodyPartExamined": None, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}
    return mr_series(hippocampus_crop(Side.LEFT), series=series, **(said | attributes))


def stored(archive, files: list[bytes]) -> tuple[str, str]:
    """Stores a series; its study and series UID."""
    read = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
    archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in zip(read, files, strict=True))
    return str(read[0].StudyInstanceUID), str(read[0].SeriesInstanceUID)


def damaged(data: bytes, **changes: object) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def test_a_series_with_a_short_image_is_refused_by_name_and_the_other_is_read(ward):
    ward.approve_rules()
    bad = crop_series("bad")
    pixels = pydicom.dcmread(io.BytesIO(bad[5])).PixelData
    bad[5] = damaged(bad[5], PixelData=pixels[:-200])
    _, bad_uid = stored(ward.archive, bad)
    study, good_uid = stored(ward.archive, crop_series("good"))
    outcomes = {o.series_uid: o for o in read_study(study, ward.house(), RESEARCH).outcomes}
    assert outcomes[good_uid].ending is Ending.RESULT
    refused = outcomes[bad_uid]
    assert refused.ending is Ending.REFUSED
    assert str(pydicom.dcmread(io.BytesIO(bad[5])).SOPInstanceUID) in refused.reasons[0]
    assert exit_status(list(outcomes.values())) == 10


def test_a_series_whose_headers_contradict_each_other_is_refused_and_the_other_is_read(ward):
    ward.approve_rules()
    torn = crop_series("torn")
    torn[3] = damaged(torn[3], StudyInstanceUID="2.25.99")
    stored(ward.archive, torn)
    study, good_uid = stored(ward.archive, crop_series("good"))
    endings = {o.series_uid: o.ending for o in read_study(study, ward.house(), RESEARCH).outcomes}
    assert endings.pop(good_uid) is Ending.RESULT
    assert set(endings.values()) == {Ending.REFUSED}


def test_a_file_damaged_on_the_disk_fails_its_series_and_the_other_is_read(ward):
    ward.approve_rules()
    bad = crop_series("bad")
    _, bad_uid = stored(ward.archive, bad)
    study, good_uid = stored(ward.archive, crop_series("good"))
    uid = str(pydicom.dcmread(io.BytesIO(bad[5])).SOPInstanceUID)
    name = hashlib.sha256(uid.encode()).hexdigest()
    file = Path(str(ward.settings.archive)) / "objects" / name[:2] / name
    file.write_bytes(file.read_bytes()[:-9])
    outcomes = {o.series_uid: o for o in read_study(study, ward.house(), RESEARCH).outcomes}
    assert outcomes[good_uid].ending is Ending.RESULT
    assert outcomes[bad_uid].ending is Ending.FAILED
    assert uid in outcomes[bad_uid].reasons[0]
    assert exit_status(list(outcomes.values())) == 13


def test_a_missing_slice_fits_no_model_and_the_gap_is_named(ward):
    ward.approve_rules()
    files = crop_series("gap")
    del files[12]
    study, _ = stored(ward.archive, files)
    (outcome,) = read_study(study, ward.house(), RESEARCH).outcomes
    assert outcome.ending is Ending.NONE
    assert "missing or doubled" in outcome.reasons[0]


def test_a_damaged_package_is_refused_and_nothing_is_stored(ward):
    """The archive's disk lost a bit of the model after publication."""
    ward.approve_rules()
    study, _ = stored(ward.archive, crop_series("good"))
    house = ward.house()
    objects = sorted((Path(ward.settings.archive) / "objects").glob("*/*"), key=lambda p: p.stat().st_size)
    model_part = objects[-1]
    data = bytearray(model_part.read_bytes())
    data[len(data) // 2] ^= 1
    model_part.write_bytes(bytes(data))
    (outcome,) = read_study(study, house, RESEARCH).outcomes
    assert outcome.ending is Ending.UNTRUSTED
    assert "digest" in outcome.reasons[0]
    assert exit_status([outcome]) == 12
    assert not list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))


def test_an_archive_that_refuses_the_result_is_reported_as_such(ward):
    ward.approve_rules()
    study, _ = stored(ward.archive, crop_series("good"))
    house = ward.house()

    class Full:
        """A real archive whose disk is full from now on."""

        url = ward.archive.url
        find, headers, instances, close = (
            ward.archive.find,
            ward.archive.headers,
            ward.archive.instances,
            ward.archive.close,
        )

        def store(self, instances: object) -> None:
            raise ArchiveError("no space left on the device")

    (outcome,) = read_study(study, replace(house, results=Full()), RESEARCH).outcomes
    assert outcome.ending is Ending.FAILED
    assert outcome.reasons[0] == "no space left on the device"
    assert exit_status([outcome]) == 13


def test_an_implausible_volume_is_reported_with_a_warning(ward):
    ward.approve_rules()
    changes = {"parameters": 4, "monitoring": {"plausible_mm3": {"hippocampus": {"most": 10}}}}
    publish(ward.archive, example_package(changes, graph=threshold_graph()), ward.key)
    study, _ = stored(ward.archive, crop_series("good"))
    house = replace(ward.house(), package=lambda model: example_package(changes, graph=threshold_graph()))
    (outcome,) = read_study(study, house, Policy(allow_unapproved=True, model="example")).outcomes
    assert outcome.ending is Ending.RESULT
    assert any("is not plausible: the card expects ..10" in warning for warning in outcome.findings.warnings)


def test_a_study_that_is_not_there_is_an_error_with_advice(ward):
    with pytest.raises(ArchiveError, match="residency archive ls"):
        read_study("1.2.3", ward.house(), RESEARCH)


def test_a_blank_image_is_refused(ward):
    """A network that is shown nothing may well find an organ in it."""
    ward.approve_rules()
    crop = hippocampus_crop(Side.LEFT)
    blank = crop.with_array(np.zeros_like(crop.array))
    said = {"SeriesDescription": "HippoCrop", "BodyPartExamined": None, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}
    study, _ = stored(ward.archive, mr_series(blank, series="blank", **said))
    (outcome,) = read_study(study, ward.house(), RESEARCH).outcomes
    assert outcome.ending is Ending.REFUSED
    assert "no contrast" in outcome.reasons[0]
