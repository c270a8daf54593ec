"""A small but real data set, and a training file that learns it in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

CASES = 12


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images with a bright ball (1) inside a shell (2): two of each of six persons; the last person is `val`."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    random = np.random.default_rng(5)
    lines = ["name,person,split"]
    for number in range(CASES):
        shape = random.integers(12, 17, 3)
        centre = shape / 2 + random.uniform(-1, 1, 3)
        distance = np.linalg.norm(np.stack(np.indices(shape), -1) - centre, axis=-1)
        labels = np.where(distance < 2.6, 1, np.where(distance < 4.6, 2, 0)).astype(np.uint8)
        values = np.choose(labels, (0.0, 9.0, 5.0)) + random.normal(0, 0.5, shape)
        scale = random.choice([1.0, 1000.0])
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        nibabel.Nifti1Image((values * scale).astype(np.float32), affine).to_filename(
            folder / f"images/c{number}.nii.gz"
        )
        nibabel.Nifti1Image(labels, affine).to_filename(folder / f"labels/c{number}.nii.gz")
        lines.append(f"c{number},p{number // 2},{'val' if number >= CASES - 2 else 'train'}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def small_values(small_set: Path) -> dict[str, Any]:
    """A training file as plain values."""
    return {
        "name": "balls",
        "seed": 11,
        "threads": 2,
        "data": {
            "folder": str(small_set),
            "name": "Balls in shells",
            "licence": "CC0-1.0",
            "source": "made by the tests",
            "labels": "exact",
            "classes": ["background", "ball", "shell"],
            "validation_share": 0.2,
        },
        "recipe": {
            "steps": [
                {"name": "orient", "parameters": {"letters": "SPL"}},
                {"name": "normalise"},
                {"name": "pad", "parameters": {"multiple": 2}},
            ]
        },
        "net": {"name": "unet", "parameters": {"features": [4, 8]}},
        "patch": [12, 12, 12],
        "schedule": {"steps": 16, "batch": 2, "rate": 0.01, "average": 0.8, "validate_every": 5, "save_every": 3},
        "augment": {"mirror_axis": 2, "rotate_degrees": 10, "shift_voxels": 1, "bend_voxels": 0.3, "noise": 0.1},
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Values -> the path of a training file that holds them."""

    def write(values: dict[str, Any]) -> Path:
        file = tmp_path / "train.yaml"
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        return file

    return write
