"""What a plan says of memory, held against a process that trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from residency.cli import app
from residency.datasets.table import read_rows
from residency.train.planning.cost import Setting, training_bytes, work_of

FACTOR = 1.35
"""How far a measured peak may lie from the estimate, either way."""

_CHILD = """
import re, sys
from pathlib import Path
from residency.train.config import read_config
from residency.train.run import run_training
run_training(read_config(Path(sys.argv[1])), Path(sys.argv[2]), lambda done: None, lambda: False)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""
"""Of this process alone: getrusage would tell the peak of the process that started it where that was higher."""


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    """Volumes of 64 voxels a side, so that a crop weighs something beside the libraries."""
    folder = tmp_path / "cubes"
    random = np.random.default_rng(1)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for k in range(6):
        labels = np.zeros((64, 64, 64), np.uint8)
        labels[20:40, 20:40, 20:40] = 1
        image = (random.normal(size=labels.shape) + labels).astype(np.float32)
        nibabel.Nifti1Image(image, np.eye(4)).to_filename(folder / f"images/c{k}.nii.gz")
        nibabel.Nifti1Image(labels, np.eye(4)).to_filename(folder / f"labels/c{k}.nii.gz")
    return folder


def _measured(file: Path, run: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(file), str(run)], capture_output=True, text=True, check=True, timeout=1800
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("features", [8, 32])
def test_the_estimate_of_memory_is_near_what_a_training_takes(cubes: Path, tmp_path: Path, features: int) -> None:
    out = tmp_path / "plan"
    planned = CliRunner().invoke(app, ["plan", str(cubes), "--out", str(out), "--no-measure", "--threads", "2"])
    assert planned.exit_code == 0, planned.output
    values: dict[str, Any] = yaml.safe_load((out / "train.yaml").read_text())
    values["net"] = {"name": "unet", "parameters": {"features": [features, 2 * features, 4 * features]}}
    values["patch"] = [64, 64, 64]
    values["schedule"] |= {"steps": 2, "batch": 2, "validate_every": 2, "warmup": 0}
    (out / "train.yaml").write_text(yaml.safe_dump(values))
    work = work_of("unet", values["net"]["parameters"], 1, 2, (64, 64, 64))
    cases = len(read_rows(out / "cases.csv", ("name",)))
    setting = Setting((64, 64, 64), 1, 2, 2, 2, cases * 64**3, 64**3)
    estimate = training_bytes(work, setting)
    peak = _measured(out / "train.yaml", tmp_path / "run")
    print(json.dumps({"features": features, "estimate_mib": estimate / 2**20, "peak_mib": peak / 2**20}))
    assert estimate / FACTOR < peak < estimate * FACTOR
