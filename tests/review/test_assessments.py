"""Review: what people said of a result is kept, all of it, and the result stays as it was."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.archive import Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.dicom.assessment import ASSESSMENT_CLASS, Opinion, Verdict, assessment, read_assessment
from residency.dicom.key_objects import Rejection
from residency.dicom.labels import read_labels
from residency.errors import LostError, ResidencyError, UsageError
from residency.recall import affected, reject
from residency.review import assess, assessments_in, result_named
from residency.testing.results import DIGEST, store_result

AT = dt.datetime(2026, 11, 21, 14, 30, 5, 123456, tzinfo=dt.UTC)
YES = Opinion(Verdict.ACCEPTED, "outlines fit", AT, by="Radiologist^Anna")
NO = Opinion(Verdict.REJECTED, "leaks into the ventricle", AT + dt.timedelta(hours=1), segment=2)


@pytest.fixture
def place() -> MemoryArchive:
    return MemoryArchive()


@pytest.fixture
def result(place: MemoryArchive) -> dict[str, str]:
    return store_result(place, PatientName="Somebody^A", TimezoneOffsetFromUTC="+0200")


def study_of(place: MemoryArchive) -> str:
    (row,) = place.find(Level.STUDY, Query())
    return row.study_uid


def data_of(place: MemoryArchive, uid: str) -> bytes:
    (row,) = place.find(Level.INSTANCE, Query(sop_uid=uid))
    (instance,) = place.instances(row.series_uid, [uid])
    return instance.data


def test_an_assessment_comes_back_with_all_that_was_said(place: MemoryArchive, result: dict[str, str]):
    stored = assess(place, result_named(result["seg"], place), YES)
    assert stored.opinion == YES
    assert stored.subject.sop_uid == result["seg"]
    assert stored.study_uid == study_of(place)
    ds = pydicom.dcmread(io.BytesIO(data_of(place, stored.uid)))
    assert ds.PatientName == "Somebody^A"
    assert (ds.ContentDate, ds.ContentTime) == ("20261121", "163005"), "in the zone of the study"
    assert str(stored) == "accepted by Radiologist^Anna on 2026-11-21 14:30 +0000: outlines fit"


def test_a_segment_is_assessed_by_itself(place: MemoryArchive, result: dict[str, str]):
    stored = assess(place, result_named(result["seg"], place), NO)
    assert (stored.opinion.segment, stored.opinion.by) == (2, None)
    ds = pydicom.dcmread(io.BytesIO(data_of(place, stored.uid)))
    (item,) = [i for i in ds.ContentSequence if i.ValueType == "IMAGE"]
    assert item.ReferencedSOPSequence[0].ReferencedSegmentNumber == 2


def test_nothing_is_overwritten_and_the_latest_counts(place: MemoryArchive, result: dict[str, str]):
    """Who reviews again must not make the first opinion disappear."""
    seg = result_named(result["seg"], place)
    before = data_of(place, result["seg"])
    later = Opinion(Verdict.REJECTED, "on second thoughts", AT + dt.timedelta(days=1), by="Radiologist^Anna")
    assess(place, seg, later)
    assess(place, seg, YES)  # stored later, but said earlier
    assess(place, seg, NO)
    kept = assessments_in(place, study_of(place))
    assert [one.opinion for one in kept.found] == [YES, NO, later]
    assert {one.opinion.segment: one.opinion.verdict for one in kept.latest} == {
        None: Verdict.REJECTED,
        2: Verdict.REJECTED,
    }
    assert data_of(place, result["seg"]) == before


def test_the_same_said_at_the_same_moment_is_stored_once(place: MemoryArchive, result: dict[str, str]):
    seg = result_named(result["seg"], place)
    assert assess(place, seg, YES).uid == assess(place, seg, YES).uid
    assert len(assessments_in(place, study_of(place)).found) == 1


def test_assessments_of_one_object_leave_out_those_of_others(place: MemoryArchive, result: dict[str, str]):
    assess(place, result_named(result["seg"], place), YES)
    assess(place, result_named(result["sr"], place), YES)
    (only,) = assessments_in(place, study_of(place), about=[result["sr"]]).found
    assert only.subject.sop_uid == result["sr"]


def test_what_cannot_be_assessed_is_refused(place: MemoryArchive, result: dict[str, str]):
    with pytest.raises(UsageError, match="has segments 1, 2: there is no segment 7"):
        assess(place, result_named(result["seg"], place), Opinion(Verdict.ACCEPTED, "x", AT, segment=7))
    with pytest.raises(UsageError, match="has no segments"):
        assess(place, result_named(result["sr"], place), Opinion(Verdict.ACCEPTED, "x", AT, segment=1))
    with pytest.raises(UsageError, match="holds no result"):
        result_named("1.2.3", place)
    stored = assess(place, result_named(result["seg"], place), YES)
    with pytest.raises(UsageError, match="is an assessment"):
        assess(place, result_named(stored.uid, place), YES)


def test_an_archive_that_keeps_nothing_is_noticed(place: MemoryArchive, result: dict[str, str]):
    seg = result_named(result["seg"], place)
    place.store = lambda instances: list(instances) and None  # type: ignore[method-assign]
    with pytest.raises(LostError, match="does not give back the assessment"):
        assess(place, seg, YES)


def test_an_assessment_is_no_result_of_the_model(place: MemoryArchive, result: dict[str, str]):
    assess(place, result_named(result["seg"], place), YES)
    assert affected(place, DIGEST).count == 2


def test_neither_assessments_nor_notes_are_taken_for_images(place: MemoryArchive, result: dict[str, str]):
    """They lie in the study that is read next time."""
    stored = assess(place, result_named(result["seg"], place), YES)
    (note,) = reject(place, affected(place, DIGEST), Rejection(), AT)
    assert [read_labels([data_of(place, uid)]).own_result for uid in (stored.uid, note.uid)] == [True, True]


def test_a_damaged_assessment_is_told(place: MemoryArchive, result: dict[str, str]):
    stored = assess(place, result_named(result["seg"], place), YES)
    ds = pydicom.dcmread(io.BytesIO(data_of(place, stored.uid)))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    for item in ds.ContentSequence:
        if "ObservationDateTime" in item:
            del item.ObservationDateTime
    out = io.BytesIO()
    ds.save_as(out)
    place.store([Instance("1.2.3.9", out.getvalue())])
    found = assessments_in(place, study_of(place))
    assert [one.uid for one in found.found] == [stored.uid]
    assert [uid for uid, _ in found.unreadable] == ["1.2.3.9"]


@pytest.mark.parametrize(("role", "opinion"), [("seg", YES), ("seg", NO), ("sr", YES)])
def test_validators_and_other_readers_take_it(
    role: str,
    opinion: Opinion,
    place: MemoryArchive,
    result: dict[str, str],
    dciodvfy: Callable[[bytes], list[str]],
    tmp_path: Path,
):
    said = Opinion(opinion.verdict, "größer als 3 mm", AT, by="Müller^Jörg", segment=opinion.segment)
    stored = assess(place, result_named(result[role], place), said)
    data = data_of(place, stored.uid)
    assert dciodvfy(data) == []
    if shutil.which("dsrdump") is None:
        pytest.skip("dsrdump missing: apt install dcmtk")
    file = tmp_path / "assessment.dcm"
    file.write_bytes(data)
    shown = subprocess.run(["dsrdump", "+U8", "+Pu", str(file)], capture_output=True, check=False)
    text = shown.stdout.decode() + shown.stderr.decode()
    assert shown.returncode == 0, text
    assert result[role] in text
    assert "größer als 3 mm" in text
    assert "Müller^Jörg" in text
    assert str(opinion.verdict) in text.lower()
    assert not [line for line in text.splitlines() if line.startswith(("E:", "F:"))]


names = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\="), max_size=30)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


@pytest.fixture(scope="module")
def header() -> bytes:
    """A Segmentation to say things of."""
    place = MemoryArchive()
    return data_of(place, store_result(place)["seg"])


@given(reason=words, by=names, verdict=st.sampled_from(Verdict))
@settings(max_examples=60, deadline=None)
def test_any_words_are_written_and_read(header: bytes, reason: str, by: str, verdict: Verdict):
    """Words come from anywhere: whatever they are, the verdict, the moment and the subject survive."""
    read = read_assessment(assessment(header, Opinion(verdict, reason, AT, by=by)).data)
    assert read is not None
    assert (read.opinion.verdict, read.opinion.at) == (verdict, AT)
    assert read.subject.sop_uid == str(pydicom.dcmread(io.BytesIO(header)).SOPInstanceUID)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_documents_are_read_or_refused(header: bytes, data: st.DataObject):
    whole = bytearray(assessment(header, NO).data)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(132, len(whole) - 1))] = data.draw(st.integers(0, 255))
    said = ""
    try:
        read_assessment(bytes(whole))
    except ResidencyError as error:
        said = str(error)
    assert said.isprintable()


def test_it_is_a_kind_of_report_that_archives_take(place: MemoryArchive, result: dict[str, str]):
    stored = assess(place, result_named(result["seg"], place), YES)
    (row,) = place.find(Level.INSTANCE, Query(sop_uid=stored.uid))
    assert (row.sop_class, row.modality) == (ASSESSMENT_CLASS, "SR")
