"""What kind of data set a folder holds is found out, and every guess is told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from residency.datasets.layout import Hints, modality_named, table_text
from residency.datasets.layouts import layout_of
from residency.datasets.owners import guess_owner
from residency.errors import ResidencyError, TrainingError, UsageError


def _files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_whole_table_is_taken_as_it_stands(small_set: Path) -> None:
    found = layout_of(small_set)
    assert found.table == ()
    assert found.data == {
        "kind": "table",
        "case_column": "name",
        "person_column": "person",
        "split_column": "split",
        "train": "train",
        "image": "images/{name}.nii.gz",
        "reference": "labels/{name}.nii.gz",
    }
    assert any("'val' (2)" in note for note in found.notes)


def test_columns_are_found_by_what_people_call_them(tmp_path: Path) -> None:
    _files(tmp_path, *(f"scans/s{k}.nii" for k in range(3)), *(f"masks/s{k}.nii" for k in range(3)))
    (tmp_path / "cases.csv").write_text(
        "Case,Patient,Subset\n" + "".join(f"s{k},q{k // 2},training\n" for k in range(3))
    )
    data = layout_of(tmp_path).data
    assert (data["case_column"], data["person_column"], data["split_column"]) == ("Case", "Patient", "Subset")
    assert (data["image"], data["reference"], data["train"]) == ("scans/{name}.nii", "masks/{name}.nii", "training")


def test_cases_without_a_file_are_left_out_and_named(tmp_path: Path) -> None:
    _files(tmp_path, "images/a.png", "images/b.png", "images/c.png", "lungs/a.png", "lungs/c.png")
    (tmp_path / "cases.csv").write_text("case,group\na,1\nb,1\nc,2\n")
    found = layout_of(tmp_path, Hints(reference="lungs/{case}.png"))
    assert [row["name"] for row in found.table] == ["a", "c"]
    assert [row["person"] for row in found.table] == ["1", "2"]
    assert any("1 of 3 cases have no file" in note and "b" in note for note in found.notes)


def test_a_plain_folder_gets_a_table_from_its_names(tmp_path: Path) -> None:
    _files(tmp_path, "images/p 1_left.nii.gz", "images/p 1_right.nii.gz", "images/p 2_left.nii.gz")
    _files(tmp_path, "labels/p 1_left.nii.gz", "labels/p 1_right_seg.nii.gz", "labels/p 2_left.nii.gz")
    _files(tmp_path, "images/lonely.nii.gz", "labels/other.nii.gz", "images/.hidden.nii.gz")
    found = layout_of(tmp_path)
    assert [(row["name"], row["person"]) for row in found.table] == [
        ("p_1_left", "p 1"),
        ("p_1_right", "p 1"),
        ("p_2_left", "p 2"),
    ]
    assert found.table[1]["reference"] == "labels/p 1_right_seg.nii.gz"
    told = " ".join(found.notes)
    assert "lonely" in told
    assert "other.nii.gz" in told
    assert "guessed" in told
    assert table_text(found.table).startswith("name,person,split,image,reference\np_1_left,p 1,train,images/p 1_left")


def test_an_nnunet_folder_says_its_classes_and_modality(tmp_path: Path) -> None:
    _files(tmp_path, "imagesTr/sub-1_a_0000.nii.gz", "imagesTr/sub-1_b_0000.nii.gz", "imagesTr/sub-2_a_0000.nii.gz")
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"liver": 1, "background": 0},
        "file_ending": ".nii.gz",
        "numTraining": 3,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = layout_of(tmp_path)
    assert found.classes == ("background", "liver")
    assert found.modalities == {"CT": "CT"}
    assert found.data == {"kind": "nnunet", "person_pattern": "^(sub-[A-Za-z0-9]+)"}


def test_a_class_in_a_column_makes_a_classification(tmp_path: Path) -> None:
    _files(tmp_path, *(f"images/x{k}.png" for k in range(6)))
    (tmp_path / "cases.csv").write_text(
        "name,person,split,finding\n" + "".join(f"x{k},p{k},train,{('ill', 'well')[k % 2]}\n" for k in range(6))
    )
    found = layout_of(tmp_path)
    assert (found.target, found.classes) == ("finding", ("ill", "well"))
    assert found.data["reference"] is None


@pytest.mark.parametrize(
    ("files", "table", "hints", "kind", "message"),
    [
        ((), None, Hints(), TrainingError, "neither a table cases.csv"),
        (("images/a.nii", "labels/b.nii"), None, Hints(), TrainingError, "no file in .* is called as one in"),
        (("images/a.nii",), "name\na\n", Hints(), TrainingError, "neither references nor a column with a class"),
        (
            ("images/a.nii", "labels/a.nii"),
            "name\na\n",
            Hints(person="who"),
            UsageError,
            "no column 'who'; it has: name",
        ),
        (("labels/a.nii",), "name\na\n", Hints(), TrainingError, "the images are not found"),
        (("images/a.nii",), "name,c\na,1\n", Hints(target="c"), TrainingError, "has 1 different values"),
        (("images/a.nii", "labels/a.nii"), "name,split\na,test\n", Hints(), TrainingError, "no part called 'train'"),
        (
            ("images/a.nii", "labels/a.nii"),
            "name\na\n",
            Hints(images={"image": "{b}/x"}),
            UsageError,
            "asks for column 'b'",
        ),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, files: Sequence[str], table: str | None, hints: Hints, kind: type[ResidencyError], message: str
) -> None:
    _files(tmp_path, *files)
    if table is not None:
        (tmp_path / "cases.csv").write_text(table)
    with pytest.raises(kind, match=message):
        layout_of(tmp_path, hints)


def test_nothing_in_the_folder_is_changed(small_set: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small_set, copy)
    (copy / "cases.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    layout_of(copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_names_that_say_nothing_make_each_case_a_person_and_warn() -> None:
    owner = guess_owner(["a1", "b7", "c"])
    assert set(owner.of.values()) == {"a1", "b7", "c"}
    assert owner.pattern is None
    assert any("better than they are" in warning for warning in owner.warnings)


@pytest.mark.parametrize(
    ("names", "persons"),
    [
        (["p1_left", "p1_right", "p2_left", "p3"], ["p1", "p1", "p2", "p3"]),  # one name alone parts no pair
        (["p1_ses-1_left", "p1_ses-2_right", "p2_left"], ["p1", "p1", "p2"]),
        (["brain_v1", "brain_v2"], ["brain_v1", "brain_v2"]),  # all of one person: then it is no visit
        (["sub-1_a", "sub-1_b", "sub-2"], ["sub-1", "sub-1", "sub-2"]),
        (["sub-01_run-1", "sub-01_run-2"], ["sub-01", "sub-01"]),
        (
            ["knee_scan_01_L", "knee_scan_01_R", "knee_scan_02_L", "knee_scan_02_R"],
            ["knee_scan_01", "knee_scan_01", "knee_scan_02", "knee_scan_02"],  # the number tells persons apart
        ),
        (["p1_left", "p1_right"], ["p1", "p1"]),
        (["scan_1", "scan_2", "scan_3"], ["scan_1", "scan_2", "scan_3"]),
    ],
)
def test_sides_and_visits_stay_with_their_person(names: list[str], persons: list[str]) -> None:
    owner = guess_owner(names)
    assert [owner.of[name] for name in names] == persons
    if owner.pattern is not None:
        assert [(re.search(owner.pattern, name) or "")[1] for name in names] == persons


def test_names_of_bids_are_no_guess() -> None:
    owner = guess_owner(["sub-01", "sub-02"])
    assert (owner.of, owner.warnings) == ({"sub-01": "sub-01", "sub-02": "sub-02"}, ())
    assert "guessed" not in owner.why


def test_the_arm_of_a_study_is_no_person_and_a_part_of_the_body_no_split(tmp_path: Path) -> None:
    _files(tmp_path, *(f"{where}/c{k}.nii" for where in ("images", "labels") for k in range(20)))
    lines = [f"c{k},{('drug', 'placebo')[k % 2]},chest" for k in range(20)]
    (tmp_path / "cases.csv").write_text("\n".join(["name,group,part", *lines]))
    found = layout_of(tmp_path)
    assert len({row["person"] for row in found.table}) == 20
    assert any("nothing says whose" in note for note in found.notes)
    assert any("'group'" in note and "--person group" in note for note in found.notes)
    assert any("'part' was not taken for a split: it holds 'chest'" in note for note in found.notes)
    with pytest.raises(TrainingError, match="column 'part' has no part called 'train'"):
        layout_of(tmp_path, Hints(split="part"))


def _table(folder: Path, column: str, values: Sequence[str]) -> None:
    _files(folder, *(f"{where}/c{k}.nii" for where in ("images", "labels") for k in range(len(values))))
    lines = [f"c{k},p{k // 2},{value}" for k, value in enumerate(values)]
    (folder / "cases.csv").write_text("\n".join([f"name,person,{column}", *lines]))


@pytest.mark.parametrize(
    "values",
    [
        ["Training set", "Training set", "Test set", "Test set"],
        ["train", " Train ", "test", "test"],
        ["trainval", "trainval", "test", "validation"],
        ["train_1", "train_2", "val", "val"],
    ],
)
def test_cases_that_a_table_keeps_for_a_test_are_not_trained_on(tmp_path: Path, values: Sequence[str]) -> None:
    _table(tmp_path, "subset", values)
    found = layout_of(tmp_path)
    if found.table:
        assert [row["name"] for row in found.table] == ["c0", "c1"]
    else:
        assert (found.data["split_column"], found.data["train"]) == ("subset", values[0])


@pytest.mark.parametrize("values", [["A", "B", "external test"] * 2, ["train/val", "test"] * 3])
def test_a_split_that_is_not_understood_is_asked_for(tmp_path: Path, values: Sequence[str]) -> None:
    _table(tmp_path, "subset", values)
    with pytest.raises(TrainingError, match=r"column 'subset' seems to divide the cases.*--split"):
        layout_of(tmp_path)


def test_a_group_is_a_person_also_of_many_images(tmp_path: Path) -> None:
    _files(tmp_path, *(f"{where}/c{k}.nii" for where in ("images", "labels") for k in range(20)))
    for groups, persons in (
        (("a", "b", "c", "d"), 4),
        (("patient 1", "patient 2", "patient 3", "control 4"), 4),
        (("arm 1", "arm 2", "arm 3", "arm 4"), 20),
        (("control", "mild", "severe", "mixed"), 20),
    ):
        lines = [f"c{k},{groups[k // 5]}" for k in range(20)]
        (tmp_path / "cases.csv").write_text("\n".join(["name,group", *lines]))
        found = layout_of(tmp_path)
        assert len({row["person"] for row in found.table}) == persons
        assert any("--person group" in note for note in found.notes) == (persons == 20)


def test_the_columns_of_gandlf_are_several_images(tmp_path: Path) -> None:
    _files(tmp_path, *(f"{k}/{name}.nii.gz" for k in range(3) for name in ("t1", "flair", "seg")))
    lines = [f"s{k},{k}/t1.nii.gz,{k}/flair.nii.gz,{k}/seg.nii.gz" for k in range(3)]
    (tmp_path / "cases.csv").write_text("\n".join(["SubjectID,Channel_0,Channel_1,Label", *lines]))
    found = layout_of(tmp_path)
    assert found.data["images"] == {"Channel_0": "{image_0}", "Channel_1": "{image_1}"}
    assert (found.table[1]["person"], found.table[1]["image_1"]) == ("s1", "1/flair.nii.gz")


def test_what_is_said_of_a_table_is_refused_where_there_is_none(tmp_path: Path) -> None:
    _files(tmp_path, "images/a.nii", "labels/a.nii")
    with pytest.raises(UsageError, match="--person is for a folder with a table"):
        layout_of(tmp_path, Hints(person="who"))


@pytest.mark.parametrize(("said", "meant"), [("CT", "CT"), ("t1w", "MR"), ("noisy", None), ("PET", "PT")])
def test_modalities_are_known_by_their_usual_names(said: str, meant: str | None) -> None:
    assert modality_named(said) == meant
