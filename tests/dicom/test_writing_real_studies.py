"""Results on real brain studies: awkward headers, oblique planes, and the time it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO

import highdicom
import numpy as np
import pydicom
import pytest

from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries
from residency.dicom.uids import ResultIdentity
from residency.findings import Findings, Mask

SERIES = [(1, "13_HCropVolume"), (2, "14_HCropVolume"), (1, "12-T1post-05670"), (2, "14-T1post-22014")]

Make = Callable[..., Findings]
Identify = Callable[[SourceSeries], ResultIdentity]


@pytest.fixture(params=SERIES, ids=lambda p: f"study {p[0]} {p[1]}")
def source(request: pytest.FixtureRequest, real_series: Callable[[int, str], SourceSeries]) -> SourceSeries:
    return real_series(*request.param)


def test_results_are_clean_and_lie_where_the_images_do(
    source: SourceSeries,
    findings_on: Make,
    identity_of: Identify,
    boxes: Callable[..., tuple[Mask, Mask]],
    dciodvfy: Callable[[bytes], list[str]],
    dsrdump: Callable[[bytes], str],
) -> None:
    masks = boxes(source.grid.shape)
    findings = findings_on(source, *masks)
    seg = segmentation(findings, source, identity_of(source))
    sr = report(findings, source, identity_of(source), seg)
    assert dciodvfy(seg.data) == []
    assert dciodvfy(sr.data) == []
    assert "AI Hippocampus U-Net (not verified)" in dsrdump(sr.data)

    volume = highdicom.seg.segread(BytesIO(seg.data)).get_volume(combine_segments=False, allow_missing_positions=True)
    found = np.argwhere(volume.array)
    points = found[:, :3] @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    index = np.rint(source.grid.to_index(points)).astype(int)
    assert np.abs(source.grid.to_lps(index) - points).max() < 1e-3
    back = np.zeros((*source.grid.shape, 2), dtype=np.bool_)
    back[(*index.T, found[:, 3])] = True
    assert np.array_equal(back, np.stack(masks, axis=-1))


def test_results_belong_to_the_patient_and_study_of_the_images(
    source: SourceSeries, findings_on: Make, identity_of: Identify
) -> None:
    findings = findings_on(source, np.ones(source.grid.shape, dtype=np.bool_))
    seg = segmentation(findings, source, identity_of(source))
    first = source.datasets[0]
    for instance in (seg, report(findings, source, identity_of(source), seg)):
        written = pydicom.dcmread(BytesIO(instance.data))
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
            assert written[keyword].value == first[keyword].value
        assert written.ContentDate == first.SeriesDate
        assert "Laterality" not in written


def test_writing_the_crop_takes_well_under_half_a_second(
    real_series: Callable[[int, str], SourceSeries],
    findings_on: Make,
    identity_of: Identify,
    boxes: Callable[..., tuple[Mask, Mask]],
) -> None:
    source = real_series(1, "13_HCropVolume")
    findings, identity = findings_on(source, *boxes(source.grid.shape)), identity_of(source)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        report(findings, source, identity, segmentation(findings, source, identity))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.4
