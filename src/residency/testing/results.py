"""A small result of a network, beside the phantom series that it was made from."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pydicom

from residency.archive import Archive, Instance
from residency.codes import Code
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import Findings, ModelReference, Segment
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid

DIGEST = "sha256:" + "0123456789abcdef" * 4


def example_model(digest: str = DIGEST) -> ModelReference:
    """A network of this digest, as results name it."""
    return ModelReference(
        family="hippocampus",
        name="Hippocampus U-Net",
        version="1.2.3",
        digest=digest,
        publisher="residency.example",
        manifest_uid="2.25.11",
        manifest_sop_class="1.2.840.10008.5.1.4.1.1.66",
        study_uid="2.25.12",
        series_uid="2.25.13",
        engine="OpenVINO 2026.4.1",
        precision="f32",
        notice="Research use; not a medical device.",
        approval="not approved at this site: research use",
        threshold="largest of the softmax scores",
    )


@dataclass(frozen=True, eq=False)
class ExampleResult:
    """Findings with two segments on a phantom series of four slices, and what they are written with."""

    images: tuple[Instance, ...]
    source: SourceSeries
    findings: Findings
    identity: ResultIdentity


def example_result(
    digest: str = DIGEST, *, study: str = "study", series: str = "mr", **attributes: object
) -> ExampleResult:
    """study, series, attributes: as `mr_series` takes them."""
    grid = regular_grid((4, 12, 10), (2.0, 1.0, 0.5), frame_of_reference="1.2.3.4")
    files = mr_series(Volume(np.zeros(grid.shape, np.float32), grid), study=study, series=series, **attributes)
    uids = [str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID) for data in files]
    source = open_series(files)
    identity = ResultIdentity(source.sop_uids, digest, "f32", "OpenVINO 2026.4.1", "not approved")
    segments = []
    for number in (1, 2):
        mask = np.zeros(grid.shape, bool)
        mask[number, 3:6, 2:5] = True
        segments.append(
            Segment(
                number=number,
                label=f"Part {number}",
                category=Code(scheme="SCT", value="123037004", meaning="Anatomical Structure"),
                type=Code(scheme="SCT", value="5366008", meaning="Hippocampus"),
                mask=mask,
            )
        )
    findings = Findings(source.grid, example_model(digest), tuple(segments), reasons=("modality: MR fits MR",))
    images = tuple(Instance(uid, data) for uid, data in zip(uids, files, strict=True))
    return ExampleResult(images, source, findings, identity)


def store_result(archive: Archive, digest: str = DIGEST, **attributes: object) -> dict[str, str]:
    """Store an example's images, Segmentation and report; the SOP Instance UIDs of the last two by role.

    attributes  as `example_result` takes them
    """
    made = example_result(digest, **attributes)  # type: ignore[arg-type]
    picture = segmentation(made.findings, made.source, made.identity)
    document = report(made.findings, made.source, made.identity, picture)
    archive.store([*made.images, Instance(picture.uid, picture.data), Instance(document.uid, document.data)])
    return {"seg": picture.uid, "sr": document.uid}
