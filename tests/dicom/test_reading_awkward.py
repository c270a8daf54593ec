"""Real files with something wrong or rare in them: each is read exactly, or refused with the reason."""

from __future__ import annotations

import csv
import subprocess
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from residency.dicom.dataset import parse, text
from residency.dicom.labels import read_labels
from residency.dicom.series import SourceSeries, open_series
from residency.errors import GeometryError, InputError, PixelError
from residency.volume import Space

# Lowest and highest value, as an independent reader gives stored values; what the header says is applied on top.
READ: dict[str, tuple[tuple[int, int, int], float, float, Space]] = {
    "ct_signed_explicit_le.dcm": ((1, 128, 128), 128 - 1024, 2191 - 1024, Space.PATIENT),
    "mr_small_explicit_le.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_implicit_le.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_explicit_be.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_rle.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_jpegls.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_j2k.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "mr_small_padded.dcm": ((1, 64, 64), 127, 2145, Space.PATIENT),
    "ct_localizer.dcm": ((1, 256, 512), 0 - 1024, 1557 - 1024, Space.PATIENT),
    "ct_head_tilt_j2k_sign_mismatch.dcm": ((1, 512, 512), -2000, 1896, Space.PATIENT),
    "nm_jpeg_lossless_sv1.dcm": ((1, 1024, 256), 0, 278, Space.DETECTOR),
    "nm_jpeg_extended_12bit.dcm": ((1, 1024, 256), 0, 264, Space.DETECTOR),
    "sc_chest_pa_jpeg_baseline.dcm": ((1, 1024, 1024), 0, 254, Space.DETECTOR),
    "sc_chest_pa_fake_monochrome1.dcm": ((1, 1024, 1024), 255 - 254, 255 - 0, Space.DETECTOR),
    "sc_deflated.dcm": ((1, 512, 512), 0, 255, Space.PIXELS),
    "cs_greek.dcm": ((1, 32, 32), 0, 255, Space.PIXELS),
    "cs_russian.dcm": ((1, 32, 32), 0, 255, Space.PIXELS),
    "cs_japanese_h31.dcm": ((1, 32, 32), 0, 255, Space.PIXELS),
    "cs_chinese_gb18030.dcm": ((1, 32, 32), 0, 255, Space.PIXELS),
    "cs_chinese_utf8.dcm": ((1, 32, 32), 0, 255, Space.PIXELS),
    "ect_2frames_jpegls_fragmented_no_bot.dcm": ((2, 512, 512), 0 - 1024, 1196 - 1024, Space.PATIENT),
    "ect_2frames_rle_bot.dcm": ((2, 512, 512), 0 - 1024, 1196 - 1024, Space.PATIENT),
    "legacy_enhanced_ct_3frames.dcm": ((3, 38, 24), 0, 1, Space.PATIENT),
    "emr_siemens_xa_6frames.dcm": ((6, 64, 64), 0, 1195, Space.PATIENT),
    "dx_thorax_monochrome1.dcm": ((1, 169, 211), 255 - 255, 255 - 5, Space.DETECTOR),
    "cr_chest_monochrome1_no_spacing.dcm": ((1, 440, 440), 1023 - 979, 1023 - 0, Space.PIXELS),
}

REFUSED: dict[str, tuple[type[InputError], str]] = {
    "mr_truncated.dcm": (PixelError, "cut short: element .*8192 bytes, 8130"),
    "nm_jpeg_extended_broken.dcm": (PixelError, "impossible for sequential JPEG"),
    "ct_jpeg_progressive_retired.dcm": (PixelError, r"JPEG Full Progression.*1\.2\.4\.55"),
    "nm_j2k_embedded_delimiter.dcm": (PixelError, "more than 4096 tiles"),
    "emr_10frames.dcm": (InputError, "no Per-Frame Functional Groups"),
    "emr_10frames_j2k_too_short.dcm": (InputError, "cut short within its pixels"),
    "sr_deflated.dcm": (InputError, "Enhanced SR Storage"),
    "cs_korean_multi.dcm": (PixelError, "no Pixel Data"),
    "us_palette_rle_no_spacing.dcm": (InputError, "Ultrasound Image Storage"),
    "us_30frames_ybr422.dcm": (InputError, "Ultrasound Multi-frame"),
    "sc_rgb_3x3_odd_length.dcm": (PixelError, "only grey"),
    "sc_rgb_16bit_2frames_rle.dcm": (PixelError, "only grey"),
    "nm_13frames_heart.dcm": (InputError, "Nuclear Medicine"),
    "seg_liver_bits_not_byte_aligned_deflated.dcm": (InputError, "Segmentation Storage"),
    "seg_liver_rle.dcm": (InputError, "Segmentation Storage"),
    "seg_overlapping_segments.dcm": (InputError, "Segmentation Storage"),
    "seg_fractional.dcm": (InputError, "Segmentation Storage"),
    "seg_labelmap_class.dcm": (InputError, "not an image of a kind that is read"),
    "pmap_float.dcm": (InputError, "Parametric Map"),
    "sr_tid1500_3d.dcm": (InputError, "Comprehensive 3D SR"),
    "sr_tid1500_dcmqi.dcm": (InputError, "Comprehensive SR"),
    "sr_basic.dcm": (InputError, "Comprehensive SR"),
    "rtdose_32bit.dcm": (InputError, "RT Dose"),
    "rtstruct.dcm": (InputError, "not a DICOM file"),
    "DICOMDIR": (InputError, "no valid SOPClassUID"),
    "no_meta.dcm": (InputError, "not a DICOM file"),
    "no_meta_explicit_le.dcm": (InputError, "not a DICOM file"),
    "meta_missing_tsyntax.dcm": (InputError, "without Transfer Syntax"),
    "bad_value.dcm": (InputError, "RT Dose"),
    "ct_bad_sequence.dcm": (InputError, "no valid SOPInstanceUID"),
    "mr_no_rows.dcm": (InputError, "no valid SOPClassUID"),
    "mr_null_pixels.dcm": (PixelError, "empty"),
    "mr_bits_allocated_12.dcm": (InputError, "not a DICOM file"),
    "ct_localizer_header_only.dcm": (InputError, "no valid StudyInstanceUID"),
    "bulk_3gb_truncated.dcm": (PixelError, "cut short: element .*3221225472 bytes, 98080"),
}


@pytest.fixture(scope="module")
def awkward(shared_data: Path) -> Path:
    folder = shared_data / "dicom" / "awkward"
    if not folder.is_dir():
        pytest.skip(f"no awkward files: {folder} is not a folder")
    return folder


def test_every_awkward_file_has_an_outcome(awkward: Path) -> None:
    with (awkward / "files.csv").open(newline="") as table:
        listed = {row["file"] for row in csv.DictReader(table)}
    assert listed == set(READ) | set(REFUSED)


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_exactly_is(awkward: Path, name: str) -> None:
    shape, low, high, space = READ[name]
    volume = open_series([(awkward / name).read_bytes()]).volume()
    assert volume.array.shape == shape
    assert (volume.array.min(), volume.array.max()) == (low, high)
    assert volume.grid.space is space


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_with_the_reason(awkward: Path, name: str) -> None:
    error, reason = REFUSED[name]
    with pytest.raises(error, match=reason):
        open_series([(awkward / name).read_bytes()])


@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_labels_never_crash_and_name_the_problem(awkward: Path, name: str) -> None:
    try:
        labels = read_labels([(awkward / name).read_bytes()])
    except InputError:
        assert name in REFUSED
        return
    if name in READ and name != "ct_localizer.dcm":
        assert labels.problem is None
    # Pixels themselves and transfer syntaxes, which an archive may change on the way, are told only by opening.
    refused_by_header = name in REFUSED and REFUSED[name][0] is not PixelError
    if refused_by_header or name == "ct_localizer.dcm":
        assert labels.problem


def test_no_message_tells_the_patient(awkward: Path) -> None:
    for name in REFUSED:
        data = (awkward / name).read_bytes()
        with pytest.raises(InputError) as raised:
            open_series([data])
        try:
            dataset = parse(data)
        except InputError:
            continue
        for keyword in ("PatientName", "PatientID", "PatientBirthDate"):
            value = text(dataset, keyword)
            assert not value or value not in str(raised.value)


def test_seven_encodings_of_one_picture_give_equal_values(awkward: Path) -> None:
    names = [name for name in READ if name.startswith("mr_small")]
    pictures = [open_series([(awkward / name).read_bytes()]).volume().array for name in names]
    assert len(pictures) == 7
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def test_a_longer_pixel_data_is_read_with_a_remark(awkward: Path) -> None:
    volume = open_series([(awkward / "mr_small_padded.dcm").read_bytes()]).volume()
    assert volume.notes == ("Pixel Data longer than the image: rest ignored",)


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("mr_small_explicit_le.dcm", "dcmconv"),
        ("mr_small_explicit_be.dcm", "dcmconv"),
        ("mr_small_rle.dcm", "dcmdrle"),
        ("mr_small_jpegls.dcm", "dcmdjpls"),
        ("ct_signed_explicit_le.dcm", "dcmconv"),
    ],
)
def test_dcmtk_sees_the_same_pixels(awkward: Path, tmp_path: Path, name: str, tool: str) -> None:
    plain, raw = tmp_path / "plain.dcm", tmp_path / "raw"
    raw.mkdir()
    try:
        subprocess.run([tool, *(["+te"] if tool == "dcmconv" else []), awkward / name, plain], check=True, timeout=60)
        subprocess.run(["dcmdump", "+W", raw, plain], check=True, timeout=60, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip(f"{tool} missing: apt install dcmtk")
    series = open_series([(awkward / name).read_bytes()])
    shape = series.grid.shape
    (file,) = raw.glob("*.raw")
    stored = np.fromfile(file, "<i2")[: shape[1] * shape[2]].reshape(shape)
    intercept = -1024 if series.labels.modality == "CT" else 0
    np.testing.assert_array_equal(series.volume().array, stored.astype(np.float32) + intercept)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cs_greek.dcm", "Διονυσιος"),
        ("cs_russian.dcm", "Люкceмбypг"),  # noqa: RUF001
        ("cs_japanese_h31.dcm", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("cs_chinese_gb18030.dcm", "Wang^XiaoDong=王^小东"),
        ("cs_chinese_utf8.dcm", "Wang^XiaoDong=王^小東"),
        ("cs_korean_multi.dcm", "김희중"),
    ],
)
def test_text_is_decoded_by_its_character_set(awkward: Path, name: str, expected: str) -> None:
    assert text(parse((awkward / name).read_bytes()), "PatientName") == expected


def _folder(folder: Path) -> list[bytes]:
    files = [file.read_bytes() for file in sorted(folder.iterdir())]
    assert len(files) == 4
    return files


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("series_gantry_tilt", r"sheared by 14\.0 degrees"),
        ("series_missing_slice", r"10\.00 mm from slice 3, the median distance is 5\.00 mm"),
        ("series_same_position", "lie at the same position"),
    ],
)
def test_series_that_are_no_volume_are_refused(awkward: Path, name: str, reason: str) -> None:
    files = _folder(awkward / name)
    with pytest.raises(GeometryError, match=reason) as raised:
        open_series(files)
    assert read_labels(files).problem == str(raised.value)
    uids = [text(parse(data), "SOPInstanceUID") for data in files]
    assert sum(uid in str(raised.value) for uid in uids) >= 2


def test_an_unevenly_spaced_tilted_head_is_refused(awkward: Path) -> None:
    with zipfile.ZipFile(awkward / "ct_head_tilted_uneven.zip") as packed:
        files = [packed.read(name) for name in packed.namelist() if not name.endswith("/")]
    with pytest.raises(GeometryError, match=r"1\.08 mm from slice 3, the median distance is 4\.00 mm"):
        open_series(files)


def test_pixels_that_are_not_square_keep_their_axes(awkward: Path) -> None:
    series = open_series(_folder(awkward / "series_non_square_pixels"))
    assert series.grid.shape == (4, 28, 64)
    assert series.grid.spacing_mm == pytest.approx((0.5, 4.0, 6.4), abs=1e-4)


@pytest.mark.parametrize(
    ("study", "name", "shape", "spacing", "orientation"),
    [
        (1, "13_HCropVolume", (32, 51, 35), (1.0, 1.0, 1.0), "SPL"),
        (2, "14_HCropVolume", (35, 48, 36), (1.0, 1.0, 1.0), "SPL"),
        (1, "12-T1post-05670", (22, 512, 512), (6.5, 0.4297, 0.4297), "SPL"),
        (2, "14-T1post-22014", (6, 512, 512), (6.5, 0.4297, 0.4297), "SPL"),
    ],
)
def test_real_series_lie_where_their_headers_say(
    real_series: Callable[[int, str], SourceSeries],
    study: int,
    name: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    orientation: str,
) -> None:
    series = real_series(study, name)
    assert (series.grid.shape, series.grid.orientation) == (shape, orientation)
    assert series.grid.spacing_mm == pytest.approx(spacing, abs=1e-4)
    volume = series.volume()
    for k, dataset in enumerate(series.datasets):
        position = [float(v) for v in dataset.ImagePositionPatient]
        np.testing.assert_allclose(series.grid.to_lps((k, 0, 0)), position, atol=1e-3)
        np.testing.assert_array_equal(volume.array[k], dataset.pixel_array)


@pytest.mark.parametrize(("study", "name"), [(1, "13_HCropVolume"), (2, "14_HCropVolume"), (1, "12-T1post-05670")])
def test_highdicom_sees_the_same_volume(real_series: Callable[[int, str], SourceSeries], study: int, name: str) -> None:
    series = real_series(study, name)
    judge = highdicom.get_volume_from_series([pydicom.dcmread(BytesIO(_bytes(d))) for d in series.datasets])
    ours = series.volume()
    slices, rows, columns = ours.grid.shape
    reverse = bool(judge.affine[:3, 0] @ ours.grid.affine[:3, 0] < 0)
    for k, row, column in ((0, 0, 0), (slices - 1, 0, 0), (slices - 1, rows - 1, columns - 1)):
        theirs = judge.affine @ (slices - 1 - k if reverse else k, row, column, 1)
        np.testing.assert_allclose(ours.grid.to_lps((k, row, column)), theirs[:3], atol=1e-3)
    np.testing.assert_array_equal(ours.array, judge.array[:: -1 if reverse else 1].astype(np.float32))


def _bytes(dataset: pydicom.Dataset) -> bytes:
    stream = BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def test_two_spellings_of_one_orientation_in_a_real_series_are_one(
    real_series: Callable[[int, str], SourceSeries],
) -> None:
    series = real_series(2, "14-T1post-22014")
    assert len({tuple(d.ImageOrientationPatient) for d in series.datasets}) == 2


def test_slope_and_intercept_of_a_real_derived_map_are_applied(
    real_series: Callable[[int, str], SourceSeries],
) -> None:
    series = real_series(2, "32500-dT1-49467")
    slope = float(series.datasets[0].RescaleSlope)
    assert slope == pytest.approx(1.3526, abs=1e-4)
    stored = np.stack([d.pixel_array for d in series.datasets]).astype(np.float64)
    intercept = float(series.datasets[0].RescaleIntercept)
    np.testing.assert_allclose(series.volume().array, stored * slope + intercept, rtol=1e-6)
