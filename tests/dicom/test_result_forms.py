"""Every form of a result on every kind of source, read by others than its writer: positions, voxels, attributes."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

from residency.codes import Code
from residency.dicom.parametric_map import parametric_map
from residency.dicom.parametric_map_read import read_parametric_map
from residency.dicom.part10 import Syntax
from residency.dicom.report import report
from residency.dicom.report_read import read_report
from residency.dicom.segmentation import SegmentationType, probabilities, segmentation
from residency.dicom.segmentation_read import read_segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import GeometryError, InputError, PixelError
from residency.findings import Findings, Mask, ScoreMap
from residency.labels import Side
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import ct_series, mr_series
from residency.volume import Grid, Space, Volume, regular_grid

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]
Judge = Callable[[bytes], Any]

PROBABILITY = Code(scheme="DCM", value="122157", meaning="Probability")
ONE = Code(scheme="UCUM", value="1", meaning="no units")
ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
HIPPOCAMPUS = Code(scheme="SCT", value="5366008", meaning="Hippocampus")
UNPLACED = ("<99RESIDENCY>", "<QUANTITY>", "PlanePosition", "PlaneOrientation", "PixelMeasures")
"""The IOD demands a place in the patient of every map; of an image that has none, none is made up."""


def apart(source: SourceSeries) -> tuple[Mask, Mask]:
    """Two masks that do not overlap, asymmetric in every direction that the source has."""
    first, second = np.zeros((2, *source.grid.shape), dtype=np.bool_)
    first[0, 2:9, 3:8] = True
    first[-1, 1, 0] = True
    second[-1, 10:15, 9:12] = True
    return first, second


def scores(source: SourceSeries, number: int = 1, **changes: Any) -> ScoreMap:
    """A map without two equal halves, some of it exactly zero."""
    values = np.linspace(0.0, 1.0, int(np.prod(source.grid.shape)), dtype=np.float32).reshape(source.grid.shape)
    values[:, :2] = 0.0
    given: dict[str, Any] = {
        "quantity": PROBABILITY,
        "unit": ONE,
        "array": values,
        "number": number,
        "label": f"Map {number}",
        "category": ANATOMY,
        "type": HIPPOCAMPUS,
    }
    return ScoreMap(**(given | changes))


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data))


def saved(dataset: pydicom.Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def places(data: bytes, frame: int) -> npt.NDArray[np.float64]:
    """LPS mm of the first pixel and of a far one (row 7, column 5) of a frame, by the standard's own equation."""
    written = read(data)
    shared, own = written.SharedFunctionalGroupsSequence[0], written.PerFrameFunctionalGroupsSequence[frame]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    corner = np.array(own.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    return np.stack([corner, corner + orientation[3:] * row_mm * 7 + orientation[:3] * column_mm * 5])


def check_places(data: bytes, grid: Grid, slices: list[int]) -> None:
    """Every frame lies on the slice of the grid that it should, to a thousandth of a millimetre."""
    if grid.space is not Space.PATIENT:
        assert "PlanePositionSequence" not in read(data).PerFrameFunctionalGroupsSequence[0]
        return
    for frame, k in enumerate(slices):
        np.testing.assert_allclose(places(data, frame), grid.to_lps([(k, 0, 0), (k, 7, 5)]), atol=1e-3)


def check_origins(data: bytes, source: SourceSeries, slices: list[int]) -> None:
    """Every frame names the very image it was derived from, of a multi-frame instance the very frame."""
    groups = read(data).PerFrameFunctionalGroupsSequence
    assert len(groups) == len(slices)
    for group, k in zip(groups, slices, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        wanted = source.references[k]
        assert image.ReferencedSOPInstanceUID == wanted.sop_uid
        assert image.get("ReferencedFrameNumber") == wanted.frame
    listed = read(data).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [i.ReferencedSOPInstanceUID for i in listed] == list(source.sop_uids)


def missing_attributes(data: bytes) -> list[str]:
    """What highdicom's tables of the standard demand without condition and the instance lacks or leaves empty.

    Items of sequences are checked where the sequence is there. Functional groups of others than the patient's space are
    no mandatory ones, and so are left out.
    """
    written = read(data)
    iod = get_sop_class_iod_map()[written.SOPClassUID]
    found = []
    for module in get_iod_module_map()[iod]:
        if module["usage"] != "M" or module["key"].endswith("functional-groups"):
            continue
        for attribute in get_module_attribute_map()[module["key"]]:
            places = [written]
            for step in attribute["path"]:
                places = [item for place in places for item in place.get(step) or ()]
            for place in places:
                value = place.get(attribute["keyword"])
                lacks = attribute["keyword"] not in place
                if (attribute["type"] == "1" and (lacks or value in (None, ""))) or (
                    attribute["type"] == "2" and lacks
                ):
                    found.append(f"{module['key']}: {'/'.join([*attribute['path'], attribute['keyword']])}")
    return found


def at_their_places(volume: Any, grid: Grid) -> npt.NDArray[Any]:
    """An array of highdicom's, put back voxel by voxel where its own affine says; zero where it has none."""
    array = volume.array[..., 0] if volume.array.ndim == 4 else volume.array
    index = np.argwhere(np.ones(array.shape, dtype=bool))
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    target = np.rint(grid.to_index(points)).astype(int)
    assert np.abs(grid.to_lps(target) - points).max() < 1e-3
    found = np.zeros(grid.shape, dtype=array.dtype)
    found[tuple(target.T)] = array[tuple(index.T)]
    return found


class TestSegments:
    @pytest.mark.parametrize("form", [SegmentationType.BINARY, SegmentationType.LABELMAP])
    def test_segments_come_back_where_they_were(
        self, form: SegmentationType, any_source: SourceSeries, findings_on: Make, identity_of: Identify, dcmdump: Judge
    ) -> None:
        masks = apart(any_source)
        findings = findings_on(any_source, *masks)
        made = segmentation(findings, any_source, identity_of(any_source), form)
        for grid in (any_source.grid, None):
            back = read_segmentation(made.data, grid)
            assert back.type is form
            if grid is not None:
                for one, mask in zip(back.segments, masks, strict=True):
                    np.testing.assert_array_equal(one.segment.mask, mask)
        assert missing_attributes(made.data) == []
        assert "SegmentationType" in dcmdump(made.data)
        slices = sorted(k for m in masks for k in np.flatnonzero(m.any(axis=(1, 2))).tolist())
        if form is SegmentationType.LABELMAP:
            slices = sorted(set(slices))
        else:
            slices = [k for m in masks for k in np.flatnonzero(m.any(axis=(1, 2))).tolist()]
        check_places(made.data, any_source.grid, slices)
        check_origins(made.data, any_source, slices)

    def test_another_library_reads_the_label_map_alike(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify
    ) -> None:
        masks = apart(any_source)
        findings = findings_on(any_source, *masks)
        made = segmentation(findings, any_source, identity_of(any_source), SegmentationType.LABELMAP, Syntax.RLE)
        judge = highdicom.seg.segread(BytesIO(made.data))
        assert judge.segmentation_type is highdicom.seg.SegmentationTypeValues.LABELMAP
        assert list(judge.segment_numbers) == [1, 2]
        labels = masks[0] * 1 + masks[1] * 2
        if any_source.grid.space is not Space.PATIENT or not any_source.grid.frame_of_reference:
            np.testing.assert_array_equal(read(made.data).pixel_array.reshape(-1, *labels.shape[1:])[0], labels[0])
            return
        volume = judge.get_volume(combine_segments=True, allow_missing_positions=True)
        np.testing.assert_array_equal(at_their_places(volume, any_source.grid), labels)

    def test_overlapping_segments_make_no_label_map(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify
    ) -> None:
        mask = apart(any_source)[0]
        with pytest.raises(GeometryError, match="BINARY"):
            segmentation(
                findings_on(any_source, mask, mask), any_source, identity_of(any_source), SegmentationType.LABELMAP
            )

    def test_a_binary_one_is_clean(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify, dciodvfy: Judge
    ) -> None:
        made = segmentation(findings_on(any_source, *apart(any_source)), any_source, identity_of(any_source))
        assert dciodvfy(made.data) == []


class TestProbabilities:
    def test_they_come_back_to_half_of_1_255(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify, dciodvfy: Judge
    ) -> None:
        first = scores(any_source, fractional=True)
        second = scores(any_source, 2, array=first.array[:, ::-1].copy(), fractional=True)
        findings = findings_on(any_source, maps=(first, second))
        made = probabilities(findings, any_source, identity_of(any_source))
        assert dciodvfy(made.data) == []
        assert missing_attributes(made.data) == []
        back = read_segmentation(made.data, any_source.grid)
        assert back.type is SegmentationType.FRACTIONAL
        for one, wanted in zip(back.segments, (first, second), strict=True):
            assert one.fractions is not None
            assert np.abs(one.fractions - wanted.array).max() <= 0.5 / 255 + 1e-6
            assert one.segment.type == HIPPOCAMPUS
        slices = list(range(any_source.grid.shape[0])) * 2
        check_places(made.data, any_source.grid, slices)
        check_origins(made.data, any_source, slices)
        if any_source.grid.space is Space.PATIENT and any_source.grid.frame_of_reference:
            judge = highdicom.seg.segread(BytesIO(made.data))
            volume = judge.get_volume(segment_numbers=[1], rescale_fractional=True)
            found = at_their_places(volume, any_source.grid)
            assert np.abs(found - first.array).max() <= 0.5 / 255 + 1e-6


class TestMaps:
    def test_every_value_comes_back_as_it_was(
        self, any_source: SourceSeries, findings_on: Make, identity_of: Identify, run_tool: Any, dcmdump: Judge
    ) -> None:
        shown = scores(any_source, array=scores(any_source).array * np.float32(-3.7), label="Saliency of the network")
        findings = findings_on(any_source, maps=(shown,))
        made = parametric_map(findings, shown, any_source, identity_of(any_source))
        said = run_tool("dicom3tools", ["dciodvfy"], made.data).splitlines()
        known = ("<99RESIDENCY>", "<QUANTITY>") if any_source.grid.space is Space.PATIENT else UNPLACED
        assert [
            line for line in said if ("Error" in line or "Warning" in line) and not any(k in line for k in known)
        ] == []
        assert missing_attributes(made.data) == []
        assert "FloatPixelData" in dcmdump(made.data)
        back = read_parametric_map(made.data, any_source.grid)
        (found,) = back.maps
        np.testing.assert_array_equal(found.array, shown.array)
        assert (found.quantity, found.unit, found.type, found.label) == (PROBABILITY, ONE, HIPPOCAMPUS, shown.label)
        slices = list(range(any_source.grid.shape[0]))
        check_places(made.data, any_source.grid, slices)
        check_origins(made.data, any_source, slices)
        np.testing.assert_array_equal(read(made.data).pixel_array.reshape(shown.array.shape), shown.array)
        if any_source.grid.space is Space.PATIENT and any_source.grid.frame_of_reference:
            volume = highdicom.imread(BytesIO(made.data)).get_volume(apply_real_world_transform=True)
            np.testing.assert_allclose(at_their_places(volume, any_source.grid), shown.array, rtol=1e-6)

    @pytest.mark.parametrize("body_part", [None, "BRAIN", "ABDOMEN", "KNEE", "KIDNEY"])
    @pytest.mark.parametrize("side", [None, Side.LEFT])
    def test_a_side_is_stated_only_where_it_is_proven(
        self,
        body_part: str | None,
        side: Side | None,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Judge,
    ) -> None:
        """A validator demands one of every body part that may be a paired one; an empty one says that it is unknown."""
        source = open_series(_axial(BodyPartExamined=body_part, Laterality="R"))
        shown = scores(source, side=side)
        made = parametric_map(findings_on(source, maps=(shown,)), shown, source, identity_of(source))
        assert [w for w in dciodvfy(made.data) if "<QUANTITY>" not in w and "permitted to be empty" not in w] == []
        written = read(made.data)
        assert not written.get("Laterality")
        anatomy = written.SharedFunctionalGroupsSequence[0].get("FrameAnatomySequence")
        assert (anatomy[0].FrameLaterality if anatomy else None) == side
        assert read_parametric_map(made.data).maps[0].side is side

    def test_a_report_names_the_objects_of_its_result(
        self,
        any_source: SourceSeries,
        findings_on: Make,
        identity_of: Identify,
        dciodvfy: Judge,
        dsrdump: Judge,
        run_tool: Any,
    ) -> None:
        masks = apart(any_source)
        maps = (scores(any_source), scores(any_source, 2, fractional=True))
        findings, who = findings_on(any_source, *masks, maps=maps), identity_of(any_source)
        labelled = segmentation(findings, any_source, who, SegmentationType.LABELMAP)
        others = (probabilities(findings, any_source, who), parametric_map(findings, maps[0], any_source, who))
        binary = segmentation(findings, any_source, who)
        plain = report(findings, any_source, who, binary, others)
        assert dciodvfy(plain.data) == []
        assert dsrdump(plain.data).count("Map of values on the images") == 2
        made = report(findings, any_source, who, labelled, others)
        said = run_tool("dicom3tools", ["dciodvfy"], made.data).splitlines()
        # Neither the validator of 2022 nor DCMTK of that year know that a label map is a segmentation and an image.
        known = "Referenced SOP Class that is not segmentation - attribute <ReferencedSegmentNumber>"
        assert [line for line in said if "Error" in line and known not in line] == []
        shown = run_tool("dcmtk", ["dsrdump", "--ignore-item-errors", "+Pl"], made.data)
        assert shown.count("Map of values on the images") == 2
        back = read_report(made.data)
        named = {uid for uids in back.evidence.values() for uid in uids}
        assert {labelled.uid, *(other.uid for other in others)} <= named
        assert made.uid != report(findings, any_source, who, binary).uid

    def test_maps_of_one_result_are_told_apart(self, findings_on: Make, identity_of: Identify) -> None:
        source = open_series(_axial())
        maps = (scores(source), scores(source, 2))
        findings = findings_on(source, maps=maps)
        made = [parametric_map(findings, m, source, identity_of(source), n) for n, m in enumerate(maps, start=1)]
        assert made[0].uid != made[1].uid
        assert made[0].series_uid == made[1].series_uid
        assert [read(m.data).InstanceNumber for m in made] == [1, 2]

    def test_a_value_that_is_no_number_is_not_written(self, findings_on: Make, identity_of: Identify) -> None:
        source = open_series(_axial())
        shown = scores(source, array=np.full(source.grid.shape, np.nan, dtype=np.float32))
        with pytest.raises(ValueError, match="not finite"):
            parametric_map(findings_on(source, maps=(shown,)), shown, source, identity_of(source))

    def test_a_map_of_another_maker_is_read(self, shared_data: Path) -> None:
        data = (shared_data / "dicom" / "awkward" / "pmap_float.dcm").read_bytes()
        content = read_parametric_map(data)
        (found,) = content.maps
        np.testing.assert_array_equal(found.array[0], read(data).pixel_array)
        volume = highdicom.imread(BytesIO(data)).get_volume()
        np.testing.assert_allclose(at_their_places(volume, content.grid), found.array)

    def test_maps_cut_short_are_refused(self, findings_on: Make, identity_of: Identify) -> None:
        source = open_series(_axial())
        findings = findings_on(source, maps=(scores(source),))
        written = read(parametric_map(findings, findings.maps[0], source, identity_of(source)).data)
        written.FloatPixelData = written.FloatPixelData[:-8]
        with pytest.raises(PixelError, match="cut short"):
            read_parametric_map(saved(written))


def _unknown_label(written: pydicom.Dataset) -> None:
    written.PixelData = b"\x09" + written.PixelData[1:]


def _none_is_one(written: pydicom.Dataset) -> None:
    written.MaximumFractionalValue = 0


def _above_one(written: pydicom.Dataset) -> None:
    written.MaximumFractionalValue = 100


def _twice_the_same(written: pydicom.Dataset) -> None:
    first, second = written.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence
    if "SegmentIdentificationSequence" in first:
        second.SegmentIdentificationSequence = first.SegmentIdentificationSequence


def _other_kind(written: pydicom.Dataset) -> None:
    written.SegmentationType = "FRACTIONAL" if written.SegmentationType == "LABELMAP" else "LABELMAP"


def _as_a_table(written: pydicom.Dataset) -> None:
    mapping = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    del mapping.RealWorldValueSlope
    mapping.RealWorldValueLUTData = [1.0, 2.0]


def _beyond_float32(written: pydicom.Dataset) -> None:
    written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].RealWorldValueSlope = 1e300


@pytest.mark.parametrize(
    ("form", "edit", "reason"),
    [
        ("label map", _unknown_label, "shows segment 9, which is not described"),
        ("label map", _twice_the_same, "two frames show the same on slice 1"),
        ("label map", _other_kind, "does not belong to its SOP class"),
        ("probabilities", _none_is_one, "Maximum Fractional Value 0"),
        ("probabilities", _above_one, "a fraction above 1"),
        ("probabilities", _twice_the_same, "two frames show the same on slice 1"),
        ("probabilities", _other_kind, "does not belong to its SOP class"),
        ("map", _twice_the_same, "two frames show the same on slice 1"),
        ("map", _as_a_table, "tables are not read"),
        ("map", _beyond_float32, None),
    ],
)
def test_what_contradicts_itself_is_refused(
    form: str,
    edit: Callable[[pydicom.Dataset], None],
    reason: str | None,
    findings_on: Make,
    identity_of: Identify,
) -> None:
    source = open_series(_axial())
    findings = findings_on(source, *apart(source), maps=(scores(source), scores(source, 2, fractional=True)))
    who = identity_of(source)
    made = {
        "label map": lambda: segmentation(findings, source, who, SegmentationType.LABELMAP, Syntax.NATIVE),
        "probabilities": lambda: probabilities(findings, source, who),
        "map": lambda: parametric_map(findings, findings.maps[0], source, who),
    }[form]()
    written = read(made.data)
    edit(written)
    reading = read_parametric_map if form == "map" else read_segmentation
    if reason is None:
        reading(saved(written))
        return
    with pytest.raises(InputError, match=reason):
        reading(saved(written))


def test_a_single_frame_whose_spacing_is_below_nothing_is_not_turned_over(
    findings_on: Make, identity_of: Identify
) -> None:
    """Some makers write Spacing Between Slices with a sign."""
    source = open_series(_axial())
    mask = np.zeros(source.grid.shape, np.bool_)
    mask[2, 1:4, 2:5] = True
    written = read(segmentation(findings_on(source, mask), source, identity_of(source)).data)
    measures = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices, measures.SliceThickness = "-3", "2.5"
    affine = read_segmentation(saved(written)).grid.affine
    np.testing.assert_allclose(affine[:3, 0], 2.5 * source.grid.affine[:3, 0] / source.grid.spacing_mm[0])


class TestEverySyntax:
    """Compressed frames are decoded by another library than the one that made them."""

    @pytest.mark.parametrize(
        ("syntax", "count"),
        [
            (Syntax.NATIVE, 2),
            (Syntax.RLE, 2),
            (Syntax.RLE, 300),
            pytest.param(Syntax.NATIVE, 300, marks=pytest.mark.slow),
        ],
    )
    def test_label_maps_of_8_and_16_bits(
        self, syntax: Syntax, count: int, findings_on: Make, identity_of: Identify
    ) -> None:
        source = open_series(_axial())
        order = np.random.default_rng(count).permutation(int(np.prod(source.grid.shape)))
        labels = np.zeros(order.size, dtype=np.uint16)
        labels[order[: count * 4]] = np.repeat(np.arange(1, count + 1), 4)
        labels = labels.reshape(source.grid.shape)
        findings = findings_on(source, *(labels == n for n in range(1, count + 1)))
        made = segmentation(findings, source, identity_of(source), SegmentationType.LABELMAP, syntax)
        written = read(made.data)
        assert written.BitsAllocated == (8 if count < 256 else 16)
        assert written.file_meta.TransferSyntaxUID == syntax
        back = read_segmentation(made.data, source.grid)
        for n, one in enumerate(back.segments, start=1):
            np.testing.assert_array_equal(one.segment.mask, labels == n)
        volume = highdicom.seg.segread(BytesIO(made.data)).get_volume(combine_segments=True)
        np.testing.assert_array_equal(at_their_places(volume, source.grid), labels)

    @pytest.mark.parametrize("syntax", list(Syntax))
    def test_probabilities(self, syntax: Syntax, findings_on: Make, identity_of: Identify, dciodvfy: Judge) -> None:
        source = open_series(_axial())
        findings = findings_on(source, maps=(scores(source, fractional=True),))
        made = probabilities(findings, source, identity_of(source), syntax)
        assert dciodvfy(made.data) == []
        native = probabilities(findings, source, identity_of(source))
        np.testing.assert_array_equal(read(made.data).pixel_array, read(native.data).pixel_array)
        back = read_segmentation(made.data, source.grid).segments[0].fractions
        np.testing.assert_array_equal(back, read_segmentation(native.data, source.grid).segments[0].fractions)


@pytest.mark.parametrize("name", ["sagittal MR", "enhanced CT"])
def test_all_forms_lie_where_the_images_do(
    name: str, findings_on: Make, identity_of: Identify, dciodvfy: Judge
) -> None:
    source = open_series(_sagittal() if name == "sagittal MR" else [enhanced(ct_series(_image(regular(6))))])
    masks = apart(source)
    findings = findings_on(source, *masks, maps=(scores(source), scores(source, 2, fractional=True)))
    who = identity_of(source)
    binary = segmentation(findings, source, who)
    labelled = segmentation(findings, source, who, SegmentationType.LABELMAP, Syntax.RLE)
    likely, shown = probabilities(findings, source, who), parametric_map(findings, findings.maps[0], source, who)
    assert dciodvfy(binary.data) == dciodvfy(likely.data) == []
    for made in (binary, labelled):
        volume = highdicom.seg.segread(BytesIO(made.data)).get_volume(
            combine_segments=True, allow_missing_positions=True
        )
        np.testing.assert_array_equal(at_their_places(volume, source.grid), masks[0] * 1 + masks[1] * 2)
    everywhere = list(range(source.grid.shape[0]))
    for instance in (likely, shown):
        check_places(instance.data, source.grid, everywhere)
        check_origins(instance.data, source, everywhere)


@pytest.mark.parametrize(
    ("study", "name"), [pytest.param(1, "12-T1post-05670", marks=pytest.mark.slow), (2, "14_HCropVolume")]
)
def test_all_forms_lie_where_real_images_do(
    study: int, name: str, real_series: Callable[[int, str], SourceSeries], findings_on: Make, identity_of: Identify
) -> None:
    source = real_series(study, name)
    masks, who = apart(source), identity_of(source)
    shown = scores(source)
    findings = findings_on(source, *masks, maps=(shown,))
    labelled = segmentation(findings, source, who, SegmentationType.LABELMAP, Syntax.RLE)
    volume = highdicom.seg.segread(BytesIO(labelled.data)).get_volume(
        combine_segments=True, allow_missing_positions=True
    )
    np.testing.assert_array_equal(at_their_places(volume, source.grid), masks[0] * 1 + masks[1] * 2)
    made = parametric_map(findings, shown, source, who)
    volume = highdicom.imread(BytesIO(made.data)).get_volume(apply_real_world_transform=True)
    np.testing.assert_allclose(at_their_places(volume, source.grid), shown.array, rtol=1e-6)
    check_origins(made.data, source, list(range(source.grid.shape[0])))


def test_what_no_one_object_can_hold_is_refused(
    findings_on: Make, identity_of: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_series(_axial())
    huge = np.broadcast_to(np.float32(0.5), (2**11, 2**10, 2**10))
    with pytest.raises(GeometryError, match="does not fit into one DICOM object"):
        parametric_map(findings_on(source), scores(source, array=huge), source, identity_of(source))
    # Single bits of this size would take minutes to make: the bound is lowered instead.
    monkeypatch.setattr("residency.dicom.result.LARGEST_VALUE_BYTES", 10)
    with pytest.raises(GeometryError, match="does not fit into one DICOM object"):
        segmentation(findings_on(source, *apart(source)), source, identity_of(source))


class TestText:
    @pytest.mark.parametrize(
        "script", ["chinese_gb18030", "chinese_utf8", "greek", "japanese_h31", "korean_multi", "russian"]
    )
    def test_names_keep_their_script_in_every_form(
        self, script: str, shared_data: Path, findings_on: Make, identity_of: Identify, dciodvfy: Judge
    ) -> None:
        original = pydicom.dcmread(shared_data / "dicom" / "awkward" / f"cs_{script}.dcm")
        name, terms = str(original.PatientName), original.SpecificCharacterSet
        source = open_series(_axial(SpecificCharacterSet=terms, PatientName=name))
        findings = findings_on(source, *apart(source), maps=(scores(source), scores(source, 2, fractional=True)))
        who = identity_of(source)
        for made in (
            segmentation(findings, source, who, SegmentationType.LABELMAP),
            probabilities(findings, source, who),
            parametric_map(findings, findings.maps[0], source, who),
        ):
            written = read(made.data)
            written.decode()
            assert str(written.PatientName) == name
            assert written.SpecificCharacterSet == terms

    def test_text_that_the_source_cannot_express_makes_it_unicode(
        self, findings_on: Make, identity_of: Identify, dcmdump: Judge
    ) -> None:
        source = open_series(_axial(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen"))
        shown = scores(source, label="Карта Σ 地図")
        made = parametric_map(findings_on(source, maps=(shown,)), shown, source, identity_of(source))
        assert read(made.data).SpecificCharacterSet == "ISO_IR 192"
        assert "Müller^Jürgen" in dcmdump(made.data)
        assert read_parametric_map(made.data, source.grid).maps[0].label == "Карта Σ 地図"

    def test_long_names_are_cut_where_one_sees_it(self, findings_on: Make, identity_of: Identify) -> None:
        source = open_series(_axial())
        wordy = "Gradient-weighted class activation of the anterior part of the left hippocampus, seventh layer"
        shown = scores(source, label=wordy)
        fractional = scores(source, 2, label=wordy, fractional=True)
        findings = findings_on(source, maps=(shown, fractional))
        written = read(parametric_map(findings, shown, source, identity_of(source)).data)
        mapping = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        for text, limit in (
            (mapping.LUTLabel, 16),
            (mapping.LUTExplanation, 64),
            (written.ContentDescription, 64),
            (read(probabilities(findings, source, identity_of(source)).data).SegmentSequence[0].SegmentLabel, 64),
        ):
            assert len(text) <= limit
            assert text.endswith(("...", "..., not verified"))


@pytest.mark.slow
def test_a_hundred_and_four_segments_on_three_hundred_slices_are_written_in_time(
    findings_on: Make, identity_of: Identify
) -> None:
    """As whole-body networks give them. Seconds of processor time, of a machine that may be busy with other things."""
    grid = regular(300, 192)
    source = open_series(ct_series(_image(grid)))
    masks = [np.zeros(grid.shape, dtype=np.bool_) for _ in range(104)]
    for n, mask in enumerate(masks):
        row, column = 2 + 17 * (n // 10), 2 + 18 * (n % 10)
        mask[2 * n : 2 * n + 60, row : row + 15, column : column + 15] = True
    findings, who = findings_on(source, *masks), identity_of(source)
    for form, most in ((SegmentationType.LABELMAP, 15.0), (SegmentationType.BINARY, 60.0)):
        start = time.process_time()
        made = segmentation(findings, source, who, form, Syntax.RLE)
        spent = time.process_time() - start
        print(f"{form}: {spent:.1f} s, {len(made.data)} bytes, {read(made.data).NumberOfFrames} frames")
        assert spent < most
        back = read_segmentation(made.data, source.grid, only=(1, 104))
        np.testing.assert_array_equal(back.segments[1].segment.mask, masks[103])


def regular(slices: int, side: int = 24) -> Grid:
    return regular_grid((slices, side, side), (2.0, 1.0, 0.5), frame_of_reference="1.2.3.4")


def _image(grid: Grid) -> Volume:
    image = np.zeros(grid.shape, dtype=np.float32)
    image[:, 3:10, 4:9] = 400.0
    return Volume(image, grid)


def _axial(**attributes: object) -> list[bytes]:
    return mr_series(_image(regular(6)), **attributes)


def _sagittal() -> list[bytes]:
    plain = regular(6)
    # Columns run to the back, rows downwards, slices to the left.
    affine = np.array([[2.0, 0, 0, -7], [0, 0, 0.5, 11], [0, -1.0, 0, 30], [0, 0, 0, 1]])
    return mr_series(_image(Grid(plain.shape, affine, plain.frame_of_reference)))
