"""What bench/monet.py measures with: persons apart, shifts that shift, labels that move with slices, intervals."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

TINY = {"steps": 2, "batch": 2, "rate": 1e-3, "clean": 1, "shifted": 1, "grades": [3]}


TASKS = ("hippocampus", "one regime", "lungs", "heads")
SHIFTS = ("contrast", "bias field", "resolution", "noise")


@pytest.fixture
def parts() -> Any:
    names = ("data", "findings", "shifts", "training")
    return SimpleNamespace(**{name: importlib.import_module(f"monet_parts.{name}") for name in names})


@pytest.fixture
def exam(parts: Any) -> Any:
    """A soft ball in the middle of a volume with a little noise."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 40, 36)), indexing="ij"))
    radius = np.sqrt((places**2).sum(0))
    noise = np.random.default_rng(0).normal(0, 4, radius.shape)
    image = (100 + 400 * np.clip(1.2 - radius, 0, 1) + noise).astype(np.float32)
    return parts.data.Exam("ball", "ball", "val", "", image, (radius < 0.6).astype(np.uint8), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("task", TASKS)
def test_nobody_is_judged_who_was_learnt_from(parts: Any, task: str, shared_data: Path) -> None:
    judged = set()
    for fold in range(parts.data.FOLDS):
        learnt = {exam.person for exam in parts.data.learning(task, fold)}
        asked = {exam.person for exam in parts.data.judging(task, fold)}
        assert learnt
        assert asked
        assert not learnt & asked
        judged |= asked
    if task == "heads":
        assert judged == {exam.person for exam in parts.data.exams(task)}
    if task == "one regime":
        assert {exam.kind for exam in parts.data.learning(task, 0)} == {"float32_low"}
        assert {exam.kind for exam in parts.data.judging(task, 0)} == {"float32_low", "float32_high", "uint8"}


def test_every_exam_fits_the_slices_of_its_task(parts: Any, shared_data: Path) -> None:
    for task, needed in parts.data.TASKS.items():
        exams = parts.data.exams(task)
        largest = np.max([exam.image.shape[1:] for exam in exams], axis=0)
        assert (largest <= needed.shape).all()
        assert not any(side % 16 for side in needed.shape)
        images, labels = parts.training.padded(exams[0], task)
        assert images.shape[1:] == labels.shape[1:] == needed.shape
        assert np.bincount(labels.ravel())[1:].tolist() == np.bincount(exams[0].labels.ravel())[1:].tolist()
        assert len(np.unique(labels)) == len(needed.classes) + 1


def test_fewer_persons_are_among_more(parts: Any, exam: Any) -> None:
    many = [replace(exam, name=f"{n}", person=str(n // 2)) for n in range(20)]
    few, more = parts.data.one_a_person(many, 3), parts.data.one_a_person(many, 6)
    assert more[:3] == few
    assert len({one.person for one in parts.data.one_a_person(many)}) == 10


@pytest.mark.parametrize("kind", SHIFTS)
def test_a_shift_is_the_same_every_time_grows_with_its_grade_and_leaves_labels(
    parts: Any, kind: str, exam: Any
) -> None:
    made = [parts.shifts.shifted(exam, kind, grade) for grade in (1, 2, 3)]
    assert np.array_equal(made[1].image, parts.shifts.shifted(exam, kind, 2).image)
    off = [float(np.abs(one.image - exam.image).mean()) for one in made]
    assert 0 < off[0] < off[1] < off[2]
    assert all(one.labels is exam.labels and np.isfinite(one.image).all() for one in made)


def test_coarser_voxels_move_nothing(parts: Any, exam: Any) -> None:
    """Else a net would be blamed for an image that lies beside its reference."""
    ramp = np.broadcast_to(np.arange(36.0), (12, 40, 36)).astype(np.float32)
    found = parts.shifts.shifted(replace(exam, image=ramp), "resolution", 3).image
    assert found[:, :, 4:-4] == pytest.approx(ramp[:, :, 4:-4], abs=1e-3)


def test_labels_move_with_their_slices(parts: Any) -> None:
    down, right = np.meshgrid(np.arange(64), np.arange(48), indexing="ij")
    mask = ((down - 20) ** 2 + 2 * (right - 30) ** 2 < 150).astype(np.float32)
    images = torch.from_numpy(np.stack([mask] * 8))[:, None]
    moved, labels = parts.training.augmented(images, images[:, 0].long(), np.random.default_rng(3))
    shapes = {tuple(one.flatten().tolist()) for one in labels}
    assert len(shapes) == 8
    for image, found in zip(moved[:, 0], labels, strict=True):
        bright = image > (image.max() + image.min()) / 2
        assert 2 * (bright & (found == 1)).sum() / (bright.sum() + (found == 1).sum()) > 0.97
        # A turn or a zoom of a slice that is no square must not squeeze it: the ellipse keeps its proportions.
        rows, columns = (np.nonzero((found == 1).numpy().any(axis))[0] for axis in (1, 0))
        assert 1.1 < np.ptp(rows) / np.ptp(columns) < 1.8


@pytest.mark.slow
def test_all_nets_of_a_seed_see_the_same_and_a_run_repeats_itself(parts: Any, shared_data: Path) -> None:
    seen: dict[str, list[float]] = {}
    real = parts.training.augmented

    def watch(images: Any, labels: Any, random: Any) -> Any:
        made = real(images, labels, random)
        seen.setdefault(name, []).append(float(made[0].double().sum()))
        return made

    losses = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts.training, "augmented", watch)
        for name, net in (("a", "MoNet"), ("b", "U-Net-16"), ("c", "MoNet")):
            losses[name] = parts.training.trained(parts.training.Run("lungs", net, 1, TINY))[1]
    assert seen["a"] == seen["b"] == seen["c"]
    assert losses["a"] == losses["c"] != losses["b"]


def test_a_run_is_taken_up_where_it_was_left(parts: Any, tmp_path: Path, shared_data: Path) -> None:
    run = parts.training.Run("lungs", "U-Net-16", 0, TINY)
    made = parts.training.carry_out(run, tmp_path)
    assert [(one["shift"], one["grade"]) for one in made["figures"]] == [
        ("as it is", 0),
        *((kind, 3) for kind in SHIFTS),
    ]
    again = parts.training.outcomes([run], tmp_path, 1, lambda line: pytest.fail(f"trained anew: {line}"))
    assert again[run.name]["figures"] == made["figures"]
    assert run.name != parts.training.Run("lungs", "U-Net-16", 0, TINY | {"steps": 3}).name


def test_a_structure_that_is_missed_counts_as_far_away(parts: Any, exam: Any) -> None:
    class Blind(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.ones_like(image[:, 0]), torch.zeros_like(image[:, 0])], 1)

    small = replace(exam, image=exam.image[:, :32, :32], labels=exam.labels[:, :32, :32])
    found = parts.training.figures(Blind(), "lungs", small, "as it is", 0)
    assert (found["Dice"], found["missed"]) == (0.0, 1)
    assert found["HD95"] == pytest.approx(np.sqrt(12**2 + 32**2 + 32**2))


def test_slices_come_back_to_where_they_were(parts: Any, exam: Any) -> None:
    class Bright(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([-image, image], 1)

    found = parts.training.segmented(Bright(), "lungs", exam)
    assert found.shape == exam.labels.shape
    assert np.array_equal(found == 1, exam.image > exam.image.clip(*np.percentile(exam.image, (0.5, 99.5))).mean())


def outcome(net: str, seed: int, figures: dict[tuple[str, str], float]) -> dict[str, Any]:
    told = [
        {"exam": p, "person": p, "kind": "", "shift": s, "grade": 0 if s == "as it is" else 1, "Dice": v, "HD95": 1.0}
        for (p, s), v in figures.items()
    ]
    size = {"MoNet": 401_666}.get(net, 1_943_761)
    return {"run": {"task": "lungs", "net": net, "seed": seed}, "parameters": size, "figures": told}


def test_claims_are_judged_by_paired_differences_over_seeds_and_persons(parts: Any) -> None:
    random = np.random.default_rng(0)
    persons = {str(n): random.normal(0.7, 0.2) for n in range(12)}

    def of(gain: dict[str, float], seed: int) -> dict[tuple[str, str], float]:
        return {(p, s): base + g + 0.001 * seed for p, base in persons.items() for s, g in gain.items()}

    ours = [outcome("MoNet", seed, of({"as it is": 0.0, "noise": -0.05}, seed)) for seed in range(3)]
    theirs = [outcome("U-Net-16", seed, of({"as it is": 0.005, "noise": -0.15}, seed)) for seed in range(3)]
    smaller, *found = parts.findings.claims(parts.findings.grouped([*ours, *theirs]), judged=True)
    assert (smaller.holds, smaller.value) == (True, "0.207 (401,666 against 1,943,761)")
    assert [claim.holds for claim in found] == [True, True]
    assert [claim.value for claim in found] == ["-0.005 (-0.005 to -0.005)", "0.100 (0.100 to 0.100)"]
    smaller, *turned = parts.findings.claims(
        parts.findings.grouped(
            [
                *theirs[:0],
                *[
                    {**one, "run": {**one["run"], "net": other}}
                    for group, other in ((ours, "U-Net-16"), (theirs, "MoNet"))
                    for one in group
                ],
            ]
        ),
        judged=True,
    )
    assert [claim.holds for claim in turned] == [True, False]


def test_a_run_of_other_code_or_of_other_data_is_not_taken_for_this_one(
    parts: Any, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    run = parts.training.Run("lungs", "MoNet", 0, TINY)
    name = run.name
    monkeypatch.setattr(parts.training, "tables_digest", lambda task: f"other {task}")
    other_data = run.name
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(Path(parts.training.__file__).parents[1]))
    monkeypatch.setattr(parts.training, "CODE", "other")
    assert len({name, other_data, run.name}) == 3


def test_the_page_says_what_was_claimed_and_what_was_not_measured(parts: Any) -> None:
    bench, contract = importlib.import_module("monet"), importlib.import_module("contract")
    figures = {("a", "as it is"): 0.5, ("b", "as it is"): 0.75, ("a", "noise"): 0.25}
    runs = [
        {**one, "figures": [figure | {"missed": 0} for figure in one["figures"]]}
        for one in (outcome("MoNet", 0, figures), outcome("U-Net-16", 0, dict(list(figures.items())[:2])))
    ]
    groups = parts.findings.grouped(runs)
    rows = parts.findings.rows(groups)
    report = contract.Report("MoNet", rows, parts.findings.claims(groups[:1], judged=True))
    made = bench.page(json.loads(json.dumps(contract.body_of(report, "python bench/monet.py", quick=False))))
    assert "| as it is | 0.625 (0.500 to 0.750) | 0.625 (0.500 to 0.750) |" in made
    assert "| noise 1 | 0.250 (0.250 to 0.250) | not measured |" in made


def test_an_interval_is_as_wide_as_seeds_and_persons_differ(parts: Any) -> None:
    random = np.random.default_rng(1)
    by_person = {(s, str(p)): [v] for p, v in enumerate(random.normal(0, 1, 40)) for s in range(3)}
    by_seed = {(s, str(p)): [v] for s, v in enumerate((-1.0, 0.0, 1.0)) for p in range(40)}
    one, other = parts.findings.interval(by_person), parts.findings.interval(by_seed)
    assert one.high - one.low == pytest.approx(4 / np.sqrt(40), rel=0.25)
    assert (other.low, other.high) == pytest.approx((-1, 1))
    folds = {(p % 3, str(p)): [v] for p, v in enumerate(random.normal(0, 1, 15))}
    assert parts.findings.interval(folds).exams == 15
