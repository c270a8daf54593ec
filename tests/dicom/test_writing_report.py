"""Structured reports we write: every number with its segment, every reference listed, every caveat in words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import ClassScore, Findings, Mask, Measurement
from residency.labels import Side
from residency.testing.phantoms import mr_series, radiograph
from residency.volume import Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]
Warnings = Callable[[bytes], list[str]]

MM3 = Code(scheme="UCUM", value="mm3", meaning="cubic millimeter")
ML = Code(scheme="UCUM", value="mL", meaning="milliliter")
VOLUME = Code(scheme="SCT", value="118565006", meaning="Volume")


@pytest.fixture
def source() -> SourceSeries:
    grid = regular_grid((8, 12, 10), (2.0, 1.0, 0.5), frame_of_reference="1.2.3.4")
    return open_series(mr_series(Volume(np.zeros(grid.shape, dtype=np.float32), grid)))


@pytest.fixture
def findings(source: SourceSeries, findings_on: Make, boxes: Callable[..., tuple[Mask, Mask]]) -> Findings:
    return findings_on(source, *boxes(source.grid.shape))


def read(instance: EncodedInstance) -> Dataset:
    return pydicom.dcmread(BytesIO(instance.data))


def written(findings: Findings, source: SourceSeries, identity_of: Identify) -> tuple[EncodedInstance, EncodedInstance]:
    """Segmentation and report of the same findings."""
    identity = identity_of(source)
    seg = segmentation(findings, source, identity)
    return seg, report(findings, source, identity, seg)


def items(content: Dataset) -> Iterator[Dataset]:
    for item in content.get("ContentSequence", []):
        yield item
        yield from items(item)


def values(instance: EncodedInstance, concept: str) -> list[str]:
    """Text values of all items of one concept."""
    found = [i for i in items(read(instance)) if i.ConceptNameCodeSequence[0].CodeValue == concept]
    return [i.get("TextValue", "") for i in found]


class TestMeasurements:
    def test_each_segment_has_a_group_that_refers_to_it(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        """Group and segment are one thing to a reader only through tracking UID and reference."""
        seg, sr = written(findings, source, identity_of)
        segments = read(seg).SegmentSequence
        content = highdicom.sr.srread(BytesIO(sr.data)).content
        groups = content.get_volumetric_roi_measurement_groups()
        assert len(groups) == len(segments) == 2
        for group, segment in zip(groups, segments, strict=True):
            assert group.tracking_uid == segment.TrackingUID
            assert group.tracking_identifier == segment.TrackingID
            reference = group.referenced_segment[0].ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == seg.uid
            assert reference.ReferencedSegmentNumber == segment.SegmentNumber
            assert group.finding_type.value == "5366008"
            assert group.finding_sites[0].ConceptCodeSequence[0].CodeValue == "12738006"

    def test_volumes_and_lengths_are_those_of_the_findings(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        given = (
            Measurement(VOLUME, 1234.56789012345678, MM3, 1),
            Measurement(VOLUME, 1.23456789012345678, ML, 1),
            *findings.measurements,
        )
        _, sr = written(replace(findings, measurements=given), source, identity_of)
        first, second = highdicom.sr.srread(BytesIO(sr.data)).content.get_volumetric_roi_measurement_groups()
        assert [(m.name.value, m.unit.value) for m in first.get_measurements()] == [
            ("118565006", "mm3"),
            ("118565006", "mL"),
            ("103339001", "mm"),
        ]
        assert first.get_measurements()[0].value == pytest.approx(given[0].value, rel=1e-12)
        counted = float(findings.segments[1].mask.sum()) * 1.0
        assert second.get_measurements()[0].value == pytest.approx(counted)

    def test_a_segment_without_voxels_measures_0_mm3(
        self,
        source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        boxes: Callable[..., tuple[Mask, Mask]],
        dciodvfy: Warnings,
    ) -> None:
        masks = boxes(source.grid.shape)
        _, sr = written(findings_on(source, masks[0], np.zeros_like(masks[0])), source, identity_of)
        groups = highdicom.sr.srread(BytesIO(sr.data)).content.get_volumetric_roi_measurement_groups()
        empty = groups[1].get_measurements()
        assert [(m.value, m.unit.value) for m in empty] == [(0.0, "mm3")]
        assert dciodvfy(sr.data) == []

    def test_a_number_that_is_none_is_said_to_be_missing(
        self, findings: Findings, source: SourceSeries, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        broken = replace(findings, measurements=(Measurement(VOLUME, float("nan"), MM3, 1),))
        _, sr = written(broken, source, identity_of)
        numbers = [i for i in items(read(sr)) if i.ValueType == "NUM"]
        assert len(numbers[0].MeasuredValueSequence) == 0
        assert numbers[0].NumericValueQualifierCodeSequence[0].CodeValue == "114000"
        assert dciodvfy(sr.data) == []

    def test_classes_come_with_their_probabilities(
        self,
        source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        two_classes: tuple[ClassScore, ...],
        dciodvfy: Warnings,
    ) -> None:
        whole = (Measurement(VOLUME, 5000.0, MM3),)
        only = findings_on(source, classes=two_classes, measurements=whole)
        sr = report(only, source, identity_of(source), None)
        assert dciodvfy(sr.data) == []
        groups = highdicom.sr.srread(BytesIO(sr.data)).content.get_image_measurement_groups()
        found = [(g.finding_type and g.finding_type.value, g.get_measurements()[0].value) for g in groups]
        assert found == [(None, 5000.0), ("26929004", 0.125), ("17621005", 0.875)]

    def test_segments_can_be_reported_without_a_segmentation(
        self, findings: Findings, source: SourceSeries, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        sr = report(findings, source, identity_of(source), None)
        assert dciodvfy(sr.data) == []
        assert len(highdicom.sr.srread(BytesIO(sr.data)).content.get_image_measurement_groups()) == 2

    def test_findings_without_any_result_are_a_report_all_the_same(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        sr = report(findings_on(source), source, identity_of(source), None)
        assert dciodvfy(sr.data) == []
        assert values(sr, "CHOICE")


class TestCaveats:
    def test_the_reader_learns_what_this_is_and_why_this_network(
        self, findings: Findings, source: SourceSeries, identity_of: Identify, dsrdump: Callable[[bytes], str]
    ) -> None:
        odd = replace(findings, warnings=("spacing is unlike that of the training set",))
        _, sr = written(odd, source, identity_of)
        assert values(sr, "NOTICE") == [findings.model.notice]
        assert values(sr, "APPROVAL") == [findings.model.approval]
        assert values(sr, "CHOICE") == list(findings.reasons)
        assert values(sr, "WARNING") == list(odd.warnings)
        rendered = dsrdump(sr.data)
        assert "Imaging Measurement Report" in rendered
        assert "rule hippocrop version 1" in rendered

    def test_a_side_is_named_where_proven_and_else_called_unknown(
        self, findings: Findings, source: SourceSeries, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        left = replace(findings.segments[0], side=Side.LEFT)
        _, sr = written(replace(findings, segments=(left, findings.segments[1])), source, identity_of)
        proven, unknown = highdicom.sr.srread(BytesIO(sr.data)).content.get_volumetric_roi_measurement_groups()
        assert proven.finding_sites[0].laterality.value == "7771000"
        assert unknown.finding_sites[0].laterality is None
        assert [text.split(":")[0] for text in values(sr, "SIDE")] == ["side unknown"]
        assert dciodvfy(sr.data) == []

    def test_a_source_without_dates_is_told_as_such(self, findings_on: Make, identity_of: Identify) -> None:
        grid = regular_grid((3, 6, 6), (1.0, 1.0, 1.0))
        without = dict.fromkeys(("StudyDate", "SeriesDate", "ContentDate"))
        source = open_series(mr_series(Volume(np.zeros(grid.shape, dtype=np.float32), grid), **without))
        _, sr = written(findings_on(source, np.ones(grid.shape, dtype=np.bool_)), source, identity_of)
        assert read(sr).ContentDate == "19000101"
        assert ["no date" in text for text in values(sr, "WARNING")] == [True]

    def test_it_is_preliminary_and_unverified(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        dataset = read(written(findings, source, identity_of)[1])
        assert (dataset.VerificationFlag, dataset.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        assert dataset.ContentQualification == "RESEARCH"
        assert dataset.SeriesDescription == "AI Hippocampus U-Net (not verified)"


class TestDocument:
    def test_every_instance_that_is_referenced_is_listed_as_evidence(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        """An archive that moves a report fetches what it stands on by this list."""
        seg, sr = written(findings, source, identity_of)
        dataset = read(sr)
        listed: dict[str, str] = {}
        for study in (*dataset.CurrentRequestedProcedureEvidenceSequence, *dataset.PertinentOtherEvidenceSequence):
            for series in study.ReferencedSeriesSequence:
                for instance in series.ReferencedSOPSequence:
                    listed[instance.ReferencedSOPInstanceUID] = study.StudyInstanceUID
        references = [i.ReferencedSOPSequence[0] for i in items(dataset) if "ReferencedSOPSequence" in i]
        referenced = {reference.ReferencedSOPInstanceUID for reference in references}
        assert referenced == {seg.uid, findings.model.manifest_uid}
        assert set(listed) == {*source.sop_uids, seg.uid, findings.model.manifest_uid}
        assert listed[seg.uid] == listed[source.sop_uids[0]] == dataset.StudyInstanceUID
        assert listed[findings.model.manifest_uid] == findings.model.study_uid

    def test_the_network_is_observer_and_algorithm(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        _, sr = written(findings, source, identity_of)
        context = highdicom.sr.srread(BytesIO(sr.data)).content.get_observer_contexts(
            observer_type=highdicom.sr.CodedConcept("121007", "DCM", "Device")
        )
        device = context[0].observer_identifying_attributes
        assert device.name == findings.model.name
        assert device.serial_number == findings.model.digest
        assert values(sr, "111001") == [findings.model.name] * 2
        assert values(sr, "111003") == [findings.model.version] * 2
        assert f"digest: {findings.model.digest}" in values(sr, "111002")

    def test_it_is_clean_for_the_validators(
        self,
        findings: Findings,
        source: SourceSeries,
        identity_of: Identify,
        dciodvfy: Warnings,
        dsrdump: Callable[[bytes], str],
        dcmdump: Callable[[bytes], str],
    ) -> None:
        _, sr = written(findings, source, identity_of)
        assert dciodvfy(sr.data) == []
        assert "Comprehensive 3D SR Document" in dsrdump(sr.data)
        assert findings.model.manifest_uid in dcmdump(sr.data)

    def test_a_second_run_gives_the_same_bytes(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        assert written(findings, source, identity_of) == written(findings, source, identity_of)

    def test_dates_inside_are_those_of_the_source(
        self, findings: Findings, source: SourceSeries, identity_of: Identify
    ) -> None:
        dataset = read(written(findings, source, identity_of)[1])
        moments = {str(e.value) for e in dataset.iterall() if e.VR in ("DA", "TM", "DT") and e.value}
        assert moments == {"20200102", "030405"}

    def test_a_source_without_frame_of_reference_gets_a_report_without_space(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        grid = regular_grid((3, 6, 6), (1.0, 1.0, 1.0))
        image = Volume(np.zeros(grid.shape, dtype=np.float32), grid)
        source = open_series(mr_series(image, FrameOfReferenceUID=None))
        seg, sr = written(findings_on(source, np.ones(grid.shape, dtype=np.bool_)), source, identity_of)
        assert read(sr).SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
        assert dciodvfy(seg.data) == dciodvfy(sr.data) == []

    def test_a_radiograph_is_measured_in_its_frame(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Warnings, dsrdump: Callable[[bytes], str]
    ) -> None:
        source = open_series([radiograph(np.zeros((12, 10), dtype=np.uint16))])
        lower, nothing = np.zeros((2, *source.grid.shape), dtype=np.bool_)
        lower[0, 6:9, 2:5] = True
        seg, sr = written(findings_on(source, nothing, lower), source, identity_of)
        assert dciodvfy(sr.data) == []
        assert "Referenced Segmentation Frame" in dsrdump(sr.data)
        numbers = [i for i in items(read(sr)) if i.ValueType == "NUM"]
        assert all(i.ConceptNameCodeSequence[0].CodeValue != VOLUME.value for i in numbers)
        frames = [
            i.ReferencedSOPSequence[0].ReferencedFrameNumber
            for i in items(read(sr))
            if i.ConceptNameCodeSequence[0].CodeValue == "121214"
        ]
        named = read(seg).PerFrameFunctionalGroupsSequence[frames[0] - 1].SegmentIdentificationSequence[0]
        assert named.ReferencedSegmentNumber == 2


def test_writing_does_not_wait_for_highdicom() -> None:
    """It judges what is written; loading it would only delay the first result."""
    program = "import sys, residency.dicom.report; sys.exit('highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
