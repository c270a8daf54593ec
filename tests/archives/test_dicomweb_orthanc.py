"""DICOMweb keeps the promises of every archive, against a real Orthanc with authentication on."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RawDataStorage

from residency.archive import Instance, Level, Query
from residency.archives.dicomweb import DicomWeb
from residency.archives.dicomweb.retrieve import Retrieval
from residency.archives.part10 import header_of, read_row
from residency.errors import ArchiveError, ConflictError, CredentialsError
from residency.models import fetch, find_models, publish
from residency.package import ModelPackage
from residency.testing.archive import ArchiveContract, data_set, instance, read
from residency.testing.fence import NoFenceError
from residency.testing.orthanc import Orthanc, running_orthanc
from residency.trust import SigningKey, TrustStore


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    try:
        # Its answers are in its DefaultEncoding, Latin 1 unless it is told otherwise; what does not fit is left out.
        with running_orthanc(DefaultEncoding="Utf8") as orthanc:
            yield orthanc
    except NoFenceError as error:
        pytest.skip(str(error))


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[DicomWeb]:
    orthanc.clear()
    archive = DicomWeb(orthanc.by_web())
    yield archive
    archive.close()


class TestDicomWeb(ArchiveContract):
    @pytest.fixture
    def archive(self, archive: DicomWeb) -> DicomWeb:
        return archive


def _private(image: Dataset, **values: bytes) -> Dataset:
    block = image.private_block(0x0029, "ACME CSA 1", create=True)
    for place, value in enumerate(values.values(), 0x10):
        block.add_new(place, "OB", value)
    return image


def _awkward() -> list[Dataset]:
    """Data sets whose JSON by Orthanc leaves something out."""
    pointed = data_set("1.2.1.1.1", NumberOfFrames=2, PixelData=bytes(64), FrameIncrementPointer=[0x00181063])
    manifest = data_set("1.2.1.1.2", SOPClassUID=RawDataStorage, Modality="OT", PixelData=None)
    manifest.add_new("TextValue", "UT", '{"a":"\\u00e4","b":"\\\\"}')
    small = _private(data_set("1.2.1.1.3"), header=bytes(range(100)), more=bytes(3000))
    empty = data_set("1.2.1.1.4", ReferencedStudySequence=Sequence([Dataset()]), PixelData=None)
    empty.add_new("SelectorSVValue", "SV", -5)
    return [pointed, manifest, small, empty]


def test_headers_say_all_that_the_instances_do(archive: DicomWeb) -> None:
    """AT, SV, empty items, backslashes and small binary values get lost in Orthanc's JSON, and not in headers."""
    images = _awkward()
    archive.store(instance(image) for image in images)
    headers = {h.uid: read(h.data) for h in archive.headers("1.2.1.1")}
    for image in images:
        if "PixelData" in image:
            del image.PixelData
        assert headers[image.SOPInstanceUID] == image


def test_headers_of_ordinary_slices_come_without_their_pixels(
    archive: DicomWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking through a study of 2,000 slices must not transfer it."""
    images = [data_set(f"1.2.1.1.{n}", ImagePositionPatient=["-0.1234567890123", "1e-3", f"{n}.50"]) for n in range(20)]
    archive.store(instance(image) for image in images)
    monkeypatch.setattr(Retrieval, "beginning", None)
    monkeypatch.setattr(Retrieval, "instance", None)
    monkeypatch.setattr(Retrieval, "series", None)
    headers = {h.uid: read(h.data) for h in archive.headers("1.2.1.1")}
    for image in images:
        del image.PixelData
        assert headers[image.SOPInstanceUID] == image


def test_headers_of_real_images_are_those_of_their_files(archive: DicomWeb, shared_data: Path) -> None:
    """What Orthanc's JSON gets wrong, such as positions beside a Yen sign, is not taken from it."""
    series: dict[str, dict[str, bytes]] = defaultdict(dict)
    for file in sorted((shared_data / "dicom" / "awkward").glob("*.dcm")):
        data = file.read_bytes()
        try:
            row = read_row(data, file.name)
        except ArchiveError:
            continue
        if len(data) < 2**21:
            series[row.series_uid].setdefault(row.sop_uid, data)
    assert len(series) > 25
    for series_uid, files in series.items():
        archive.store(Instance(uid, data) for uid, data in files.items())
        headers = {header.uid: header.data for header in archive.headers(series_uid)}
        assert set(headers) == set(files)
        for uid, data in files.items():
            assert _changed_elements(header_of(data, uid), headers[uid]) == [], uid


def _changed_elements(expected: bytes, found: bytes) -> list[str]:
    """What differs between two headers, but for the character set that text is written in, and group lengths."""
    first, second = read(expected), read(found)
    counted = (e for e in first if e.tag.element != 0 and e.keyword != "SpecificCharacterSet")
    return [str(e) for e in counted if e.tag not in second or second[e.tag] != e]


def test_headers_of_parts_do_not_move_their_payload(archive: DicomWeb) -> None:
    """A part of a network is 16 MiB; its signature, a small binary value behind it, is wanted all the same."""
    part = _private(data_set("1.2.1.1.1", PixelData=None), payload=bytes(2**23), signature=bytes(range(64)))
    archive.store([instance(part)])
    (header,) = archive.headers("1.2.1.1")
    assert len(header.data) < 4096
    del part[0x00291010]
    assert read(header.data) == part


def test_a_model_lives_in_orthanc(
    archive: DicomWeb, package: ModelPackage, key: SigningKey, trust: TrustStore, now: dt.datetime
) -> None:
    first = publish(archive, package, key)
    assert publish(archive, package, key) == replace(first, stored=0, present=first.stored)
    (model,) = find_models(archive, trust, now=now).models
    assert fetch(archive, model, trust).digest == package.digest


def test_other_content_that_orthanc_keeps_silent_about_is_a_conflict(orthanc: Orthanc, archive: DicomWeb) -> None:
    """Orthanc answers success and keeps the first copy; two of our processes do not see one another."""
    first, second = (instance(data_set("1.2.1.1.1", Rows=rows)) for rows in (4, 5))
    archive.store([first])
    other = DicomWeb(orthanc.by_web())
    with pytest.raises(ConflictError):
        other.store([second])
    other.close()
    silent = DicomWeb(orthanc.by_web(read_back=False))
    silent.store([second])
    assert [read(i.data).Rows for i in archive.instances("1.2.1.1")] == [4]
    silent.close()


def test_a_wrong_password_is_said(orthanc: Orthanc, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong", "utf-8")
    door = DicomWeb(orthanc.by_web(password_file=wrong))
    with pytest.raises(CredentialsError, match="401"):
        list(door.find(Level.STUDY, Query()))
    door.close()
