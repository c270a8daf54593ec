"""A fresh site with an archive of its own, a package whose golden case comes out, and that package published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from residency.cli import models, trust
from residency.files.nifti import write_nifti
from residency.models import write_folder
from residency.package import ModelPackage, Payload, build_package
from residency.testing.cards import example_card
from residency.testing.graphs import threshold_graph
from residency.volume import regular_grid

Run = Callable[..., Result]
GRID = regular_grid((8, 9, 10), (1, 1, 1))
IMAGE = np.random.default_rng(3).normal(size=GRID.shape).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command at a fresh site with an archive of its own; errors of ours are raised."""
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RESIDENCY_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    models.register(app)
    trust.register(app)

    def run(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def package() -> ModelPackage:
    nifti = "application/x-nifti+gzip"
    return build_package(
        example_card({"parameters": 4, "tiling": {"window": [8, 8, 8], "overlap": 0.5}}),
        [
            Payload("graph", "graph.onnx", "application/onnx", threshold_graph()),
            Payload("golden/input", "golden-input.nii.gz", nifti, write_nifti(IMAGE, GRID)),
            Payload("golden/expected", "golden-expected.nii.gz", nifti, write_nifti(IMAGE > 0, GRID)),
        ],
    )


@pytest.fixture
def folder(package: ModelPackage, tmp_path: Path) -> Path:
    write_folder(tmp_path / "package", package)
    return tmp_path / "package"


@pytest.fixture
def published(run: Run, folder: Path, tmp_path: Path) -> Run:
    """`run`, at a site whose archive holds the package and that trusts its publisher."""
    run("trust", "new-key", tmp_path / "key")
    run("models", "publish", folder, "--key", tmp_path / "key")
    run("trust", "add", tmp_path / "key.pub", "--role", "publisher", "--name", "Acme")
    return run
