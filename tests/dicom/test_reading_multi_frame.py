"""Enhanced multi-frame images: the same voxels in the same place as single frames, whatever the order of the frames."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.legacy import (
    LegacyConvertedEnhancedCTImage,
    LegacyConvertedEnhancedMRImage,
    LegacyConvertedEnhancedPETImage,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from residency.dicom.labels import read_labels
from residency.dicom.result import slice_references, source_references
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import GeometryError, InputError, PixelError
from residency.findings import Findings
from residency.labels import Weighting
from residency.testing.enhanced import enhanced, pet_series
from residency.testing.phantoms import ct_series, mr_series
from residency.volume import Grid, Volume, regular_grid

CONVERTERS = {
    "CT": LegacyConvertedEnhancedCTImage,
    "MR": LegacyConvertedEnhancedMRImage,
    "PT": LegacyConvertedEnhancedPETImage,
}


def _volume(shape: tuple[int, int, int] = (4, 5, 6), seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(np.float32)
    return Volume(values, regular_grid(shape, (2.0, 1.0, 0.5), frame_of_reference="1.2.3"))


def _singles(modality: str, volume: Volume, **attributes: object) -> list[bytes]:
    if modality == "CT":
        return ct_series(volume, **attributes)
    files = mr_series(volume, **attributes)
    return files if modality == "MR" else pet_series(files, [0.5 + k for k in range(len(files))])


def _edited(data: bytes, edit: Callable[[Dataset], None]) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    edit(dataset)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _agree(multi: SourceSeries, single: SourceSeries) -> None:
    assert multi.grid.matches(single.grid, tolerance_mm=1e-9)
    assert multi.grid.frame_of_reference == single.grid.frame_of_reference
    one, other = multi.volume(), single.volume()
    np.testing.assert_array_equal(one.array, other.array)
    assert one.unit == other.unit


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_frames_hold_what_single_frames_hold(modality: str) -> None:
    files = _singles(modality, _volume())
    _agree(open_series([enhanced(files)]), open_series(files))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_validator_finds_no_error_in_the_phantom(dciodvfy: Callable[[bytes], list[str]], modality: str) -> None:
    assert dciodvfy(enhanced(_singles(modality, _volume()))) == []


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_what_another_program_converted_is_read_alike(modality: str) -> None:
    """Legacy Converted Enhanced images as highdicom writes them."""
    files = _singles(modality, _volume())
    shuffled = random.Random(1).sample(files, len(files))
    made = CONVERTERS[modality](
        [pydicom.dcmread(BytesIO(data)) for data in shuffled], "1.2.9", 7, "1.2.9.1", 1, transfer_syntax_uid=_EXPLICIT
    )
    stream = BytesIO()
    made.save_as(stream)
    _agree(open_series([stream.getvalue()]), open_series(files))


_EXPLICIT = "1.2.840.10008.1.2.1"


@st.composite
def _grids(draw: st.DrawFn) -> Grid:
    """Upright grids of any orientation and handedness."""
    shape = tuple(draw(st.integers(2, 5)) for _ in range(3))
    angles = [draw(st.floats(-180.0, 180.0)) for _ in range(3)]
    axes = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()[:, draw(st.permutations(range(3)))]
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array([draw(st.floats(0.3, 6.0)) * draw(st.sampled_from([-1, 1])) for _ in range(3)])
    affine[:3, 3] = [draw(st.floats(-400.0, 400.0)) for _ in range(3)]
    return Grid((shape[0], shape[1], shape[2]), affine, "1.2.3")


@settings(max_examples=25, deadline=None)
@given(grid=_grids(), seed=st.integers(0, 2**16), parts=st.integers(1, 2))
def test_any_grid_in_any_order_of_frames_is_read_alike(grid: Grid, seed: int, parts: int) -> None:
    """Also where the frames of one volume are spread over two instances (concatenation)."""
    values = np.random.default_rng(seed).integers(0, 900, grid.shape).astype(np.float32)
    files = mr_series(Volume(values, grid))
    single = open_series(files)
    random.Random(seed).shuffle(files)
    multi = open_series([enhanced(files[k::parts]) for k in range(parts)])
    _agree(multi, single)
    for k, image in enumerate(multi.references):
        position = [float(v) for v in multi.datasets[k].ImagePositionPatient]
        np.testing.assert_allclose(position, single.grid.to_lps((k, 0, 0)), atol=1e-3)
        assert image.frame is not None


def test_highdicom_places_every_frame_where_we_do() -> None:
    data = enhanced(_singles("MR", _volume())[::-1])
    judge = highdicom.image.Image.from_dataset(pydicom.dcmread(BytesIO(data))).get_volume()
    ours = open_series([data])
    array = ours.volume().array
    inverse = np.linalg.inv(np.asarray(judge.affine))
    for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
        theirs = tuple(np.round((inverse @ np.array([*ours.grid.to_lps(index), 1.0]))[:3]).astype(int))
        assert judge.array[theirs] == array[index]
        np.testing.assert_allclose((judge.affine @ [*theirs, 1])[:3], ours.grid.to_lps(index), atol=1e-6)


def test_slices_name_their_instance_and_frame() -> None:
    data = enhanced(_singles("MR", _volume())[::-1])
    source = open_series([data])
    uid = pydicom.dcmread(BytesIO(data)).SOPInstanceUID
    assert source.sop_uids == (uid,)
    assert [image.frame for image in source.references] == [4, 3, 2, 1]
    assert [item.ReferencedSOPInstanceUID for item in source_references(source)] == [uid]
    assert slice_references(source)[0].ReferencedFrameNumber == 4
    single = open_series(_singles("MR", _volume()))
    assert "ReferencedFrameNumber" not in slice_references(single)[0]
    assert len(source_references(single)) == 4


def test_a_segmentation_refers_to_the_frames_of_its_source(
    findings_on: Callable[..., Findings], identity_of: Callable[[SourceSeries], ResultIdentity]
) -> None:
    source = open_series([enhanced(_singles("MR", _volume())[::-1])])
    mask = np.zeros(source.grid.shape, np.bool_)
    mask[2, 1:3, 1:4] = True
    made = pydicom.dcmread(BytesIO(segmentation(findings_on(source, mask), source, identity_of(source)).data))
    (group,) = made.PerFrameFunctionalGroupsSequence
    assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 2
    position = group.PlanePositionSequence[0].ImagePositionPatient
    np.testing.assert_allclose([float(v) for v in position], source.grid.to_lps((2, 0, 0)), atol=1e-6)
    (series,) = made.ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 1


def test_labels_read_what_stands_in_functional_groups() -> None:
    files = mr_series(_volume(), AcquisitionContrast="FLUID_ATTENUATED")
    labels = read_labels([enhanced(files, BodyPartExamined=None, AcquisitionContrast=None)])
    assert labels.weighting is not None
    assert labels.weighting.value is Weighting.FLAIR
    assert labels.regions is not None
    assert [code.value for code in labels.regions.value] == ["12738006"]
    assert labels.spacing_mm == pytest.approx((2.0, 1.0, 0.5))
    assert (labels.slices, labels.orientation, labels.problem) == (4, "SPL", None)
    assert labels.attributes["EchoTime"] == "3.0"


def test_headers_without_pixels_say_the_same_of_frames() -> None:
    data = enhanced(_singles("CT", _volume()))
    bare = _edited(data, lambda dataset: dataset.__delitem__("PixelData"))
    assert read_labels([bare]) == read_labels([data])


def _lose_a_group(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1]


def _lose_all_groups(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence


def _lose_a_place(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _lose_spacing(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def _lose_rescale(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence


def _lose_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:-10]


@pytest.mark.parametrize(
    ("edit", "error", "reason"),
    [
        (_lose_a_group, InputError, "4 frames, and describes 3"),
        (_lose_all_groups, InputError, "no Per-Frame Functional Groups"),
        (_lose_a_place, GeometryError, r"frame 3 has no Image Position"),
        (_lose_spacing, GeometryError, r"frame 1 has no Pixel Spacing"),
        (_lose_rescale, PixelError, "RescaleSlope missing"),
        (_lose_pixels, PixelError, "cut short"),
    ],
)
def test_what_frames_do_not_say_is_not_made_up(
    edit: Callable[[Dataset], None], error: type[InputError], reason: str
) -> None:
    data = _edited(enhanced(_singles("CT", _volume())), edit)
    with pytest.raises(error, match=reason):
        open_series([data])
    uid = pydicom.dcmread(BytesIO(data)).SOPInstanceUID
    problem = read_labels([data]).problem
    if edit is not _lose_pixels:
        assert problem is not None
        assert uid in problem


def test_many_frames_claimed_cost_nothing() -> None:
    data = _edited(
        enhanced(_singles("CT", _volume())), lambda dataset: setattr(dataset, "NumberOfFrames", 2_000_000_000)
    )
    with pytest.raises(InputError, match="2000000000 frames, and describes 4"):
        open_series([data])
