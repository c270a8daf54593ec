"""Segmentations we write: where they lie, what they say, and that they say it every time alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement, RawDataElement
from scipy.spatial.transform import Rotation

from residency.dicom.colour import cielab_from_rgb, rgb_from_cielab
from residency.dicom.header import is_own
from residency.dicom.part10 import EncodedInstance
from residency.dicom.segmentation import packed, segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import GeometryError
from residency.findings import Findings, Mask
from residency.labels import Side
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Volume

TOLERANCE_MM = 1e-3

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]

ANISOTROPIC = ((3.5, 0.75, 1.25), (7, 9, 11))
ORIENTATIONS = {
    # Columns: steps of one slice, one row, one column, each a unit vector in LPS.
    "axial": [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    "axial, slices downwards": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    "axial, turned in plane": [[0, 0, -1], [0, -1, 0], [1, 0, 0]],
    "axial, mirrored in plane": [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
    "sagittal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "sagittal, from the right": [[-1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "coronal": [[0, 0, 1], [1, 0, 0], [0, -1, 0]],
    "coronal, rows upwards": [[0, 0, 1], [-1, 0, 0], [0, 1, 0]],
}


def grid_of(directions: npt.ArrayLike, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=np.float64) * np.array(spacing)
    affine[:3, 3] = (-31.25, 17.125, 203.0625)
    return Grid(shape, affine, "1.2.3.4")


def mr_on(grid: Grid, **attributes: object) -> SourceSeries:
    values = np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape) % 1000
    return open_series(mr_series(Volume(values, grid), **attributes))


@pytest.fixture
def source() -> SourceSeries:
    return mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC))


def read(instance: EncodedInstance) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(instance.data))


def placed(instance: EncodedInstance, segment: int, grid: Grid) -> Mask:
    """One segment as highdicom reads it, put back voxel by voxel where its own affine says."""
    read_back = highdicom.seg.segread(BytesIO(instance.data))
    volume = read_back.get_volume(combine_segments=False, segment_numbers=[segment], allow_missing_positions=True)
    found = np.argwhere(volume.array[..., 0])
    points = found @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    index = grid.to_index(points)
    assert np.abs(grid.to_lps(np.rint(index)) - points).max() < TOLERANCE_MM
    mask = np.zeros(grid.shape, dtype=np.bool_)
    mask[tuple(np.rint(index).astype(int).T)] = True
    assert mask.sum() == len(found)
    return mask


class TestGeometry:
    """A result that lies a slice too high or mirrored is worse than none."""

    @pytest.mark.parametrize("name", ORIENTATIONS)
    def test_every_orientation_comes_back_where_it_was(
        self, name: str, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        source = mr_on(grid_of(ORIENTATIONS[name], *ANISOTROPIC))
        masks = boxes(source.grid.shape)
        instance = segmentation(findings_on(source, *masks), source, identity_of(source))
        for number, mask in enumerate(masks, start=1):
            assert np.array_equal(placed(instance, number, source.grid), mask)

    @given(
        angles=st.tuples(*[st.floats(-180, 180)] * 3),
        spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
        mirrored=st.booleans(),
        data=st.data(),
    )
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_oblique_series_come_back_where_they_were(
        self,
        angles: tuple[float, float, float],
        spacing: tuple[float, float, float],
        mirrored: bool,
        data: st.DataObject,
        findings_on: Make,
        identity_of: Identify,
    ) -> None:
        turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([1, 1, -1 if mirrored else 1])
        source = mr_on(grid_of(turned, spacing, (4, 5, 7)))
        seed = data.draw(st.integers(0, 2**32 - 1))
        mask = np.random.default_rng(seed).random(source.grid.shape) < 0.3
        mask[1, 2, 3] = True
        instance = segmentation(findings_on(source, mask), source, identity_of(source))
        assert np.array_equal(placed(instance, 1, source.grid), mask)

    def test_a_source_that_lies_about_slice_spacing_does_not_matter(
        self, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        """Scanners fill Spacing Between Slices with other things; readers then take the frames for irregular."""
        source = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC), SpacingBetweenSlices="5.0")
        masks = boxes(source.grid.shape)
        instance = segmentation(findings_on(source, *masks), source, identity_of(source))
        shared = read(instance).SharedFunctionalGroupsSequence[0]
        assert float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices) == pytest.approx(3.5)
        assert np.array_equal(placed(instance, 1, source.grid), masks[0])

    def test_every_frame_names_the_slice_it_was_derived_from(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        masks = boxes(source.grid.shape)
        written = read(segmentation(findings_on(source, *masks), source, identity_of(source)))
        positions = {str(d.SOPInstanceUID): d.ImagePositionPatient for d in source.datasets}
        assert len(written.PerFrameFunctionalGroupsSequence) == sum(int(m.any(axis=(1, 2)).sum()) for m in masks)
        for groups in written.PerFrameFunctionalGroupsSequence:
            image = groups.DerivationImageSequence[0].SourceImageSequence[0]
            place = groups.PlanePositionSequence[0].ImagePositionPatient
            assert place == positions[image.ReferencedSOPInstanceUID]

    def test_a_single_slice_is_enough(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Callable[[bytes], list[str]]
    ) -> None:
        source = mr_on(grid_of(ORIENTATIONS["sagittal"], (4.0, 1.0, 1.0), (1, 6, 5)))
        mask = np.zeros(source.grid.shape, dtype=np.bool_)
        mask[0, 1:3, 2:4] = True
        instance = segmentation(findings_on(source, mask), source, identity_of(source))
        assert dciodvfy(instance.data) == []
        assert np.array_equal(placed(instance, 1, source.grid), mask)

    def test_findings_on_another_grid_are_refused(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify
    ) -> None:
        other = mr_on(grid_of(ORIENTATIONS["coronal"], *ANISOTROPIC))
        findings = findings_on(other, np.ones(other.grid.shape, dtype=np.bool_))
        with pytest.raises(GeometryError, match="grid of the source"):
            segmentation(findings, source, identity_of(source))


class TestSegments:
    def test_overlapping_segments_both_keep_their_voxels(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        masks = boxes(source.grid.shape)
        assert np.logical_and(*masks).any()
        instance = segmentation(findings_on(source, *masks), source, identity_of(source))
        assert read(instance).SegmentsOverlap == "YES"
        assert read(segmentation(findings_on(source, masks[0]), source, identity_of(source))).SegmentsOverlap == "NO"
        for number, mask in enumerate(masks, start=1):
            assert np.array_equal(placed(instance, number, source.grid), mask)

    def test_a_segment_without_voxels_is_described_and_has_no_frame(
        self,
        source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        boxes: Callable[..., tuple[Mask, Mask]],
        dciodvfy: Callable[[bytes], list[str]],
    ) -> None:
        """That a network looked for something and found none of it is a finding too."""
        masks = boxes(source.grid.shape)
        findings = findings_on(source, np.zeros_like(masks[0]), masks[1])
        instance = segmentation(findings, source, identity_of(source))
        written = read(instance)
        assert [s.SegmentNumber for s in written.SegmentSequence] == [1, 2]
        named = [
            g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in written.PerFrameFunctionalGroupsSequence
        ]
        assert set(named) == {2}
        assert dciodvfy(instance.data) == []

    def test_nothing_found_at_all_is_still_a_readable_object(
        self,
        source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Callable[[bytes], list[str]],
    ) -> None:
        nothing = np.zeros(source.grid.shape, dtype=np.bool_)
        instance = segmentation(findings_on(source, nothing, nothing), source, identity_of(source))
        assert dciodvfy(instance.data) == []
        volume = highdicom.seg.segread(BytesIO(instance.data)).get_volume(combine_segments=False)
        assert volume.array.shape[:3] == source.grid.shape
        assert not volume.array.any()

    def test_numbers_with_gaps_become_numbers_without(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        """DICOM counts segments 1, 2, 3; the tracking UID keeps to the network's own number."""
        findings = findings_on(source, *boxes(source.grid.shape))
        first, second = findings.segments
        gapped = replace(findings, segments=(replace(second, number=7), replace(first, number=3)))
        written = read(segmentation(gapped, source, identity_of(source)))
        assert [(s.SegmentNumber, s.SegmentLabel) for s in written.SegmentSequence] == [(1, "Part 1"), (2, "Part 2")]
        assert written.SegmentSequence[1].TrackingUID == identity_of(source).uid("tracking", "7")

    def test_findings_without_segments_are_refused(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify
    ) -> None:
        with pytest.raises(GeometryError, match="without a segment"):
            segmentation(findings_on(source), source, identity_of(source))

    def test_a_side_is_written_only_where_it_is_proven(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        findings = findings_on(source, *boxes(source.grid.shape))
        proven = replace(findings.segments[1], side=Side.RIGHT)
        instance = segmentation(replace(findings, segments=(findings.segments[0], proven)), source, identity_of(source))
        unknown, right = read(instance).SegmentSequence
        assert "SegmentedPropertyTypeModifierCodeSequence" not in unknown.SegmentedPropertyTypeCodeSequence[0]
        modifiers = right.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
        assert [m.CodeValue for m in modifiers] == ["24028007"]
        assert "Laterality" not in read(instance)

    @pytest.mark.parametrize("side", ["L", "", None])
    def test_a_paired_body_part_is_copied_without_its_side(
        self, side: str | None, findings_on: Make, identity_of: Identify, dciodvfy: Callable[[bytes], list[str]]
    ) -> None:
        grid = grid_of(ORIENTATIONS["sagittal"], *ANISOTROPIC)
        source = mr_on(grid, BodyPartExamined="KNEE", Laterality=side)
        instance = segmentation(findings_on(source, np.ones(grid.shape, dtype=np.bool_)), source, identity_of(source))
        assert read(instance).BodyPartExamined == "KNEE"
        assert "Laterality" not in read(instance)
        assert dciodvfy(instance.data) == []


class TestProvenance:
    def test_it_names_the_network_everywhere_a_reader_may_look(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        findings = findings_on(source, *boxes(source.grid.shape))
        written = read(segmentation(findings, source, identity_of(source)))
        model = findings.model
        for segment in written.SegmentSequence:
            algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
            assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
            assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (model.name, model.version)
            for told in (model.digest, model.precision, model.engine, model.threshold, model.manifest_uid):
                assert told in algorithm.AlgorithmParameters
        network, scanner = written.ContributingEquipmentSequence
        assert network.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert network.Manufacturer == "Residency"
        assert model.digest.removeprefix("sha256:") in network.SoftwareVersions
        assert model.notice in network.ContributionDescription
        assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
        manifest = written.ReferencedInstanceSequence[0]
        assert manifest.ReferencedSOPInstanceUID == model.manifest_uid
        assert manifest.PurposeOfReferenceCodeSequence[0].CodingSchemeDesignator == "99RESIDENCY"

    def test_it_says_that_nobody_has_verified_it(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        written = read(segmentation(findings_on(source, *boxes(source.grid.shape)), source, identity_of(source)))
        assert written.SeriesDescription == "AI Hippocampus U-Net (not verified)"
        assert written.ContentQualification == "RESEARCH"

    def test_it_is_a_new_series_of_the_same_study_of_the_same_patient(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        written = read(segmentation(findings_on(source, *boxes(source.grid.shape)), source, identity_of(source)))
        first = source.datasets[0]
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
            assert written[keyword].value == first[keyword].value
        assert written.SeriesInstanceUID != first.SeriesInstanceUID
        assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
        instances = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {i.ReferencedSOPInstanceUID for i in instances} == set(source.sop_uids)

    def test_names_too_long_for_dicom_are_cut_visibly(
        self,
        source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        boxes: Callable[..., tuple[Mask, Mask]],
        dciodvfy: Callable[[bytes], list[str]],
    ) -> None:
        findings = findings_on(source, *boxes(source.grid.shape))
        wordy = "Residual U-Net for the anterior and posterior part of the hippocampus on T1-weighted images"
        segments = (replace(findings.segments[0], label=wordy),)
        findings = replace(findings, model=replace(findings.model, name=wordy), segments=segments)
        instance = segmentation(findings, source, identity_of(source))
        written = read(instance)
        assert len(written.SeriesDescription) <= 64
        assert written.SeriesDescription.startswith("AI Residual U-Net")
        assert written.SeriesDescription.endswith("... (not verified)")
        assert written.SegmentSequence[0].SegmentLabel.endswith("...")
        assert wordy in written.SegmentSequence[0].SegmentDescription
        assert dciodvfy(instance.data) == []

    def test_a_source_without_the_optional_facts_gets_none_invented(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Callable[[bytes], list[str]]
    ) -> None:
        who = ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID")
        when = ("StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime")
        machine = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
        what = ("SeriesNumber", "BodyPartExamined", "PositionReferenceIndicator")
        absent = dict.fromkeys((*who, *when, *machine, *what))
        source = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC), **absent)
        instance = segmentation(
            findings_on(source, np.ones(source.grid.shape, dtype=np.bool_)), source, identity_of(source)
        )
        written = read(instance)
        # Media directories would want what the source does not say; everything else is in order.
        assert all("needed to build DICOMDIR" in warning for warning in dciodvfy(instance.data))
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyID", "AccessionNumber"):
            assert not written[keyword].value
        assert "BodyPartExamined" not in written
        assert len(written.ContributingEquipmentSequence) == 1

    def test_careless_headers_are_put_in_order_but_for_what_archives_file_by(
        self, findings_on: Make, identity_of: Identify, dciodvfy: Callable[[bytes], list[str]]
    ) -> None:
        careless = {
            "StudyDescription": ["Head", "x" * 60],
            "Manufacturer": ["Maker", "Seller"],
            "SoftwareVersions": ["v" * 70, "", "2"],
            "PositionReferenceIndicator": "p" * 80,
            "PatientSex": "female",
            "PatientBirthDate": "1990-01-01",
            "StudyTime": "12:30:00",
            "PatientAge": "40",
            "SeriesNumber": "-5",
            "SliceThickness": "0",
        }
        with warnings.catch_warnings(action="ignore"):
            source = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC), **careless)
        everything = np.ones(source.grid.shape, dtype=np.bool_)
        instance = segmentation(findings_on(source, everything), source, identity_of(source))
        assert all("needed to build DICOMDIR" in warning for warning in dciodvfy(instance.data))
        written = read(instance)
        assert written.StudyDescription == "Head/" + "x" * 56 + "..."
        assert written.ContributingEquipmentSequence[1].Manufacturer == "Maker/Seller"
        assert not written.PatientSex
        assert not written.PatientBirthDate
        for dataset in source.datasets:
            dataset.add(DataElement("PatientID", "LO", "i" * 70, validation_mode=pydicom.config.IGNORE))
        again = read(segmentation(findings_on(source, everything), source, identity_of(source)))
        assert again.PatientID == "i" * 70

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ({"PatientSex": "U"}, []),
            ({"ResponsiblePerson": "R^P"}, []),
            ({"ResponsiblePersonRole": "PARENT"}, []),
            ({"ResponsiblePerson": "R^P", "ResponsiblePersonRole": "PARENT"}, ["ResponsiblePerson"]),
            ({"ClinicalTrialSubjectID": "7"}, []),
            (
                {
                    "ClinicalTrialSponsorName": "S",
                    "ClinicalTrialProtocolID": "P",
                    "ClinicalTrialSubjectID": "7",
                    "ClinicalTrialTimePointDescription": "week 3",
                },
                ["ClinicalTrialSubjectID", "ClinicalTrialTimePointDescription"],
            ),
        ],
    )
    def test_a_module_is_handed_on_whole_or_not_at_all(
        self,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Callable[[bytes], list[str]],
        given: dict[str, str],
        kept: list[str],
    ) -> None:
        """De-identified data carry a trial's subject without its sponsor; a result must not be invalid for it."""
        source = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC), **given)
        instance = segmentation(
            findings_on(source, np.ones(source.grid.shape, dtype=np.bool_)), source, identity_of(source)
        )
        assert dciodvfy(instance.data) == []
        written = read(instance)
        assert all(keyword in written for keyword in kept)
        assert kept or not any(written.get(keyword) for keyword in given)

    def test_it_is_never_taken_for_input_again(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        instance = segmentation(findings_on(source, *boxes(source.grid.shape)), source, identity_of(source))
        assert is_own(read(instance))
        assert not is_own(source.datasets[0])

    def test_an_unreadable_weight_does_not_stop_a_result(self, findings_on: Make, identity_of: Identify) -> None:
        source = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC))
        weight = pydicom.tag.Tag("PatientWeight")
        for dataset in source.datasets:
            dataset[weight] = RawDataElement(weight, "DS", 4, b"much", 0, False, True)
        everything = np.ones(source.grid.shape, dtype=np.bool_)
        assert "PatientWeight" not in read(segmentation(findings_on(source, everything), source, identity_of(source)))


class TestRepeatability:
    def test_a_second_run_gives_the_same_bytes(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        """Anything taken from the clock would double the result in the archive after a retry."""
        masks = boxes(source.grid.shape)
        again = mr_on(grid_of(ORIENTATIONS["axial"], *ANISOTROPIC))
        first = segmentation(findings_on(source, *masks), source, identity_of(source))
        second = segmentation(findings_on(again, *masks), again, identity_of(again))
        assert first == second

    def test_the_order_in_which_files_come_does_not_matter(
        self, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        grid = grid_of(ORIENTATIONS["axial"], *ANISOTROPIC)
        files = mr_series(Volume(np.zeros(grid.shape, dtype=np.float32), grid))
        written = []
        for order in (files, files[::-1]):
            source = open_series(order)
            written.append(segmentation(findings_on(source, *boxes(grid.shape)), source, identity_of(source)))
        assert written[0] == written[1]

    def test_dates_inside_are_those_of_the_source(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        written = read(segmentation(findings_on(source, *boxes(source.grid.shape)), source, identity_of(source)))
        assert (written.ContentDate, written.ContentTime) == ("20200102", "030405")
        dates = {str(e.value) for e in written.iterall() if e.VR == "DA" and e.value}
        assert dates == {"20200102"}
        assert "InstanceCreationDate" not in written

    def test_another_network_gives_another_object(
        self, source: SourceSeries, findings_on: Make, identity_of: Identify, boxes: Callable[..., tuple[Mask, Mask]]
    ) -> None:
        findings = findings_on(source, *boxes(source.grid.shape))
        other = replace(identity_of(source), model_digest="sha256:" + "f" * 64)
        first, second = (read(segmentation(findings, source, who)) for who in (identity_of(source), other))
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert first[keyword].value != second[keyword].value
        assert first.SegmentSequence[0].TrackingUID != second.SegmentSequence[0].TrackingUID


class TestOtherSources:
    def test_ct_in_a_foreign_format_of_numbers_is_clean(
        self,
        findings_on: Make,
        identity_of: Identify,
        boxes: Callable[..., tuple[Mask, Mask]],
        dciodvfy: Callable[[bytes], list[str]],
        dcmdump: Callable[[bytes], str],
    ) -> None:
        grid = grid_of(ORIENTATIONS["axial"], (1 / 3, 2 / 3, 0.7071067811865476), (6, 8, 10))
        source = open_series(ct_series(Volume(np.zeros(grid.shape, dtype=np.float32), grid)))
        masks = boxes(grid.shape)
        instance = segmentation(findings_on(source, *masks), source, identity_of(source))
        assert dciodvfy(instance.data) == []
        assert "[ABDOMEN]" in dcmdump(instance.data)
        assert np.array_equal(placed(instance, 1, source.grid), masks[0])

    @pytest.mark.parametrize("spacing", [(0.2, 0.3), None])
    def test_a_radiograph_gets_a_mask_without_a_place_in_the_patient(
        self,
        spacing: tuple[float, float] | None,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Callable[[bytes], list[str]],
    ) -> None:
        source = open_series([radiograph(np.zeros((12, 10), dtype=np.uint16), spacing_mm=spacing)])
        mask = np.zeros(source.grid.shape, dtype=np.bool_)
        mask[0, 2:5, 3:9] = True
        instance = segmentation(findings_on(source, mask), source, identity_of(source))
        written = read(instance)
        assert dciodvfy(instance.data) == []
        assert "FrameOfReferenceUID" not in written
        assert np.array_equal(np.atleast_3d(written.pixel_array.reshape(mask.shape)).astype(bool), mask)


@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**32 - 1))
def test_bits_run_on_from_frame_to_frame(shape: tuple[int, int, int], seed: int) -> None:
    """Frames whose pixels are no multiple of eight start inside a byte."""
    frames = np.random.default_rng(seed).random(shape) < 0.5
    bits = np.unpackbits(np.frombuffer(packed(frames), dtype=np.uint8), bitorder="little")
    assert len(bits) % 16 == 0
    assert np.array_equal(bits[: frames.size].astype(bool), frames.ravel())
    assert not bits[frames.size :].any()


class TestColours:
    def test_known_colours_have_the_published_values(self) -> None:
        """L*a*b* of sRGB red and white under D50, as colour tables print them."""
        assert cielab_from_rgb((255, 255, 255)) == (65535, 32896, 32896)
        lightness, a, b = cielab_from_rgb((255, 0, 0))
        assert lightness / 65535 * 100 == pytest.approx(54.29, abs=0.05)
        assert a / 65535 * 255 - 128 == pytest.approx(80.81, abs=0.05)
        assert b / 65535 * 255 - 128 == pytest.approx(69.89, abs=0.05)

    @given(st.tuples(*[st.integers(0, 255)] * 3))
    def test_a_colour_comes_back(self, colour: tuple[int, int, int]) -> None:
        assert rgb_from_cielab(cielab_from_rgb(colour)) == colour
