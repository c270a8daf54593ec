"""Real files with names in several scripts, read and answered: the result says the name as the image did."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import Findings


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("greek", "Διονυσιος"),
        ("russian", "Люкceмбypг"),  # noqa: RUF001
        ("japanese_h31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chinese_gb18030", "Wang^XiaoDong=王^小东"),
        ("chinese_utf8", "Wang^XiaoDong=王^小東"),
    ],
)
def test_the_result_of_a_real_file_says_its_patient_s_name(
    shared_data: Path,
    tmp_path: Path,
    findings_on: Callable[..., Findings],
    identity_of: Callable[[SourceSeries], ResultIdentity],
    script: str,
    name: str,
) -> None:
    """DCMTK converts the text to UTF-8 by itself and must come to the same name."""
    source = open_series([(shared_data / "dicom" / "awkward" / f"cs_{script}.dcm").read_bytes()])
    findings = findings_on(source, np.ones(source.grid.shape, np.bool_))
    picture = segmentation(findings, source, identity_of(source))
    for made in (picture, report(findings, source, identity_of(source), picture)):
        dataset = pydicom.dcmread(BytesIO(made.data))
        dataset.decode()
        assert str(dataset.PatientName) == name
        if script != "japanese_h31":  # the C library, which DCMTK asks, does not know ISO 2022 IR 87
            assert f"[{name}]" in _by_dcmtk(made.data, tmp_path / "made.dcm")


def _by_dcmtk(data: bytes, file: Path) -> str:
    file.write_bytes(data)
    try:
        dump = ["dcmdump", "+U8", "+P", "PatientName", file]
        return subprocess.run(dump, check=True, capture_output=True, timeout=30).stdout.decode()
    except FileNotFoundError:
        pytest.skip("dcmdump missing: apt install dcmtk")
