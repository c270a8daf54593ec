"""Series of single frames: what was put on a grid is read back on that grid, whatever the order of the files."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from scipy.spatial.transform import Rotation

from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.errors import GeometryError, InputError, PixelError
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Space, Volume, regular_grid


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Upright grids of any orientation, handedness, spacing and origin."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    spacing = [draw(st.floats(0.2, 8.0)) for _ in range(3)]
    angles = [draw(st.floats(-180.0, 180.0)) for _ in range(3)]
    rotation = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation[:, order] * np.array(signs) * np.array(spacing)
    affine[:3, 3] = [draw(st.floats(-500.0, 500.0)) for _ in range(3)]
    return Grid((shape[0], shape[1], shape[2]), affine, "1.2.3")


def _noise(grid: Grid, low: int = -1000, high: int = 3000, seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).integers(low, high, grid.shape)
    return Volume(values.astype(np.float32), grid)


def _ascending(volume: Volume) -> Volume:
    """The same volume with its slices along the normal (row direction x column direction)."""
    affine = np.array(volume.grid.affine)
    if np.cross(affine[:3, 2], affine[:3, 1]) @ affine[:3, 0] > 0:
        return volume
    affine[:3, 3] += affine[:3, 0] * (volume.grid.shape[0] - 1)
    affine[:3, 0] *= -1
    return Volume(
        np.ascontiguousarray(volume.array[::-1]), Grid(volume.grid.shape, affine, volume.grid.frame_of_reference)
    )


@settings(max_examples=60, deadline=None)
@given(grid=grids(), seed=st.integers(0, 2**16))
def test_any_upright_grid_comes_back_in_its_place_with_its_values(grid: Grid, seed: int) -> None:
    volume = _noise(grid, seed=seed)
    files = mr_series(volume)
    random.Random(seed).shuffle(files)
    read = open_series(files)
    expected = _ascending(volume)
    assert read.grid.matches(expected.grid, tolerance_mm=1e-4)
    np.testing.assert_array_equal(read.volume().array, expected.array)
    assert read.grid.frame_of_reference == "1.2.3"


@settings(max_examples=15, deadline=None)
@given(grid=grids(), seed=st.integers(0, 2**16))
def test_the_order_of_the_files_changes_nothing(grid: Grid, seed: int) -> None:
    files = ct_series(_noise(grid, seed=seed))
    one = open_series(files)
    random.Random(seed).shuffle(files)
    other = open_series(files)
    assert one.labels == other.labels == read_labels(files)
    assert one.sop_uids == other.sop_uids
    np.testing.assert_array_equal(one.grid.affine, other.grid.affine)
    np.testing.assert_array_equal(one.volume().array, other.volume().array)


def test_slice_k_of_the_grid_is_data_set_k() -> None:
    grid = regular_grid((4, 3, 5), (2.0, 1.0, 0.5), frame_of_reference="1.2")
    read = open_series(reversed(mr_series(_noise(grid))))
    for k, dataset in enumerate(read.datasets):
        np.testing.assert_allclose(dataset.ImagePositionPatient, grid.to_lps((k, 0, 0)), atol=1e-9)
        assert read.sop_uids[k] == dataset.SOPInstanceUID


def test_row_spacing_comes_first_in_pixel_spacing() -> None:
    grid = regular_grid((2, 6, 7), (3.0, 2.0, 0.5))
    files = mr_series(_noise(grid))
    assert list(pydicom.dcmread(BytesIO(files[0])).PixelSpacing) == [2.0, 0.5]
    assert open_series(files).grid.spacing_mm == pytest.approx((3.0, 2.0, 0.5))


def test_ct_is_read_in_hounsfield_units() -> None:
    grid = regular_grid((2, 4, 4), (1.0, 1.0, 1.0))
    volume = open_series(ct_series(_noise(grid, -1024, 3000))).volume()
    assert volume.unit == "[hnsf'U]"
    np.testing.assert_array_equal(volume.array, _noise(grid, -1024, 3000).array)


def _edited(data: bytes, **attributes: object) -> bytes:
    dataset = pydicom.dcmread(BytesIO(data))
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _series(slices: int = 5) -> list[bytes]:
    return mr_series(_noise(regular_grid((slices, 6, 8), (2.0, 1.0, 1.0), frame_of_reference="1.2"), 0, 1000))


def test_slope_and_intercept_are_those_of_each_slice() -> None:
    files = _series(2)
    files[1] = _edited(files[1], RescaleSlope="0.5", RescaleIntercept="-3")
    files[0] = _edited(files[0], RescaleSlope="2", RescaleIntercept="1")
    stored = _noise(regular_grid((2, 6, 8), (2.0, 1.0, 1.0)), 0, 1000).array
    read = open_series(files).volume().array
    np.testing.assert_array_equal(read[0], stored[0] * 2 + 1)
    np.testing.assert_array_equal(read[1], stored[1] * 0.5 - 3)


def test_two_spellings_of_one_orientation_are_one() -> None:
    files = _series()
    files[2] = _edited(files[2], ImageOrientationPatient=["0.999999", "0.000001", "0", "0", "1", "0.000001"])
    assert open_series(files).grid.shape == (5, 6, 8)


@pytest.mark.parametrize(
    ("index", "attributes", "reason"),
    [
        (2, {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "1"]}, "orientation differs"),
        (2, {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, "orientation differs"),
        (2, {"PixelSpacing": ["1", "1.1"]}, "its pixels are"),
        (2, {"FrameOfReferenceUID": "1.2.9"}, "frame of reference differs"),
        (2, {"ImagePositionPatient": ["0", "0", "6"]}, "same position"),
        (2, {"ImagePositionPatient": ["0", "0", "4.5"]}, "missing or doubled"),
        (2, {"ImagePositionPatient": ["3", "0", "4"]}, "off the line"),
        (2, {"ImagePositionPatient": None}, "no Image Position"),
        (2, {"ImageOrientationPatient": None}, "no Image Orientation"),
        (2, {"PixelSpacing": None}, "no Pixel Spacing"),
        (2, {"PixelSpacing": ["0", "1"]}, "must be positive"),
        (2, {"PixelSpacing": ["1e300", "1"]}, "at most 1e.06 mm"),
        (2, {"ImagePositionPatient": ["0", "0", "1e300"]}, "at most 1e.06 mm"),
        (2, {"ImageOrientationPatient": ["1e200", "0", "0", "0", "1", "0"]}, "at most 1e.06 mm"),
    ],
)
def test_what_is_no_regular_stack_is_refused_by_name(index: int, attributes: dict[str, object], reason: str) -> None:
    files = _series()
    uid = pydicom.dcmread(BytesIO(files[index])).SOPInstanceUID
    files[index] = _edited(files[index], **attributes)
    with pytest.raises(GeometryError, match=reason) as raised:
        open_series(files)
    assert uid in str(raised.value)
    labels = read_labels(files)
    assert labels.problem == str(raised.value)
    assert labels.spacing_mm is None


def test_a_missing_slice_is_named_by_its_neighbours() -> None:
    files = _series()
    uids = [str(pydicom.dcmread(BytesIO(f)).SOPInstanceUID) for f in files]
    with pytest.raises(GeometryError, match="missing or doubled") as raised:
        open_series([files[0], files[1], files[2], files[4]])
    assert uids[2] in str(raised.value)
    assert uids[4] in str(raised.value)


def test_a_sheared_stack_is_refused_with_its_angle() -> None:
    files = _series()
    tilted = [_edited(f, ImagePositionPatient=["0", str(0.5 * k), str(2 * k)]) for k, f in enumerate(files)]
    with pytest.raises(GeometryError, match=r"sheared by 14\.0 degrees"):
        open_series(tilted)


def test_a_single_slice_takes_its_thickness_from_the_header() -> None:
    (only,) = mr_series(_noise(regular_grid((1, 4, 4), (3.5, 1.0, 1.0))))
    assert open_series([only]).grid.spacing_mm == pytest.approx((3.5, 1.0, 1.0))
    with pytest.raises(GeometryError, match="no known size"):
        open_series([_edited(only, SliceThickness=None)])


def test_no_images_several_series_and_twice_the_same_are_refused() -> None:
    files = _series(2)
    other = mr_series(_noise(regular_grid((1, 6, 8), (2.0, 1.0, 1.0))), series="other")
    with pytest.raises(InputError, match="without images"):
        open_series([])
    with pytest.raises(InputError, match="same series"):
        open_series([*files, *other])
    with pytest.raises(InputError, match="given twice"):
        open_series([*files, files[0]])
    with pytest.raises(InputError, match="same patient") as raised:
        open_series([files[0], _edited(files[1], PatientID="SECRET-7")])
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless])
def test_every_transfer_syntax_that_is_read_gives_equal_pixels(syntax: pydicom.uid.UID) -> None:
    files = _series(3)
    expected = open_series(files).volume().array
    made = []
    for data in files:
        dataset = pydicom.dcmread(BytesIO(data))
        stream = BytesIO()
        if syntax.is_compressed:
            dataset.PixelRepresentation = 0
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(stream, enforce_file_format=True)
        else:
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(stream, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        made.append(stream.getvalue())
    np.testing.assert_array_equal(open_series(made).volume().array, expected)


def test_damaged_compressed_pixels_are_refused() -> None:
    dataset = pydicom.dcmread(BytesIO(_series(1)[0]))
    dataset.PixelData = encapsulate([b"\x01" * 30])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    stream = BytesIO()
    dataset.save_as(stream)
    with pytest.raises(PixelError, match="damaged"):
        open_series([stream.getvalue()]).volume()


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_bits_stored_are_not_image(signed: bool) -> None:
    (data,) = mr_series(_noise(regular_grid((1, 4, 4), (1.0, 1.0, 1.0)), -2048 if signed else 0, 2048))
    dataset = pydicom.dcmread(BytesIO(data))
    clean = np.frombuffer(dataset.PixelData, "<i2")
    dirty = (clean.view("<u2") & 0x0FFF) | 0x5000
    edited = _edited(
        data,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=int(signed),
        PixelData=dirty.tobytes(),
    )
    volume = open_series([edited]).volume()
    np.testing.assert_array_equal(volume.array.ravel(), clean)
    assert volume.notes == ("bits above Bits Stored cleared",)


def test_signed_pixels_of_twelve_bits_keep_their_sign_without_remark() -> None:
    (data,) = mr_series(_noise(regular_grid((1, 4, 4), (1.0, 1.0, 1.0)), -2048, 2048))
    volume = open_series([_edited(data, BitsStored=12, HighBit=11)]).volume()
    assert volume.array.min() < 0
    np.testing.assert_array_equal(volume.array, open_series([data]).volume().array)
    assert volume.notes == ()


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("spacing", [(0.2, 0.3), None])
def test_a_radiograph_is_bright_where_dense(inverse: bool, spacing: tuple[float, float] | None) -> None:
    image = np.arange(24, dtype=np.uint16).reshape(4, 6)
    read = open_series([radiograph(image, spacing_mm=spacing, inverse=inverse)])
    volume = read.volume()
    np.testing.assert_array_equal(volume.array[0], image.astype(np.float32))
    assert volume.notes == (("MONOCHROME1 inverted",) if inverse else ())
    assert volume.grid.space is (Space.PIXELS if spacing is None else Space.DETECTOR)
    assert volume.grid.spacing_mm == pytest.approx((1.0, *(spacing or (1.0, 1.0))))
    assert read.labels.problem is None


def test_two_radiographs_in_one_series_are_not_a_volume() -> None:
    one = radiograph(np.zeros((4, 6), np.uint16))
    with pytest.raises(InputError, match="2 separate images"):
        open_series([one, _edited(one, SOPInstanceUID="1.2.3.4")])


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"NumberOfFrames": "3"}, "multi-frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "only grey"),
        ({"BitsAllocated": 12}, "Bits Allocated 12"),
        ({"BitsStored": 17}, "BitsStored 17"),
        ({"Rows": 60000}, "cut short"),
        ({"Rows": None}, "Rows missing"),
        ({"PixelData": b""}, "empty"),
        ({"PixelData": None}, "no Pixel Data"),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, "Slope is 0"),
        ({"RescaleSlope": "1"}, "RescaleIntercept missing"),
        ({"RescaleSlope": "1e36", "RescaleIntercept": "0"}, "give values beyond"),
        ({"RescaleSlope": "1", "RescaleIntercept": "-1e300"}, "give values beyond"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}, "no Per-Frame Functional Groups"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.3"}, "Enhanced MR Color"),
    ],
)
def test_pixels_that_cannot_be_read_exactly_are_refused(attributes: dict[str, object], reason: str) -> None:
    (data,) = _series(1)
    with pytest.raises(InputError, match=reason):
        open_series([_edited(data, **attributes)])


def test_ct_without_rescale_is_refused() -> None:
    (data,) = ct_series(_noise(regular_grid((1, 4, 4), (1.0, 1.0, 1.0)), 0, 10))
    with pytest.raises(PixelError, match="RescaleSlope missing"):
        open_series([_edited(data, RescaleSlope=None, RescaleIntercept=None)])


def test_slices_in_different_units_are_no_one_volume() -> None:
    """Hounsfield Units beside, say, electron densities on one grid would be read as a jump in the body."""
    grid = regular_grid((4, 6, 5), (2.0, 1.0, 1.0), frame_of_reference="1.2.3.4")
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    files = ct_series(volume)
    other = pydicom.dcmread(BytesIO(files[2]))
    other.RescaleType = "US"
    stream = BytesIO()
    other.save_as(stream)
    files[2] = stream.getvalue()
    with pytest.raises(PixelError, match="different units"):
        open_series(files)
