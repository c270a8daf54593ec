"""Validations of other kinds than one image with a mask: whole images classified, and several images of a case."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml

from residency.card import Evaluation
from residency.cli.through import train_plan
from residency.errors import UsageError
from residency.train.config import read_config
from residency.train.crossing import Shown, cross_validate
from residency.train.ensemble import export_folds
from residency.train.evidence.found import Evidence
from residency.train.export import onnx_runtime
from residency.train.loop import load
from residency.train.run import divided, export_run, run_training
from residency.train.state import make_net, read_tensors
from residency.train.validation import Asked, Validated, validate

Written = Callable[[dict[str, Any]], Path]
CLASSES = ["plain", "striped"]


def judged(values: dict[str, Any], written: Written, folder: Path) -> tuple[Validated, float]:
    """A run and its validation, and the figure that chose its weights."""
    config = read_config(written(values))
    outcome = run_training(config, folder / "run", lambda _: None, lambda: False)
    return validate(config, folder / "run", folder / "out", lambda _: None, lambda: False), outcome.best


@pytest.fixture
def stripes(small_values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Noise of one slice, every third with stripes: two images of each of twelve persons."""
    folder = tmp_path / "stripes"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(2)
    lines = ["name,person,split,kind"]
    for number in range(24):
        label = int(number % 3 == 0)
        values = random.normal(0, 1, (16, 16, 1)) + label * (np.arange(16) % 2)[:, None, None]
        nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)).to_filename(folder / f"images/i{number}.nii.gz")
        lines.append(f"i{number},p{number // 2},train,{CLASSES[label]}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    data = {"folder": str(folder), "classes": CLASSES, "tasks": {"kind": [*CLASSES]}, "reference": None}
    small_values["data"] |= data | {"validation_share": 0.5}
    small_values |= {"net": {"name": "resnet18", "parameters": {"width": 4, "stem": "small"}}, "patch": [16, 16]}
    small_values |= {"loss": "cross-entropy", "augment": {}}
    small_values["recipe"]["steps"].pop()
    small_values["schedule"] = {"steps": 4, "batch": 4, "rate": 0.01, "validate_every": 2, "average": 0.5}
    return small_values


def test_a_classifier_is_judged_as_it_was_chosen(stripes: dict[str, Any], written: Written, tmp_path: Path) -> None:
    """Two ways to the same figure, and a report, a card and figures without a word of masks."""
    found, best = judged(stripes, written, tmp_path)
    evidence = found.evidence
    assert evidence is not None
    assert evidence.headline is not None
    assert evidence.headline.mean == pytest.approx(best)
    assert evidence.headline.persons == 6
    told = json.loads((tmp_path / "out/evaluation.json").read_text())["evaluation"]
    metrics = {one.metric for one in map(Evaluation.model_validate, told)}
    assert metrics == {"AUC striped", "AUPRC striped", "Balanced accuracy", "ECE", "Brier score"}
    assert evidence.confusion is not None
    assert evidence.confusion.sum() == 12
    page = (tmp_path / "out/report.html").read_text()
    assert "Confusion" in page
    assert "Likeliest" in page
    assert "kind: classification" in (tmp_path / "out/card.draft.yaml").read_text()


@pytest.fixture
def two_tasks(stripes: dict[str, Any]) -> dict[str, Any]:
    """The stripes, and a second column of classes: how light an image is; of every fourth nobody says it."""
    table = Path(stripes["data"]["folder"]) / "cases.csv"
    head, *lines = table.read_text().splitlines()
    lights = ["" if n % 4 == 3 else ("dark", "middle", "bright")[n % 3] for n in range(len(lines))]
    told = [f"{line},{light}" for line, light in zip(lines, lights, strict=True)]
    table.write_text("\n".join([f"{head},light", *told]) + "\n")
    tasks = {"kind": [*CLASSES], "light": ["dark", "middle", "bright"]}
    every = [f"{column}: {name}" for column, names in tasks.items() for name in names]
    stripes["data"] |= {"classes": every, "tasks": tasks}
    return stripes


def test_several_columns_of_classes_are_judged_one_at_a_time(
    two_tasks: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(two_tasks))
    run_training(config, tmp_path / "run", lambda _: None, lambda: False)
    exported = export_run(config, tmp_path / "run", tmp_path)

    def evidence_of(task: str | None) -> Evidence:
        told = validate(config, tmp_path / "run", tmp_path / str(task), lambda _: None, lambda: False, Asked(task=task))
        assert told.evidence is not None
        return told.evidence

    for task, cases, classes in (("kind", 12, 2), ("light", 9, 3)):
        evidence = evidence_of(task)
        assert evidence.headline is not None
        assert evidence.headline.mean == pytest.approx(exported.answer.figures[f"auc of {task}"])
        assert len(evidence.rows) == cases
        assert {len(row.probabilities) for row in evidence.rows} == {classes}
        assert all(sum(row.probabilities) == pytest.approx(1, abs=1e-5) for row in evidence.rows)
        left_out = "; 3 cases without a class there are left out" if task == "light" else ""
        assert evidence.cohort.endswith(f"by column '{task}'{left_out}")
        assert list(evidence.classes) == two_tasks["data"]["tasks"][task]
    with pytest.raises(UsageError, match="has several tasks; judge one at a time: --task kind or light"):
        evidence_of(None)
    with pytest.raises(UsageError, match=r"--task sex is none of the tasks; .* --task kind or light"):
        evidence_of("sex")
    draft = yaml.safe_load((tmp_path / "light" / "card.draft.yaml").read_text())
    decision = draft["outputs"][0]["decision"]
    assert (decision["activation"], decision["rule"], decision["threshold"]) == ("sigmoid", "threshold", 0.5)
    assert [one["name"] for one in draft["outputs"][0]["classes"]] == two_tasks["data"]["classes"]


def test_one_of_several_columns_is_compared_with_a_net_that_learnt_it_alone(
    two_tasks: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    ran = {}
    for name, tasks in (("both", ("kind", "light")), ("alone", ("kind",))):
        told = {task: two_tasks["data"]["tasks"][task] for task in tasks}
        classes = two_tasks["data"]["classes"] if name == "both" else CLASSES
        config = read_config(written(two_tasks | {"data": two_tasks["data"] | {"tasks": told, "classes": classes}}))
        run_training(config, tmp_path / name, lambda _: None, lambda: False)
        asked = Asked(task="kind", against=tmp_path / "both-judged" if ran else None)
        ran[name] = validate(config, tmp_path / name, tmp_path / f"{name}-judged", lambda _: None, lambda: False, asked)
    evidence = ran["alone"].evidence
    assert evidence is not None
    assert {one.kind for one in evidence.against} == {"auc"}
    assert "by column" not in evidence.cohort


def test_a_plan_of_several_columns_is_refused_before_it_trains(
    two_tasks: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    written(two_tasks).rename(tmp_path / "train.yaml")
    with pytest.raises(UsageError, match="has several columns of classes, which are judged one at a time"):
        train_plan(tmp_path, None, None, fresh=False, as_json=False)


@pytest.mark.slow
def test_folds_of_several_columns_of_classes_are_judged_by_one(
    two_tasks: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config, shown = read_config(written(two_tasks)), Shown(lambda *_: None, lambda *_: None)
    made = cross_validate(config, tmp_path, shown, lambda: False, count=2, task="light", into="validation-light")
    assert made.evidence is not None
    assert len(made.evidence.rows) == 18
    assert (tmp_path / "validation-light" / "report.html").exists()
    exported = export_folds(config, tmp_path, tmp_path)
    (_, judging), folds = divided(config), [tmp_path / f"fold-{k}" for k in range(2)]
    image = load(judging, config)[0].image[None]
    shares = []
    for fold in folds:
        net = make_net(config).eval()
        net.net.load_state_dict(read_tensors(fold / "best.pt"))
        with torch.inference_mode():
            scores = net(image)
        shares.append(torch.cat([scores[:, :2].softmax(1), scores[:, 2:].softmax(1)], dim=1))
    odds = torch.from_numpy(onnx_runtime(exported.graph.read_bytes())(image.numpy()))
    torch.testing.assert_close(odds.sigmoid(), torch.stack(shares).mean(0), rtol=1e-3, atol=1e-4)


def test_a_task_is_not_for_what_segments(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    config = read_config(written(small_values))
    with pytest.raises(UsageError, match="--task kind: net 'unet' segments"):
        validate(config, tmp_path, tmp_path / "out", lambda _: None, lambda: False, Asked(task="kind"))


@pytest.mark.slow
def test_classifiers_of_folds_judge_every_person_once(
    stripes: dict[str, Any], written: Written, tmp_path: Path
) -> None:
    config = read_config(written(stripes))
    shown = Shown(lambda *_: None, lambda *_: None)
    evidence = cross_validate(config, tmp_path / "folds", shown, lambda: False, count=2).evidence
    assert evidence is not None
    assert evidence.confusion is not None
    assert evidence.confusion.sum(axis=1).tolist() == [16, 8]
    assert "those of each fold stand apart" in evidence.caution
    assert {(one.kind, one.group) for one in evidence.subgroups} == {
        (kind, ("fold", fold)) for kind in ("auc", "balanced_accuracy") for fold in "01"
    }


@pytest.mark.parametrize("kind", ["table", "nnunet"])
def test_several_images_of_a_case_are_judged_together(
    kind: str, small_values: dict[str, Any], small_set: Path, written: Written, tmp_path: Path
) -> None:
    """The second image is the first, darker: a net that got them in another order would answer otherwise."""
    folder = tmp_path / "two"
    bright, dark = places = ("bright/{}", "dark/{}") if kind == "table" else ("imagesTr/{}_0000", "imagesTr/{}_0001")
    references = "labels" if kind == "table" else "labelsTr"
    for place in (*places, f"{references}/x"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
    for file in sorted((small_set / "images").iterdir()):
        image, name = nibabel.load(file), file.name.removesuffix(".nii.gz")
        noise = np.random.default_rng(3).normal(0, 0.3, image.shape)
        darker = (image.get_fdata() / 3 + noise).astype(np.float32)
        nibabel.Nifti1Image(darker, image.affine).to_filename(folder / f"{dark.format(name)}.nii.gz")
        (folder / f"{bright.format(name)}.nii.gz").symlink_to(file)
        (folder / references / file.name).symlink_to(small_set / "labels" / file.name)
    (folder / "cases.csv").write_text((small_set / "cases.csv").read_text())
    small_values["data"]["folder"] = str(folder)
    if kind == "table":
        small_values["data"]["images"] = {name: f"{name}/{{name}}.nii.gz" for name in ("bright", "dark")}
    else:
        small_values["data"] |= {"kind": "nnunet", "persons": "cases.csv"}
        classes = {name: k for k, name in enumerate(small_values["data"]["classes"])}
        said = {"channel_names": {"0": "bright", "1": "Dark one"}, "labels": classes, "numTraining": 12}
        (folder / "dataset.json").write_text(json.dumps(said | {"file_ending": ".nii.gz"}))
    small_values["recipe"]["steps"].pop()  # what a net says of padding is judged in the one way, and not in the other
    small_values["schedule"] |= {"steps": 4, "validate_every": 4}
    found, best = judged(small_values, written, tmp_path)
    assert found.evidence is not None
    assert found.evidence.headline is not None
    assert found.evidence.headline.mean == pytest.approx(best, abs=2e-4)
    draft = yaml.safe_load((tmp_path / "out/card.draft.yaml").read_text())
    names = [("bright", "bright"), ("dark", "dark") if kind == "table" else ("dark-one", "Dark one")]
    assert [(one["name"], one["channel"]) for one in draft["inputs"]] == names
