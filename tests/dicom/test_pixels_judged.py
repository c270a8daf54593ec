"""Stored pixels against an independent reader: DCMTK, for JPEG 2000 a second decoder, for HTJ2K another's encoder."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from openjpeg.utils import encode_array

from residency.dicom.dataset import parse
from residency.dicom.pixels import check, frame_values, stored_values
from residency.errors import PixelError
from residency.testing.encodings import compressed, instance, rle_stream, texture, with_dcmtk, written
from residency.testing.pixel_judge import judge_missing, judged_pixels

Judge = Callable[[bytes], npt.NDArray[np.int64]]

GREY = [
    "ct_bad_sequence",
    "ct_head_tilt_j2k_sign_mismatch",
    "ct_localizer",
    "ct_signed_explicit_le",
    "cr_chest_monochrome1_no_spacing",
    "cs_chinese_gb18030",
    "cs_chinese_utf8",
    "cs_greek",
    "cs_japanese_h31",
    "cs_russian",
    "dx_thorax_monochrome1",
    "ect_2frames_jpegls_fragmented_no_bot",
    "ect_2frames_rle_bot",
    "emr_10frames",
    "emr_siemens_xa_6frames",
    "legacy_enhanced_ct_3frames",
    "mr_small_explicit_be",
    "mr_small_explicit_le",
    "mr_small_implicit_le",
    "mr_small_j2k",
    "mr_small_jpegls",
    "mr_small_padded",
    "mr_small_rle",
    "nm_13frames_heart",
    "nm_jpeg_extended_12bit",
    "nm_jpeg_lossless_sv1",
    "rtdose_32bit",
    "sc_chest_pa_fake_monochrome1",
    "sc_chest_pa_jpeg_baseline",
    "sc_deflated",
]

REFUSED = {
    "nm_jpeg_extended_broken": "impossible for sequential JPEG",
    "nm_j2k_embedded_delimiter": "more than 4096 tiles",
    "ct_jpeg_progressive_retired": r"1\.2\.840\.10008\.1\.2\.4\.55",
    "seg_liver_rle": "Bits Allocated 1",
    "us_30frames_ybr422": "only grey images",
    "mr_null_pixels": "empty",
    "mr_no_rows": "Rows missing",
}


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """What somebody else reads in an instance."""
    if judge_missing():
        pytest.skip(judge_missing())

    def read(data: bytes) -> npt.NDArray[np.int64]:
        found = judged_pixels(data, tmp_path)
        assert found is not None
        return found.values

    return read


def stored(data: bytes) -> npt.NDArray[np.int64]:
    source = check(parse(data))
    return np.stack([stored_values(source, k)[0] for k in range(source.format.frames)]).astype(np.int64)


@pytest.mark.parametrize("name", GREY)
def test_real_pixels_are_those_that_another_reader_sees(shared_data: Path, judge: Judge, name: str) -> None:
    data = (shared_data / "dicom" / "awkward" / f"{name}.dcm").read_bytes()
    np.testing.assert_array_equal(stored(data), judge(data))


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_that_nobody_reads_exactly_are_refused_before_decoding(shared_data: Path, name: str) -> None:
    data = (shared_data / "dicom" / "awkward" / f"{name}.dcm").read_bytes()
    with pytest.raises(PixelError, match=REFUSED[name]):
        check(parse(data))


def test_a_real_jpeg_2000_series_is_what_a_second_decoder_reads(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "ct_abdomen" / "ct_dicom_series.zip") as packed:
        files = [packed.read(name) for name in packed.namelist() if name.endswith(".dcm")]
    assert len(files) == 20
    for data in files:
        judged = judged_pixels(data, tmp_path)
        assert judged is not None
        assert judged.judge == "OpenJPEG"
        np.testing.assert_array_equal(stored(data), judged.values)


def test_float_pixels_are_read_as_they_stand(shared_data: Path) -> None:
    import pydicom

    data = (shared_data / "dicom" / "awkward" / "pmap_float.dcm").read_bytes()
    values, _ = frame_values(check(parse(data)), 0)
    judged = pydicom.dcmread(shared_data / "dicom" / "awkward" / "pmap_float.dcm").pixel_array
    np.testing.assert_array_equal(values, judged)


LOSSLESS = {
    "JPEG lossless SV1": ("dcmcjpeg", "+e1"),
    **{f"JPEG lossless, predictor {k}": ("dcmcjpeg", "+el", "+sv", str(k)) for k in range(1, 8)},
    "JPEG-LS": ("dcmcjpls", "+el"),
    "JPEG-LS in fragments": ("dcmcjpls", "+el", "+fs", "1"),
    "RLE": ("dcmcrle",),
    "RLE in fragments": ("dcmcrle", "+fs", "1"),
    "Big Endian": ("dcmconv", "+tb"),
    "Implicit VR": ("dcmconv", "+ti"),
    "Deflated": ("dcmconv", "+td"),
}
DEPTHS = {"unsigned 8": ("u1", 8), "unsigned 12": ("u2", 12), "unsigned 16": ("u2", 16), "signed 16": ("i2", 16)}


def _picture(depth: str, frames: int = 2) -> npt.NDArray[np.integer]:
    kind, bits = DEPTHS[depth]
    low = -(1 << (bits - 1)) if kind[0] == "i" else 0
    values = texture(37, 41, (1 << bits) - 1) + low
    return np.stack([np.roll(values, k, axis=1) for k in range(frames)]).astype(kind)


@pytest.mark.parametrize("encoding", LOSSLESS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_what_dcmtk_writes_without_loss_is_read_exactly(tmp_path: Path, encoding: str, depth: str) -> None:
    if judge_missing():
        pytest.skip(judge_missing())
    values = _picture(depth)
    data = with_dcmtk(written(instance(values, bits_stored=DEPTHS[depth][1])), tmp_path, *LOSSLESS[encoding])
    np.testing.assert_array_equal(stored(data), values)


@pytest.mark.parametrize(
    ("command", "depth"),
    [
        (("dcmcjpeg", "+eb"), "unsigned 8"),
        (("dcmcjpeg", "+ee"), "unsigned 8"),
        (("dcmcjpeg", "+ee"), "unsigned 12"),
        (("dcmcjpls", "+en", "+md", "3"), "unsigned 8"),
        (("dcmcjpls", "+en", "+md", "3"), "unsigned 12"),
        (("dcmcjpls", "+en", "+md", "3"), "unsigned 16"),
    ],
)
def test_what_was_written_with_loss_is_what_dcmtk_reads(
    tmp_path: Path, judge: Judge, command: tuple[str, ...], depth: str
) -> None:
    values = _picture(depth)
    data = with_dcmtk(written(instance(values, bits_stored=DEPTHS[depth][1])), tmp_path, *command)
    found = stored(data)
    np.testing.assert_array_equal(found, judge(data))
    assert 0 < np.abs(found - values).max() <= (3 if "md" in command[-2] else 200)
    assert "lossy compression" in frame_values(check(parse(data)), 1)[1]


@pytest.mark.parametrize(
    ("kind", "precision", "stored_bits"),
    [("u1", 8, 8), ("i1", 8, 8), ("u2", 12, 12), ("u2", 16, 12), ("i2", 12, 12), ("i2", 16, 12), ("i2", 16, 16)],
)
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"])
def test_what_openjpeg_writes_is_read_exactly(kind: str, precision: int, stored_bits: int, syntax: str) -> None:
    low = -(1 << (stored_bits - 1)) if kind[0] == "i" else 0
    values = (texture(128, 80, (1 << stored_bits) - 1) + low).astype(kind)
    stream = bytes(encode_array(values, bits_stored=precision, photometric_interpretation=2))
    data = compressed(instance(values, bits_stored=stored_bits), syntax, [stream])
    np.testing.assert_array_equal(stored(data)[0], values)


def _golden() -> npt.NDArray[np.int64]:
    row, column = np.mgrid[:24, :20].astype(np.int64)
    return (31 * column * column + 17 * row * row + 7 * row * column) % 700 + 40 * column + 55 * row


@pytest.mark.parametrize(
    ("name", "change", "kind", "most_off"),
    [
        ("unsigned_12", lambda v: v, "u2", 0),
        ("signed_16", lambda v: 9 * v - 16000, "i2", 0),
        ("unsigned_8", lambda v: v // 16, "u1", 0),
        ("lossy_12", lambda v: v, "u2", 36),
    ],
)
def test_what_openjph_writes_as_htj2k_is_read(
    repository: Path,
    name: str,
    change: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
    kind: str,
    most_off: int,
) -> None:
    values = change(_golden()).astype(kind)
    stream = (repository / "tests" / "golden" / "htj2k" / f"{name}.j2c").read_bytes()
    syntax = "1.2.840.10008.1.2.4.203" if most_off else "1.2.840.10008.1.2.4.201"
    data = compressed(instance(values, bits_stored=values.dtype.itemsize * 8), syntax, [stream])
    assert np.abs(stored(data)[0] - values).max() <= most_off


def test_rle_written_by_the_letter_of_the_standard_is_read_exactly() -> None:
    for kind in ("u1", "u2", "u4"):
        values = texture(37, 41, 255 if kind == "u1" else 65535).astype(kind)
        values[3:9] = 7
        data = compressed(
            instance(values, bits_stored=values.dtype.itemsize * 8), "1.2.840.10008.1.2.5", [rle_stream(values)]
        )
        np.testing.assert_array_equal(stored(data)[0], values)
