"""Secondary Captures of every kind of source: valid, equal at a second run, showing what they say they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.capture import captures, patient_orientation
from residency.dicom.labels import read_labels
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report import report
from residency.dicom.result import EncodedResult
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import PixelError
from residency.findings import ClassScore, Findings, Mask, Picture, ScoreMap
from residency.measure import measure
from residency.pipeline.summary import SOFT_TISSUE, display_limits, summary_of
from residency.testing.cards import example_card
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]
Warnings = Callable[[bytes], list[str]]
Halves = Callable[[SourceSeries], tuple[Mask, Mask]]

WHOLE_HEAD = {"scheme": "SCT", "value": "69536005", "meaning": "Head"}
ABDOMEN = {"scheme": "SCT", "value": "818981001", "meaning": "Abdomen"}


def read(instance: EncodedInstance) -> Dataset:
    return pydicom.dcmread(BytesIO(instance.data))


def made(findings: Findings, source: SourceSeries, identity: ResultIdentity) -> tuple[EncodedResult, ...]:
    return captures(drawn(findings, source), findings.model, source, identity)


def drawn(findings: Findings, source: SourceSeries, region: dict[str, str] = ABDOMEN) -> tuple[Picture, ...]:
    needs = example_card({"inputs.0.regions": [region]}).inputs[0]
    return summary_of(findings, source.volume(), needs, source)


@pytest.fixture(scope="module")
def everything(any_source: SourceSeries, findings_on: Make, halves: Halves) -> Findings:
    """Segments with measurements, classes and a map on one source."""
    plain = findings_on(any_source, *halves(any_source))
    values = np.zeros(any_source.grid.shape, np.float32)
    values[:, 4:8, 4:8] = 0.75
    return replace(
        plain,
        measurements=measure(plain.segments, any_source.grid).measurements,
        classes=(ClassScore(Code(scheme="SCT", value="233604007", meaning="Pneumonia"), 0.75, "pneumonia", True),),
        maps=(ScoreMap(Code(scheme="DCM", value="113041", meaning="Attention"), _unit(), values),),
    )


@pytest.fixture(scope="module")
def stored(everything: Findings, any_source: SourceSeries, identity_of: Identify) -> tuple[EncodedResult, ...]:
    return made(everything, any_source, identity_of(any_source))


def _unit() -> Code:
    return Code(scheme="UCUM", value="1", meaning="no units")


class TestEverySource:
    def test_each_page_is_valid_for_the_validators(
        self, stored: tuple[EncodedResult, ...], dciodvfy: Warnings, dcmdump: Callable[[bytes], str]
    ) -> None:
        assert len(stored) >= 3
        for page in (stored[0], stored[-1]):
            assert dciodvfy(page.data) == []
            assert "SecondaryCaptureImageStorage" in dcmdump(page.data)

    def test_the_pages_are_one_series_in_the_study_of_the_source(
        self, stored: tuple[EncodedResult, ...], any_source: SourceSeries
    ) -> None:
        first = any_source.datasets[0]
        for number, page in enumerate(stored, start=1):
            dataset = read(page)
            assert (dataset.StudyInstanceUID, dataset.PatientID) == (first.StudyInstanceUID, first.PatientID)
            assert (dataset.SOPInstanceUID, dataset.SeriesInstanceUID) == (page.uid, stored[0].series_uid)
            assert dataset.InstanceNumber == number
            assert dataset.SeriesInstanceUID != any_source.labels.series_uid
            assert dataset.SeriesDescription == "AI Hippocampus U-Net (not verified)"
            assert (dataset.BurnedInAnnotation, dataset.ConversionType) == ("YES", "WSD")
            assert dataset.ImageType == ["DERIVED", "SECONDARY"]
        assert len({page.uid for page in stored}) == len(stored)

    def test_the_pixels_are_those_that_were_drawn(
        self, everything: Findings, any_source: SourceSeries, stored: tuple[EncodedResult, ...]
    ) -> None:
        for page, instance in zip(drawn(everything, any_source), stored, strict=True):
            dataset = read(instance)
            assert dataset.PhotometricInterpretation == "RGB"
            assert np.array_equal(dataset.pixel_array, page.pixels)

    def test_a_page_names_the_images_that_are_on_it_and_the_model(
        self, findings_on: Make, any_source: SourceSeries, identity_of: Identify, halves: Halves
    ) -> None:
        findings = findings_on(any_source, *halves(any_source))
        last = read(made(findings, any_source, identity_of(any_source))[-1])
        image = any_source.references[-1]
        shown = [item for item in last.SourceImageSequence if item.ReferencedSOPInstanceUID == image.sop_uid]
        assert [item.get("ReferencedFrameNumber") for item in shown] == [image.frame]
        listed = [i.ReferencedSOPInstanceUID for i in last.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
        assert set(listed) == set(any_source.sop_uids)
        assert len(listed) == len(set(listed))
        document = report(findings, any_source, identity_of(any_source), None)
        referenced = [item.ReferencedSOPInstanceUID for item in last.ReferencedInstanceSequence]
        assert referenced == [findings.model.manifest_uid, document.uid]
        assert last.ReferencedInstanceSequence[1].ReferencedSOPClassUID == read(document).SOPClassUID
        assert f"digest: {findings.model.digest}" in last.DerivationDescription

    def test_a_second_run_gives_the_same_bytes(
        self,
        everything: Findings,
        any_source: SourceSeries,
        identity_of: Identify,
        stored: tuple[EncodedResult, ...],
    ) -> None:
        assert made(everything, any_source, identity_of(any_source)) == stored

    def test_it_is_never_read_as_an_image_again(self, stored: tuple[EncodedResult, ...]) -> None:
        """A picture of a result that became the input of the next model would be read as a patient's."""
        assert read_labels([page.data for page in stored]).own_result


@pytest.mark.parametrize(
    ("part", "term"),
    [("KNEE", None), ("THORAX", "CHEST"), ("BREAST", "CHEST"), ("CHEST", "CHEST"), ("WARD 3", None), (None, None)],
)
def test_of_a_part_that_has_sides_none_is_stated(
    part: str | None, term: str | None, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
) -> None:
    source = open_series([radiograph(np.zeros((12, 10), np.uint16), BodyPartExamined=part)])
    [page] = made(findings_on(source, measurements=()), source, identity_of(source))
    assert read(page).get("BodyPartExamined") == term
    assert ("Laterality" in read(page)) is (term is None)
    assert all("when actually unknown" in warning for warning in dciodvfy(page.data))


class TestOrientation:
    @pytest.mark.parametrize(
        ("cosines", "expected"),
        [
            ("1,0,0,0,1,0", ("L", "P")),
            ("-1,0,0,0,1,0", ("R", "P")),
            ("0,1,0,0,0,-1", ("P", "F")),
            ("0.8,0.6,0,-0.6,0.8,0", ("LP", "PR")),
        ],
    )
    def test_letters_follow_the_directions_in_the_patient(self, cosines: str, expected: tuple[str, str]) -> None:
        row, column = np.array([float(v) for v in cosines.split(",")]).reshape(2, 3)
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = np.cross(row, column), column, row
        plain = regular_grid((3, 8, 8), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
        grid = replace(plain, affine=affine)
        source = open_series(mr_series(Volume(np.zeros(grid.shape, np.float32), grid)))
        assert patient_orientation(source) == expected

    def test_a_radiograph_says_its_own(self, findings_on: Make, identity_of: Identify) -> None:
        source = open_series([radiograph(np.zeros((12, 10), np.uint16), PatientOrientation=["R", "F"])])
        assert patient_orientation(source) == ("R", "F")
        [page] = made(findings_on(source, measurements=()), source, identity_of(source))
        assert read(page).PatientOrientation == ["R", "F"]

    @pytest.mark.parametrize("said", [None, "L", ["L", "X"], ["", "F"]])
    def test_what_says_nothing_usable_is_left_empty(
        self, said: object, findings_on: Make, identity_of: Identify, dciodvfy: Warnings
    ) -> None:
        source = open_series([radiograph(np.zeros((12, 10), np.uint16), PatientOrientation=said)])
        assert patient_orientation(source) is None
        [page] = made(findings_on(source, measurements=()), source, identity_of(source))
        assert not read(page).PatientOrientation
        assert dciodvfy(page.data) == []


class TestHeads:
    """No page shows the profile of a face: of a head only axial sections are drawn."""

    @pytest.fixture
    def sagittal(self) -> SourceSeries:
        return self.series(None)

    def series(self, part: str | None) -> SourceSeries:
        affine = np.zeros((4, 4))
        affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = 1.0, -1.0, 1.0, 1.0
        plain = regular_grid((10, 30, 20), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
        image = np.zeros(plain.shape, np.float32)
        image[2:5, 12:20, 4:9] = 100.0
        return open_series(mr_series(Volume(image, replace(plain, affine=affine)), BodyPartExamined=part))

    def test_a_sagittal_series_of_a_head_is_shown_in_axial_sections(
        self, sagittal: SourceSeries, findings_on: Make
    ) -> None:
        mask = np.zeros(sagittal.grid.shape, np.bool_)
        mask[2:5, 12:20, 4:9] = True
        findings = findings_on(sagittal, mask)
        assert sagittal.grid.orientation == "RIP"
        pages = drawn(findings, sagittal, WHOLE_HEAD)
        assert all(page.orientation in (None, ("L", "P")) for page in pages)
        assert all(page.slices == () for page in pages)
        acquired = drawn(findings, sagittal)
        assert acquired[1].slices == (2,)
        assert acquired[1].orientation == ("P", "F")

    def test_the_brain_is_in_the_head(self, sagittal: SourceSeries, findings_on: Make) -> None:
        brain = {"scheme": "SCT", "value": "12738006", "meaning": "Brain"}
        pages = drawn(findings_on(sagittal), sagittal, brain)
        assert all(page.slices == () for page in pages)

    def test_what_the_images_say_counts_as_well(self, findings_on: Make) -> None:
        """A model of a part of the body that reaches to the head may be run on an image of both."""
        source = self.series("WHOLEBODY")
        assert all(page.slices == () for page in drawn(findings_on(source), source))

    def test_a_head_without_a_place_in_the_patient_is_not_drawn(self, findings_on: Make) -> None:
        """A radiograph from the side, or a photograph."""
        source = open_series(
            [radiograph(np.zeros((12, 10), np.uint16), BodyPartExamined="SKULL", AnatomicRegionSequence=None)]
        )
        assert drawn(findings_on(source), source) == ()
        assert drawn(findings_on(source), source, WHOLE_HEAD) == ()


class TestGreyValues:
    def test_ct_is_shown_as_soft_tissue_or_as_the_card_says(self) -> None:
        grid = regular_grid((3, 8, 8), (1.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
        volume = open_series(ct_series(Volume(np.zeros(grid.shape, np.float32), grid))).volume()
        plain = example_card().inputs[0]
        assert display_limits(volume, plain) == SOFT_TISSUE
        for steps, expected in (
            ([{"name": "window", "parameters": {"centre": 100, "width": 500}}], (-150.0, 350.0)),
            ([{"name": "clip", "parameters": {"values": [-100, 300]}}], (-100.0, 300.0)),
            ([{"name": "clip", "parameters": {"percentiles": [1, 99]}}], SOFT_TISSUE),
            ([{"name": "normalise"}, {"name": "clip", "parameters": {"values": [-1, 1]}}], SOFT_TISSUE),
        ):
            needs = example_card({"inputs.0.recipe": {"steps": steps}}).inputs[0]
            assert display_limits(volume, needs) == expected

    def test_dense_is_bright_however_a_radiograph_is_stored(self, findings_on: Make, identity_of: Identify) -> None:
        """MONOCHROME1 shown as it is stored would be the negative of the film."""
        image = np.zeros((30, 20), np.uint16)
        image[:, 10:] = 4000
        for inverse in (False, True):
            source = open_series([radiograph(image, inverse=inverse)])
            [page] = made(findings_on(source, measurements=()), source, identity_of(source))
            middle = read(page).pixel_array[500]
            lit = np.flatnonzero((middle > 150).all(axis=1))
            assert lit.min() > 505


def test_what_is_no_picture_is_refused(findings_on: Make, identity_of: Identify) -> None:
    source = open_series([radiograph(np.zeros((12, 10), np.uint16))])
    with pytest.raises(PixelError, match="uint8 RGB"):
        captures([Picture(np.zeros((4, 4), np.uint8), "grey")], findings_on(source).model, source, identity_of(source))
