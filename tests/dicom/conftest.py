"""Findings to write, and real series to write them on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from residency.codes import Code
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.findings import ClassScore, Findings, Mask, Measurement, ModelReference, Segment
from residency.testing.enhanced import enhanced
from residency.testing.phantoms import ct_series, mr_series, radiograph
from residency.volume import Grid, Volume, regular_grid


def sct(value: str, meaning: str) -> Code:
    return Code(scheme="SCT", value=value, meaning=meaning)


@pytest.fixture(scope="session")
def real_series(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], SourceSeries]:
    """A series of one of the two real brain studies, by study number and folder name."""
    folder = tmp_path_factory.mktemp("studies")

    def series(study: int, name: str) -> SourceSeries:
        if not (folder / f"Study{study}").is_dir():
            with zipfile.ZipFile(shared_data / "dicom" / f"hippocampus_study{study}.zip") as packed:
                packed.extractall(folder)
        files = sorted((folder / f"Study{study}" / name).iterdir())
        assert files
        return open_series(file.read_bytes() for file in files)

    return series


@pytest.fixture(scope="session")
def model() -> ModelReference:
    return ModelReference(
        family="hippocampus",
        name="Hippocampus U-Net",
        version="1.2.3",
        digest="sha256:" + "0123456789abcdef" * 4,
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


@pytest.fixture(scope="session")
def findings_on(model: ModelReference) -> Callable[..., Findings]:
    """Findings with the given masks as segments, hippocampus in brain, on the grid of a source."""

    def findings(source: SourceSeries, *masks: Mask, **changes: object) -> Findings:
        segments = tuple(
            Segment(
                number=k,
                label=f"Part {k}",
                category=sct("123037004", "Anatomical Structure"),
                type=sct("5366008", "Hippocampus"),
                mask=mask,
                region=sct("12738006", "Brain"),
                colour=(220, 30, 30),
            )
            for k, mask in enumerate(masks, start=1)
        )
        millimetre = Code(scheme="UCUM", value="mm", meaning="millimeter")
        measurements = tuple(
            Measurement(sct("103339001", "Long axis"), 12.5, millimetre, k) for k, m in enumerate(masks, 1) if m.any()
        )
        given: dict[str, object] = {
            "grid": source.grid,
            "model": model,
            "segments": segments,
            "measurements": measurements,
            "reasons": ("modality: MR fits MR", "region: brain, by rule hippocrop version 1"),
        }
        return Findings(**(given | changes))  # type: ignore[arg-type]

    return findings


@pytest.fixture(scope="session")
def two_classes() -> tuple[ClassScore, ...]:
    return (
        ClassScore(sct("26929004", "Alzheimer's disease"), 0.125),
        ClassScore(sct("17621005", "Normal"), 0.875),
    )


@pytest.fixture(scope="session")
def identity_of(model: ModelReference) -> Callable[[SourceSeries], ResultIdentity]:
    def identity(source: SourceSeries) -> ResultIdentity:
        return ResultIdentity(source.sop_uids, model.digest, model.precision, "openvino 2026.4.1 avx2", model.approval)

    return identity


@pytest.fixture(scope="session")
def boxes() -> Callable[[tuple[int, int, int]], tuple[Mask, Mask]]:
    """Two overlapping, asymmetric masks that touch neither the first nor the last slice; the first has a gap."""

    def masks(shape: tuple[int, int, int]) -> tuple[Mask, Mask]:
        first, second = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        slices, rows, columns = shape
        first[1 : slices - 1, 1 : rows // 2, 2 : columns // 2] = True
        first[slices // 2] = False
        first[1, 0, 0] = True
        second[slices // 2 - 1 : slices - 1, rows // 3 : rows - 1, columns // 3 : columns - 2] = True
        return first, second

    return masks


def _turned(shape: tuple[int, int, int], spacing: tuple[float, float, float], degrees: float) -> Grid:
    """A grid turned about the patient's left-right axis, by 90 degrees a coronal one."""
    plain = regular_grid(shape, spacing, frame_of_reference="1.2.3.4")
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Grid(plain.shape, turn @ plain.affine, plain.frame_of_reference)


def _files(kind: str) -> list[bytes]:
    """One series of a kind of source: a bright block off the middle."""
    grids = {
        "single slice": regular_grid((1, 24, 20), (4.0, 1.0, 0.5), frame_of_reference="1.2.3.4"),
        "oblique": _turned((6, 24, 20), (2.0, 1.0, 0.5), 30.0),
        "coronal": _turned((6, 24, 20), (2.0, 1.0, 0.5), 90.0),
    }
    grid = grids.get(kind, regular_grid((6, 24, 20), (2.0, 1.0, 0.5), frame_of_reference="1.2.3.4"))
    image = np.zeros(grid.shape, dtype=np.float32)
    image[:, 3:10, 4:9] = 400.0
    volume = Volume(image, grid)
    plane = image[0].astype(np.uint16)
    match kind:
        case "radiograph":
            return [radiograph(plane)]
        case "CR, MONOCHROME1, no spacing":
            cr = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR"}
            return [radiograph(plane, inverse=True, spacing_mm=None, **cr)]
        case "picture without place":
            return [radiograph(plane, spacing_mm=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT")]
        case "CT":
            return ct_series(volume)
        case "enhanced multi-frame":
            return [enhanced(mr_series(volume))]
        case "coronal":
            # Of a head axial sections would be drawn, not its own slices.
            return mr_series(volume, BodyPartExamined="ABDOMEN", AnatomicRegionSequence=None)
        case "no frame of reference":
            return mr_series(volume, FrameOfReferenceUID=None)
        case _:
            return mr_series(volume)


@pytest.fixture(
    scope="session",
    params=[
        "axial",
        "oblique",
        "coronal",
        "single slice",
        "CT",
        "no frame of reference",
        "enhanced multi-frame",
        "radiograph",
        "CR, MONOCHROME1, no spacing",
        "picture without place",
    ],
)
def any_source(request: pytest.FixtureRequest) -> SourceSeries:
    """A series of every kind that is read."""
    return open_series(_files(request.param))


@pytest.fixture(scope="session")
def halves() -> Callable[[SourceSeries], tuple[Mask, Mask]]:
    """Two overlapping masks on any source, asymmetric."""

    def masks(source: SourceSeries) -> tuple[Mask, Mask]:
        first, second = np.zeros((2, *source.grid.shape), dtype=np.bool_)
        first[0, 2:9, 3:8] = True
        second[-1, 6:15, 5:12] = True
        return first, second

    return masks
