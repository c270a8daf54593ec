"""`residency train FOLDER`: a plan run through to a package, part by part, with what only a person knows asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from click.testing import Result
from typer.testing import CliRunner

from residency.cli import plan, train
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import CardError, UsageError
from residency.models import admit, read_folder
from residency.pipeline import replay
from residency.train.card_draft import write_card
from residency.train.phantom import phantom

Run = Callable[..., Result]

ANSWERS: dict[str, Any] = {
    "identity": {"publisher": {"id": "example.org", "name": "Tester"}, "summary": "Finds balls."},
    "licences": {"code": "Apache-2.0", "weights": "CC0-1.0"},
    "inputs": [{"regions": [{"scheme": "SCT", "value": "818981001", "meaning": "Abdomen"}]}],
    "outputs": [
        {
            "classes": [
                {"index": 0, "name": "background"},
                *(
                    {
                        "index": k,
                        "name": f"class-{k}",
                        "category": {"scheme": "SCT", "value": "49755003", "meaning": "Abnormal"},
                        "type": {"scheme": "SCT", "value": "27925004", "meaning": "Nodule"},
                    }
                    for k in (1, 2)
                ),
            ]
        }
    ],
    "intended_use": {
        "statement": "Tests.",
        "users": "Testers",
        "population": "Balls",
        "out_of_scope": ["People"],
        "oversight": "None is needed.",
        "role": "demonstration",
    },
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    plan.register(app)
    train.register(app)

    def run(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def planned(run: Run, small_set: Path, tmp_path: Path) -> Path:
    """A plan of eight steps."""
    run("plan", small_set, "--out", "made", "--name", "balls", "--modality", "CT", "--no-measure", "--hours", "0.01")
    file = tmp_path / "made/train.yaml"
    values = yaml.safe_load(file.read_text())
    values["schedule"] |= {"steps": 8, "batch": 2, "warmup": 0, "validate_every": 4, "rate": 0.02}
    values["net"] = {"name": "unet", "parameters": {"features": [4, 8]}}
    file.write_text(yaml.safe_dump(values))
    return tmp_path / "made"


@pytest.mark.slow
def test_a_plan_ends_in_a_package_once_the_card_is_whole(run: Run, planned: Path, tmp_path: Path) -> None:
    first = json.loads(run("train", planned, "--json").stdout)
    assert first["training"]["steps"] == 8
    assert first["validation"]["evaluation"]
    assert first["package"]["digest"] is None
    asked = " ".join(first["package"]["still_needed"])
    wanted = ("identity: publisher", "licences: code", "inputs: regions", "outputs", "intended_use")
    assert all(part in asked for part in wanted)
    assert "training" not in {line.split(":")[0] for line in first["package"]["still_needed"]}

    graph = (planned / "package/graph.onnx").read_bytes()
    weights = (planned / "run/best.pt").stat().st_mtime_ns
    (tmp_path / "answers.yaml").write_text(yaml.safe_dump(ANSWERS))
    second = json.loads(run("train", planned, "--answers", "answers.yaml", "--json").stdout)
    assert second["package"]["still_needed"] == []
    assert second["graph"]["parities"] == []  # it was not written again
    assert (planned / "package/graph.onnx").read_bytes() == graph
    assert (planned / "run/best.pt").stat().st_mtime_ns == weights
    package = read_folder(planned / "package")
    assert package.digest == second["package"]["digest"]
    card = package.card
    assert card.inputs[0].modalities == ("CT",)
    assert card.training.steps == 8
    assert card.evaluation
    assert not (planned / "package/report.html").exists()  # it shows people's images

    mine = (planned / "package/card.yaml").read_text().replace("Finds balls.", "Finds my balls.")
    (planned / "package/card.yaml").write_text(mine)
    third = json.loads(run("train", planned, "--json").stdout)
    assert (planned / "package/card.yaml").read_text() == mine
    assert third["package"]["digest"] != second["package"]["digest"]


@pytest.mark.slow
def test_a_network_of_several_images_ends_in_a_package_that_is_admitted(
    run: Run, small_set: Path, tmp_path: Path
) -> None:
    twice = [word for name in ("T1", "FLAIR") for word in ("--image", f"{name}=images/{{name}}.nii.gz")]
    run(
        "plan",
        small_set,
        "--out",
        "made",
        "--name",
        "two",
        "--no-measure",
        "--hours",
        "0.01",
        "--modality",
        "MR",
        *twice,
    )
    values = yaml.safe_load((tmp_path / "made/train.yaml").read_text())
    values["schedule"] |= {"steps": 30, "batch": 2, "warmup": 0, "validate_every": 15, "rate": 0.02}
    values["net"] = {"name": "unet", "parameters": {"features": [4, 8]}}
    (tmp_path / "made/train.yaml").write_text(yaml.safe_dump(values, sort_keys=False))  # images stay in order
    (tmp_path / "answers.yaml").write_text(json.dumps(ANSWERS | {"inputs": ANSWERS["inputs"] * 2}))
    told = json.loads(run("train", tmp_path / "made", "--answers", "answers.yaml", "--json").stdout)
    assert told["package"]["still_needed"] == []
    package = read_folder(tmp_path / "made/package")
    assert [(one.name, one.channel, one.modalities) for one in package.card.inputs] == [
        ("t1", "T1", ("MR",)),
        ("flair", "FLAIR", ("MR",)),
    ]
    assert package.card.inputs[0].recipe == package.card.inputs[1].recipe
    assert package.card.golden.more == {"flair": "golden-input-2.nii.gz"}
    admission = admit(package, OpenVino(threads=1), Precision.F32, replay=replay)
    assert admission.digest == package.digest


def test_what_cannot_be_run_through_is_refused(run: Run, planned: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no train\.yaml; make a plan"):
        run("train", tmp_path)
    with pytest.raises(UsageError, match="--run goes with a training file"):
        run("train", planned, "--run", "x")
    with pytest.raises(UsageError, match="--answers goes with the folder of a plan"):
        run("train", planned / "train.yaml", "--answers", "x")
    with pytest.raises(UsageError, match=r"answers\.yaml cannot be read"):
        run("train", planned, "--answers", "answers.yaml")
    assert not (planned / "run").exists()


def test_a_wrong_answer_leaves_the_card_as_it_was(tmp_path: Path) -> None:
    from residency.testing.graphs import threshold_graph

    (tmp_path / "graph.onnx").write_bytes(threshold_graph())
    known = {"task": "segmentation", "inputs": [{"name": "image", "tensor": "image"}]}
    needed = write_card(tmp_path, known, {}, "A card")
    assert any(line.startswith("intended_use:") for line in needed)
    before = (tmp_path / "card.yaml").read_text()
    assert "# FILL IN intended_use" in before
    with pytest.raises(CardError, match=r"regulatory\.status"):
        write_card(tmp_path, known, {"regulatory": {"status": "fine", "notice": "x"}}, "A card")
    assert (tmp_path / "card.yaml").read_text() == before
    assert write_card(tmp_path, {"task": "classification"}, {}, "Another") == needed
    assert (tmp_path / "card.yaml").read_text() == before


def test_the_phantom_has_the_sizes_places_and_brightness_of_the_set(run: Run, planned: Path) -> None:
    told = json.loads((planned / "plan.json").read_text())["fingerprint"]
    image = phantom(told, 3)
    assert image.grid.shape == tuple(round(side) for side in told["median_shape"])
    assert np.array_equal(image.array, phantom(told, 3).array)
    held = [case["structures"]["2"] for case in told["cases"]]
    wanted = float(np.median([one["mean"] for one in held]))
    place = tuple(np.floor(np.mean([one["middle"] for one in held], axis=0) * image.grid.shape).astype(int))
    spread = max(float(np.median([one["deviation"] for one in held])), 1.0)
    assert abs(image.array[place] - wanted) < 5 * spread
