"""Reports of every kind of source, for segmentations and for classifications: valid, and read by others as meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.capture import captures
from residency.dicom.findings import read_report
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report import MOST_IMAGES_NAMED, report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import ClassScore, Findings, Mask, Picture
from residency.labels import Side
from residency.measure import measure
from residency.testing.phantoms import mr_series, radiograph
from residency.volume import Space, Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]
Warnings = Callable[[bytes], list[str]]
Judge = Callable[[bytes], str]
Halves = Callable[[SourceSeries], tuple[Mask, Mask]]

SHIFT, CHEST = ("SCT", "36118008", "Pneumothorax"), ("SCT", "816094009", "Chest")
FINDING, SOURCE_OF_MEASUREMENT = "121071", "121112"


def code(scheme: str, value: str, meaning: str) -> Code:
    return Code(scheme=scheme, value=value, meaning=meaning)


CLASSES = (
    ClassScore(code(*SHIFT), 0.9375, "pneumothorax", True, code("SCT", "49755003", "Morphologic abnormality")),
    ClassScore(code("SCT", "60046008", "Pleural effusion"), 0.0625, "effusion", False, None, code(*CHEST)),
    ClassScore(code("SCT", "233604007", "Pneumonia"), 0.5),
)


def read(instance: EncodedInstance) -> Dataset:
    return pydicom.dcmread(BytesIO(instance.data))


def items(content: Dataset) -> Iterator[Dataset]:
    for item in content.get("ContentSequence", []):
        yield item
        yield from items(item)


def of_concept(instance: EncodedInstance, value: str) -> list[Dataset]:
    return [i for i in items(read(instance)) if i.ConceptNameCodeSequence[0].CodeValue == value]


@pytest.fixture(scope="module")
def classified(any_source: SourceSeries, findings_on: Make, identity_of: Identify) -> EncodedInstance:
    findings = findings_on(any_source, classes=CLASSES)
    return report(findings, any_source, identity_of(any_source), None)


@pytest.fixture(scope="module")
def segmented(
    any_source: SourceSeries, findings_on: Make, identity_of: Identify, halves: Halves
) -> tuple[Findings, EncodedInstance, EncodedInstance]:
    plain = findings_on(any_source, *halves(any_source))
    findings = replace(plain, measurements=measure(plain.segments, any_source.grid).measurements)
    seg = segmentation(findings, any_source, identity_of(any_source))
    return findings, seg, report(findings, any_source, identity_of(any_source), seg)


class TestClassification:
    def test_it_is_clean_for_the_validators(
        self, classified: EncodedInstance, dciodvfy: Warnings, dsrdump: Judge, dcmdump: Judge
    ) -> None:
        assert dciodvfy(classified.data) == []
        assert "Pneumothorax" in dsrdump(classified.data)
        assert "pneumothorax" in dcmdump(classified.data)

    def test_another_reader_finds_probabilities_and_what_the_rule_says(self, classified: EncodedInstance) -> None:
        groups = highdicom.sr.srread(BytesIO(classified.data)).content.get_image_measurement_groups()
        probabilities = [[(m.name.meaning, m.value, m.unit.value) for m in g.get_measurements()] for g in groups]
        assert probabilities == [[("Probability", p, "1")] for p in (0.9375, 0.0625, 0.5)]
        codes = {score.code.value for score in CLASSES}
        said = [
            [(e.name.value, e.value.value) for e in g.get_qualitative_evaluations() if e.name.value in codes]
            for g in groups
        ]
        assert said == [[("36118008", "260373001")], [("60046008", "260415000")], []]
        assert [g.tracking_identifier for g in groups] == ["pneumothorax", "effusion", "Pneumonia"]

    def test_what_is_not_detected_is_no_finding(self, classified: EncodedInstance) -> None:
        """A viewer that lists findings would list every disease that the network looked for."""
        groups = highdicom.sr.srread(BytesIO(classified.data)).content.get_image_measurement_groups()
        assert [g.finding_type and g.finding_type.value for g in groups] == ["36118008", None, "233604007"]

    def test_the_images_are_named_as_they_can_be_opened(
        self, classified: EncodedInstance, any_source: SourceSeries
    ) -> None:
        """By instance, and of a multi-frame one by frame: a viewer jumps there."""
        named = [item.ReferencedSOPSequence[0] for item in of_concept(classified, SOURCE_OF_MEASUREMENT)]
        assert {one.ReferencedSOPInstanceUID for one in named} == set(any_source.sop_uids)
        frames = [image.frame for image in any_source.references]
        for one in named:
            stated = one.get("ReferencedFrameNumber")
            assert (stated is None) == (frames[0] is None)
            assert stated is None or sorted(np.atleast_1d(stated).tolist()) == sorted(frames)
        listed = read(classified).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        evidence = {i.ReferencedSOPInstanceUID for series in listed for i in series.ReferencedSOPSequence}
        assert evidence == set(any_source.sop_uids)

    def test_an_unknown_side_is_said_and_a_proven_one_is_stated_of_every_class(
        self,
        any_source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        classified: EncodedInstance,
        dciodvfy: Warnings,
    ) -> None:
        assert len(of_concept(classified, "SIDE")) == len(CLASSES)
        left = tuple(replace(score, side=Side.LEFT) for score in CLASSES)
        proven = report(findings_on(any_source, classes=left), any_source, identity_of(any_source), None)
        assert of_concept(proven, "SIDE") == []
        sides = [group.side for group in read_report(proven.data).groups]
        assert sides == [Side.LEFT] * len(CLASSES)
        assert dciodvfy(proven.data) == []

    def test_classes_of_one_code_are_told_apart(
        self, findings_on: Make, any_source: SourceSeries, identity_of: Identify
    ) -> None:
        """Two statements with one Tracking UID would be taken for one, which contradicts itself."""
        twins = (CLASSES[0], replace(CLASSES[0], label="pneumothorax, small", probability=0.25, found=False))
        made = report(findings_on(any_source, classes=twins), any_source, identity_of(any_source), None)
        assert len({group.tracking_uid for group in read_report(made.data).groups}) == 2

    def test_it_is_read_back(self, classified: EncodedInstance) -> None:
        found = read_report(classified.data)
        assert [group.measurements[0].value for group in found.groups] == [0.9375, 0.0625, 0.5]
        assert [group.tracking_id for group in found.groups] == ["pneumothorax", "effusion", "Pneumonia"]
        said = [[(c.value, a) for c, a in group.evaluations if c.scheme == "SCT"] for group in found.groups]
        assert said[0] == [("36118008", "Detected (SCT:260373001)")]
        assert said[1] == [("60046008", "Not detected (SCT:260415000)")]

    def test_a_second_run_gives_the_same_bytes(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify, classified: EncodedInstance
    ) -> None:
        again = report(findings_on(any_source, classes=CLASSES), any_source, identity_of(any_source), None)
        assert again == classified

    def test_a_long_series_is_named_once(self, findings_on: Make, identity_of: Identify, dciodvfy: Warnings) -> None:
        """Hundreds of slices in every group of every class would make a report of megabytes."""
        grid = regular_grid((MOST_IMAGES_NAMED + 1, 6, 6), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
        source = open_series(mr_series(Volume(np.zeros(grid.shape, np.float32), grid)))
        long = report(findings_on(source, classes=CLASSES), source, identity_of(source), None)
        assert of_concept(long, SOURCE_OF_MEASUREMENT) == []
        assert {item.UID for item in of_concept(long, "112002")} == {source.labels.series_uid}
        assert dciodvfy(long.data) == []

    def test_every_series_that_was_read_is_named(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        grid = regular_grid((3, 6, 6), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
        image = Volume(np.zeros(grid.shape, np.float32), grid)
        one, other = (open_series(mr_series(image, series=name)) for name in ("t1", "flair"))
        made = report(findings_on(one, classes=CLASSES), one, identity_of(one), None, others=[other])
        assert {item.UID for item in of_concept(made, "112002")} == {one.labels.series_uid, other.labels.series_uid}
        assert set(read_report(made.data).evidence) == {one.labels.series_uid, other.labels.series_uid}
        assert dciodvfy(made.data) == []


class TestSegmentation:
    def test_report_and_segmentation_are_clean_for_the_validators(
        self, segmented: tuple[Findings, EncodedInstance, EncodedInstance], dciodvfy: Warnings, dsrdump: Judge
    ) -> None:
        _, seg, sr = segmented
        assert dciodvfy(seg.data) == []
        assert dciodvfy(sr.data) == []
        assert "Hippocampus" in dsrdump(sr.data)

    def test_another_reader_finds_each_segment_with_its_numbers(
        self, segmented: tuple[Findings, EncodedInstance, EncodedInstance], any_source: SourceSeries
    ) -> None:
        """On a volume the group refers to the segment, on a radiograph to its frame."""
        findings, seg, sr = segmented
        content = highdicom.sr.srread(BytesIO(sr.data)).content
        in_patient = any_source.grid.space is Space.PATIENT
        groups = (
            content.get_volumetric_roi_measurement_groups()
            if in_patient
            else content.get_planar_roi_measurement_groups()
        )
        assert [g.tracking_uid for g in groups] == [s.TrackingUID for s in read(seg).SegmentSequence]
        expected = [[m.value for m in findings.of_segment(s.number)] for s in findings.segments]
        assert [[m.value for m in g.get_measurements()] for g in groups] == [pytest.approx(one) for one in expected]
        names = ("121191", "121214") if in_patient else ("121214", "121191")
        assert len(of_concept(sr, names[0])) == 2
        assert of_concept(sr, names[1]) == []

    def test_a_second_run_gives_the_same_bytes(
        self,
        segmented: tuple[Findings, EncodedInstance, EncodedInstance],
        any_source: SourceSeries,
        identity_of: Identify,
    ) -> None:
        findings, seg, sr = segmented
        assert report(findings, any_source, identity_of(any_source), seg) == sr


NAMES = (
    "cs_chinese_gb18030.dcm",
    "cs_greek.dcm",
    "cs_japanese_h31.dcm",
    "cs_korean_multi.dcm",
    "cs_russian.dcm",
)


@pytest.mark.parametrize("file", NAMES)
class TestScripts:
    """Names of patients in five scripts, in the report and beside the pages; never on the pages."""

    @pytest.fixture
    def named(self, file: str, shared_data: Path) -> SourceSeries:
        """A radiograph of the patient whose name stands in the file."""
        header = pydicom.dcmread(shared_data / "dicom" / "awkward" / file, force=True, stop_before_pixels=True)
        return open_series(
            [
                radiograph(
                    np.zeros((12, 10), np.uint16),
                    PatientName=header.PatientName,
                    SpecificCharacterSet=header.SpecificCharacterSet,
                )
            ]
        )

    def test_the_name_is_the_sources(
        self, file: str, named: SourceSeries, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        findings = findings_on(named, classes=CLASSES)
        page = Picture(np.zeros((8, 8, 3), np.uint8), "page")
        [capture] = captures([page], findings.model, named, identity_of(named))
        for made in (report(findings, named, identity_of(named), None), capture):
            dataset = read(made)
            assert str(dataset.PatientName) == str(named.datasets[0].PatientName)
            assert not str(dataset.PatientName).isascii()
            own = named.datasets[0].SpecificCharacterSet
            assert dataset.SpecificCharacterSet in (own, "ISO_IR 192")
            assert [w for w in dciodvfy(made.data) if "Retired Person Name form" not in w] == []

    def test_texts_of_the_card_in_another_script_survive_beside_it(
        self, file: str, named: SourceSeries, findings_on: Make, identity_of: Identify
    ) -> None:
        findings = findings_on(named, classes=(replace(CLASSES[0], label="気胸 ぜん Ж"),))
        found = read_report(report(findings, named, identity_of(named), None).data)
        assert found.groups[0].tracking_id == "気胸 ぜん Ж"


def test_long_names_are_cut_visibly(findings_on: Make, identity_of: Identify, dciodvfy: Warnings) -> None:
    source = open_series([radiograph(np.zeros((12, 10), np.uint16))])
    findings = findings_on(source, classes=CLASSES)
    long = replace(findings, model=replace(findings.model, name="Unusually long name " * 10))
    [page] = captures([Picture(np.zeros((8, 8, 3), np.uint8), "page")], long.model, source, identity_of(source))
    for made in (report(long, source, identity_of(source), None), page):
        dataset = read(made)
        assert dataset.SeriesDescription.endswith("... (not verified)")
        assert len(dataset.SeriesDescription) <= 64
        assert dataset.ManufacturerModelName.endswith("...")
        assert dciodvfy(made.data) == []
