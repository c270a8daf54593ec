"""Which objects a result becomes: by what is known of the archive that takes it, and by what the network gives."""

from __future__ import annotations

import gzip
import html
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from residency.archive import Archive, Instance, Level, Query
from residency.archives.folder import FolderArchive
from residency.cli.results import Format, exported, report_bytes
from residency.cli.stored import read_result
from residency.codes import Code
from residency.dicom.findings import read_parametric_map, read_report, read_segmentation
from residency.dicom.segmentation import LABEL_MAP_STORAGE, SEGMENTATION_STORAGE, SegmentationType
from residency.errors import RejectedError
from residency.findings import Findings, Segment
from residency.labels import Side
from residency.models import publish
from residency.pipeline import Ending, House, Outcome, read_study
from residency.pipeline.forms import ResultForms, forms_for
from residency.selection import Policy
from residency.settings import ArchiveSettings
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop
from residency.volume import regular_grid

PLAIN = ResultForms(summary="never")
LABEL_MAP = replace(PLAIN, label_map=True)
POLICY = Policy(allow_unapproved=True, model="example")


def crop(series: str = "crop") -> list[bytes]:
    said = {"SeriesDescription": "HippoCrop", "BodyPartExamined": None, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}
    return mr_series(hippocampus_crop(Side.LEFT), series=series, **said)


def house_with(ward, changes: dict[str, object]) -> tuple[str, House]:
    """A study in the ward's archive, and the house in which the example network reads it."""
    ward.approve_rules()
    package = example_package(changes | {"parameters": 4}, graph=threshold_graph(scale=0.01))
    publish(ward.archive, package, ward.key)
    files = [(pydicom.dcmread(io.BytesIO(data)), data) for data in crop()]
    ward.archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in files)
    house = replace(ward.house(), package=lambda model: package, forms=PLAIN)
    return str(files[0][0].StudyInstanceUID), house


def read(study: str, house: House) -> Outcome:
    (outcome,) = [o for o in read_study(study, house, POLICY).outcomes if not o.own]
    return outcome


def stored(archive: Archive, uid: str) -> bytes:
    (row,) = archive.find(Level.INSTANCE, Query(sop_uid=uid))
    (found,) = archive.instances(row.series_uid, [uid])
    return found.data


class Picky:
    """A folder archive that treats label maps as archives do that do not know them."""

    def __init__(self, folder: Path, treatment: str) -> None:
        self._inner = FolderArchive(folder)
        self._treatment = treatment
        self.refused = 0

    url = "picky"

    def find(self, level: Level, query: Query):
        return self._inner.find(level, query)

    def headers(self, series_uid: str, sop_uids: Sequence[str] | None = None):
        return self._inner.headers(series_uid, sop_uids)

    def instances(self, series_uid: str, sop_uids: Sequence[str] | None = None) -> Iterator[Instance]:
        for one in self._inner.instances(series_uid, sop_uids):
            if self._treatment != "alter" or not _is_label_map(one.data):
                yield one
                continue
            dataset = pydicom.dcmread(io.BytesIO(one.data))
            dataset.decompress()
            dataset.PixelData = dataset.PixelData[:-200] + bytes(200)
            buffer = io.BytesIO()
            dataset.save_as(buffer)
            yield Instance(one.uid, buffer.getvalue())

    def store(self, instances: Iterable[Instance]) -> None:
        for one in instances:
            if _is_label_map(one.data):
                self.refused += 1
                if self._treatment == "refuse":
                    raise RejectedError("the archive knows no Label Map Segmentation Storage")
                if self._treatment == "lose":
                    continue
            self._inner.store([one])

    def close(self) -> None:
        self._inner.close()


def _is_label_map(data: bytes) -> bool:
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPClassUID == LABEL_MAP_STORAGE


class TestPolicy:
    """The table in `residency.pipeline.forms`, row by row."""

    @pytest.mark.parametrize(("allowed", "proven", "reads", "over"), list(itertools.product([True, False], repeat=4)))
    def test_a_label_map_is_tried_where_it_is_allowed_can_be_proven_and_fits(
        self, allowed: bool, proven: bool, reads: bool, over: bool
    ) -> None:
        forms = ResultForms(label_map=allowed, label_map_proven=proven, read_back=reads)
        expected = allowed and (proven or reads) and not over
        assert (forms.segmentation_type(_two_segments(over)) is SegmentationType.LABELMAP) is expected

    @pytest.mark.parametrize(
        ("summary", "shows", "wanted"),
        [
            ("always", True, True),
            ("always", False, True),
            ("never", True, False),
            ("never", False, False),
            ("auto", True, False),
            ("auto", False, True),
        ],
    )
    def test_a_summary_is_written_where_segmentations_are_not_known_to_be_shown(
        self, summary: str, shows: bool, wanted: bool
    ) -> None:
        given = ArchiveSettings.model_validate({"url": "x", "summary": summary, "shows_segmentations": shows})
        assert forms_for(given).wants_summary() is wanted

    def test_nothing_known_means_what_every_archive_takes(self) -> None:
        forms = forms_for(ArchiveSettings(url="x"))
        assert forms == ResultForms()
        assert forms.segmentation_type(_two_segments(overlapping=False)) is SegmentationType.BINARY


def _two_segments(overlapping: bool) -> Findings:
    grid = regular_grid((2, 3, 4), (1.0, 1.0, 1.0))
    code = Code(scheme="SCT", value="5366008", meaning="Hippocampus")
    first, second = np.zeros((2, *grid.shape), dtype=np.bool_)
    first[0] = second[1] = True
    second[0, 0, 0] = overlapping
    segments = (Segment(1, "a", code, code, first), Segment(2, "b", code, code, second))
    return Findings(grid=grid, model=None, segments=segments)  # type: ignore[arg-type]


class TestLabelMaps:
    def test_an_archive_that_takes_it_gets_a_label_map(self, ward, tmp_path: Path) -> None:
        study, house = house_with(ward, {})
        done = read(study, replace(house, forms=LABEL_MAP))
        assert done.ending is Ending.RESULT
        back = read_segmentation(stored(ward.archive, done.stored["seg"]))
        assert back.type is SegmentationType.LABELMAP
        report = read_report(stored(ward.archive, done.stored["sr"]))
        assert {g.segmentation_uid for g in report.groups} == {done.stored["seg"]}
        shown = read_result(done.stored["sr"], ward.archive)
        assert shown.segmentation is not None
        for one, wanted in zip(shown.segmentation.segments, done.findings.segments, strict=True):
            np.testing.assert_array_equal(one.segment.mask, wanted.mask)

    def test_a_result_in_another_form_is_the_result_all_the_same(self, ward) -> None:
        study, house = house_with(ward, {})
        first = read(study, replace(house, forms=LABEL_MAP))
        again = read(study, house)
        assert again.ending is Ending.PRESENT
        assert dict(again.stored) == dict(first.stored)

    def test_both_forms_of_one_result_have_uids_of_their_own(self, ward, tmp_path: Path) -> None:
        """Equal UIDs with other content are refused, or worse, dropped without a word."""
        study, house = house_with(ward, {})
        plain = read(study, replace(house, results=FolderArchive(tmp_path / "plain")))
        other = read(study, replace(house, forms=LABEL_MAP))
        assert set(plain.stored) == set(other.stored)
        assert not set(plain.stored.values()) & set(other.stored.values())

    @pytest.mark.parametrize("treatment", ["refuse", "lose", "alter"])
    def test_an_archive_that_does_not_gets_binary_and_the_outcome_says_why(
        self, ward, tmp_path: Path, treatment: str
    ) -> None:
        study, house = house_with(ward, {})
        archive = Picky(tmp_path / "picky", treatment)
        house = replace(house, results=archive, forms=LABEL_MAP)
        done = read(study, house)
        assert done.ending is Ending.RESULT
        assert "stored as BINARY" in done.reasons[0]
        assert archive.refused == 1
        assert read_segmentation(stored(archive, done.stored["seg"])).type is SegmentationType.BINARY
        report = read_report(stored(archive, done.stored["sr"]))
        assert {g.segmentation_uid for g in report.groups} == {done.stored["seg"]}
        again = read(study, house)
        assert again.ending is Ending.PRESENT
        assert dict(again.stored) == dict(done.stored)

    def test_what_is_proven_is_not_read_back(self, ward, tmp_path: Path) -> None:
        study, house = house_with(ward, {})
        archive = Picky(tmp_path / "picky", "take")
        done = read(study, replace(house, results=archive, forms=replace(LABEL_MAP, label_map_proven=True)))
        assert archive.refused == 1  # stored once
        assert read_segmentation(stored(archive, done.stored["seg"])).type is SegmentationType.LABELMAP


class TestMaps:
    def test_a_map_is_stored_named_by_the_report_and_exported(self, ward) -> None:
        changes = {
            "outputs.0.kind": "map",
            "outputs.0.quantity": {"scheme": "DCM", "value": "110806", "meaning": "Test"},
            "outputs.0.unit": {"scheme": "UCUM", "value": "%", "meaning": "percent"},
        }
        study, house = house_with(ward, changes)
        done = read(study, house)
        assert done.ending is Ending.RESULT
        assert {"pm", "sr"} <= set(done.stored)
        assert "seg" not in done.stored
        (wanted,) = done.findings.maps
        (found,) = read_parametric_map(stored(ward.archive, done.stored["pm"])).maps
        np.testing.assert_array_equal(found.array, wanted.array)
        assert wanted.array.std() > 0
        assert (found.quantity.value, found.unit.value, found.label) == ("110806", "%", "hippocampus")
        report = read_report(stored(ward.archive, done.stored["sr"]))
        assert done.stored["pm"] in {uid for uids in report.evidence.values() for uid in uids}

        again = read(study, house)
        assert again.ending is Ending.PRESENT
        assert dict(again.stored) == dict(done.stored)
        for name in (done.stored["pm"], done.stored["sr"]):
            files = exported(read_result(name, ward.archive), Format.NIFTI)
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(files["map-1.nii.gz"]))
            np.testing.assert_array_equal(np.asarray(image.dataobj).T, wanted.array)
        named = {done.stored["pm"], done.stored["sr"]}
        shown = read_result(done.stored["pm"], ward.archive)
        assert {one.uid for one in shown.files.values()} >= named
        written = exported(shown, Format.DICOM)
        assert {pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID for data in written.values()} >= named
        assert done.findings.model.notice in html.unescape(report_bytes(shown).decode())

    def test_probabilities_become_a_fractional_segmentation(self, ward) -> None:
        study, house = house_with(ward, {"outputs.0.kind": "map", "outputs.0.stored_as": "probabilities"})
        done = read(study, house)
        assert {"probabilities", "sr"} <= set(done.stored)
        back = read_segmentation(stored(ward.archive, done.stored["probabilities"]))
        assert back.type is SegmentationType.FRACTIONAL
        assert done.findings.maps[0].label == "hippocampus"
        files = exported(read_result(done.stored["sr"], ward.archive), Format.NIFTI)
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(files["probability-1.nii.gz"]))
        assert np.abs(np.asarray(image.dataobj).T - done.findings.maps[0].array).max() <= 0.5 / 255 + 1e-6

    def test_without_its_report_a_stored_map_is_no_finished_result(self, ward, tmp_path: Path) -> None:
        study, house = house_with(ward, {"outputs.0.kind": "map"})
        done = read(study, house)
        half = FolderArchive(tmp_path / "half")
        half.store([Instance(done.stored["pm"], stored(ward.archive, done.stored["pm"]))])
        again = read(study, replace(house, results=half))
        assert again.ending is Ending.RESULT
        assert dict(again.stored) == dict(done.stored)


def test_the_default_is_a_binary_segmentation(ward) -> None:
    study, house = house_with(ward, {})
    done = read(study, house)
    (row,) = ward.archive.find(Level.INSTANCE, Query(sop_uid=done.stored["seg"]))
    assert row.sop_class == SEGMENTATION_STORAGE
    assert list(done.stored)[-1] == "sr"
