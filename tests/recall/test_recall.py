"""Recall: every result of a version is found, whoever else wrote beside it, and rejected without touching anything."""

from __future__ import annotations

import datetime as dt
import io
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from residency import recall
from residency.archive import Archive, Entry, Instance, Level, Query
from residency.archives.memory import MemoryArchive
from residency.codes import Code
from residency.dicom.capture import SECONDARY_CAPTURE_STORAGE, captures
from residency.dicom.key_objects import KEY_OBJECT_SELECTION, QUALITY, RETENTION, TITLES, Rejection
from residency.dicom.parametric_map import parametric_map
from residency.dicom.report import report
from residency.dicom.segmentation import SegmentationType, probabilities, segmentation
from residency.errors import ArchiveError, UnreachableError
from residency.findings import Picture, ScoreMap
from residency.recall import affected, reject, rejected_before
from residency.testing.results import DIGEST, example_result, store_result

OTHER = "sha256:" + "f" * 64
NOW = dt.datetime(2026, 11, 21, 14, 30, tzinfo=dt.UTC)
SAFETY = Rejection(text="volumes wrong on 3 T scanners", by="A. Radiologist")


@pytest.fixture
def place() -> MemoryArchive:
    return MemoryArchive()


def uids(found: object) -> set[str]:
    return {one.sop_uid for objects in found.objects.values() for one in objects}  # type: ignore[attr-defined]


def changed(archive: Archive, uid: str, change: Callable[[pydicom.Dataset], None], new_uid: str) -> None:
    """Store a changed copy of an instance under another UID, in a series of its own."""
    (row,) = archive.find(Level.INSTANCE, Query(sop_uid=uid))
    (instance,) = archive.instances(row.series_uid, [uid])
    ds = pydicom.dcmread(io.BytesIO(instance.data))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid
    ds.SeriesInstanceUID = new_uid + ".1"
    change(ds)
    out = io.BytesIO()
    ds.save_as(out)
    archive.store([Instance(new_uid, out.getvalue())])


def notes_of(archive: Archive) -> list[pydicom.Dataset]:
    rows = list(archive.find(Level.INSTANCE, Query(sop_class=KEY_OBJECT_SELECTION)))
    found = [i for row in rows for i in archive.instances(row.series_uid, [row.sop_uid])]
    return [pydicom.dcmread(io.BytesIO(i.data)) for i in found]


def note_bytes(archive: Archive) -> bytes:
    (row,) = archive.find(Level.INSTANCE, Query(sop_class=KEY_OBJECT_SELECTION))
    (instance,) = archive.instances(row.series_uid, [row.sop_uid])
    return instance.data


class TestAffected:
    def test_every_result_of_the_version_is_found_and_no_other(self, place: MemoryArchive) -> None:
        """A result that a recall misses stays in a patient's file as if nothing had happened."""
        first = store_result(place, study="a", PatientID="A")
        second = store_result(place, study="b", PatientID="B")
        store_result(place, study="a", PatientID="A", digest=OTHER, series="again")
        found = affected(place, DIGEST)
        assert uids(found) == {*first.values(), *second.values()}
        assert len(found.objects) == 2
        assert found.count == 4
        assert found.unreadable == ()

    def test_every_form_of_a_result_is_found(self, place: MemoryArchive) -> None:
        """A form that recall does not know, such as the pictures for viewers without Segmentations, would stay."""
        made = example_result()
        findings, source, identity = made.findings, made.source, made.identity
        hippocampus = findings.segments[0]
        shown = ScoreMap(
            quantity=Code(scheme="DCM", value="122157", meaning="Probability"),
            unit=Code(scheme="UCUM", value="1", meaning="no units"),
            array=np.full(findings.grid.shape, 0.5, np.float32),
            label="Probability",
            category=hippocampus.category,
            type=hippocampus.type,
            fractional=True,
        )
        with_map = replace(findings, maps=(shown,))
        label_map = segmentation(findings, source, identity, SegmentationType.LABELMAP)
        objects = [
            label_map,
            probabilities(with_map, source, identity),
            parametric_map(with_map, shown, source, identity),
            *captures([Picture(np.zeros((8, 8, 3), np.uint8), "Page")], findings.model, source, identity),
            report(findings, source, identity, label_map),
        ]
        place.store([*made.images, *(Instance(one.uid, one.data) for one in objects)])
        found = affected(place, DIGEST)
        assert uids(found) == {one.uid for one in objects}
        (note,) = reject(place, found, SAFETY, NOW)
        assert note.rejected == len(objects) == 5

    def test_long_answers_come_in_pieces(self, place: MemoryArchive, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory is bounded by the piece, and nothing is lost between two of them."""
        stored = {uid for k in range(5) for uid in store_result(place, study="a", series=f"s{k}").values()}
        monkeypatch.setattr(recall, "_BATCH", 2)
        assert uids(affected(place, DIGEST)) == stored

    def test_results_of_other_makers_are_passed_over(self, place: MemoryArchive) -> None:
        ours = store_result(place)

        def foreign(ds: pydicom.Dataset) -> None:
            ds.Manufacturer = "Somebody else"

        changed(place, ours["seg"], foreign, "1.2.3.77")
        assert uids(affected(place, DIGEST)) == set(ours.values())

    @pytest.mark.parametrize("lost", ["DeviceSerialNumber", "ContributingEquipmentSequence"])
    def test_one_place_that_names_the_digest_is_enough(self, place: MemoryArchive, lost: str) -> None:
        """Archives and people edit headers: a result whose serial number is gone is still a result of this model."""
        ours = store_result(place)

        def edited(ds: pydicom.Dataset) -> None:
            del ds[lost]

        changed(place, ours["seg"], edited, "1.2.3.78")
        changed(place, ours["sr"], edited, "1.2.3.79")
        assert uids(affected(place, DIGEST)) == {*ours.values(), "1.2.3.78", "1.2.3.79"}

    def test_rows_that_were_not_asked_for_change_nothing(self, place: MemoryArchive) -> None:
        """Servers ignore filters that they do not know and return everything."""
        ours = store_result(place)

        class Careless(MemoryArchive):
            url = "memory:careless"

            def find(self, level: Level, query: Query) -> Iterator[Entry]:
                yield from place.find(level, Query())

            def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
                yield from place.headers(series_uid)

        assert uids(affected(Careless(), DIGEST)) == set(ours.values())

    def test_memory_does_not_grow_with_what_is_passed_over(self, place: MemoryArchive) -> None:
        """A hospital's archive holds more pictures of others than fit into memory."""
        ours = store_result(place)
        (picture,) = place.headers(next(iter(place.find(Level.INSTANCE, Query(sop_uid=ours["seg"])))).series_uid)

        class Large(MemoryArchive):
            rows = 0

            def find(self, level: Level, query: Query) -> Iterator[Entry]:
                yield from place.find(level, query)
                for k in range(self.rows if query.sop_class == SECONDARY_CAPTURE_STORAGE else 0):
                    yield Entry("P", f"1.2.{k // 400}", f"1.2.{k // 200}.1", f"1.2.3.{k}", SECONDARY_CAPTURE_STORAGE)

            def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
                there = {one.uid: one for one in place.headers(series_uid, sop_uids)}
                for uid in sop_uids or ():
                    yield there.get(uid) or Instance(uid, picture.data.replace(b"Residency", b"Otherwise"))

        peaks = []
        for Large.rows in (2_000, 20_000):
            tracemalloc.start()
            assert uids(affected(Large(), DIGEST)) == set(ours.values())
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.2 * peaks[0]

    def test_what_cannot_be_read_is_told(self, place: MemoryArchive) -> None:
        """A list that is silently short is worse than none."""
        ours = store_result(place)
        (row,) = place.find(Level.INSTANCE, Query(sop_uid=ours["seg"]))

        class Damaged(MemoryArchive):
            def find(self, level: Level, query: Query) -> Iterator[Entry]:
                yield from place.find(level, query)

            def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
                for header in place.headers(series_uid, sop_uids):
                    cut = header.data[:300] if series_uid == row.series_uid else header.data
                    yield Instance(header.uid, cut)

        found = affected(Damaged(), DIGEST)
        assert uids(found) == {ours["sr"]}
        assert [series for series, _ in found.unreadable] == [row.series_uid]

    def test_a_header_that_is_listed_and_not_given_is_told(self, place: MemoryArchive) -> None:
        store_result(place)

        class Forgetful(MemoryArchive):
            def find(self, level: Level, query: Query) -> Iterator[Entry]:
                yield from place.find(level, query)

        found = affected(Forgetful(), DIGEST)
        assert found.count == 0
        assert len(found.unreadable) == 2
        assert "does not give its header" in found.unreadable[0][1]

    def test_an_archive_that_is_gone_ends_the_search(self, place: MemoryArchive) -> None:
        store_result(place)

        class Gone(MemoryArchive):
            def find(self, level: Level, query: Query) -> Iterator[Entry]:
                yield from place.find(level, query)

            def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
                raise UnreachableError("gone", retry=True)

        with pytest.raises(UnreachableError):
            affected(Gone(), DIGEST)

    def test_the_watcher_sees_the_search_go_on(self, place: MemoryArchive) -> None:
        store_result(place)
        seen: list[tuple[int, int]] = []
        affected(place, DIGEST, lambda looked_at, found: seen.append((looked_at, found)))
        assert seen == [(1, 1), (2, 2)]


class TestRejection:
    def test_one_note_a_study_names_every_affected_object(self, place: MemoryArchive) -> None:
        first = store_result(place, study="a", PatientID="A", PatientName="Somebody^A")
        again = store_result(place, study="a", PatientID="A", PatientName="Somebody^A", series="again")
        store_result(place, study="b", PatientID="B")
        notes = list(reject(place, affected(place, DIGEST), SAFETY, NOW))
        assert [note.rejected for note in notes if note.rejected == 4] == [4]
        read = {str(ds.PatientID): ds for ds in notes_of(place)}
        assert set(read) == {"A", "B"}
        note = read["A"]
        assert note.PatientName == "Somebody^A"
        expected = {*first.values(), *again.values()}
        shown = [i for i in note.ContentSequence if "ReferencedSOPSequence" in i]
        assert {i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in shown} == expected
        (study,) = note.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == note.StudyInstanceUID
        evidence = [s for one in study.ReferencedSeriesSequence for s in one.ReferencedSOPSequence]
        assert {s.ReferencedSOPInstanceUID for s in evidence} == expected
        assert len(evidence) == 4
        assert note.ConceptNameCodeSequence[0].CodeValue == "113037"

    def test_rejecting_twice_stores_one_note(self, place: MemoryArchive) -> None:
        """Whoever repeats a recall after an interruption must not fill the archive with copies."""
        store_result(place)
        (first,) = reject(place, affected(place, DIGEST), SAFETY, NOW)
        (again,) = reject(place, affected(place, DIGEST), SAFETY, NOW + dt.timedelta(days=1))
        assert (first.present, again.present) == (False, True)
        assert first.uid == again.uid
        assert len(notes_of(place)) == 1

    def test_nothing_is_deleted_or_changed(self, place: MemoryArchive) -> None:
        store_result(place)
        before = {i.uid: i.data for r in place.find(Level.SERIES, Query()) for i in place.instances(r.series_uid)}
        list(reject(place, affected(place, DIGEST), SAFETY, NOW))
        after = {i.uid: i.data for r in place.find(Level.SERIES, Query()) for i in place.instances(r.series_uid)}
        assert before.items() <= after.items()
        assert len(after) == len(before) + 1

    def test_notes_are_no_results(self, place: MemoryArchive) -> None:
        ours = store_result(place)
        list(reject(place, affected(place, DIGEST), SAFETY, NOW))
        assert uids(affected(place, DIGEST)) == set(ours.values())

    def test_a_note_that_is_not_kept_is_noticed(self, place: MemoryArchive) -> None:
        """Some archives say success and keep nothing, or hide what is rejected together with its note."""
        store_result(place)
        found = affected(place, DIGEST)
        place.store = lambda instances: list(instances) and None  # type: ignore[method-assign]
        with pytest.raises(ArchiveError, match="does not give back the rejection note"):
            list(reject(place, found, SAFETY, NOW))

    def test_the_time_is_that_of_the_study_where_its_zone_is_known(self, place: MemoryArchive) -> None:
        store_result(place, TimezoneOffsetFromUTC="+0530")
        list(reject(place, affected(place, DIGEST), SAFETY, NOW))
        (note,) = notes_of(place)
        assert (note.ContentDate, note.ContentTime) == ("20261121", "200000")

    def test_the_reason_decides_the_note(self, place: MemoryArchive) -> None:
        """TID 2010 demands a title modifier for quality reasons and knows none for the others."""
        store_result(place)
        found = affected(place, DIGEST)
        made = {next(reject(place, found, Rejection(title=title), NOW)).uid for title in TITLES}
        assert len(made) == 3
        modifiers = {
            ds.ConceptNameCodeSequence[0].CodeValue: [
                i.ConceptCodeSequence[0].CodeValue
                for i in ds.ContentSequence
                if "ConceptNameCodeSequence" in i and i.ConceptNameCodeSequence[0].CodeValue == "113011"
            ]
            for ds in notes_of(place)
        }
        assert modifiers == {"113037": [], QUALITY.value: ["111218"], RETENTION.value: []}

    @pytest.mark.parametrize("title", TITLES, ids=lambda title: title.value)
    def test_validators_and_other_readers_take_the_note(
        self, title, place: MemoryArchive, dciodvfy: Callable[[bytes], list[str]], tmp_path: Path
    ) -> None:
        names = {"PatientName": "Ηλίας^Νίκος", "SpecificCharacterSet": "ISO_IR 192"}
        ours = store_result(place, **names)
        list(reject(place, affected(place, DIGEST), Rejection(title=title, text="grüße", by="Müller^Jörg"), NOW))
        data = note_bytes(place)
        assert dciodvfy(data) == []
        read = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(io.BytesIO(data)))
        assert {read.resolve_reference(uid)[2] for uid in ours.values()} == set(ours.values())
        assert len(read.content.get_references()) == len(ours)
        if shutil.which("dsrdump") is None:
            pytest.skip("dsrdump missing: apt install dcmtk")
        file = tmp_path / "note.dcm"
        file.write_bytes(data)
        shown = subprocess.run(["dsrdump", "+U8", "+Pu", str(file)], capture_output=True, check=False)
        said = shown.stdout.decode() + shown.stderr.decode()
        assert shown.returncode == 0, said
        assert title.meaning in said
        assert all(uid in said for uid in ours.values())
        assert "Müller^Jörg" in said
        assert not [line for line in said.splitlines() if line.startswith(("E:", "F:"))]


class TestRejectedBefore:
    def test_rejected_results_of_the_same_version_in_the_study_are_counted(self, place: MemoryArchive) -> None:
        """Another wording of the approval makes another result: it must not look as if nobody had rejected one."""
        first = store_result(place, study="a")
        store_result(place, study="a", digest=OTHER, series="again")
        study_uid = next(iter(affected(place, DIGEST).objects))
        assert rejected_before(place, study_uid, DIGEST, ()) == ()
        list(reject(place, affected(place, DIGEST), SAFETY, NOW))
        ((note, count),) = rejected_before(place, study_uid, DIGEST, ())
        assert (count, note.by) == (2, "A. Radiologist")
        assert rejected_before(place, study_uid, OTHER, ()) == ()
        assert rejected_before(place, study_uid, DIGEST, first.values()) == ()
        assert rejected_before(place, "1.2.3", DIGEST, ()) == ()

    def test_without_notes_no_header_is_read(self) -> None:
        class Headless(MemoryArchive):
            def headers(self, series_uid: str, uids: Sequence[str] | None = None) -> Iterator[Instance]:
                raise AssertionError("a header was read")

        place = Headless()
        store_result(place)
        (row, *_) = place.find(Level.STUDY, Query())
        assert rejected_before(place, row.study_uid, DIGEST, ()) == ()
