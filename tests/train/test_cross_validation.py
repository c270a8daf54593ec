"""Folds by person, trained and judged one by one, resumed where they stopped, and shipped as one network."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor

from residency.datasets import read_folds, write_folds
from residency.errors import ConfigError, TrainingError, UsageError
from residency.nets.ensemble import Ensemble
from residency.nets.net import Net
from residency.train.config import TrainingConfig, read_config
from residency.train.crossing import Crossed, Shown, cross_validate, folds_of, strata
from residency.train.ensemble import export_folds
from residency.train.progress import Progress
from residency.train.sources import gathered
from residency.train.state import make_net, read_tensors

Written = Callable[[dict[str, Any]], Path]


def quiet(*_: object) -> None:
    pass


def cross(
    config: TrainingConfig,
    folder: Path,
    cancelled: Callable[[], bool] = lambda: False,
    training: Callable[[int, Progress], None] = quiet,
    **how: Any,
) -> Crossed:
    return cross_validate(config, folder, Shown(training, quiet), cancelled, **how)


@pytest.fixture(scope="module")
def config(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """Five persons of split `train`, two cases each; a run of six steps."""
    values = {
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
        "schedule": {"steps": 6, "batch": 2, "rate": 0.01, "validate_every": 6, "save_every": 2},
        "export": {"unbiased_volumes": True},
    }
    file = tmp_path_factory.mktemp("crossed") / "train.yaml"
    file.write_text(yaml.safe_dump(values))
    return read_config(file)


@pytest.fixture(scope="module")
def crossed(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Crossed:
    return cross(config, tmp_path_factory.mktemp("folds") / "all", count=2)


def test_every_person_is_judged_once_by_a_network_that_did_not_learn_from_them(
    crossed: Crossed, config: TrainingConfig
) -> None:
    evidence = crossed.evidence
    assert evidence is not None
    cases = [case for case in gathered(config).cases if case.split == "train"]
    assert [row.case for row in evidence.rows] == sorted(case.name for case in cases)
    made = read_folds(crossed.folder / "splits_final.json")
    for row in evidence.rows:
        assert row.case in made[int(row.columns["fold"])].val
        assert row.case not in made[int(row.columns["fold"])].train
    assert evidence.headline is not None
    assert evidence.headline.persons == 5
    assert {one.group for one in evidence.subgroups} == {("fold", "0"), ("fold", "1")}


def test_the_card_tells_of_all_folds(crossed: Crossed) -> None:
    evidence = crossed.evidence
    assert evidence is not None
    assert evidence.training is not None
    assert evidence.training.split.startswith("2 folds by person of split 'train'")
    assert evidence.training.steps == 12
    text = (crossed.folder / "validation" / "report.html").read_text()
    assert "fold 0" in text
    assert "fold 1" in text


def test_what_is_done_is_not_done_again(crossed: Crossed, config: TrainingConfig) -> None:
    weights = {file: file.stat().st_mtime_ns for file in crossed.folder.glob("fold-*/best.pt")}
    assert len(weights) == 2
    steps: list[int] = []
    again = cross(config, crossed.folder, training=lambda _, done: steps.append(done.step))
    assert not steps
    assert weights == {file: file.stat().st_mtime_ns for file in weights}
    assert again.evidence is not None
    assert crossed.evidence is not None
    assert again.evidence.figures == crossed.evidence.figures


def test_what_was_stopped_goes_on_in_the_middle_of_a_fold_and_ends_alike(
    crossed: Crossed, config: TrainingConfig, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    stopped = cross(
        config,
        tmp_path,
        cancelled=lambda: steps[-1:] == [(1, 3)],
        training=lambda fold, done: steps.append((fold, done.step)),
        count=2,
    )
    assert (stopped.done, stopped.of, stopped.evidence) == (1, 2, None)
    later: list[tuple[int, int]] = []
    ended = cross(config, tmp_path, training=lambda fold, done: later.append((fold, done.step)))
    assert later == [(1, 4), (1, 5), (1, 6)]
    for fold in (0, 1):
        one, other = (read_tensors(folder / f"fold-{fold}" / "best.pt") for folder in (tmp_path, crossed.folder))
        assert all(torch.equal(one[name], other[name]) for name in other)
    assert ended.evidence is not None
    assert crossed.evidence is not None
    assert ended.evidence.headline == crossed.evidence.headline


@pytest.mark.slow
def test_the_graph_says_the_mean_of_what_the_folds_say(
    crossed: Crossed, config: TrainingConfig, tmp_path: Path
) -> None:
    made = export_folds(config.model_copy(update={"export": type(config.export)()}), crossed.folder, tmp_path)
    image = np.random.default_rng(0).normal(size=(1, 1, 12, 14, 16)).astype(np.float32)
    (scores,) = onnxruntime.InferenceSession(made.graph.read_bytes(), providers=["CPUExecutionProvider"]).run(
        None, {"image": image}
    )
    wanted = []
    for fold in (0, 1):
        net = make_net(config).eval()
        net.load_state_dict(read_tensors(crossed.folder / f"fold-{fold}" / "best.pt"))
        with torch.inference_mode():
            wanted.append(torch.softmax(net(torch.from_numpy(image)), dim=1).numpy())
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01
    found = torch.softmax(torch.from_numpy(scores), dim=1).numpy()
    assert np.allclose(found, np.mean(wanted, axis=0), atol=1e-5)
    told = json.loads(made.report.read_text())
    assert "Shipped: the ensemble of all of them" in told["training"]["split"]
    assert len(told["folds"]) == 2
    assert told["graph_sha256"] == made.digest


def test_a_fold_that_is_missing_is_not_left_out(crossed: Crossed, config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no file of folds"):
        export_folds(config, tmp_path, tmp_path)
    write_folds(read_folds(crossed.folder / "splits_final.json"), tmp_path / "splits_final.json")
    with pytest.raises(TrainingError, match=r"fold 0 in .* is not finished"):
        export_folds(config, tmp_path, tmp_path)


def test_folds_are_made_once_and_by_person(config: TrainingConfig, tmp_path: Path) -> None:
    first = folds_of(config, tmp_path, 5)
    kept = (tmp_path / "splits_final.json").read_bytes()
    assert [one.data.fold for one in first] == [0, 1, 2, 3, 4]
    assert folds_of(config.model_copy(update={"seed": 5}), tmp_path)[0].data.split_sha256 == first[0].data.split_sha256
    assert (tmp_path / "splits_final.json").read_bytes() == kept
    assert (
        Counter(name for fold in read_folds(tmp_path / "splits_final.json") for name in fold.val).most_common(1)[0][1]
        == 1
    )
    with pytest.raises(UsageError, match="holds 5 folds, not 3"):
        folds_of(config, tmp_path, 3)
    with pytest.raises(TrainingError, match="5 persons cannot be divided into 6 folds"):
        folds_of(config, tmp_path / "other", 6)
    with pytest.raises(ConfigError, match="one fold; leave it out"):
        folds_of(first[0], tmp_path)


def test_each_case_is_held_out_once(config: TrainingConfig, tmp_path: Path) -> None:
    first, second, *others = (folds_of(config, tmp_path, 5), read_folds(tmp_path / "splits_final.json"))[1]
    twice = [first, second, first, *others]
    write_folds(twice, tmp_path / "splits_final.json")
    with pytest.raises(TrainingError, match=rf"case '{min(first.val)}' is held out 2 times"):
        folds_of(config, tmp_path)
    write_folds([second, *others], tmp_path / "splits_final.json")
    with pytest.raises(TrainingError, match=rf"case '{min(first.val)}' is held out 0 times"):
        folds_of(config, tmp_path)


def test_folds_of_other_data_are_not_taken_for_ours(
    crossed: Crossed, config: TrainingConfig, small_set: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_set, tmp_path / "data")
    (label,) = (tmp_path / "data" / "labels").glob("c0.nii.gz")
    label.write_bytes((tmp_path / "data" / "images" / "c0.nii.gz").read_bytes())
    moved = config.model_copy(update={"data": config.data.model_copy(update={"folder": tmp_path / "data"})})
    with pytest.raises(TrainingError, match=r"^fold 0: .*was made with other data"):
        cross(moved, crossed.folder)


def test_strata_hold_structures_and_a_column(config: TrainingConfig, small_set: Path) -> None:
    cases = [case for case in gathered(config).cases if case.split == "train"]
    kinds = strata(config, cases, None)
    assert set(kinds) == {case.person for case in cases}
    assert all("class 1 class 2" in kind for kind in kinds.values())
    with pytest.raises(UsageError, match="--stratify scanner: the table has no such column; it has: none"):
        strata(config, cases, "scanner")


class Fixed(Net):
    """Says the same everywhere."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.channels = 1
        self.logits = torch.tensor(logits)

    def scores(self, image: Tensor) -> Tensor:
        return self.logits.reshape(1, -1, 1, 1, 1).expand(len(image), -1, *image.shape[2:])


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_ensemble_is_the_mean_of_probabilities_however_sure_its_members_are(exclusive: bool) -> None:
    image = torch.zeros(2, 1, 1, 1, 1)
    activate = (lambda x: torch.softmax(x, dim=1)) if exclusive else torch.sigmoid
    for logits in ([[3.0, -1.0], [-2.0, 0.5]], [[200.0, -200.0], [-300.0, 300.0]], [[500.0, -500.0]] * 2):
        members = [Fixed(one) for one in logits]
        scores = Ensemble(members, exclusive=exclusive)(image)
        assert torch.isfinite(scores).all()
        wanted = torch.stack([activate(member(image)) for member in members]).mean(dim=0)
        assert torch.allclose(activate(scores), wanted, atol=1e-6)


def test_an_ensemble_of_classifiers_is_the_mean_too() -> None:
    class Classifier(Fixed):
        def scores(self, image: Tensor) -> Tensor:
            return self.logits.expand(len(image), -1)

    members = [Classifier([3.0, -1.0, 0.0]), Classifier([-2.0, 0.5, 0.0])]
    image = torch.zeros(4, 1, 1, 1, 1)
    scores = Ensemble(members)(image)
    assert scores.shape == (4, 3)
    wanted = torch.stack([member(image).softmax(1) for member in members]).mean(dim=0)
    assert torch.allclose(scores.softmax(1), wanted, atol=1e-6)


def test_members_of_an_ensemble_take_the_same_images() -> None:
    other = Fixed([0.0, 1.0])
    other.multiple = 4
    with pytest.raises(ValueError, match="take the same images"):
        Ensemble([Fixed([0.0, 1.0]), other])
