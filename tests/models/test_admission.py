"""A model runs here only after its golden case gave the recorded result on this engine and precision."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from residency.engine import Engine, EngineBuild, Precision
from residency.engines.openvino import OpenVino
from residency.errors import AdmissionError, CardError, ManifestError
from residency.files.nifti import write_nifti
from residency.models import admit, runs_on
from residency.package import ModelPackage, Payload, build_package
from residency.pipeline import replay
from residency.testing.cards import EXAMPLE, example_card
from residency.testing.graphs import difference_graph, threshold_graph
from residency.volume import Grid, regular_grid

GRID = regular_grid((12, 14, 16), (1, 1, 1))
IMAGE = np.random.default_rng(7).normal(size=GRID.shape).astype(np.float32)
FOUND = IMAGE > 0
"""What the graph computes: class 1 scores x, class 0 scores 0."""


@pytest.fixture(scope="module")
def engine() -> OpenVino:
    return OpenVino(threads=1)


def packaged(
    expected: np.ndarray,
    *,
    grid: Grid = GRID,
    graph: bytes | None = None,
    image: bytes | None = None,
    changes: Mapping[str, Any] | None = None,
    more: Mapping[str, bytes] | None = None,
) -> ModelPackage:
    card = example_card({"parameters": 4, "tiling": {"window": [8, 8, 8], "overlap": 0.5}, **(changes or {})})
    nifti = "application/x-nifti+gzip"
    return build_package(
        card,
        [
            Payload("graph", "graph.onnx", "application/onnx", graph or threshold_graph()),
            Payload("golden/input", "golden-input.nii.gz", nifti, image or write_nifti(IMAGE, GRID)),
            Payload("golden/expected", "golden-expected.nii.gz", nifti, write_nifti(expected.astype(np.uint8), grid)),
            *(Payload("golden/input", name, nifti, data) for name, data in (more or {}).items()),
        ],
    )


def test_a_golden_case_that_comes_out_admits(engine: Engine):
    package = packaged(FOUND)
    admission = admit(package, engine, Precision.F32, replay=replay)
    assert admission.digest == package.digest
    assert admission.dice == {"hippocampus": 1.0}
    assert admission.runs_on == runs_on(engine.build, Precision.F32)
    assert admission.evidence()["dice hippocampus"] == "1.000000"


SECOND = np.random.default_rng(8).normal(size=GRID.shape).astype(np.float32)
FIRST_INPUT = EXAMPLE["inputs"][0]


def of_two(more: Mapping[str, str], *, grid: Grid = GRID, swapped: bool = False) -> ModelPackage:
    """A network of two inputs, which finds where the first is brighter than the second."""
    inputs = [{**FIRST_INPUT, "name": name} for name in ("native", "contrasted")]
    return packaged(
        (IMAGE < SECOND) if swapped else (IMAGE > SECOND),
        graph=difference_graph(),
        changes={"inputs": inputs, "parameters": 6, "golden.more": dict(more)},
        more={"golden-input-2.nii.gz": write_nifti(SECOND, grid)},
    )


def test_a_golden_case_of_several_inputs_has_an_image_for_each(engine: Engine):
    package = of_two({"contrasted": "golden-input-2.nii.gz"})
    assert package.card.golden.more == {"contrasted": "golden-input-2.nii.gz"}
    assert admit(package, engine, Precision.F32, replay=replay).dice == {"hippocampus": 1.0}
    with pytest.raises(AdmissionError, match="gives Dice"):
        admit(of_two({"contrasted": "golden-input-2.nii.gz"}, swapped=True), engine, Precision.F32, replay=replay)
    with pytest.raises(AdmissionError, match="2 inputs, and its golden case an image for 1"):
        admit(of_two({}), engine, Precision.F32, replay=replay)
    other = replace(GRID, affine=np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(AdmissionError, match="different grids"):
        admit(of_two({"contrasted": "golden-input-2.nii.gz"}, grid=other), engine, Precision.F32, replay=replay)


def test_golden_images_of_inputs_that_are_not_there_are_refused():
    with pytest.raises(CardError, match=r"golden\.more names an image for each input but the first"):
        of_two({"native": "golden-input-2.nii.gz"})
    with pytest.raises(ManifestError, match=r"golden-expected\.nii\.gz' does not have the role 'golden/input'"):
        of_two({"contrasted": "golden-expected.nii.gz"})


def test_another_network_is_not_admitted(engine: Engine):
    """The graph was exchanged, or this engine computes something else: Dice says so."""
    with pytest.raises(AdmissionError, match=r"gives Dice 0\.\d+ for 'hippocampus'"):
        admit(packaged(FOUND, graph=threshold_graph(scale=-1.0)), engine, Precision.F32, replay=replay)


def test_a_few_differing_voxels_pass_and_more_do_not(engine: Engine):
    """0.999 of Dice: rounding at a border, nothing else."""
    assert int(FOUND.sum()) > 1000
    for count, passes in ((1, True), (6, False)):
        expected = FOUND.copy()
        expected.flat[np.flatnonzero(~FOUND)[:count]] = True
        package = packaged(expected)
        if passes:
            assert admit(package, engine, Precision.F32, replay=replay).dice["hippocampus"] > 0.999
        else:
            with pytest.raises(AdmissionError):
                admit(package, engine, Precision.F32, replay=replay)


def test_classes_that_may_overlap_are_not_half_compared(engine: Engine):
    """Class 0 of such a card is a finding like any other, and one label a voxel has no room for it."""
    both = [{**kind, "index": k, "name": f"c{k}"} for k, kind in enumerate([EXAMPLE["outputs"][0]["classes"][1]] * 2)]
    rule = {"activation": "sigmoid", "rule": "threshold"}
    package = packaged(FOUND, changes={"outputs.0.classes": both, "outputs.0.decision": rule})
    with pytest.raises(AdmissionError, match="may overlap"):
        admit(package, engine, Precision.F32, replay=replay)


def test_an_empty_expectation_would_prove_nothing(engine: Engine):
    with pytest.raises(AdmissionError, match="empty"):
        admit(packaged(np.zeros_like(FOUND)), engine, Precision.F32, replay=replay)


def test_an_expectation_on_another_grid_is_refused(engine: Engine):
    other = replace(GRID, affine=np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(AdmissionError, match="different grids"):
        admit(packaged(FOUND, grid=other), engine, Precision.F32, replay=replay)


def test_a_golden_case_that_cannot_be_read_is_named(engine: Engine):
    with pytest.raises(AdmissionError, match="cannot be read"):
        admit(packaged(FOUND, image=b"no image"), engine, Precision.F32, replay=replay)


def test_a_new_version_of_residency_asks_for_the_golden_case_again(monkeypatch: pytest.MonkeyPatch):
    """It may prepare or decide otherwise."""
    build = EngineBuild("OpenVINO", "2026.4", "CPU", ("FP32", "avx2"), 2)
    before = runs_on(build, Precision.F32)
    monkeypatch.setattr(sys.modules[runs_on.__module__], "__version__", "99.0")
    assert runs_on(build, Precision.F32) != before


def test_what_an_admission_holds_for():
    """Engine version, device, CPU capabilities and precision; the number of threads changes nothing."""
    build = EngineBuild("OpenVINO", "2026.4", "CPU", ("FP32", "avx2"), 2)
    same = runs_on(replace(build, threads=8), Precision.F32)
    assert runs_on(build, Precision.F32) == same
    others = [
        runs_on(replace(build, version="2027.0"), Precision.F32),
        runs_on(replace(build, capabilities=("FP32", "avx512")), Precision.F32),
        runs_on(replace(build, name="ONNX Runtime"), Precision.F32),
        runs_on(build, Precision.BF16),
    ]
    assert same not in others
    assert len(set(others)) == 4
