"""What stored bits mean: sign, padding, dirt, depth, inversion, slope; and colour for viewers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image

from residency.dicom.colour_pixels import frame_colour
from residency.dicom.dataset import parse
from residency.dicom.image_pixel import Rescale, rescale_of
from residency.dicom.pixels import Frame as StoredFrame
from residency.dicom.pixels import check, check_format, fill, frame_values, stored_values
from residency.errors import PixelError
from residency.testing.encodings import compressed, instance, rle_stream, texture, with_dcmtk, written
from residency.testing.pixel_judge import judge_missing, judged_pixels

J2K = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"


def values_of(data: bytes, **options: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    return frame_values(check(parse(data)), 0, **options)


def test_the_sign_is_that_of_the_data_set_where_a_jpeg_2000_stream_says_none() -> None:
    """Some scanners write signed pixels as an unsigned stream of the same bits; air would be 6192, not -2000."""
    signed = texture(64, 80, 8191) - 4096
    stream = bytes(encode_array((signed & 0x1FFF).astype("u2"), bits_stored=13, photometric_interpretation=2))
    data = compressed(instance(signed.astype("i2"), bits_stored=13), J2K, [stream])
    values, notes = values_of(data)
    np.testing.assert_array_equal(values, signed)
    assert notes == ("sign taken from Pixel Representation, not from the stream",)


def test_negative_samples_of_an_unsigned_image_are_refused() -> None:
    signed = (texture(64, 80, 8191) - 4096).astype("i2")
    stream = bytes(encode_array(signed, bits_stored=13, photometric_interpretation=2))
    data = compressed(instance(signed.astype("u2") & 0x1FFF, bits_stored=13), J2K, [stream])
    with pytest.raises(PixelError, match="exceed Bits Stored 13"):
        values_of(data)


def test_a_sign_that_cannot_be_told_is_refused() -> None:
    """12 bits without sign in an image of 16 bits with: 4000 may be 4000 or -96."""
    values = texture(64, 80, 4095).astype("u2")
    stream = bytes(encode_array(values, bits_stored=12, photometric_interpretation=2))
    data = compressed(instance(values.astype("i2"), bits_stored=16), J2K, [stream])
    with pytest.raises(PixelError, match="negative cannot be told"):
        values_of(data)


def test_compressed_values_beyond_bits_stored_are_refused() -> None:
    values = texture(64, 80, 4095).astype("u2")
    stream = bytes(encode_array(values, bits_stored=12, photometric_interpretation=2))
    data = compressed(instance(values, bits_stored=11), J2K, [stream])
    with pytest.raises(PixelError, match="exceed Bits Stored 11"):
        values_of(data)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_dirt_above_bits_stored_is_cleared_and_told(kind: str, packed: bool) -> None:
    """Old scanners keep overlays in the high bits; read as they stand they would be bright lines through the image."""
    low = -2048 if kind == "i2" else 0
    clean = texture(20, 24) + low
    dirty = ((clean & 0xFFF) | np.where(texture(20, 24) % 3 == 0, 0x5000, 0)).astype("u2").view(kind)
    dataset = instance(dirty, bits_stored=12)
    data = compressed(dataset, RLE, [rle_stream(dirty.view("u2"))]) if packed else written(dataset)
    values, notes = values_of(data)
    np.testing.assert_array_equal(values, clean)
    assert notes == ("bits above Bits Stored cleared",)


@pytest.mark.parametrize("big_endian", [False, True])
def test_pixels_in_the_upper_bits_are_shifted_down(tmp_path: Path, big_endian: bool) -> None:
    values = texture(20, 24)
    data = written(instance((values << 4).astype("u2"), bits_stored=12, HighBit=15))
    if big_endian:
        if judge_missing():
            pytest.skip(judge_missing())
        data = with_dcmtk(data, tmp_path, "dcmconv", "+tb")
    np.testing.assert_array_equal(values_of(data)[0], values)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"PixelPaddingValue": -2000}, "pixel padding (stored -2000) kept as it is"),
        (
            {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500},
            "pixel padding (stored -2000 to -1500) kept as it is",
        ),
        (
            {"PixelPaddingValue": -1500, "PixelPaddingRangeLimit": -2000},
            "pixel padding (stored -2000 to -1500) kept as it is",
        ),
        ({"PixelPaddingValue": -1999}, None),
        ({}, None),
    ],
)
def test_padding_keeps_its_value_and_is_told(
    attributes: dict[str, object],
    told: str | None,
    implicit: bool,
    tmp_path: Path,
) -> None:
    """What lies outside the field of view of a CT: other readers leave it, so networks have seen it."""
    values = texture(20, 24).astype("i2") + 100
    values[0, :5] = -2000
    dataset = instance(values, bits_stored=16, RescaleIntercept="-1024")
    for keyword, value in attributes.items():
        dataset.add_new(keyword, "SS", value)
    data = written(dataset)
    if implicit:
        if judge_missing():
            pytest.skip(judge_missing())
        data = with_dcmtk(data, tmp_path, "dcmconv", "+ti")
    found, notes = values_of(data)
    np.testing.assert_array_equal(found, values - 1024.0)
    assert notes == (() if told is None else (told,))


def test_whole_numbers_of_32_bits_are_read_where_float32_holds_them() -> None:
    values = texture(20, 24, 1 << 24).astype("u4")
    np.testing.assert_array_equal(values_of(written(instance(values, bits_stored=32)))[0], values)
    values[3, 4] = (1 << 24) + 1
    with pytest.raises(PixelError, match="would lose digits"):
        values_of(written(instance(values, bits_stored=32)))


def test_numbers_of_32_bits_with_sign_are_judged_by_their_size() -> None:
    values = texture(20, 24).astype("i4")
    values[0, 0] = -(1 << 24) - 1
    with pytest.raises(PixelError, match="would lose digits"):
        values_of(written(instance(values, bits_stored=32)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e31])
def test_float_pixels_without_a_value_are_refused(wrong: float) -> None:
    dataset = instance(texture(4, 5).astype("u4"), bits_stored=32)
    values = np.linspace(0, 1, 20, dtype="<f4").reshape(4, 5)
    del dataset.PixelData
    dataset.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(values_of(written(dataset))[0], values)
    values[1, 2] = wrong
    dataset.FloatPixelData = values.tobytes()
    with pytest.raises(PixelError, match="not finite"):
        values_of(written(dataset))


def test_float_pixels_are_not_rescaled_by_guess() -> None:
    dataset = instance(texture(4, 5).astype("u4"), bits_stored=32, RescaleSlope="1", RescaleIntercept="0")
    del dataset.PixelData
    dataset.FloatPixelData = np.linspace(0, 1, 20, dtype="<f4").tobytes()
    assert values_of(written(dataset))[0].max() == 1
    dataset.RescaleIntercept = "-1024"
    with pytest.raises(PixelError, match="Intercept -1024"):
        values_of(written(dataset))


def test_only_radiographs_are_inverted() -> None:
    data = written(instance(texture(9, 7).astype("u2"), bits_stored=12, PhotometricInterpretation="MONOCHROME1"))
    plain, _ = values_of(data)
    inverse, notes = values_of(data, projection=True)
    np.testing.assert_array_equal(plain, texture(9, 7))
    np.testing.assert_array_equal(inverse, 4095 - plain)
    assert notes == ("MONOCHROME1 inverted",)


def test_presentation_is_never_applied() -> None:
    data = written(
        instance(
            texture(9, 7).astype("u2"),
            bits_stored=12,
            WindowCenter="40",
            WindowWidth="400",
            VOILUTFunction="SIGMOID",
            PresentationLUTShape="INVERSE",
        )
    )
    np.testing.assert_array_equal(values_of(data, projection=True)[0], texture(9, 7))


def test_every_frame_has_its_own_slope() -> None:
    frames = np.stack([texture(9, 7), texture(9, 7)[::-1]]).astype("u2")
    source = check(parse(written(instance(frames, bits_stored=12))))
    array = np.empty((2, 9, 7), np.float32)
    fill(array, [StoredFrame(source, 1, Rescale(0.5, 3.0)), StoredFrame(source, 0)])
    np.testing.assert_array_equal(array, np.stack([frames[1] * 0.5 + 3.0, frames[0]]))


def test_a_single_frame_header_with_several_frames_is_refused() -> None:
    """Else the first of them would silently be taken for the image."""
    dataset = parse(written(instance(np.stack([texture(9, 7)] * 2).astype("u2"), bits_stored=12)))
    with pytest.raises(PixelError, match="holds 2 frames"):
        check_format(dataset)


def test_a_modality_lut_is_refused() -> None:
    dataset = parse(written(instance(texture(9, 7).astype("u2"), bits_stored=12)))
    dataset.ModalityLUTSequence = [instance(texture(2, 2).astype("u2"), bits_stored=12)]
    with pytest.raises(PixelError, match="Modality LUT"):
        rescale_of(dataset)


def test_loss_is_told_though_the_header_is_silent(shared_data: Path) -> None:
    dataset = parse((shared_data / "dicom" / "awkward" / "sc_chest_pa_jpeg_baseline.dcm").read_bytes())
    del dataset.LossyImageCompression
    assert frame_values(check(dataset), 0)[1] == ("lossy compression",)


COLOURS = {"unsigned 8": ("u1", 8), "unsigned 16": ("u2", 16)}


def _colours(kind: str, bits: int) -> np.ndarray:
    plane = texture(18, 16, (1 << bits) - 1)
    return np.stack([plane, plane[::-1], plane[:, ::-1]], axis=-1)[None].astype(kind)


@pytest.mark.parametrize(
    "command",
    [("dcmconv", "+td"), ("dcmcrle",), ("dcmcjpeg", "+e1"), ("dcmcjpls", "+el", "+is"), ("dcmcjpls", "+el", "+il")],
)
@pytest.mark.parametrize("depth", COLOURS)
def test_colours_written_without_loss_are_read_exactly(tmp_path: Path, depth: str, command: tuple[str, ...]) -> None:
    if judge_missing():
        pytest.skip(judge_missing())
    values = _colours(*COLOURS[depth])
    data = with_dcmtk(written(instance(values, bits_stored=COLOURS[depth][1])), tmp_path, *command)
    found = frame_colour(parse(data), 0)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values[0])


def test_colours_in_planes_are_put_together() -> None:
    values = _colours("u1", 8)
    dataset = instance(values, bits_stored=8, PlanarConfiguration=1)
    dataset.PixelData = np.moveaxis(values, -1, 1).tobytes()
    np.testing.assert_array_equal(frame_colour(parse(written(dataset)), 0), values[0])


@pytest.mark.parametrize("name", ["sc_rgb_3x3_odd_length", "us_30frames_ybr422", "sc_rgb_16bit_2frames_rle"])
def test_real_colours_are_those_that_dcmtk_reads(shared_data: Path, tmp_path: Path, name: str) -> None:
    """DCMTK gives the samples; red, green and blue follow by the standard's equations, to the nearest level."""
    if judge_missing():
        pytest.skip(judge_missing())
    data = (shared_data / "dicom" / "awkward" / f"{name}.dcm").read_bytes()
    judged = judged_pixels(data, tmp_path)
    assert judged is not None
    dataset = parse(data)
    for index in {0, len(judged.values) - 1}:
        expected = judged.values[index].astype(np.float64)
        if dataset.PhotometricInterpretation.startswith("YBR"):
            y, b, r = expected[..., 0], expected[..., 1] - 128, expected[..., 2] - 128
            expected = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
            expected = np.floor(np.clip(expected, 0, 255) + 0.5)
        np.testing.assert_array_equal(frame_colour(dataset, index), expected)


def test_a_palette_is_applied_as_dcmtk_applies_it(shared_data: Path, tmp_path: Path) -> None:
    if judge_missing():
        pytest.skip(judge_missing())
    file = shared_data / "dicom" / "awkward" / "us_palette_rle_no_spacing.dcm"
    target = tmp_path / "judged.ppm"
    subprocess.run(["dcmj2pnm", "--write-raw-pnm", str(file), str(target)], check=True, capture_output=True, timeout=60)
    with Image.open(target) as judged:
        np.testing.assert_array_equal(frame_colour(parse(file.read_bytes()), 0) >> 8, np.asarray(judged))


def test_subsampled_colours_without_compression_belong_to_both_pixels() -> None:
    dataset = instance(_colours("u1", 8), bits_stored=8, PhotometricInterpretation="YBR_FULL_422", Rows=1, Columns=4)
    dataset.PixelData = bytes([100, 110, 128, 128, 50, 60, 90, 200])
    found = frame_colour(parse(written(dataset)), 0)
    assert found[0, :2].tolist() == [[100, 100, 100], [110, 110, 110]]
    assert found[0, 2:].tolist() == [[151, 12, 0], [161, 22, 0]]


def test_a_stream_that_contradicts_the_colour_space_is_refused(shared_data: Path) -> None:
    """Taken at its word, either way, the picture would have false colours."""
    dataset = parse((shared_data / "dicom" / "awkward" / "sc_rgb_3x3_odd_length.dcm").read_bytes())
    dataset.PhotometricInterpretation = "RGB"
    with pytest.raises(PixelError, match="which is right cannot be told"):
        frame_colour(dataset, 0)


def test_grey_is_no_colour_and_colour_no_grey() -> None:
    with pytest.raises(PixelError, match="not a colour image"):
        frame_colour(parse(written(instance(texture(9, 7).astype("u2"), bits_stored=12))), 0)
    with pytest.raises(PixelError, match="only grey"):
        check(parse(written(instance(_colours("u1", 8), bits_stored=8))))


def test_unsigned_values_are_given_as_integers_of_their_width() -> None:
    found, _ = stored_values(check(parse(written(instance(texture(9, 7).astype("u2"), bits_stored=16)))), 0)
    assert found.dtype == np.uint16
