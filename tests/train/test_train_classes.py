"""Nets that classify whole images: learnt, judged, exported; and keys of the other task refused."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from residency.errors import ConfigError, TrainingError
from residency.train.config import read_config
from residency.train.crops import crop
from residency.train.judge import Exam
from residency.train.loop import load, train
from residency.train.run import divided, export_run, run_training
from residency.train.state import make_net, read_tensors

Written = Callable[[dict[str, Any]], Path]
CLASSES = ["plain", "striped"]


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of one slice, every fourth with stripes; two images a person."""
    folder = tmp_path_factory.mktemp("stripes")
    (folder / "images").mkdir()
    random = np.random.default_rng(2)
    lines = ["name,person,split,kind"]
    for number in range(40):
        label = int(number % 4 == 0)
        values = random.normal(0, 1, (16, 16, 1)) + 3 * label * (np.arange(16) % 2)[:, None, None]
        nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(folder / f"images/i{number}.nii.gz")
        lines.append(f"i{number},p{number // 2},train,{CLASSES[label]}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def values(small_values: dict[str, Any], striped: Path) -> dict[str, Any]:
    values = copy.deepcopy(small_values)
    values["data"] |= {
        "folder": str(striped),
        "classes": list(CLASSES),
        "tasks": {"kind": list(CLASSES)},  # not the same list: a training file has no aliases
        "reference": None,
        "validation_share": 0.3,
    }
    values |= {"net": {"name": "resnet18", "parameters": {"width": 4, "stem": "small"}}, "patch": [16, 16]}
    values |= {"loss": "cross-entropy", "sampling": {"balanced": True}}
    values["recipe"]["steps"].pop()
    values["augment"] = {"mirror_axis": 2, "shift_voxels": 1, "brightness": 0.1, "noise": 0.1}
    values["schedule"] = {"steps": 24, "batch": 8, "rate": 0.01, "validate_every": 12, "average": 0.5}
    return values


def test_a_classifier_learns_and_its_graph_takes_radiographs(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(values))
    outcome = run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    assert outcome.best > 0.9
    made = export_run(config, tmp_path / "run", tmp_path)
    assert made.answer.figures["auc"] == pytest.approx(outcome.best)
    assert any(parity.shape == (1, 1, 1, 16, 16) for parity in made.parities)
    told = json.loads(made.report.read_text())
    assert told["shipped"].keys() == {"auc", "balanced_accuracy"}
    assert told["input_statistics"]["volumes_mm3"] == {}
    effective = json.loads((tmp_path / "run" / "config.json").read_text())
    assert effective["config"]["schedule"]["patience"] == 1000  # a key that the file leaves out
    assert effective["data_digest"] == f"sha256:{read_tensors(tmp_path / 'run' / 'checkpoint.pt')['data']}"


def test_balanced_crops_show_each_class_as_often_and_each_image_once_before_any_again(
    values: dict[str, Any], written: Written
) -> None:
    config = read_config(written(values))
    exams = [
        Exam(str(n), torch.full((1, 1, 16, 16), float(n)), torch.tensor(int(n < 3)), int(n < 3)) for n in range(12)
    ]
    plain = config.model_copy(update={"augment": type(config.augment)()})
    seen = [(int(labels), float(image.max())) for image, labels in (crop(exams, plain, n) for n in range(18))]
    assert Counter(label for label, _ in seen) == {0: 9, 1: 9}
    assert len({image for label, image in seen if label == 0}) == 9
    assert Counter(image for label, image in seen if label == 1) == {0.0: 3, 1.0: 3, 2.0: 3}


def test_a_class_that_no_one_held_out_has_cannot_choose_weights(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(values))
    learning, judging = divided(config)
    plain = [case for case in judging if case.labels["kind"] == 0]
    short = config.model_copy(update={"schedule": config.schedule.model_copy(update={"validate_every": 1})})
    with pytest.raises(TrainingError, match="are all of class 'plain'"):
        train(short, learning, plain, tmp_path, lambda _: None, lambda: False)
    assert {exam.label for exam in load(judging, config)} == {0, 1}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": "dice"}, "'dice' compares masks; classification has cross-entropy"),
        ({"sampling": {"foreground": 0.5}}, r"sampling\.foreground is not for nets that classify, as 'resnet18' does"),
        ({"export": {"symmetric_axis": 2}}, r"export\.symmetric_axis is not for nets that classify"),
        ({"judged_by": "dice"}, "judged_by: dice is not for nets that classify"),
        ({"net": {"name": "unet-16"}, "sampling": {"balanced": True}}, r"sampling\.balanced is not for nets that segm"),
        ({"net": {"name": "unet-16"}, "sampling": {}, "judged_by": "auc"}, "judged_by: auc is not for nets that segm"),
    ],
)
def test_keys_of_the_other_task_are_refused(
    changed: dict[str, Any], said: str, values: dict[str, Any], written: Written
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_net(read_config(written(values | changed)))


def test_a_classifier_needs_one_column_with_the_same_classes(values: dict[str, Any], written: Written) -> None:
    for tasks, said in (({}, r"data\.tasks: \{column"), ({"kind": ["a", "b"]}, "name different classes")):
        changed = copy.deepcopy(values)
        changed["data"]["tasks"] = tasks
        with pytest.raises(ConfigError, match=said):
            make_net(read_config(written(changed)))
