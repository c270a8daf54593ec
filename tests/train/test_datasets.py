"""Cases from a table: nothing is taken from it that could lead elsewhere, and no person is on both sides of a split."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.datasets import Case, Table, digest, held_out, persons, read_case, read_cases
from residency.errors import ConfigError, TrainingError


def _cases(owners: list[int]) -> list[Case]:
    return [Case(f"c{k}", f"p{owner}", "train", {"image": Path()}, Path()) for k, owner in enumerate(owners)]


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_no_person_is_on_both_sides_and_nobody_is_lost(owners: list[int], share: float, seed: int) -> None:
    cases = _cases(owners)
    if len(set(owners)) < 2:
        with pytest.raises(TrainingError, match="at least two"):
            held_out(cases, share, seed)
        return
    kept, out = held_out(cases, share, seed)
    assert not set(persons(kept)) & set(persons(out))
    assert sorted(c.name for c in (*kept, *out)) == sorted(c.name for c in cases)
    assert kept
    assert out


@given(st.permutations(list(range(20))))
def test_who_is_held_out_does_not_depend_on_the_order_of_the_table(order: list[int]) -> None:
    assert persons(held_out(_cases(order), 0.2, 4)[1]) == persons(held_out(_cases(list(range(20))), 0.2, 4)[1])


def test_a_new_person_moves_no_other_one_into_training() -> None:
    before = set(persons(held_out(_cases(list(range(40))), 0.25, 9)[1]))
    after = set(persons(held_out(_cases(list(range(41))), 0.25, 9)[1]))
    assert len(before - after) <= 1


def test_cases_are_read_with_their_person(small_set: Path) -> None:
    cases = read_cases(small_set)
    assert len(cases) == 12
    assert persons(cases) == tuple(f"p{k}" for k in range(6))
    volume, labels = read_case(cases[0], classes=3)
    assert labels.shape == volume.grid.shape
    assert set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("../../etc/passwd,p0,train", "letters, digits"),
        ("c0/../c1,p0,train", "letters, digits"),
        ("c0,,train", "a person"),
        ("c77,p0,train", "is not there"),
        ("c0,p0,train\nc0,p0,train", "comes twice"),
        ("", "0 rows"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(small_set: Path, tmp_path: Path, row: str, said: str) -> None:
    folder = shutil.copytree(small_set, tmp_path / "data")
    (folder / "cases.csv").write_text("name,person,split\n" + row + "\n" * bool(row))
    with pytest.raises(TrainingError, match=said):
        read_cases(folder)


def test_a_missing_column_is_named_with_those_there_are(small_set: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'pair'; it has: name, person, split"):
        read_cases(small_set, Table(person="pair"))


def test_a_reference_on_another_grid_or_with_unknown_labels_is_refused(small_set: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_set, tmp_path / "data")
    case = read_cases(folder)[0]
    assert isinstance(case.reference, Path)
    image = nibabel.load(case.reference)
    nibabel.Nifti1Image(np.asanyarray(image.dataobj), np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(case.reference)
    with pytest.raises(TrainingError, match="different grids"):
        read_case(case, classes=3)
    nibabel.Nifti1Image(np.asanyarray(image.dataobj) * np.uint8(3), np.eye(4)).to_filename(case.reference)
    with pytest.raises(TrainingError, match=r"labels must be 0\.\.2"):
        read_case(case, classes=3)


def test_the_digest_changes_with_any_byte(small_set: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_set, tmp_path / "data")
    first = digest(read_cases(folder))
    assert first == digest(read_cases(small_set))
    file = read_cases(folder)[3].reference
    assert isinstance(file, Path)
    file.write_bytes(file.read_bytes()[:-1] + b"\x00\x01")
    assert digest(read_cases(folder)) != first


def test_the_hippocampus_set_is_split_by_person(shared_data: Path) -> None:
    cases = read_cases(shared_data / "hippocampus", Table(person="pair"))
    learnt = [case for case in cases if case.split == "train"]
    judged = [case for case in cases if case.split == "val"]
    assert (len(learnt), len(judged)) == (189, 41)
    assert not set(persons(learnt)) & set(persons(judged))
