"""Folds: even, by person, the same whatever the order of the table, and kept in a file that is not believed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.datasets import (
    Case,
    Fold,
    Table,
    folds,
    in_fold,
    persons,
    read_cases,
    read_folds,
    strata_of,
    write_folds,
)
from residency.errors import TrainingError


def _cases(owners: list[int]) -> list[Case]:
    return [Case(f"c{k}", f"p{owner}", "train", {"image": Path()}) for k, owner in enumerate(owners)]


_OWNERS = st.lists(st.integers(0, 40), min_size=2, max_size=80)


@given(_OWNERS, st.integers(2, 6), st.integers(0, 2**31))
def test_everybody_is_judged_once_and_never_learnt_from_at_the_same_time(
    owners: list[int], count: int, seed: int
) -> None:
    cases = _cases(owners)
    if len(set(owners)) < count:
        with pytest.raises(TrainingError, match="cannot be divided"):
            folds(cases, count, seed)
        return
    made = folds(cases, count, seed)
    assert sorted(name for fold in made for name in fold.val) == sorted(case.name for case in cases)
    for fold in made:
        learning, judging = in_fold(cases, fold, "here")
        assert not set(persons(learning)) & set(persons(judging))


@given(_OWNERS, st.integers(2, 5), st.integers(0, 2**31))
def test_folds_are_even_in_persons_also_within_each_kind(owners: list[int], count: int, seed: int) -> None:
    cases = _cases(owners)
    everyone = persons(cases)
    if len(everyone) < count:
        return
    strata = {person: "abc"[int(person[1:]) % 3] for person in everyone}
    person_of = {case.name: case.person for case in cases}
    held = [{person_of[name] for name in fold.val} for fold in folds(cases, count, seed, strata)]
    for kind in ("a", "b", "c", "abc"):
        sizes = [sum(strata[person] in kind for person in fold) for fold in held]
        assert max(sizes) - min(sizes) <= 1


@given(st.permutations(list(range(20))), st.integers(0, 99))
def test_folds_do_not_depend_on_the_order_of_the_table(order: list[int], seed: int) -> None:
    straight = _cases(list(range(20)))
    assert folds([straight[k] for k in order], 4, seed) == folds(straight, 4, seed)


def test_another_seed_gives_other_folds() -> None:
    cases = _cases(list(range(20)))
    assert folds(cases, 5, 1) != folds(cases, 5, 2)


def test_cases_stay_close_where_persons_have_one_to_three() -> None:
    cases = _cases([owner for owner in range(60) for _ in range(1 + owner % 3)])
    sizes = [len(fold.val) for fold in folds(cases, 5, 7)]
    assert sum(sizes) == 120
    assert max(sizes) - min(sizes) <= 2


def test_persons_are_told_apart_by_labels_structures_and_size() -> None:
    labelled = [Case(f"c{k}", f"p{k}", "train", {"image": Path()}, labels={"finding": k % 2}) for k in range(4)]
    assert strata_of(labelled) == {"p0": "finding=0", "p1": "finding=1", "p2": "finding=0", "p3": "finding=1"}
    plain = _cases(list(range(7)))
    volumes = {f"c{k}": (10.0 * k, 0.0) for k in range(6)} | {"c6": (1.0, 5.0)}
    kinds = strata_of(plain, volumes)
    assert kinds["p0"] == ""
    assert kinds["p6"] == "class 1 class 2"
    assert Counter(kinds[f"p{k}"] for k in range(1, 6)) == {
        "class 1 third 0": 2,
        "class 1 third 1": 2,
        "class 1 third 2": 1,
    }


def test_folds_are_kept_in_the_form_of_nnu_net(tmp_path: Path) -> None:
    made = folds(_cases(list(range(9))), 3, 5)
    file = tmp_path / "splits_final.json"
    write_folds(made, file)
    assert read_folds(file) == made
    assert json.loads(file.read_text())[1] == {"train": list(made[1].train), "val": list(made[1].val)}
    assert [path.name for path in tmp_path.iterdir()] == ["splits_final.json"]


@pytest.mark.parametrize(
    ("fold", "said"),
    [
        (Fold(("c0", "c1"), ("c2", "c3")), "puts 1 persons on both sides, the first with case 'c1', 'c2'"),
        (Fold(("c0", "c1", "c2"), ("c3", "c9")), "'c9' not in the training split"),
        (Fold(("c0",), ("c3",)), "'c1', 'c2' in the training split of the data, but not in the fold"),
        (Fold(("c0", "c1", "c2"), ("c2", "c3")), "'c2' named twice"),
        (Fold((), ("c0", "c1", "c2", "c3")), "no case to learn from"),
        (Fold(("c0", "c1", "c2", "c3"), ()), "no case to judge by"),
    ],
)
def test_a_fold_that_does_not_divide_the_cases_by_person_is_refused(fold: Fold, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        in_fold(_cases([0, 1, 1, 2]), fold, "splits.json: fold 0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "no list"),
        ("[]", "no list"),
        ('[{"train": ["a"]}]', "fold 0 must be"),
        ('[{"train": ["a"], "val": [1]}]', "fold 0 must be"),
        ('[{"train": ["a"], "val": ["b"]}, 3]', "fold 1 must be"),
    ],
)
def test_a_file_that_holds_no_folds_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "folds.json"
    file.write_text(text)
    with pytest.raises(TrainingError, match=said):
        read_folds(file)


def test_both_sides_of_a_hippocampus_stay_in_one_fold(shared_data: Path) -> None:
    cases = [c for c in read_cases(shared_data / "hippocampus", Table(person="pair")) if c.split == "train"]
    made = folds(cases, 5, 20261121)
    for fold in made:
        in_fold(cases, fold, "here")
    sizes = [len(fold.val) for fold in made]
    assert sum(sizes) == 189
    assert max(sizes) - min(sizes) <= 2
