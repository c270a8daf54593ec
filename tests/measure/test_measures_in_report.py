"""What is measured stands in the report, with codes that outside readers know."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO

import numpy as np
import pydicom
import pytest

from residency.codes import Code
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import Findings, ModelReference, Segment
from residency.measure import measure
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid

ANATOMY = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
MODEL = ModelReference(
    family="example",
    name="Example",
    version="1.0.0",
    digest="sha256:" + "0" * 64,
    publisher="example.org",
    manifest_uid="2.25.11",
    manifest_sop_class="1.2.840.10008.5.1.4.1.1.66",
    study_uid="2.25.12",
    series_uid="2.25.13",
    engine="OpenVINO",
    precision="f32",
    notice="Research use only. Not a medical device.",
    approval="not approved at this site: research use",
    threshold="largest score",
)


def numbers(item):
    for inner in item.get("ContentSequence", []):
        if inner.ValueType == "NUM":
            measured = inner.MeasuredValueSequence[0]
            unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
            yield inner.ConceptNameCodeSequence[0].CodeValue, float(measured.NumericValue), unit
        yield from numbers(inner)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_volume_and_diameter_reach_the_report(tmp_path):
    grid = regular_grid((8, 12, 10), (2.0, 1.0, 0.5), frame_of_reference="1.2.3.4")
    source = open_series(mr_series(Volume(np.zeros(grid.shape, dtype=np.float32), grid)))
    mask = np.zeros(grid.shape, bool)
    mask[2:6, 3:9, 2:7] = True
    segments = (Segment(number=1, label="part", category=ANATOMY, type=ANATOMY, mask=mask),)
    measured = measure(segments, source.grid).measurements
    findings = Findings(source.grid, MODEL, segments=segments, measurements=measured, reasons=("modality: MR fits MR",))
    identity = ResultIdentity(source.sop_uids, MODEL.digest, "f32", "OpenVINO", MODEL.approval)
    written = report(findings, source, identity, segmentation(findings, source, identity))
    found = list(numbers(pydicom.dcmread(BytesIO(written.data))))
    assert ("118565006", 120.0, "mm3") in found
    assert ("118565006", 0.12, "mL") in found
    assert any(code == "L0JK" and unit == "mm" and 8.0 < value < 11.0 for code, value, unit in found)
    (tmp_path / "report.dcm").write_bytes(written.data)
    judged = subprocess.run(["dciodvfy", str(tmp_path / "report.dcm")], capture_output=True, text=True, check=False)
    assert [line for line in judged.stderr.splitlines() if line.startswith("Error")] == []
