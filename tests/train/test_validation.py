"""A training judged: the figures are right, on the grid of the images; nothing flatters; what was done is kept."""

from __future__ import annotations

import copy
import csv
import json
import math
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from residency.card import Evaluation, parse_card
from residency.errors import CardError, TrainingError, UsageError
from residency.files.strict_yaml import read_yaml
from residency.train.config import TrainingConfig, read_config
from residency.train.evidence.rows import Row, row_from
from residency.train.run import run_training
from residency.train.validation import Asked, Judging, Validated, rows_in, validate

Written = Callable[[dict[str, Any]], Path]
PERSONS = 10
HELD_OUT = Asked()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls in shells, two of each person, on grids whose axes differ; a table with a site and an age."""
    folder = tmp_path_factory.mktemp("judged")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    random = np.random.default_rng(7)
    lines = ["name,person,split,site,age"]
    for number in range(2 * PERSONS):
        shape = random.integers(12, 17, 3)
        distance = np.linalg.norm(np.stack(np.indices(shape), -1) - shape / 2, axis=-1)
        labels = np.where(distance < 2.6, 1, np.where(distance < 4.6, 2, 0)).astype(np.uint8)
        values = np.choose(labels, (0.0, 9.0, 5.0)) + random.normal(0, 0.5, shape)
        affine = np.diag([1.0, 1.0, 1.0 + number % 2, 1.0])[[0, 2, 1, 3]]
        nibabel.Nifti1Image(values.astype(np.float32), affine).to_filename(folder / f"images/c{number}.nii.gz")
        nibabel.Nifti1Image(labels, affine).to_filename(folder / f"labels/c{number}.nii.gz")
        split = "val" if number >= 2 * PERSONS - 4 else "train"
        lines.append(f"c{number},p{number // 2},{split},{'AB'[number % 2]},{30 + number}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingConfig, Path, float]:
    """A training file, its finished run, and the figure that the loop found for its best weights."""
    place = tmp_path_factory.mktemp("run")
    values = {
        "name": "balls",
        "seed": 11,
        "threads": 2,
        "data": {
            "folder": str(folder),
            "name": "Balls in shells",
            "licence": "CC0-1.0",
            "source": "made by the tests",
            "labels": "exact",
            "classes": ["background", "ball", "shell"],
            "validation_share": 0.4,
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
        "schedule": {"steps": 40, "batch": 2, "rate": 0.02, "average": 0.8, "validate_every": 20},
    }
    file = place / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    config = read_config(file)
    outcome = run_training(config, place / "run", lambda _: None, lambda: False)
    return config, place / "run", outcome.best


def judge(
    trained: tuple[TrainingConfig, Path, float],
    out: Path,
    asked: Asked = HELD_OUT,
    cancelled: Callable[[], bool] = lambda: False,
    report: Callable[[Judging], None] = lambda _: None,
) -> Validated:
    config, run, _ = trained
    return validate(config, run, out, report, cancelled, asked)


@pytest.fixture(scope="module")
def validated(trained: tuple[TrainingConfig, Path, float], tmp_path_factory: pytest.TempPathFactory) -> Validated:
    return judge(trained, tmp_path_factory.mktemp("out"))


def test_the_figure_is_the_one_that_chose_the_weights(
    validated: Validated, trained: tuple[TrainingConfig, Path, float]
) -> None:
    """Two ways to it: the loop's on prepared volumes, and this one through preparation, windows and the way back."""
    assert validated.evidence is not None
    headline = validated.evidence.headline
    assert headline is not None
    assert headline.mean == pytest.approx(trained[2], abs=2e-4)
    assert (headline.cases, headline.persons) == (6, 3)
    assert headline.low <= headline.mean <= headline.high


def test_volumes_are_those_of_the_files(validated: Validated, folder: Path) -> None:
    assert validated.evidence is not None
    for row in validated.evidence.rows:
        image = nibabel.load(folder / f"labels/{row.case}.nii.gz")
        voxels = int((np.asarray(image.dataobj) == 2).sum())
        mm3 = voxels * abs(np.linalg.det(image.affine[:3, :3]))
        assert row.volumes["shell"][1] == pytest.approx(mm3 / 1000)
        error = row.volumes["shell"][0] - row.volumes["shell"][1]
        assert row.figures["shell"]["volume_error"] == pytest.approx(error)
        assert row.figures["shell"]["relative_volume_error"] == pytest.approx(error / row.volumes["shell"][1])


def test_the_files_hold_what_was_found(validated: Validated) -> None:
    told = json.loads((validated.folder / "evaluation.json").read_text())["evaluation"]
    figures = {one.metric: one for one in map(Evaluation.model_validate, told) if one.subgroup is None}
    assert {"Dice", "Dice ball", "HD95 shell", "Surface Dice ball", "Volume error shell", "ECE ball"} <= figures.keys()
    assert "chose the weights" in figures["Dice"].cohort
    assert figures["Volume error ball"].definition.startswith("Predicted minus reference volume, mL")
    assert validated.evidence is not None
    kept = json.loads((validated.folder / "cases.json").read_text())["cases"]
    assert tuple(map(row_from, kept)) == validated.evidence.rows


def test_the_draft_becomes_a_card_when_a_person_has_said_the_rest(validated: Validated, repository: Path) -> None:
    text = (validated.folder / "card.draft.yaml").read_bytes()
    drafted: dict[str, Any] = read_yaml(text, "the draft")
    with pytest.raises(CardError, match="identity"):
        parse_card(drafted)
    said: dict[str, Any] = read_yaml((repository / "models/hippocampus/card.yaml").read_bytes(), "a card")
    for field in ("identity", "licences", "intended_use", "regulatory", "golden", "failure_modes"):
        must = "MAY ADD" if field == "failure_modes" else "FILL IN"
        assert f"# {must} {field}: ".encode() in text
        drafted[field] = said[field]
    drafted["inputs"][0] |= {"modalities": ["MR"], "regions": said["inputs"][0]["regions"]}
    for mine, theirs in zip(drafted["outputs"][0]["classes"][1:], said["outputs"][0]["classes"][1:], strict=True):
        mine |= {"category": theirs["category"], "type": theirs["type"]}
    card = parse_card(drafted | {"parameters": 1})
    assert card.training.datasets[0].name == "Balls in shells"
    assert card.statistics.spacing_mm["PA"].most == 2.0
    gate = card.inputs[0].spacing_mm["PA"]  # not to the last digit what training saw
    assert (gate.least, gate.most) == (0.9, 2.2)
    assert card.evaluation[0].metric == "Dice"


def test_what_was_judged_is_not_judged_again(
    trained: tuple[TrainingConfig, Path, float], validated: Validated, tmp_path: Path
) -> None:
    """What is kept is taken, unless it is damaged or another case's; and a stop is heard in every part."""
    told: list[Judging] = []
    stopped = judge(trained, tmp_path, cancelled=lambda: len(told) >= 3, report=told.append)
    assert (stopped.finished, stopped.done, stopped.evidence) == (False, 3, None)
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cases").iterdir()}
    damaged, foreign, *whole = kept
    assert whole
    damaged.write_bytes(b'{"case": 1}')
    foreign.write_bytes(whole[0].read_bytes())
    asked = count()  # after each of the six cases, and then before each case of the training is looked at
    stopped = judge(trained, tmp_path, cancelled=lambda: next(asked) >= 6)
    assert (stopped.finished, stopped.done, stopped.evidence) == (False, 6, None)
    assert not (tmp_path / "report.html").exists()
    again = judge(trained, tmp_path)
    assert all(file.stat().st_mtime_ns == kept[file] for file in whole)
    assert again.evidence is not None
    assert validated.evidence is not None
    assert again.evidence.figures == validated.evidence.figures
    mended = [row_from(json.loads(file.read_bytes())).case for file in (damaged, foreign, *whole)]
    assert len(set(mended)) == len(mended)


def test_a_split_is_to_report_by(trained: tuple[TrainingConfig, Path, float], tmp_path: Path) -> None:
    found = judge(trained, tmp_path, Asked(split="val")).evidence
    assert found is not None
    assert {row.case for row in found.rows} == {"c16", "c17", "c18", "c19"}
    assert "to report, not to choose by" in found.caution
    told = json.loads((tmp_path / "evaluation.json").read_text())["evaluation"]
    assert all("split 'val'" in one["cohort"] for one in told)


@pytest.mark.parametrize(("split", "reason"), [("train", "was learnt from"), ("vall", "the data have: train, val")])
def test_a_split_that_was_learnt_from_or_is_not_there_is_refused(
    trained: tuple[TrainingConfig, Path, float], tmp_path: Path, split: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        judge(trained, tmp_path, Asked(split=split))


def test_persons_that_training_saw_are_refused_in_any_split(
    trained: tuple[TrainingConfig, Path, float], folder: Path, tmp_path: Path
) -> None:
    config, run, _ = trained
    moved = tmp_path / "data"
    moved.mkdir()
    for name in ("images", "labels"):
        (moved / name).symlink_to(folder / name)
    with (folder / "cases.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    rows[-1]["person"] = "p0"
    with (moved / "cases.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    elsewhere = config.model_copy(update={"data": config.data.model_copy(update={"folder": moved})})
    with pytest.raises(
        TrainingError, match=r"1 cases of split 'val' are of persons that training saw, the first is 'c19'"
    ):
        judge((elsewhere, run, 0.0), tmp_path / "out", Asked(split="val"))


def test_cases_are_divided_by_columns_of_the_table(
    trained: tuple[TrainingConfig, Path, float], validated: Validated, tmp_path: Path
) -> None:
    assert validated.evidence is not None
    by_itself = {one.group for one in validated.evidence.subgroups}
    assert by_itself == {("site", "A"), ("site", "B")}
    of_a = next(one for one in validated.evidence.subgroups if one.group == ("site", "A") and one.kind == "dice")
    wanted = [row for row in validated.evidence.rows if int(row.case[1:]) % 2 == 0]
    dices = [np.mean([figures["dice"] for figures in row.figures.values()]) for row in wanted]
    assert of_a.interval.mean == pytest.approx(np.mean(dices))
    with pytest.raises(UsageError, match=r"--by sight: the table of cases has no such column; did you mean 'site'"):
        judge(trained, tmp_path, Asked(by=("sight",)))
    assert not (tmp_path / "cases").exists()  # told before the first case is judged


def test_a_network_is_as_good_as_itself_and_no_better_than_a_better_one(
    trained: tuple[TrainingConfig, Path, float], validated: Validated, tmp_path: Path
) -> None:
    shutil.copytree(validated.folder / "cases", tmp_path / "cases")  # what was judged before
    itself = judge(trained, tmp_path, Asked(against=validated.folder)).evidence
    assert itself is not None
    assert {(one.kind, one.of) for one in itself.against} >= {("dice", "ball"), ("dice", "shell")}
    assert all(one.difference.mean == one.difference.low == one.difference.high == 0 for one in itself.against)
    kept = json.loads((validated.folder / "cases.json").read_text())
    for case in kept["cases"]:
        case["figures"]["ball"]["dice"] = 1.5
    other = tmp_path / "other" / tmp_path.name  # a run folder is looked into for a validation of the same name
    other.mkdir(parents=True)
    (other / "cases.json").write_text(json.dumps(kept))
    worse = judge(trained, tmp_path, Asked(against=tmp_path / "other")).evidence
    assert worse is not None
    ball = next(one for one in worse.against if (one.kind, one.of) == ("dice", "ball"))
    assert ball.difference.high < 0
    with pytest.raises(TrainingError, match="validate that run first"):
        judge(trained, tmp_path, Asked(against=tmp_path / "nowhere"))
    (other / "cases.json").write_text(json.dumps(kept | {"classes": ["background", "shell", "ball"]}))
    with pytest.raises(TrainingError, match="--against judged other classes"):
        rows_in(other, "", trained[0].data.classes)
    (other / "cases.json").write_text(json.dumps(kept | {"cases": [kept["cases"][0] | {"figures": {}}]}))
    with pytest.raises(TrainingError, match="is damaged; validate that run again"):
        rows_in(other, "", trained[0].data.classes)


def test_numbers_that_are_not_finite_survive_the_file() -> None:
    row = Row("a", "p", 0.1, figures={"x": {"dice": math.nan, "hd95": math.inf, "volume_error": -1.0}})
    plain = json.loads(json.dumps(row.plain(), allow_nan=False))
    back = row_from(plain).figures["x"]
    assert math.isnan(back["dice"])
    assert (back["hd95"], back["volume_error"]) == (math.inf, -1.0)


def test_a_package_is_judged_as_it_ships(shared_data: Path, repository: Path, tmp_path: Path) -> None:
    """Two cases of the shipped package's own test set give, to a voxel, the figures that its record holds."""
    config = read_config(repository / "models/hippocampus/train.yaml")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("images", "labels"):
        (data / name).symlink_to(shared_data / "hippocampus" / name)
    with (shared_data / "hippocampus/cases.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    recorded = json.loads((repository / "docs/results/hippocampus.json").read_text())["rows"][:2]
    names = {row["case"] for row in recorded}
    seen = [row for row in rows if row["split"] == "train"][:3]
    with (data / "cases.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows([*seen, *(row for row in rows if row["name"] in names)])
    config = config.model_copy(update={"data": config.data.model_copy(update={"folder": data})})
    asked = Asked(split="val", package=repository / "models/hippocampus")
    found = validate(config, tmp_path / "no-run", tmp_path / "out", lambda _: None, lambda: False, asked).evidence
    assert found is not None
    assert "OpenVINO" in found.judged
    for row, wanted in zip(found.rows, recorded, strict=True):
        for part in ("anterior", "posterior"):
            assert row.figures[part]["dice"] == pytest.approx(wanted[f"Dice {part}"], abs=2e-3)
            assert row.figures[part]["hd95"] == pytest.approx(wanted[f"HD95 {part}"], abs=0.5)
    assert "cannot be known" in found.caution  # of these data here the package has not learnt
    assert found.training is not None
    assert not (tmp_path / "out" / "card.draft.yaml").exists()  # it has a card


def test_a_package_of_other_classes_is_refused(
    trained: tuple[TrainingConfig, Path, float], repository: Path, tmp_path: Path
) -> None:
    config, run, best = trained
    values = copy.deepcopy(config.data)
    two = config.model_copy(update={"data": values.model_copy(update={"classes": ("background", "ball")})})
    with pytest.raises(TrainingError, match="segmentation of 3 classes, the training file's a segmentation of 2"):
        judge((two, run, best), tmp_path, Asked(package=repository / "models/hippocampus"))
