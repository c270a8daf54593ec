"""NIfTI in and out, against nibabel and the definition of the format."""

from __future__ import annotations

import contextlib
import gzip
import io

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residency.errors import GeometryError, InputError, PixelError
from residency.files.nifti import read_nifti, read_nifti_labels, write_nifti
from residency.geometry import lps_from_ras
from residency.testing.steps import oblique_grid, ramp
from residency.volume import Grid, Space, regular_grid


def nibabel_bytes(array, ras, *, slope=None, sform=1, qform=0, kind=nibabel.Nifti1Image):
    image = kind(array, ras)
    image.set_sform(ras, code=sform)
    image.set_qform(ras, code=qform)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    return image.to_bytes()


def raw_header(**fields):
    """A plain 3 x 4 x 5 int16 file with header fields overwritten, whatever nibabel thinks of them."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    data = bytearray(nibabel_bytes(array, np.eye(4)))
    header = np.frombuffer(data, dtype=nibabel.nifti1.header_dtype, count=1)
    for name, value in fields.items():
        header[name] = value
    return bytes(data)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("packed", [False, True])
def test_each_voxel_keeps_its_place_and_value(kind, packed):
    """Index (i, j, k) in RAS and (slice, row, column) in LPS are the same point, or left becomes right."""
    ras = np.array([[0, -1.5, 0, 30], [2.0, 0, 0, -12], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    array = np.random.default_rng(2).integers(-500, 900, (5, 6, 7)).astype(np.int16)
    data = nibabel_bytes(array, ras, kind=kind)
    volume = read_nifti(gzip.compress(data) if packed else data)
    assert volume.array.dtype == np.float32
    for i, j, k in np.ndindex(array.shape):
        assert volume.array[k, j, i] == array[i, j, k]
    x, y, z, _ = ras @ [4, 5, 6, 1]
    np.testing.assert_allclose(volume.grid.to_lps([6, 5, 4]), [-x, -y, z])


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_slope_and_intercept_are_applied(byteorder):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4).astype(f"{byteorder}i2")
    image = nibabel.Nifti1Image(array, np.eye(4), nibabel.Nifti1Header(endianness=byteorder))
    image.header.set_data_dtype(f"{byteorder}i2")
    image.set_sform(np.eye(4), code=1)
    data = bytearray(image.to_bytes())
    header = np.frombuffer(data, dtype=nibabel.nifti1.header_dtype.newbyteorder(byteorder), count=1)
    header["scl_slope"], header["scl_inter"] = 0.25, -1000.0
    np.testing.assert_array_equal(read_nifti(bytes(data)).array, array.transpose() * np.float32(0.25) - 1000)


def test_slope_zero_means_none():
    assert read_nifti(raw_header(scl_slope=0, scl_inter=9)).array.max() == 59


def test_the_sform_wins_and_a_difference_is_noted():
    ras = np.diag([2.0, 2, 2, 1])
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), ras)
    image.set_sform(ras, code=2)
    other = ras.copy()
    other[0, 3] = 4.0
    image.set_qform(other, code=1)
    volume = read_nifti(image.to_bytes())
    np.testing.assert_allclose(volume.grid.to_lps([0, 0, 0]), 0.0)
    assert "4.00 mm apart" in volume.notes[0]


def test_the_qform_holds_where_there_is_no_sform():
    ras = np.diag([-1.0, 1.2, 2, 1])
    volume = read_nifti(nibabel_bytes(np.zeros((3, 4, 5), np.int16), ras, sform=0, qform=1))
    np.testing.assert_allclose(volume.grid.spacing_mm, (2, 1.2, 1), rtol=1e-6)
    assert volume.grid.orientation == "SAL"
    assert volume.notes == ()


@pytest.mark.parametrize(("unit", "spacing"), [(0, 1.0), (2, 1.0), (1, 1000.0), (3, 0.001)])
def test_units_of_space_are_honoured(unit, spacing):
    assert read_nifti(raw_header(xyzt_units=unit | 8)).grid.spacing_mm == pytest.approx((spacing,) * 3)


@st.composite
def grids(draw):
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    spacing = [draw(st.floats(0.2, 8)) for _ in range(3)]
    quaternion = np.array([draw(st.floats(-1, 1)) for _ in range(4)])
    quaternion /= max(np.linalg.norm(quaternion), 1e-9)
    a, b, c, d = quaternion if np.linalg.norm(quaternion) > 0.5 else (1.0, 0, 0, 0)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing) @ np.diag([1, 1, draw(st.sampled_from([-1, 1]))])
    affine[:3, 3] = [draw(st.floats(-400, 400)) for _ in range(3)]
    return Grid(shape, affine)


@settings(max_examples=60, deadline=None)
@given(grids(), st.sampled_from([np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.float32]), st.integers(0, 99))
def test_what_is_written_is_read_again(grid, dtype, seed):
    """Any orientation, mirrored ones too; also as nibabel, an independent reader, sees it."""
    array = np.random.default_rng(seed).integers(0, 2 if dtype == np.bool_ else 120, grid.shape).astype(dtype)
    data = write_nifti(array, grid)
    back = read_nifti(data)
    np.testing.assert_array_equal(back.array, array.astype(np.float32))
    assert back.grid.matches(grid, 2e-3)
    assert back.notes == ()
    theirs = nibabel.Nifti1Image.from_bytes(gzip.decompress(data))
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), array.transpose())
    corner = np.array([*(n - 1 for n in grid.shape[::-1]), 1])
    np.testing.assert_allclose(
        (lps_from_ras(theirs.affine) @ corner)[:3], grid.to_lps(np.array(grid.shape) - 1), atol=2e-3
    )
    np.testing.assert_allclose(theirs.get_qform(), theirs.get_sform(), atol=5e-3)


def test_bytes_are_the_same_every_time():
    volume = ramp(oblique_grid(), (1, 1, 1))
    assert write_nifti(volume.array, volume.grid) == write_nifti(volume.array.copy(), volume.grid)
    assert write_nifti(volume.array, volume.grid)[4:8] == bytes(4)


def test_labels_come_as_the_smallest_type_that_holds_them():
    grid = regular_grid((2, 3, 4), (1, 1, 1))
    labels, read = read_nifti_labels(write_nifti(np.arange(24, dtype=np.float32).reshape(2, 3, 4), grid))
    assert labels.dtype == np.uint8
    assert read.matches(grid)
    labels, _ = read_nifti_labels(write_nifti(np.full((2, 3, 4), 300, np.int32), grid))
    assert (labels.dtype, labels.max()) == (np.uint16, 300)


@pytest.mark.parametrize("value", [0.5, -1.0, 70000.0, np.nan])
def test_an_image_is_not_taken_for_labels(value):
    array = np.zeros((2, 3, 4), np.float32)
    array[0, 1, 2] = value
    with pytest.raises(PixelError, match="whole numbers"):
        read_nifti_labels(write_nifti(array, regular_grid((2, 3, 4), (1, 1, 1))))


def test_a_radiograph_is_written_without_a_place_and_not_read_as_if_it_had_one():
    grid = Grid((1, 3, 4), regular_grid((1, 3, 4), (1, 0.2, 0.2)).affine, space=Space.DETECTOR)
    data = write_nifti(np.zeros((1, 3, 4), np.uint8), grid)
    assert nibabel.Nifti1Image.from_bytes(gzip.decompress(data)).header.get_zooms() == pytest.approx((0.2, 0.2, 1))
    with pytest.raises(GeometryError, match="nothing of its place"):
        read_nifti(data)


SHEARED = {"srow_x": (1, 0.3, 0, 0)}


@pytest.mark.parametrize(
    ("data", "kind", "match"),
    [
        (b"", PixelError, "cut short"),
        (b"PNG and more than that", PixelError, "not a NIfTI"),
        (raw_header()[:200], PixelError, "cut short"),
        (raw_header()[:-1], PixelError, "cut short"),
        (gzip.compress(raw_header())[:-20], PixelError, "damaged|cut short"),
        (raw_header(magic=b"ni1"), PixelError, "pair"),
        (raw_header(dim=(3, 30000, 30000, 30000, 1, 1, 1, 1)), PixelError, "at most"),
        (raw_header(dim=(4, 3, 4, 5, 2, 1, 1, 1)), PixelError, "one volume"),
        (raw_header(dim=(3, 3, -4, 5, 1, 1, 1, 1)), PixelError, "shape|damaged"),
        (raw_header(dim=(9, 3, 4, 5, 1, 1, 1, 1)), PixelError, "damaged|shape"),
        (raw_header(datatype=32, bitpix=64), PixelError, "complex64"),
        (raw_header(datatype=128, bitpix=24), PixelError, "not read"),
        (raw_header(datatype=7777), PixelError, "damaged"),
        (raw_header(vox_offset=1e30), PixelError, "begin at"),
        (raw_header(vox_offset=np.nan), PixelError, "begin at"),
        (raw_header(vox_offset=-5), PixelError, "too low"),
        (raw_header(sform_code=0, qform_code=0), GeometryError, "nothing of its place"),
        (raw_header(xyzt_units=7), GeometryError, "unit 7"),
        (raw_header(**SHEARED), GeometryError, "right angle"),
        (raw_header(srow_x=(np.nan, 0, 0, 0)), GeometryError, "finite"),
        (raw_header(srow_x=(np.inf, 0, 0, 0)), GeometryError, "finite"),
        (raw_header(srow_x=(0, 0, 0, 0)), GeometryError, "invertible"),
        (raw_header(sform_code=0, qform_code=1, pixdim=(1, 0, 1, 1, 1, 1, 1, 1)), GeometryError, "voxels of"),
        (raw_header(sform_code=0, qform_code=1, pixdim=(1, 1, 1, -1, 1, 1, 1, 1)), GeometryError, "voxels of"),
        (raw_header(sform_code=0, qform_code=1, pixdim=(1, np.nan, 1, 1, 1, 1, 1, 1)), GeometryError, "voxels of"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(data, kind, match):
    with pytest.raises(kind, match=match):
        read_nifti(data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 351), st.integers(0, 255))
def test_any_header_byte_may_be_wrong(at, value):
    """A damaged file gives an image or one of our errors, never a crash."""
    data = bytearray(raw_header())
    data[at] = value
    with contextlib.suppress(InputError):
        assert read_nifti(bytes(data)).array.dtype == np.float32


def test_a_decompression_bomb_is_not_unpacked():
    """A megabyte that unpacks to a gigabyte: only what the header announces is read."""
    body = io.BytesIO()
    with gzip.GzipFile(fileobj=body, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(raw_header())
        for _ in range(256):
            packed.write(bytes(1 << 20))
    assert read_nifti(body.getvalue()).array.size == 60


def test_real_images_read_as_nibabel_reads_them(shared_data):
    for name in ("hippocampus_001", "hippocampus_003"):
        path = shared_data / "hippocampus" / "images" / f"{name}.nii.gz"
        if not path.is_file():
            pytest.skip(f"{path.name} is not there")
        theirs, ours = nibabel.load(path), read_nifti(path.read_bytes())
        np.testing.assert_array_equal(ours.array.transpose(), theirs.get_fdata(dtype=np.float32))
        np.testing.assert_allclose(ours.grid.affine[:3, 3], (np.diag([-1, -1, 1, 1]) @ theirs.affine)[:3, 3])
        labels, grid = read_nifti_labels((path.parents[1] / "labels" / path.name).read_bytes())
        assert grid.matches(ours.grid)
        assert set(np.unique(labels)) == {0, 1, 2}
