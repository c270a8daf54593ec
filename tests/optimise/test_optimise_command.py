"""`residency optimise` on a network that finds bright voxels: from a package and a folder of cases to a new version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from residency.cli import app
from residency.engine import Precision
from residency.engines.openvino import OpenVino
from residency.errors import GraphError, UsageError
from residency.models.check import check_package
from residency.models.folder import read_folder, write_folder
from residency.optimise import optimised as room
from residency.optimise.quantise import quantised
from residency.package import ModelPackage, Payload, build_package
from residency.testing.cards import example_package
from residency.testing.graphs import threshold_graph

SIDE, PERSONS = 12, 22
LEVELS = {"calibration": 4, "gate": PERSONS, "test": 3, "train": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of cases, each of a person of its own: a bright block in darkness, with noise."""
    folder = tmp_path_factory.mktemp("cases")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    random = np.random.default_rng(7)
    lines = ["name,person,split"]
    for split, count in LEVELS.items():
        for number in range(count):
            name = f"{split}_{number}"
            labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
            labels[2 : 5 + number % 4, 3:9, 3:9] = 1
            image = np.where(labels, 3.0, -3.0) + random.normal(0, 0.5, labels.shape)
            for place, array in (("images", image.astype(np.float32)), ("labels", labels)):
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / place / f"{name}.nii.gz")
            lines.append(f"{name},{name},{split}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    changes: dict[str, Any] = {"tiling": {"window": [8, 8, 8], "overlap": 0.5}, "parameters": 4}
    return example_package(changes, graph=threshold_graph())


@pytest.fixture
def training_file(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """One that learns from the calibration cases; values of `data` may be changed."""

    def write(**changes: Any) -> Path:
        told: dict[str, Any] = {
            "folder": str(data),
            "name": "Blocks",
            "licence": "CC0-1.0",
            "source": "made by a test",
            "labels": "exact",
            "classes": ["background", "block"],
            "train": "calibration",
            "validation_share": 0.5,
        }
        values = {
            "name": "blocks",
            "seed": 3,
            "threads": 1,
            "schedule": {"steps": 10, "batch": 1, "rate": 0.01},
            "data": told | changes,
            "recipe": {"steps": []},
            "net": {"name": "unet", "parameters": {"features": [4, 8]}},
            "patch": [8, 8, 8],
        }
        file = tmp_path / "train.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    return write


@pytest.fixture
def said(data: Path, package: ModelPackage, tmp_path: Path) -> Callable[..., Any]:
    """The command on the package; options beside those of every call."""
    write_folder(tmp_path / "package", package)

    def run(*more: str, calibration: str = "calibration", gate: str = "gate") -> Any:
        places = ["--calibration", f"{data}:{calibration}", "--gate", f"{data}:{gate}", "--out", str(tmp_path / "out")]
        return CliRunner().invoke(app, ["optimise", str(tmp_path / "package"), *places, "--threads", "1", *more])

    return run


def test_a_form_that_passes_becomes_a_version_that_names_its_parent(
    said: Callable[..., Any], package: ModelPackage, data: Path, tmp_path: Path
) -> None:
    done = said("--test", f"{data}:test", "--train", f"{data}:train")
    assert done.exit_code == 0, done.output
    assert "Passed: all bounds hold on 22 persons" in " ".join(done.output.split())
    told = json.loads((tmp_path / "out" / "optimisation.json").read_text())
    assert (told["verdict"], told["gate"]["persons"], told["test"]["verdict"]) == (
        "passed",
        22,
        "insufficient evidence",
    )
    assert {name: one["persons"] for name, one in told["sets"].items()} == LEVELS
    assert (told["timing"]["f32"]["precision"], told["timing"]["int8"]["precision"]) == ("f32", "int8")
    assert told["timing"]["int8"]["runs"] == 30
    made = read_folder(tmp_path / "out" / "package")
    card = made.card
    assert (card.identity.version, card.identity.sequence, card.supersedes) == ("1.1.0", 2, package.digest)
    assert [(edge.relation, edge.parent) for edge in card.lineage] == [("quantised-from", package.digest)]
    assert "case" in told["gate"]["findings"][-1]
    assert b"gate_" not in made.payload("optimisation.json").data, "no name of a case goes with the package"
    assert card.compression is not None
    assert card.compression.passed
    assert [one.precision for one in card.runtime.measured] == ["f32", "int8"]
    OpenVino(threads=1).load(made.with_role("variant/int8").data, precision=Precision.INT8)
    assert made.with_role("graph").data == package.with_role("graph").data


def test_few_persons_are_no_evidence_and_write_no_package(said: Callable[..., Any], tmp_path: Path) -> None:
    done = said(gate="test")
    assert done.exit_code == 1
    assert "Insufficient evidence: all bounds hold, on 3 persons alone" in " ".join(done.output.split())
    assert (tmp_path / "out" / "optimisation.json").exists()
    assert not (tmp_path / "out" / "package").exists()


def test_a_quantisation_that_is_broken_on_purpose_is_refused(
    said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its network answers the opposite of what it should, in eight bits and as fast as any."""
    monkeypatch.setattr(room, "quantised", lambda graph, *more: quantised(threshold_graph(scale=-1.0), *more))
    done = said()
    assert done.exit_code == 1
    told = json.loads((tmp_path / "out" / "optimisation.json").read_text())
    assert told["verdict"] == "failed"
    assert [layer["operator"] for layer in told["blame"]] == ["Conv"]
    assert "mean Dice of hippocampus" in " ".join(done.output.split())
    assert not (tmp_path / "out" / "package").exists()


def test_one_person_in_two_sets_is_refused(said: Callable[..., Any], data: Path) -> None:
    done = said(gate="calibration")
    assert isinstance(done.exception, UsageError)
    assert "4 cases of the gate set are of persons in the calibration set, as 'calibration_0'" in str(done.exception)
    done = said("--train", f"{data}:gate")
    assert "persons in the train set" in str(done.exception)


def test_one_image_under_two_names_is_refused_whatever_its_reference(
    said: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    twice = tmp_path / "twice"
    for place in ("images", "labels"):
        (twice / place).mkdir(parents=True)
    (twice / "images" / "other.nii.gz").write_bytes((data / "images" / "gate_3.nii.gz").read_bytes())
    (twice / "labels" / "other.nii.gz").write_bytes((data / "labels" / "gate_1.nii.gz").read_bytes())
    (twice / "cases.csv").write_text("name,person,split\nother,somebody,more\n")
    done = said("--test", f"{twice}:more")
    assert "an image of the test set is in the gate set under another name: 'other' is 'gate_3' there" in str(
        done.exception
    )


def test_calibration_needs_no_references(said: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "images").mkdir(parents=True)
    (bare / "images" / "one.nii.gz").write_bytes((data / "images" / "calibration_0.nii.gz").read_bytes())
    (bare / "cases.csv").write_text("name,person,split\none,one,all\n")
    done = said("--calibration", f"{bare}:all", gate="test")
    assert "Insufficient evidence" in done.output


def test_a_training_file_tells_who_was_learnt_from(
    said: Callable[..., Any], training_file: Callable[..., Path]
) -> None:
    file = training_file()
    done = said("--calibration", f"{file}:held-out", "--gate", f"{file}:learnt")
    assert "cases of the gate set are of persons in the train set" in str(done.exception)
    assert said("--calibration", f"{file}:held-out", "--gate", f"{file}:gate").exit_code == 0


def test_references_of_other_classes_are_refused(said: Callable[..., Any], training_file: Callable[..., Path]) -> None:
    file = training_file(classes=["background", "left", "right"])
    wrong = str(said("--gate", f"{file}:gate").exception)
    assert "has the classes background, left, right; the card's output has background, hippocampus" in wrong


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--preset", "best"], "--preset best: there are 'mixed' and 'performance'"),
        (["--keep-f32", "Gelu"], "the graph has no operator 'Gelu' to keep in f32"),
        (["--test", "nowhere"], "--test nowhere: say which part of the data, as in train.yaml:val"),
    ],
)
def test_wrong_options_are_one_line_that_says_what_there_is(
    said: Callable[..., Any], options: list[str], wrong: str
) -> None:
    done = said(*options)
    assert isinstance(done.exception, UsageError)
    assert wrong in str(done.exception)


def test_a_part_that_is_not_there_is_told_with_those_that_are(said: Callable[..., Any]) -> None:
    assert "has the parts calibration, gate, test, train" in str(said(gate="val").exception)


def test_an_older_report_and_package_go_only_where_that_is_asked(said: Callable[..., Any], tmp_path: Path) -> None:
    assert said().exit_code == 0
    assert "is there already" in str(said(gate="test").exception)
    assert said("--force", gate="test").exit_code == 1
    assert not (tmp_path / "out" / "package").exists(), "that of another run would pass for this one's"


def test_what_a_stored_variant_must_pass_is_what_a_graph_must(package: ModelPackage) -> None:
    foreign = Payload("variant/int8", "variant-int8.onnx", "application/onnx", b"\x80\x04 a pickle")
    with pytest.raises(GraphError, match="a pickle"):
        check_package(build_package(package.card, [*package.payloads, foreign]))
