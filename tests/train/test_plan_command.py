"""`residency plan`: whatever form the data have, a training file that can be trained, and nothing lost."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from residency.cli import plan
from residency.errors import TrainingError, UsageError
from residency.train.config import TrainingConfig, read_config
from residency.train.sources import divided
from residency.train.state import make_net
from residency.train.step import batches_are_whole

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    app = typer.Typer()
    plan.register(app)

    def run(*words: str | Path) -> Result:
        result = CliRunner().invoke(app, [*map(str, words), "--no-measure", "--threads", "2"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def plain(small_set: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "Plain set"
    shutil.copytree(small_set, folder)
    (folder / "cases.csv").unlink()
    return folder


@pytest.fixture
def nnunet(small_set: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset007_Balls"
    (folder / "imagesTr").mkdir(parents=True)
    shutil.copytree(small_set / "labels", folder / "labelsTr")
    for image in (small_set / "images").iterdir():
        shutil.copy(image, folder / "imagesTr" / image.name.replace(".nii", "_0000.nii"))
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "ball": 1, "shell": 2},
        "numTraining": 12,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    folder = tmp_path / "radiographs"
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(2)
    lines = ["name,patient,split,finding"]
    for k in range(20):
        Image.fromarray(random.integers(0, 255, (30, 26 + k % 3), np.uint8)).save(folder / f"images/x{k}.png")
        lines.append(f"x{k},p{k},train,{'pneumonia' if k % 4 else 'normal'}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


def _can_be_trained(file: Path) -> TrainingConfig:
    config = read_config(file)
    learning, judging = divided(config)
    assert learning
    assert judging
    batches_are_whole(make_net(config), config)
    return config


def test_a_table_is_planned_with_every_choice_and_its_reason(run: Run, small_set: Path, tmp_path: Path) -> None:
    shown = run(small_set, "--out", "made", "--name", "Balls in shells", "--modality", "mr").stdout
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert config.name == "balls-in-shells"
    assert config.data.classes == ("background", "class-1", "class-2")
    assert "residency train made" in shown
    text = (tmp_path / "made/train.yaml").read_text()
    told = json.loads((tmp_path / "made/plan.json").read_text())
    for choice in told["choices"]:
        assert choice["why"].strip(), choice
        assert choice["why"].split()[0] in text
    assert told["fingerprint"]["persons"] == 5  # of split train alone
    assert {choice["key"] for choice in told["choices"]} >= {"net.name", "patch", "recipe.resample", "schedule.steps"}
    assert told["machine"]["measured"] is False


def test_a_plain_folder_gets_its_table_in_the_plan(run: Run, plain: Path, tmp_path: Path) -> None:
    before = sorted(plain.rglob("*"))
    run(plain)
    assert sorted(plain.rglob("*")) == before
    folder = tmp_path / "plain-set-plan"
    config = _can_be_trained(folder / "train.yaml")
    with (folder / "cases.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    assert config.data.table == "../plain-set-plan/cases.csv"


def test_an_nnunet_folder_is_planned_as_it_lies(run: Run, nnunet: Path, tmp_path: Path) -> None:
    run(nnunet, "--out", "made")
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert config.data.kind == "nnunet"
    assert config.data.classes == ("background", "ball", "shell")
    assert [step.name for step in config.recipe.steps] == ["orient", "resample", "clip", "scale"]  # it says CT


def test_pictures_with_a_class_get_a_classifier(run: Run, radiographs: Path, tmp_path: Path) -> None:
    run(radiographs, "--out", "made")
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert config.net.name == "resnet18"
    assert config.data.tasks == {"finding": ("normal", "pneumonia")}
    assert config.sampling.balanced
    assert config.data.person_column == "patient"


def test_what_is_there_is_not_written_over(run: Run, small_set: Path, tmp_path: Path) -> None:
    run(small_set, "--out", "made")
    file = tmp_path / "made/train.yaml"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"made/train\.yaml is there already; .* --force"):
        run(small_set, "--out", "made")
    assert file.read_text() == "mine"
    run(small_set, "--out", "made", "--force")
    read_config(file)
    (tmp_path / "made/run").mkdir()
    (tmp_path / "made/run/checkpoint.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="belongs to the older plan"):
        run(small_set, "--out", "made", "--force")


def test_json_tells_everything_but_the_cases(run: Run, small_set: Path) -> None:
    told = json.loads(run(small_set, "--out", "made", "--json").stdout)
    assert told["training_file"]["net"]["name"]
    assert told["estimates"]["training_memory_gib"] > 0
    assert "cases" not in told["fingerprint"]


def test_equal_data_and_limits_give_an_equal_plan(run: Run, small_set: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(small_set, "--out", name, "--name", "same")
    assert (tmp_path / "one/train.yaml").read_text() == (tmp_path / "two/train.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--memory", "0.1"), "no net keeps within the limits"),
        (("--hours", "0"), "above 0"),
        (("--classes", "background,ball"), "2 names of classes, 3 label values"),
        (("--name", "???"), "makes no name"),
        (("--target", "name"), "has 12 different values"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_to_do(
    run: Run, small_set: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises((UsageError, TrainingError), match=message):
        run(small_set, "--out", "made", *words)
    assert not (tmp_path / "made/train.yaml").exists()


def test_gaps_in_label_values_are_refused_until_they_are_merged(run: Run, plain: Path, tmp_path: Path) -> None:
    for file in (plain / "labels").iterdir():
        held: Any = nibabel.load(file)
        values = np.asarray(held.dataobj).astype(np.uint8) * 7
        nibabel.Nifti1Image(values, held.affine).to_filename(file)
    with pytest.raises(TrainingError, match=r"label values are not consecutive: 3 values up to 14, not 1, 2.* --merge"):
        run(plain)
    with pytest.raises(UsageError, match=r"--merge 'a=x' is not of the form NAME=1,5"):
        run(plain, "--merge", "a=x")
    run(plain, "--merge", "ball=7", "--merge", "other=rest")
    config = _can_be_trained(tmp_path / "plain-set-plan/train.yaml")
    assert config.data.classes == ("background", "ball", "other")
    assert config.data.merge == {"ball": (7,), "other": "rest"}


@pytest.fixture
def two_images(nnunet: Path) -> Path:
    """The nnU-Net folder with a second image of each case."""
    for image in list((nnunet / "imagesTr").iterdir()):
        shutil.copy(image, image.with_name(image.name.replace("_0000", "_0001")))
    described = json.loads((nnunet / "dataset.json").read_text())
    described["channel_names"] = {"0": "T1", "1": "FLAIR"}
    (nnunet / "dataset.json").write_text(json.dumps(described))
    return nnunet


def test_cases_of_several_images_become_channels(run: Run, two_images: Path, tmp_path: Path) -> None:
    run(two_images, "--out", "made")
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert make_net(config).channels == 2
    assert [step.name for step in config.recipe.steps] == ["orient", "resample", "clip", "normalise"]
    told = json.loads((tmp_path / "made/plan.json").read_text())
    assert told["fingerprint"]["modalities"] == {"T1": "MR", "FLAIR": "MR"}


def test_images_of_a_table_are_named_one_by_one(run: Run, small_set: Path, tmp_path: Path) -> None:
    places = ("--image", "t1=images/{name}.nii.gz", "--image", "again=images/{name}.nii.gz")
    run(small_set, "--out", "made", *places)
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert config.data.images == {"t1": "images/{name}.nii.gz", "again": "images/{name}.nii.gz"}
    with pytest.raises(UsageError, match="several images a case have names"):
        run(small_set, "--out", "other", "--image", "a/{name}.nii", "--image", "b/{name}.nii")


def test_numbered_images_of_a_plain_folder_are_channels(run: Run, two_images: Path, tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (two_images / f"{name}Tr").rename(two_images / name)
    (two_images / "dataset.json").unlink()
    (two_images / "images/c3_0001.nii.gz").unlink()
    shown = run(two_images, "--out", "made", "--modality", "mr").stdout
    assert "1 of 12 cases lack one of their 2 images and are left out: c3" in shown
    config = _can_be_trained(tmp_path / "made/train.yaml")
    assert config.data.images == {"channel-0": "{image_0}", "channel-1": "{image_1}"}


def test_a_plan_that_cannot_be_written_is_refused_in_one_line(run: Run, small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file where a folder is to be")
    with pytest.raises(TrainingError, match=r"notes/.* cannot be written"):
        run(small_set, "--out", tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "a file where a folder is to be"
