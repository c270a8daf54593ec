"""A network in IODeep's published layout: reported, refused, and its pickle never opened."""

from __future__ import annotations

import base64
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from residency.dicom.legacy import inspect_legacy


class Trap:
    """Opening this would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return _write, (str(self.file), "sprung")


def _write(file: str, text: str) -> None:
    Path(file).write_text(text)


def iodeep(weights: bytes, *, architecture: str = "{'1': 'doubleConv'}") -> bytes:
    """An object as IODeep's builder writes it: one random UID everywhere, group 0017, Implicit VR Little Endian."""
    ds = Dataset()
    ds.SOPClassUID = ds.SOPInstanceUID = ds.StudyInstanceUID = ds.SeriesInstanceUID = "2.25.123456789"
    ds.Modality = "MR"
    ds.BodyPartExamined = "HEAD"
    ds.PatientName = ds.PatientID = ""
    ds.SamplesPerPixel, ds.Rows, ds.Columns = 1, 224, 224
    ds.add_new((0x0017, 0x0016), "UT", architecture)
    ds.add_new((0x0017, 0x0018), "UT", base64.b64encode(weights).decode())
    ds.add_new((0x0017, 0x0020), "ST", "unet_mri")
    ds.add_new((0x0017, 0x0022), "UI", "2.25.123456789")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66"
    ds.file_meta.MediaStorageSOPInstanceUID = "2.25.123456789"
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    out = io.BytesIO()
    ds.save_as(out, implicit_vr=True, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def pytorch_file(pickled: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("archive/data.pkl", pickled)
        packed.writestr("archive/data/0", bytes(1000))
    return out.getvalue()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_it_is_reported_and_never_opened(protocol: int, zipped: bool, tmp_path: Path):
    pickled = pickle.dumps(Trap(tmp_path / "sprung"), protocol=protocol)
    report = inspect_legacy(iodeep(pytorch_file(pickled) if zipped else pickled))
    assert report is not None
    assert not (tmp_path / "sprung").exists()
    claims = dict(report.claims)
    assert (claims["network name"], claims["modality"], claims["body part"]) == ("unet_mri", "MR", "HEAD")
    assert claims["rows x columns"] == "224 x 224"
    assert "doubleConv" in claims["architecture"]
    assert "pickle" in report.holds
    assert any(name.endswith("._write") for name in report.imports)
    assert "executable" in report.refused
    pickle.loads(pickled)  # the trap does work
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("weights", "holds"),
    [
        (b"", "0 bytes"),
        (b"plain", "unknown kind"),
        (b"PK\x03\x04 broken zip", "without a pickle"),
        (b"\x80\x02", "bare pickle"),
        (b"\x80\x04\x95" + b"\xff" * 50, "bare pickle"),
    ],
)
def test_damaged_weights_are_described_not_believed(weights: bytes, holds: str):
    report = inspect_legacy(iodeep(weights))
    assert report is not None
    assert holds in report.holds


def test_text_from_the_file_is_cut_and_printable():
    report = inspect_legacy(iodeep(b"x", architecture="\x1b[31m" + "a" * 100_000))
    assert report is not None
    shown = dict(report.claims)["architecture"]
    assert shown.isprintable()
    assert len(shown) < 200


@pytest.mark.parametrize("data", [b"", b"text", bytes(1000), pickle.dumps({})])
def test_other_bytes_are_not_taken_for_it(data: bytes):
    assert inspect_legacy(data) is None
