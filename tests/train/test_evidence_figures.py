"""Figures of many cases, from rows made by hand: what was missed counts, persons are drawn whole, classes are apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from residency.datasets import Case
from residency.errors import TrainingError
from residency.metrics import Bin, error_of, expected_calibration_error, pooled, reliability
from residency.train.evidence import rows
from residency.train.evidence.figures import ALL, Figure, compared, figures_of, groups, score
from residency.train.evidence.found import evaluations, found_in
from residency.train.evidence.rows import Answer, Row
from residency.train.task import Judged
from residency.volume import Volume, regular_grid

CLASSES = ("background", "a", "b")


def row(number: int, dice: float, hd95: float, *, of_b: float = 0.5, person: str = "", **columns: str) -> Row:
    figures = {
        "a": {"dice": dice, "hd95": hd95, "surface_dice": dice},
        "b": {"dice": of_b, "hd95": 1.0, "surface_dice": of_b},
    }
    return Row(f"c{number}", person or f"p{number}", 0.1, figures=figures, columns=columns)


def only(found: tuple[Figure, ...], kind: str, of: str) -> Figure:
    (one,) = (figure for figure in found if figure.kind == kind and figure.of == of)
    return one


def test_a_missed_structure_counts_and_is_told_apart() -> None:
    rows = [row(0, 0.9, 1.0), row(1, 0.8, 3.0), row(2, 0.0, math.inf), row(3, math.nan, math.nan)]
    found = figures_of(rows, CLASSES, 1)
    dice = only(found, "dice", "a")
    assert dice.interval.mean == pytest.approx(1.7 / 3)
    assert (dice.interval.cases, dice.interval.left_out, dice.worst) == (3, 1, 0.0)
    far = only(found, "hd95", "a")
    assert far.interval.mean == math.inf
    assert (far.interval.infinite, far.worst, far.median) == (1, math.inf, 3.0)
    assert far.finite is not None
    assert far.finite.mean == 2.0
    both = only(found, "dice", ALL)
    assert both.interval.mean == pytest.approx(np.mean([0.7, 0.65, 0.25, 0.5]))


def test_a_card_takes_no_infinity_and_says_who_was_left_out() -> None:
    rows = [row(0, 0.9, 1.0), row(1, 0.8, 3.0), row(2, 0.0, math.inf)]
    evidence = found_in(rows, CLASSES, 1, title="t", judged="j", cohort="c", caution="d")
    told = {one.metric: one for one in evaluations(evidence)}
    assert (told["HD95 a"].value, told["HD95 a"].cases) == (2.0, 2)
    assert "1 of 3 cases, missed or invented, have none and are left out" in told["HD95 a"].definition
    assert told["Dice a"].cases == 3
    assert [row.case for row in evidence.worst] == ["c2", "c1", "c0"]
    assert all("bootstrap over persons" in one.definition for one in told.values() if one.persons > 1)
    alone = found_in(rows[:1], CLASSES, 1, title="t", judged="j", cohort="c", caution="d")
    assert all("one person, and so no interval" in one.definition for one in evaluations(alone))


def test_nothing_to_judge_is_no_figure() -> None:
    found = figures_of([row(0, math.nan, math.nan)], CLASSES, 1)
    assert not [figure for figure in found if figure.of == "a"]


def test_persons_are_drawn_with_all_their_cases() -> None:
    alone = [row(n, 0.5 + 0.01 * n, 1.0) for n in range(40)]
    pairs = [row(n, 0.5 + 0.01 * n, 1.0, person=f"p{n // 20}") for n in range(40)]
    widths = [
        only(figures_of(rows, CLASSES, 1), "dice", "a").interval.high
        - only(figures_of(rows, CLASSES, 1), "dice", "a").interval.low
        for rows in (alone, pairs)
    ]
    assert widths[1] > 2 * widths[0]


def test_calibration_of_voxels_is_that_of_all_voxels_together() -> None:
    random = np.random.default_rng(0)
    said = random.uniform(0, 1, 3000)
    truths = random.uniform(0, 1, 3000) < said**2
    parts = [slice(0, 500), slice(500, 1700), slice(1700, 3000)]
    bins = [reliability(said[part], truths[part]) for part in parts]
    together = pooled(bins)
    assert [one.cases for one in together] == [one.cases for one in reliability(said, truths)]
    assert error_of(together) == pytest.approx(expected_calibration_error(said, truths))
    rows = [
        Row(f"c{n}", f"p{n}", 0.1, figures=row(n, 0.5, 1.0).figures, reliability={"a": held})
        for n, held in enumerate(bins)
    ]
    ece = only(figures_of(rows, CLASSES, 1), "ece", "a").interval
    assert ece.mean == pytest.approx(error_of(together))
    assert ece.low <= ece.mean <= ece.high
    assert ece.persons == 3
    assert pooled([()]) == ()
    assert pooled([(Bin(0, 0.5, 2, 0.25, 0.5),), (Bin(0, 0.5, 2, 0.35, 0.0),)]) == (
        Bin(0, 0.5, 4, pytest.approx(0.3), 0.25),
    )


def test_columns_of_few_values_divide_and_many_numbers_give_thirds() -> None:
    rows = [row(n, 0.5, 1.0, site="AB"[n % 2], age=str(20 + n), name=f"x{n}") for n in range(12)]
    assert groups(rows, ()).keys() == {"site", "age"}
    thirds = groups(rows, ("age",))["age"]
    assert [len(members) for members in thirds.values()] == [4, 4, 4]
    assert {one.case for one in next(iter(thirds.values()))} == {"c0", "c1", "c2", "c3"}
    assert [len(members) for members in groups([*rows, row(12, 0.5, 1.0)], ("site",))["site"].values()] == [1, 6, 6]


def test_columns_of_files_and_digests_divide_only_when_asked() -> None:
    technical = {
        "image": "images/{}.nii.gz",
        "mask": "{}.png",
        "folder": "/data/{}",
        "sha256": "0123456789abcdef" * 3 + "0123456789abcde{}",
        "series": "1.2.826.0.1.3680043.8.498.1234567{}",
    }
    rows = [
        row(n, 0.5, 1.0, site=("GE", "n/a")[n % 2], **{key: value.format(n % 3) for key, value in technical.items()})
        for n in range(12)
    ]
    assert groups(rows, ()).keys() == {"site"}
    assert groups(rows, ("series", "mask")).keys() == {"series", "mask"}


CLASSIFIED = [
    Row(f"c{n}", f"p{n}", 0.1, probabilities=(1 - p, p), truth=truth)
    for n, (p, truth) in enumerate([(0.1, 0), (0.2, 0), (0.6, 0), (0.4, 1), (0.8, 1), (0.9, 1)])
]


def test_thirds_leave_no_group_empty() -> None:
    """Where many share a value, both ends of the middle third are that value."""
    rows = [row(n, 0.5, 1.0, age=str(max(0, n - 30))) for n in range(40)]
    assert {name: len(members) for name, members in groups(rows, ("age",))["age"].items()} == {
        "up to 0": 31,
        "above 0": 9,
    }
    found = found_in(rows, CLASSES, 1, title="t", judged="j", cohort="c", caution="d")
    assert {one.group for one in found.subgroups} == {("age", "up to 0"), ("age", "above 0")}


def test_a_group_has_the_same_figure_as_its_cases_alone() -> None:
    rows = [row(n, 0.5 + 0.01 * n, 1.0, of_b=0.9, site="AB"[n % 2]) for n in range(12)]
    found = found_in(rows, CLASSES, 1, title="t", judged="j", cohort="c", caution="d").subgroups
    assert {(one.kind, one.of) for one in found} == {("dice", ALL), ("hd95", ALL)}
    of_b = next(one for one in found if one.kind == "dice" and one.group == ("site", "B"))
    assert of_b.interval == only(figures_of(rows[1::2], CLASSES, 1), "dice", ALL).interval


def test_distances_in_images_without_spacing_are_no_millimetres() -> None:
    rows = [replace(row(n, 0.5, 1.0), unit="pixels") for n in range(2)]
    evidence = found_in(rows, CLASSES, 1, title="t", judged="j", cohort="c", caution="d")
    assert only(evidence.figures, "hd95", "a").unit("pixels") == "pixels"
    assert only(evidence.figures, "hd95", "a").unit("mL") == "mm"
    told = {one.metric: one.definition for one in evaluations(evidence)}
    assert told["HD95 a"].startswith("95th percentile of the surface distance, pixels,")
    assert "within 1 pixels" in told["Surface Dice a"]


def test_figures_of_a_classification() -> None:
    found = figures_of(CLASSIFIED, ("well", "ill"), 1)
    assert only(found, "auc", "ill").interval.mean == pytest.approx(8 / 9)
    assert only(found, "balanced_accuracy", ALL).interval.mean == pytest.approx(2 / 3)
    squares = [0.01, 0.04, 0.36, 0.36, 0.04, 0.01]
    assert only(found, "brier", ALL).interval.mean == pytest.approx(2 * np.mean(squares))
    assert {figure.kind for figure in found} == {"auc", "auprc", "balanced_accuracy", "ece", "brier"}
    evidence = found_in(CLASSIFIED, ("well", "ill"), 1, title="t", judged="j", cohort="c", caution="d")
    assert evidence.confusion is not None
    assert evidence.confusion.tolist() == [[2, 1], [1, 2]]
    assert [one.case for one in evidence.worst[:2]] == ["c2", "c3"]
    assert score(CLASSIFIED[0]) == pytest.approx(0.9)


def test_probabilities_that_do_not_sum_to_one_have_no_common_calibration() -> None:
    rows = [Row(f"c{n}", f"p{n}", 0.1, probabilities=(0.9, 0.1 * n), truth=n % 2) for n in range(6)]
    kinds = {figure.kind for figure in figures_of(rows, ("one", "two"), 1)}
    assert kinds == {"auc", "auprc", "balanced_accuracy"}


def test_two_classifiers_are_compared_on_the_same_persons() -> None:
    perfect = [
        Row(one.case, one.person, 0.1, probabilities=(0.9, 0.1) if one.truth == 0 else (0.1, 0.9), truth=one.truth)
        for one in CLASSIFIED
    ]
    (found,) = compared(CLASSIFIED, perfect, ("well", "ill"), 1)
    assert found.difference.mean == pytest.approx(-1 / 9)
    assert found.difference.high <= 0


def test_only_what_was_judged_by_the_same_references_is_compared() -> None:
    other = [replace(one, truth=1 - (one.truth or 0)) if one.case == "c2" else one for one in CLASSIFIED]
    with pytest.raises(TrainingError, match=r"--against judged 1 cases by other references, the first is 'c2'"):
        compared(CLASSIFIED, other, ("well", "ill"), 1)
    ours, theirs = ([replace(row(0, 0.5, 1.0), volumes={"a": (1.0, wanted)})] for wanted in (2.0, 2.5))
    with pytest.raises(TrainingError, match="by other references"):
        compared(ours, theirs, CLASSES, 1)


def test_a_row_that_lacks_something_is_not_taken_for_whole() -> None:
    held = dict.fromkeys(rows.OF_MASKS, 0.5)
    one = Row("c", "p", 0.1, figures={"a": held, "b": held}, volumes={"a": (1, 1), "b": (1, 1)})
    assert rows.is_whole(one, CLASSES)
    assert not rows.is_whole(one, CLASSES[:2])
    assert not rows.is_whole(replace(one, figures={"a": held, "b": {"dice": 0.5}}), CLASSES)
    assert not rows.is_whole(replace(one, volumes={}), CLASSES)
    assert rows.is_whole(CLASSIFIED[0], ("well", "ill"))
    assert not rows.is_whole(CLASSIFIED[0], CLASSES)
    assert not rows.is_whole(replace(CLASSIFIED[0], truth=2), ("well", "ill"))
    assert not rows.is_whole(replace(CLASSIFIED[0], probabilities=(math.nan, 1.0)), ("well", "ill"))


def test_a_single_slice_is_judged_as_a_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc that is 2 mm too large all around is 2 mm off; as a volume of one slice it would be off by nearly 0."""
    grid = regular_grid((1, 64, 64), (5.0, 1.0, 1.0))
    distance = np.hypot(*(np.indices((64, 64)) - 32))[None]
    wanted, said = distance <= 12, distance <= 14
    volume = Volume(np.zeros(grid.shape, np.float32), grid)
    monkeypatch.setattr(rows, "answered", lambda *_: Answer(volume, (said,), (wanted,), None))
    classes = ("background", "disc")
    asked = Judged(None, classes, slice(0, 2), classes)
    found = rows.judged(Case("c", "p", "val", {}), None, asked)  # type: ignore[arg-type]  # nobody is asked
    assert found.figures["disc"]["hd95"] == pytest.approx(2, abs=0.3)
    assert found.figures["disc"]["surface_dice"] < 0.1
    assert found.figures["disc"]["volume_error"] == pytest.approx((said.sum() - wanted.sum()) * 5 / 1000)
    assert found.unit == "mL"
