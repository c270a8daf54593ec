"""Labels of a series: coded evidence with its source, and nothing that the headers do not say."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from residency.codes import Code
from residency.dicom.labels import read_labels
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import InputError
from residency.findings import Findings
from residency.labels import SeriesLabels, Side, Weighting
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Volume, regular_grid

BRAIN = Code(scheme="SCT", value="12738006", meaning="Brain")


def _volume(slices: int = 3) -> Volume:
    return Volume(np.zeros((slices, 4, 5), np.float32), regular_grid((slices, 4, 5), (2.0, 1.0, 0.5)))


def _labels(**attributes: object) -> SeriesLabels:
    return read_labels(mr_series(_volume(), **attributes))


def _item(scheme: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _edited(data: bytes, **attributes: object) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_a_plain_series_is_described() -> None:
    labels = _labels()
    assert (labels.modality, labels.slices, labels.rows, labels.columns) == ("MR", 3, 4, 5)
    assert labels.spacing_mm == pytest.approx((2.0, 1.0, 0.5))
    assert labels.orientation == "SPL"
    assert labels.image_type == ("ORIGINAL", "PRIMARY", "OTHER")
    assert labels.photometric == "MONOCHROME2"
    assert labels.sop_classes == ("1.2.840.10008.5.1.4.1.1.4",)
    assert (labels.problem, labels.own_result, labels.name) == (None, False, "mr")


def test_headers_without_pixels_say_the_same() -> None:
    files = mr_series(_volume())
    stripped = []
    for data in files:
        dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        stream = BytesIO()
        dataset.save_as(stream)
        stripped.append(stream.getvalue())
    assert read_labels(stripped) == read_labels(files)


def test_the_anatomic_region_comes_before_the_body_part() -> None:
    region = [_item("SCT", "69536005", "Head")]
    labels = _labels(AnatomicRegionSequence=region)
    assert labels.regions is not None
    assert [code.value for code in labels.regions.value] == ["69536005"]
    assert labels.regions.source == "Anatomic Region Sequence = Head (SCT:69536005)"


def test_the_body_part_names_a_region_by_its_term_alone() -> None:
    labels = _labels()
    assert labels.regions is not None
    assert (labels.regions.value, labels.regions.source) == ((BRAIN,), "Body Part Examined = BRAIN")
    for nothing in ("HIPPO CROP", "MY BRAIN"):
        assert _labels(BodyPartExamined=nothing).regions is None


def test_free_text_names_no_region() -> None:
    labels = _labels(
        BodyPartExamined=None, SeriesDescription="BRAIN T1", ProtocolName="BRAIN", StudyDescription="BRAIN"
    )
    assert (labels.regions, labels.weighting, labels.side) == (None, None, None)
    assert labels.attributes["SeriesDescription"] == "BRAIN T1"


def test_the_primary_structure_is_the_last_evidence() -> None:
    structure = [_item("SCT", "12738006", "Brain")]
    labels = _labels(BodyPartExamined=None, PrimaryAnatomicStructureSequence=structure)
    assert labels.regions is not None
    assert labels.regions.value == (BRAIN,)
    assert labels.regions.source.startswith("Primary Anatomic Structure Sequence")


def test_legacy_codes_are_translated() -> None:
    labels = _labels(AnatomicRegionSequence=[_item("SRT", "T-A0100", "Brain")])
    assert labels.regions is not None
    assert labels.regions.value == (BRAIN,)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Laterality": "L"}, Side.LEFT),
        ({"ImageLaterality": "R"}, Side.RIGHT),
        ({"Laterality": "L", "ImageLaterality": "L"}, Side.LEFT),
        ({"Laterality": "L", "ImageLaterality": "R"}, None),
        ({"ImageLaterality": "B"}, None),
        ({"ImageLaterality": "U"}, None),
        ({"Laterality": ""}, None),
        ({"SeriesDescription": "left hippocampus"}, None),
        ({}, None),
    ],
)
def test_a_side_needs_an_attribute_that_says_so(attributes: dict[str, object], expected: Side | None) -> None:
    found = _labels(**attributes).side
    assert (found.value if found else None) == expected


def test_a_side_that_only_some_images_name_is_unknown() -> None:
    files = mr_series(_volume())
    files[0] = _edited(files[0], Laterality="L")
    assert read_labels(files).side is None


def test_weighting_comes_from_acquisition_contrast_alone() -> None:
    found = _labels(AcquisitionContrast="FLUID_ATTENUATED").weighting
    assert found is not None
    assert (found.value, found.source) == (Weighting.FLAIR, "Acquisition Contrast = FLAIR")
    assert _labels(EchoTime="3", RepetitionTime="2000").weighting is None
    assert _labels(AcquisitionContrast="T2_STAR").weighting is None


def test_contrast_is_known_only_where_an_agent_is_named() -> None:
    found = _labels(ContrastBolusAgent="Gadobutrol").contrast
    assert found is not None
    assert found.value is True
    for unknown in (None, "", "NONE", "none"):
        assert _labels(ContrastBolusAgent=unknown).contrast is None


def test_reasons_are_read_at_the_top_and_in_the_requests() -> None:
    request = Dataset()
    request.ReasonForRequestedProcedureCodeSequence = [_item("SCT", "26929004", "Alzheimer's disease")]
    labels = _labels(
        ReasonForRequestedProcedureCodeSequence=[_item("SCT", "84757009", "Epilepsy")],
        RequestAttributesSequence=[request],
    )
    assert labels.reasons is not None
    assert [code.value for code in labels.reasons.value] == ["84757009", "26929004"]
    assert _labels().reasons is None


def test_malformed_codes_are_no_evidence() -> None:
    broken = _item("", "", "Brain")
    labels = _labels(AnatomicRegionSequence=[broken], BodyPartExamined=None)
    assert labels.regions is None


def test_age_and_sex_are_read_or_unknown() -> None:
    assert _labels(PatientAge="034Y").patient_age_years == 34
    assert _labels(PatientAge="006M").patient_age_years == 0.5
    assert _labels(PatientBirthDate="19700102", StudyDate="20200102").patient_age_years == pytest.approx(50, abs=0.01)
    assert _labels(PatientAge="old", PatientBirthDate="").patient_age_years is None
    assert _labels(PatientSex="F").patient_sex == "F"


def test_attributes_hold_only_what_all_images_agree_on_and_nobody_s_name() -> None:
    files = mr_series(_volume(), PatientName="Marked^Name", PatientID="MARKED-1", PatientBirthDate="19010101")
    files[1] = _edited(files[1], ProtocolName="other")
    labels = read_labels(files)
    assert "ProtocolName" not in labels.attributes
    assert labels.attributes["Modality"] == "MR"
    assert "arked" not in repr(labels).replace("MARKED", "arked")
    assert "19010101" not in repr(labels)


def test_control_characters_do_not_reach_a_terminal() -> None:
    labels = _labels(SeriesDescription="T1\x1b[31m post\x07")
    assert labels.name == "T1[31m post"


def test_a_localizer_is_named_as_the_problem() -> None:
    labels = read_labels(ct_series(_volume(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert labels.problem is not None
    assert "localizer" in labels.problem


def test_a_single_localizer_spoils_a_series() -> None:
    files = ct_series(_volume())
    files[1] = _edited(files[1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    labels = read_labels(files)
    uid = pydicom.dcmread(BytesIO(files[1])).SOPInstanceUID
    assert labels.problem is not None
    assert uid in labels.problem
    assert "LOCALIZER" in labels.image_type


def test_mixed_matrices_leave_the_matrix_unknown() -> None:
    files = mr_series(_volume())
    files[1] = _edited(files[1], Rows=2, Columns=10)
    labels = read_labels(files)
    assert (labels.rows, labels.columns, labels.spacing_mm) == (None, None, None)
    assert labels.problem is not None
    assert "matrix" in labels.problem


def test_a_radiograph_has_a_spacing_but_no_orientation() -> None:
    labels = read_labels([radiograph(np.zeros((4, 6), np.uint16), spacing_mm=(0.2, 0.3))])
    assert labels.spacing_mm == pytest.approx((1.0, 0.2, 0.3))
    assert (labels.orientation, labels.slices, labels.problem) == (None, 1, None)
    assert read_labels([radiograph(np.zeros((4, 6), np.uint16), spacing_mm=None)]).spacing_mm is None


def test_our_own_results_are_told_apart(
    findings_on: Callable[..., Findings], identity_of: Callable[[SourceSeries], ResultIdentity]
) -> None:
    source = open_series(mr_series(_volume()))
    mask = np.ones(source.grid.shape, np.bool_)
    findings = findings_on(source, mask)
    seg = segmentation(findings, source, identity_of(source))
    sr = report(findings, source, identity_of(source), seg)
    for made in (seg, sr):
        labels = read_labels([made.data])
        assert labels.own_result
        assert labels.problem is not None
        assert "not an image" in labels.problem
    assert not source.labels.own_result


def test_model_objects_and_what_we_contributed_to_are_told_apart() -> None:
    assert _labels(PatientID="RESIDENCY-MODELS").own_result
    contributor = Dataset()
    contributor.Manufacturer = "Residency"
    assert _labels(ContributingEquipmentSequence=[contributor]).own_result
    (data, *_) = mr_series(_volume())
    dataset = pydicom.dcmread(BytesIO(data))
    dataset.private_block(0x7311, "RESIDENCY MODEL 1", create=True).add_new(1, "LO", "PART")
    stream = BytesIO()
    dataset.save_as(stream)
    assert read_labels([stream.getvalue()]).own_result


def test_headers_of_several_series_are_refused() -> None:
    with pytest.raises(InputError, match="same series"):
        read_labels([*mr_series(_volume(), series="a"), *mr_series(_volume(), series="b")])
