"""One net that classifies by several columns at once: learnt together, judged apart, exported as one graph."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from residency.errors import ConfigError, TrainingError
from residency.nets import build
from residency.nets.exclusive import Exclusive
from residency.train.config import read_config
from residency.train.export import onnx_runtime
from residency.train.loop import load
from residency.train.loss_part import LossPart
from residency.train.losses import loss_function, loss_of_tasks
from residency.train.run import divided, export_run, run_training
from residency.train.state import make_net, read_tensors

Written = Callable[[dict[str, Any]], Path]
TASKS = {"kind": ["plain", "striped"], "light": ["dark", "middle", "bright"]}
GROUPS = (slice(0, 2), slice(2, 5))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of one slice, with stripes or without, at three levels of light; of every third nobody says the light."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images").mkdir()
    random = np.random.default_rng(6)
    lines = ["name,person,split,kind,light"]
    for number in range(36):
        striped, light = number % 2, number // 2 % 3
        values = random.normal(4 * light, 1, (16, 16, 1)) + 3 * striped * (np.arange(16) % 2)[:, None, None]
        nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(folder / f"images/i{number}.nii.gz")
        told = "" if number % 3 == 0 else TASKS["light"][light]
        lines.append(f"i{number},p{number},train,{TASKS['kind'][striped]},{told}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def values(small_values: dict[str, Any], pictures: Path) -> dict[str, Any]:
    small_values["data"] |= {
        "folder": str(pictures),
        "classes": [f"{column}: {name}" for column, names in TASKS.items() for name in names],
        "tasks": copy.deepcopy(TASKS),
        "reference": None,
        "validation_share": 0.4,
    }
    small_values |= {"net": {"name": "resnet18", "parameters": {"width": 4, "stem": "small"}}, "patch": [16, 16]}
    small_values |= {"loss": "cross-entropy", "threads": 1, "augment": {}}
    small_values["recipe"]["steps"] = [{"name": "orient", "parameters": {"letters": "SPL"}}]
    small_values["schedule"] = {"steps": 20, "batch": 6, "rate": 0.01, "validate_every": 10, "average": 0.5}
    return small_values


def test_tasks_are_learnt_together_and_their_graph_answers_each_by_a_sigmoid(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(values))
    outcome = run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    assert outcome.best > 0.75
    made = export_run(config, tmp_path / "run", tmp_path)
    figures = made.answer.figures
    assert figures["auc"] == pytest.approx(outcome.best)
    assert figures["auc"] == pytest.approx((figures["auc of kind"] + figures["auc of light"]) / 2)
    told = json.loads(made.report.read_text())
    assert told["tasks"] == TASKS
    assert {"auc_of_kind", "balanced_accuracy_of_light"} <= told["shipped"].keys()
    exams = load(divided(config)[1], config)
    assert {int(exam.labels[1]) for exam in exams} == {-1, 0, 1, 2}
    net = make_net(config).eval()
    net.net.load_state_dict(read_tensors(tmp_path / "run" / "best.pt"))
    image = exams[0].image[None]
    odds = torch.from_numpy(onnx_runtime(made.graph.read_bytes())(image.numpy()))
    with torch.inference_mode():
        scores = net(image)
    wanted = torch.cat([scores[:, group].softmax(1) for group in GROUPS], dim=1)
    torch.testing.assert_close(odds.sigmoid(), wanted, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_sum_over_the_tasks_whose_class_is_known() -> None:
    part = LossPart.model_validate("cross-entropy")
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels = torch.tensor([[0, 2], [1, -1], [1, 0], [0, -1]])
    first, second = loss_function(part, 2), loss_function(part, 3)
    wanted = first(logits[:, :2], labels[:, :1]) + second(logits[[0, 2], 2:], labels[[0, 2], 1:])
    torch.testing.assert_close(loss_of_tasks(part, GROUPS)(logits, labels), wanted)
    unknown = loss_of_tasks(part, GROUPS)(logits, torch.full((4, 2), -1))
    (gradient,) = torch.autograd.grad(unknown, logits)
    assert not gradient.any()


def test_log_odds_stay_finite_however_sure_a_net_is() -> None:
    net = Exclusive(build("resnet18", channels=1, classes=5, width=4, stem="small"), GROUPS).eval()
    sure = torch.tensor([[200.0, -200.0, 90.0, 0.0, -90.0]])
    net.net.forward = lambda _: sure  # type: ignore[method-assign]
    odds = net.scores(torch.zeros(1, 1, 32, 32))
    torch.testing.assert_close(odds, torch.tensor([[400.0, -400.0, 90.0, -90.0, -180.0]]))


def test_what_does_not_go_with_several_tasks_is_refused(
    values: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r'in order: "kind: plain", "kind: striped", "light: dark"'):
        read_config(written(values | {"data": values["data"] | {"classes": ["plain", "striped"]}}))
    with pytest.raises(ConfigError, match=r"sampling\.balanced is for one task"):
        read_config(written(values | {"sampling": {"balanced": True}}))
    table = Path(values["data"]["folder"]) / "cases.csv"
    kept = table.read_text()
    table.write_text(
        "\n".join(line.rpartition(",")[0] + "," if "," in line[4:] else line for line in kept.splitlines())
    )
    table.write_text(table.read_text().replace("name,person,split,kind,", "name,person,split,kind,light", 1) + "\n")
    try:
        with pytest.raises(TrainingError, match="name 'light: dark', 'light: middle', 'light: bright', which none"):
            run_training(read_config(written(values)), tmp_path, lambda _: None, lambda: False)
    finally:
        table.write_text(kept)
