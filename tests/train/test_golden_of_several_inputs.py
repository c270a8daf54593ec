"""The golden case that training writes shows images that were given to the wrong inputs, or it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import AdmissionError
from residency.models import admit, build
from residency.pipeline import replay
from residency.testing.cards import EXAMPLE
from residency.testing.graphs import difference_graph
from residency.train.phantom import further, phantom, write_golden

FINGERPRINT: dict[str, Any] = {
    "median_shape": [12, 20, 20],
    "median_spacing": [1.0, 1.0, 1.0],
    "overall": {"T1": {"mean": 40.0, "deviation": 60.0}, "FLAIR": {"mean": 40.0, "deviation": 60.0}},
    "cases": [
        {
            "structures": {
                "0": {"middle": [0.5, 0.5, 0.5], "voxels": 4000, "mean": 0.0, "deviation": 8.0},
                "1": {"middle": [0.5, 0.5, 0.5], "voxels": 800, "mean": 200.0, "deviation": 8.0},
            }
        }
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package folder of two inputs without graph and golden case, and a plan."""
    card = json.loads(json.dumps(EXAMPLE))
    for measured in ("training", "evaluation", "parameters"):
        del card[measured]
    del card["inputs"][0]["recipe"]
    card["inputs"].append({**card["inputs"][0], "name": "flair"})
    card["golden"]["more"] = {"flair": "golden-input-2.nii.gz"}
    recipe = {"steps": [{"name": "orient", "parameters": {"letters": "SPL"}}]}
    (tmp_path / "card.yaml").write_text(json.dumps(card))
    (tmp_path / "training.json").write_text(json.dumps({"training": EXAMPLE["training"], "recipe": recipe}))
    (tmp_path / "plan.json").write_text(json.dumps({"fingerprint": FINGERPRINT}))
    (tmp_path / "licence.txt").write_text("CC0-1.0")
    return tmp_path


def test_each_image_has_noise_and_an_order_of_brightness_of_its_own() -> None:
    first = phantom(FINGERPRINT, 2)
    (second,) = further(first, FINGERPRINT, 2)
    middle, corner = (6, 10, 10), (0, 0, 0)
    assert first.array[middle] > first.array[corner]
    assert second.array[middle] < second.array[corner]
    (alike,) = further(first, FINGERPRINT, 2, reordered=False)
    assert alike.array[middle] > alike.array[corner]
    inside = first.array > 100
    assert abs(np.corrcoef(first.array[inside], alike.array[inside])[0, 1]) < 0.5


def test_exchanged_inputs_change_the_answer(folder: Path) -> None:
    (folder / "graph.onnx").write_bytes(difference_graph())
    engine = OpenVino(threads=1)
    assert write_golden(folder, engine, folder / "plan.json") == ()
    admit(build(folder), engine, Precision.F32, replay=replay)
    one, two = folder / "golden-input.nii.gz", folder / "golden-input-2.nii.gz"
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    with pytest.raises(AdmissionError, match="gives Dice"):
        admit(build(folder), engine, Precision.F32, replay=replay)


def test_a_network_that_cannot_tell_its_inputs_apart_is_told_of(folder: Path) -> None:
    graph = onnx.load_from_string(difference_graph())
    weight = next(one for one in graph.graph.initializer if one.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(weight)), "weight"))  # the sum of both
    (folder / "graph.onnx").write_bytes(graph.SerializeToString())
    notes = write_golden(folder, OpenVino(threads=1), folder / "plan.json")
    assert [note for note in notes if "same answer with its images exchanged" in note]
