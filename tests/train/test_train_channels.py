"""Cases of several images: they become the channels of the net, from the training file to the graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from residency.errors import TrainingError
from residency.train.config import read_config
from residency.train.loop import load
from residency.train.run import divided, export_run, run_training

Written = Callable[[dict[str, Any]], Path]


@pytest.fixture
def values(small_values: dict[str, Any], small_set: Path, tmp_path: Path) -> dict[str, Any]:
    """The balls, seen in two images: the second is the first, darker, with noise of its own."""
    folder = tmp_path / "two"
    (folder / "labels").mkdir(parents=True)
    for name in ("bright", "dark"):
        (folder / name).mkdir()
    random = np.random.default_rng(3)
    for file in sorted((small_set / "images").iterdir()):
        image = nibabel.load(file)
        dark = image.get_fdata() / 3 + random.normal(0, 0.3, image.shape)
        (folder / "bright" / file.name).write_bytes(file.read_bytes())
        nibabel.Nifti1Image(dark.astype(np.float32), image.affine).to_filename(folder / "dark" / file.name)
        (folder / "labels" / file.name).write_bytes((small_set / "labels" / file.name).read_bytes())
    (folder / "cases.csv").write_text((small_set / "cases.csv").read_text())
    places = {name: f"{name}/{{name}}.nii.gz" for name in ("bright", "dark")}
    small_values["data"] |= {"folder": str(folder), "images": places}
    small_values["schedule"] |= {"steps": 4, "validate_every": 4}
    return small_values


def test_images_become_channels_in_their_order_up_to_the_graph(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(values))
    run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    made = export_run(config, tmp_path / "run", tmp_path)
    assert made.answer.net.channels == 2
    assert all(parity.shape[1] == 2 for parity in made.parities)
    told = json.loads(made.report.read_text())
    assert told["images"] == ["bright", "dark"]
    assert told["input_statistics"]["raw_percentiles"]["50"]["least"] < 1
    (first, *_) = load(divided(config)[1], config)
    assert first.image.shape[0] == 2
    assert not torch.equal(first.image[0], first.image[1])


def test_images_on_different_grids_are_refused_by_name(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    moved = Path(values["data"]["folder"]) / "dark" / "c3.nii.gz"
    image = nibabel.load(moved)
    nibabel.Nifti1Image(image.get_fdata(), np.diag([2.0, 1.0, 1.0, 1.0])).to_filename(moved)
    config = read_config(written(values))
    with pytest.raises(TrainingError, match="case 'c3': images 'bright' and 'dark' lie on different grids"):
        run_training(config, tmp_path / "run", lambda _: None, lambda: False)
