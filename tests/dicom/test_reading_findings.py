"""Findings read back: what was written lies where it lay, with what made it; results of others too."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes as concepts

from residency.codes import Code
from residency.dicom.findings import read_report, read_segmentation
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import GeometryError, InputError, PixelError
from residency.findings import Findings, Mask, Segment
from residency.labels import Side
from residency.testing.phantoms import mr_series, radiograph
from residency.volume import Grid, Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]


def _source(shape: tuple[int, int, int] = (6, 5, 7)) -> SourceSeries:
    cosines = np.array([[0.0, 0.8, 0.6], [0.0, -0.6, 0.8], [1.0, 0.0, 0.0]])
    affine = np.eye(4)
    affine[:3, :3] = cosines[[1, 0, 2]] * np.array([2.5, 0.75, 1.25])
    affine[:3, 3] = (-20.0, 30.5, 7.25)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return open_series(mr_series(Volume(values, Grid(shape, affine, "1.2.3"))))


def _random_masks(seed: int, shape: tuple[int, int, int], count: int = 3) -> list[Mask]:
    noise = np.random.default_rng(seed)
    return [(noise.random(shape) < 0.2) & (noise.random(shape[0]) < 0.6)[:, None, None] for _ in range(count)]


def _edited(data: bytes, edit: Callable[[pydicom.Dataset], None]) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    edit(dataset)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**16), rows=st.integers(2, 9), columns=st.integers(2, 9))
def test_masks_come_back_on_the_grid_of_the_source(
    findings_on: Make, identity_of: Identify, seed: int, rows: int, columns: int
) -> None:
    source = _source((6, rows, columns))
    masks = _random_masks(seed, source.grid.shape)
    made = segmentation(findings_on(source, *masks), source, identity_of(source))
    read = read_segmentation(made.data, source.grid)
    assert read.grid is source.grid
    for segment, mask in zip(read.segments, masks, strict=True):
        np.testing.assert_array_equal(segment.segment.mask, mask)


def test_without_a_grid_the_frames_tell_where_they_lie(
    findings_on: Make, identity_of: Identify, boxes: Callable[[tuple[int, int, int]], tuple[Mask, Mask]]
) -> None:
    source = _source()
    masks = boxes(source.grid.shape)
    read = read_segmentation(segmentation(findings_on(source, *masks), source, identity_of(source)).data)
    for segment, mask in zip(read.segments, masks, strict=True):
        expected = source.grid.to_lps(np.argwhere(mask))
        found = read.grid.to_lps(np.argwhere(segment.segment.mask))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_segmentation_says_what_made_it_and_of_what(findings_on: Make, identity_of: Identify) -> None:
    source = _source()
    masks = _random_masks(3, source.grid.shape, 2)
    findings = findings_on(source, *masks)
    identity = identity_of(source)
    read = read_segmentation(segmentation(findings, source, identity).data)
    assert read.study_uid == source.labels.study_uid
    assert read.source_series_uids == (source.labels.series_uid,)
    assert set(read.source_uids) == set(source.sop_uids)
    assert read.model_uid == findings.model.manifest_uid
    first = read.segments[0]
    assert (first.segment.label, str(first.segment.type)) == ("Part 1", "Hippocampus (SCT:5366008)")
    assert first.segment.side is None
    assert first.algorithm.name == findings.model.name
    assert first.algorithm.version == findings.model.version
    assert f"digest: {findings.model.digest}" in first.algorithm.parameters
    assert first.tracking_uid == identity.uid("tracking", "1")


def test_a_side_is_read_only_where_it_is_written(findings_on: Make, identity_of: Identify) -> None:
    source = _source()
    (mask,) = _random_masks(5, source.grid.shape, 1)
    plain = findings_on(source, mask)
    given_side = [Segment(**{**vars(s), "side": Side.LEFT}) for s in plain.segments]
    sided = findings_on(source, mask, segments=tuple(given_side))
    read = read_segmentation(segmentation(sided, source, identity_of(source)).data).segments[0].segment
    assert read.side is Side.LEFT
    assert read.modifiers == ()
    group = read_report(report(sided, source, identity_of(source), None).data).groups[0]
    assert group.side is Side.LEFT


def test_a_segment_without_voxels_is_read_as_an_empty_mask(findings_on: Make, identity_of: Identify) -> None:
    source = _source()
    empty = np.zeros(source.grid.shape, np.bool_)
    for masks in ((empty,), (empty, _random_masks(1, source.grid.shape, 1)[0])):
        read = read_segmentation(
            segmentation(findings_on(source, *masks), source, identity_of(source)).data, source.grid
        )
        assert not read.segments[0].segment.mask.any()


def test_segments_of_a_radiograph_lie_on_its_pixels(findings_on: Make, identity_of: Identify) -> None:
    for spacing in ((0.2, 0.3), None):
        source = open_series([radiograph(np.zeros((5, 7), np.uint16), spacing_mm=spacing)])
        mask = np.random.default_rng(0).random((1, 5, 7)) < 0.5
        data = segmentation(findings_on(source, mask, measurements=()), source, identity_of(source)).data
        for grid in (source.grid, None):
            read = read_segmentation(data, grid)
            np.testing.assert_array_equal(read.segments[0].segment.mask, mask)


def test_frames_in_any_order_give_the_same_masks(findings_on: Make, identity_of: Identify) -> None:
    source = _source((6, 8, 8))
    masks = _random_masks(11, source.grid.shape)
    data = segmentation(findings_on(source, *masks), source, identity_of(source)).data

    def reverse(dataset: pydicom.Dataset) -> None:
        frames = int(dataset.NumberOfFrames)
        held = np.frombuffer(dataset.PixelData, np.uint8)[: frames * 8].reshape(frames, 8)
        dataset.PixelData = held[::-1].tobytes() + b"\x00" * (frames * 8 % 2)
        dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[::-1]

    read = read_segmentation(_edited(data, reverse), source.grid)
    for segment, mask in zip(read.segments, masks, strict=True):
        np.testing.assert_array_equal(segment.segment.mask, mask)


def test_only_the_segments_asked_for_are_unpacked(findings_on: Make, identity_of: Identify) -> None:
    source = _source()
    masks = _random_masks(2, source.grid.shape)
    data = segmentation(findings_on(source, *masks), source, identity_of(source)).data
    read = read_segmentation(data, source.grid, only={2})
    assert [s.segment.number for s in read.segments] == [2]
    np.testing.assert_array_equal(read.segments[0].segment.mask, masks[1])


def test_a_segmentation_off_the_grid_is_refused(findings_on: Make, identity_of: Identify) -> None:
    source = _source()
    data = segmentation(findings_on(source, *_random_masks(2, source.grid.shape)), source, identity_of(source)).data
    shifted, turned, scaled = (np.array(source.grid.affine) for _ in range(3))
    shifted[:3, 3] += (0.0, 0.4, 0.0)
    turned[:3, [1, 2]] = turned[:3, [2, 1]]
    scaled[:3, 1] *= 1.1
    shape = source.grid.shape
    for affine in (shifted, turned, scaled):
        with pytest.raises(GeometryError, match="no slice of the grid"):
            read_segmentation(data, Grid(shape, affine, "1.2.3"))
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_segmentation(data, Grid(shape, source.grid.affine, "1.2.4"))
    with pytest.raises(GeometryError, match="the grid has"):
        read_segmentation(data, Grid((shape[0], shape[1] + 1, shape[2]), source.grid.affine, "1.2.3"))


def _shorten(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:2]


def _more_frames(dataset: pydicom.Dataset) -> None:
    dataset.NumberOfFrames = "2000000000"


def _no_segment(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence[0]


def _twice(dataset: pydicom.Dataset) -> None:
    dataset.SegmentSequence[1].SegmentNumber = 1


def _far_away(dataset: pydicom.Dataset) -> None:
    last = dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
    first = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    step = np.subtract(last.ImagePositionPatient, first.ImagePositionPatient)
    far = np.asarray(first.ImagePositionPatient, float) + 1e8 * step
    last.ImagePositionPatient = [f"{v:.9g}" for v in far]


def _beyond_counting(dataset: pydicom.Dataset) -> None:
    """So many slices that their number, times a slice's pixels, is no 64 bit number any more."""
    dataset.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0].ImagePositionPatient = ["0", "0", "1e18"]


@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (_shorten, PixelError, "cut short"),
        (_more_frames, InputError, "2000000000 frames"),
        (_no_segment, InputError, "not described"),
        (_twice, InputError, "used twice"),
        (_far_away, InputError, "more than is read|equal distances|at most 1e.06 mm"),
        (_beyond_counting, InputError, "at most 1e.06 mm"),
    ],
)
def test_a_segmentation_that_contradicts_itself_is_refused(
    findings_on: Make,
    identity_of: Identify,
    edit: Callable[[pydicom.Dataset], None],
    error: type[Exception],
    reason: str,
) -> None:
    source = _source()
    data = segmentation(findings_on(source, *_random_masks(2, source.grid.shape)), source, identity_of(source)).data
    with pytest.raises(error, match=reason):
        read_segmentation(_edited(data, edit))


def test_a_segmentation_by_another_writer_is_read(identity_of: Identify) -> None:
    source = _source((6, 5, 7))
    masks = np.stack(_random_masks(4, source.grid.shape), axis=-1)
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=k,
            segment_label=f"part {k}",
            segmented_property_category=concepts.SCT.AnatomicalStructure,
            segmented_property_type=concepts.SCT.Kidney,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for k in (1, 2, 3)
    ]
    for dataset in source.datasets:
        dataset.SpacingBetweenSlices = "2.5"
    made = highdicom.seg.Segmentation(
        source_images=list(source.datasets),
        pixel_array=masks.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid="1.2.3.10",
        series_number=7,
        sop_instance_uid="1.2.3.11",
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
    )
    stream = BytesIO()
    made.save_as(stream)
    read = read_segmentation(stream.getvalue(), source.grid)
    for k, segment in enumerate(read.segments):
        np.testing.assert_array_equal(segment.segment.mask, masks[..., k])
    assert (read.segments[0].algorithm_type, read.model_uid) == ("MANUAL", None)


def test_overlapping_segments_of_others_are_kept(shared_data: Path) -> None:
    data = (shared_data / "dicom" / "awkward" / "seg_overlapping_segments.dcm").read_bytes()
    read = read_segmentation(data)
    judge = highdicom.seg.segread(BytesIO(data))
    for segment in read.segments:
        count = 0
        for frame in range(judge.number_of_frames):
            group = judge.PerFrameFunctionalGroupsSequence[frame]
            if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment.segment.number:
                continue
            position = group.PlanePositionSequence[0].ImagePositionPatient
            k, row, column = read.grid.to_index(position)
            assert (row, column) == pytest.approx((0, 0), abs=1e-4)
            assert k == pytest.approx(round(k), abs=1e-3)
            stored = judge.pixel_array[frame].astype(bool)
            np.testing.assert_array_equal(segment.segment.mask[round(k)], stored)
            count += int(stored.sum())
        assert segment.segment.mask.sum() == count > 0
    both = read.segments[0].segment.mask & read.segments[1].segment.mask
    assert both.any()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("seg_labelmap_class.dcm", "tiles of a slide"),
        ("seg_liver_rle.dcm", "RLE Lossless"),
        ("seg_liver_bits_not_byte_aligned_deflated.dcm", r"1\.2\.840\.10008\.1\.2\.8\.1"),
        ("mr_small_explicit_le.dcm", "MR Image Storage"),
        ("no_meta.dcm", "not a DICOM file"),
    ],
)
def test_segmentations_that_are_not_read_say_why(shared_data: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_segmentation((shared_data / "dicom" / "awkward" / name).read_bytes())


def test_a_report_comes_back_with_its_numbers_and_remarks(
    findings_on: Make, identity_of: Identify, two_classes: Any
) -> None:
    source = _source()
    masks = _random_masks(9, source.grid.shape, 2)
    findings = findings_on(source, *masks, classes=two_classes, warnings=("intensities look unusual",))
    seg = segmentation(findings, source, identity_of(source))
    read = read_report(report(findings, source, identity_of(source), seg).data)
    assert (read.title.scheme, read.title.value) == ("DCM", "126000")
    assert read.notices == (findings.model.notice,)
    assert read.approval == (findings.model.approval,)
    assert read.choice == findings.reasons
    assert "intensities look unusual" in read.warnings
    assert read.model_uid == findings.model.manifest_uid
    for k, mask in enumerate(masks, start=1):
        group = read.groups[k - 1]
        assert (group.segmentation_uid, group.segment) == (seg.uid, k)
        assert group.tracking_uid == identity_of(source).uid("tracking", str(k))
        volume = next(m for m in group.measurements if m.quantity.value == "118565006")
        assert volume.value == pytest.approx(mask.sum() * source.grid.voxel_mm3, rel=1e-9)
        assert (volume.unit.value, volume.segment) == ("mm3", k)
        assert next(m for m in findings.measurements if m.segment == k) in group.measurements
        assert group.site == Code(scheme="SCT", value="12738006", meaning="Brain")
        assert group.side is None
        assert any("side unknown" in answer for _, answer in group.evaluations)
        assert (group.algorithm.name, group.algorithm.version) == (findings.model.name, findings.model.version)
        assert f"digest: {findings.model.digest}" in group.algorithm.parameters
    probabilities = [group.measurements[0].value for group in read.groups[2:]]
    assert probabilities == [score.probability for score in two_classes]
    assert set(read.measurements) >= {group.tracking_id for group in read.groups}


def test_a_report_by_another_maker_is_read(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "awkward"
    (planar,) = read_report((folder / "sr_tid1500_3d.dcm").read_bytes()).groups
    (area,) = planar.measurements
    assert (area.value, area.unit.value, area.quantity.value) == (1.7, "cm2", "131184002")
    (tumour,) = read_report((folder / "sr_tid1500_dcmqi.dcm").read_bytes()).groups
    assert tumour.tracking_id == "primary tumor"
    (volume,) = [m for m in tumour.measurements if m.quantity.value == "118565006"]
    assert (volume.value, volume.unit.value) == (33.5824, "ml")
    means = [n for n in tumour.numbers if any("Mean" in answer for _, answer in n.modifiers)]
    assert [n.measurement.value for n in means] == [6.01529]


@pytest.mark.parametrize("name", ["sr_basic.dcm", "sr_deflated.dcm"])
def test_a_report_without_measurements_is_told_apart(shared_data: Path, name: str) -> None:
    with pytest.raises(InputError, match="no measurement report"):
        read_report((shared_data / "dicom" / "awkward" / name).read_bytes())


def test_a_number_that_contradicts_what_viewers_show_is_read_as_they_show_it(
    findings_on: Make, identity_of: Identify
) -> None:
    source = _source()
    findings = findings_on(source, *_random_masks(9, source.grid.shape, 1))
    data = report(findings, source, identity_of(source), None).data

    def forge(dataset: pydicom.Dataset) -> None:
        def walk(item: pydicom.Dataset) -> None:
            for child in item.get("ContentSequence", []):
                for measured in child.get("MeasuredValueSequence", []):
                    measured.FloatingPointValue = 1e6
                walk(child)

        walk(dataset)

    (forged,), (honest,) = read_report(_edited(data, forge)).groups, read_report(data).groups
    shown = [m.value for m in honest.measurements]
    assert [m.value for m in forged.measurements] == pytest.approx(shown, rel=1e-9)


def test_an_image_is_no_report() -> None:
    (image,) = mr_series(Volume(np.zeros((1, 4, 4), np.float32), regular_grid((1, 4, 4), (1.0, 1.0, 1.0))))
    with pytest.raises(InputError, match="no structured report"):
        read_report(image)
