"""Where a training file may take its cases from, and that what it says of them is meant."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from residency.datasets import Table, digest, folds, persons, read_cases, read_images, write_folds
from residency.datasets.nnunet import read_nnunet
from residency.errors import ConfigError, PixelError, TrainingError
from residency.files.photograph import read_photograph
from residency.train.config import TrainingConfig, read_config
from residency.train.sources import divided, gathered
from residency.volume import Space

Written = Callable[[dict[str, Any]], Path]
CLASSES = ("background", "ball")


def _png(values: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def radiographs(tmp_path: Path) -> Path:
    folder = tmp_path / "radiographs"
    (folder / "some where").mkdir(parents=True)
    lines = ["case,who,part,file,finding,device"]
    for k in range(6):
        (folder / f"some where/{k}.png").write_bytes(_png(np.full((5, 7), 20 * k, np.uint8)))
        finding, device = ("pneumonia", "normal")[k % 2], "yes" if k < 2 else ""
        lines.append(f"x{k},p{k},train,some where/{k}.png,{finding},{device}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


RADIOGRAPHS = Table(
    name="case",
    person="who",
    split="part",
    image="{file}",
    reference=None,
    tasks={"finding": ("normal", "pneumonia"), "device": ("no", "yes")},
)


def test_a_table_gives_paths_and_classes_of_radiographs(radiographs: Path) -> None:
    cases = read_cases(radiographs, RADIOGRAPHS)
    assert [case.labels["finding"] for case in cases] == [1, 0, 1, 0, 1, 0]
    assert [case.labels.get("device") for case in cases] == [1, 1, None, None, None, None]
    volume = read_images(cases[3])["image"]
    assert volume.grid.space is Space.PIXELS
    assert volume.array.shape == (1, 5, 7)
    assert np.all(volume.array == 60)


def test_the_digest_tells_classes_and_named_images_apart(radiographs: Path) -> None:
    plain = digest(read_cases(radiographs, Table("cases.csv", "case", "who", "part", "{file}", None)))
    assert plain != digest(read_cases(radiographs, RADIOGRAPHS))
    named = Table("cases.csv", "case", "who", "part", reference=None, images={"film": "{file}"})
    assert plain != digest(read_cases(radiographs, named))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("/etc/hostname", "no path below"),
        ("../radiographs/some where/0.png", "no path below"),
        ("some where/../../x.png", "no path below"),
        ("..\\\\x.png", "no path below"),
        ("C:/x.png", "no path below"),
        ("", "no path below"),
        ("some where/9.png", "is not there"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(radiographs: Path, said: str, message: str) -> None:
    table = radiographs / "cases.csv"
    table.write_text(table.read_text().replace("some where/3.png", said))
    with pytest.raises(TrainingError, match=rf"case 'x3'.*{message}"):
        read_cases(radiographs, RADIOGRAPHS)


def test_an_unknown_class_or_column_is_named(radiographs: Path) -> None:
    with pytest.raises(TrainingError, match=r"case 'x0': finding is 'pneumonia'; data.tasks has: a, b"):
        read_cases(radiographs, replace(RADIOGRAPHS, tasks={"finding": ("a", "b")}))
    with pytest.raises(ConfigError, match="no column 'path'"):
        read_cases(radiographs, Table("cases.csv", "case", "who", "part", "{path}", None))


@pytest.mark.parametrize(("kind", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_grey_picture_keeps_its_values(kind: type[np.unsignedinteger[Any]], most: int) -> None:
    values = np.array([[0, 1, most], [most, 7, 0]], kind)
    assert np.array_equal(read_photograph(_png(values)).array[0], values.astype(np.float32))


def test_a_picture_that_is_grey_in_colours_is_read_and_a_coloured_one_refused() -> None:
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    assert np.array_equal(read_photograph(_png(grey)).array[0], grey[..., 0])
    grey[1, 1, 0] += 1
    with pytest.raises(PixelError, match="colours"):
        read_photograph(_png(grey))


@pytest.mark.parametrize("data", [b"", b"GIF89a", _png(np.zeros((400, 300), np.uint8))[:60]])
def test_what_is_no_whole_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PixelError, match="no whole PNG or JPEG"):
        read_photograph(data)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six cases of three persons, two channels, in nnU-Net's form."""
    folder = tmp_path / "Dataset007_Balls"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for k in range(6):
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[2 : 4 + k % 3, 3:5, 3:5] = 1
        for place, factor in (("labelsTr/B_{}", 1), ("imagesTr/B_{}_0000", 2), ("imagesTr/B_{}_0001", 3)):
            file = folder / f"{place.format(f'{k // 2}_{k % 2}')}.nii.gz"
            nibabel.Nifti1Image(np.float32(factor) * labels, np.eye(4)).to_filename(file)
    described = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder


def test_an_nnu_net_folder_gives_channels_labels_and_persons_by_pattern(raw: Path) -> None:
    found = read_nnunet(raw, CLASSES, pattern=r"B_(\d+)_")
    assert [case.name for case in found.cases] == ["B_0_0", "B_0_1", "B_1_0", "B_1_1", "B_2_0", "B_2_1"]
    assert persons(found.cases) == ("0", "1", "2")
    images = read_images(found.cases[0])
    assert list(images) == ["T1", "FLAIR"]
    assert images["FLAIR"].array.max() == 3.0


def test_whose_the_cases_are_may_stand_in_a_table_or_is_told_to_be_unknown(raw: Path) -> None:
    (raw / "who.csv").write_text("name,person\n" + "".join(f"B_{k // 2}_{k % 2},w{k % 2}\n" for k in range(6)))
    assert persons(read_nnunet(raw, CLASSES, persons="who.csv").cases) == ("w0", "w1")
    alone = read_nnunet(raw, CLASSES)
    assert len(persons(alone.cases)) == 6
    assert "nothing says whose the 6 cases are" in alone.notes[0]
    (raw / "who.csv").write_text("name,person\nB_0_0,w0\n")
    with pytest.raises(TrainingError, match=r"who\.csv does not say whose case 'B_0_1' is"):
        read_nnunet(raw, CLASSES, persons="who.csv")
    with pytest.raises(TrainingError, match="finds no person in the name of case 'B_0_0'"):
        read_nnunet(raw, CLASSES, pattern=r"(\d+)$x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": {"background": 0, "ball": [1, 2]}}, "one whole number"),
        ({"labels": {"background": 0, "ball": True}}, "one whole number"),
        ({"labels": {"background": 0, "ball": 2}}, "without a gap"),
        ({"labels": {"background": 0, "ball": 1, "ignore": 2}}, "to ignore"),
        ({"labels": {"background": 0, "shell": 1}}, r"labels background, shell; data\.classes says background, ball"),
        ({"channel_names": {"0": "T1", "2": "FLAIR"}}, "without a gap"),
        ({"channel_names": ["T1"]}, "without a gap"),
        ({"file_ending": ".mha"}, "'.mha' are not read"),
        ({"numTraining": 7}, "7 training cases, imagesTr holds 6"),
        ({"numTraining": "many"}, "'numTraining' is many"),
        ({"dataset": {}}, "lists its files"),
        ({"channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}}, "B_0_0_0002.nii.gz is not there"),
    ],
)
def test_a_folder_of_another_form_is_refused(raw: Path, change: dict[str, Any], said: str) -> None:
    described = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(described | change))
    with pytest.raises(TrainingError, match=said):
        read_nnunet(raw, CLASSES)


def test_a_strange_name_among_the_images_is_refused(raw: Path) -> None:
    (raw / "imagesTr" / "B 0_0000.nii.gz").write_text("")
    with pytest.raises(TrainingError, match=r"is not called CASE_0000\.nii\.gz"):
        read_nnunet(raw, CLASSES)


def _of_raw(small_values: dict[str, Any], raw: Path, **more: Any) -> dict[str, Any]:
    data = {k: v for k, v in small_values["data"].items() if k not in ("folder", "classes", "validation_share")}
    return small_values | {"data": data | {"kind": "nnunet", "folder": str(raw), "classes": list(CLASSES)} | more}


def test_a_training_takes_nnu_nets_own_folds(raw: Path, small_values: dict[str, Any], written: Written) -> None:
    cases = read_nnunet(raw, CLASSES, pattern=r"B_(\d+)_").cases
    made = folds(cases, 3, 1)
    write_folds(made, raw / "splits_final.json")
    config = read_config(written(_of_raw(small_values, raw, fold=1, person_pattern=r"B_(\d+)_")))
    learning, judging = divided(config)
    assert {case.name for case in judging} == set(made[1].val)
    assert {case.name for case in learning} == set(made[1].train)
    assert config.data.split_sha256 is not None
    assert config.data.split_sha256 in config.data.divided_how()
    (raw / "splits_final.json").write_text(json.dumps([{"train": [c.name for c in cases[1:]], "val": ["B_0_0"]}]))
    with pytest.raises(ConfigError, match=r"fold is 1; .* holds the folds 0 to 0"):
        divided(config)
    config = read_config(written(_of_raw(small_values, raw, fold=0, person_pattern=r"B_(\d+)_")))
    with pytest.raises(TrainingError, match="puts 1 persons on both sides"):
        divided(config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"fold": 0}, "name it with 'split_file'"),
        ({"split_file": "x.json"}, "say which with 'fold'"),
        ({"fold": 0, "split_file": "x.json"}, "leave out 'validation_share'"),
        ({"person_pattern": "(.)"}, "'person_pattern' is for data of kind 'nnunet', not 'table'"),
        ({"kind": "nnunet", "image": "x"}, "'image' is for data of kind 'table', not 'nnunet'"),
        ({"kind": "nnunet", "person_pattern": "x"}, "needs a group"),
        ({"kind": "nnunet", "person_pattern": "("}, "no regular expression"),
        ({"kind": "nnunet", "person_pattern": "(.)", "persons": "x"}, "say the same"),
        ({"image": "x", "images": {"a": "x"}}, "say the same"),
        ({"cache_gib": 2}, "'cache_gib' is of the folder 'cache'"),
        ({"kind": "nnu-net"}, r"data\.kind: one of 'table'.* is expected, got 'nnu-net'"),
        ({"cahce": "x"}, "did you mean 'cache'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    small_values: dict[str, Any], written: Written, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(written(small_values | {"data": small_values["data"] | more}))


def test_places_change_no_digest_but_folds_do(small_values: dict[str, Any], written: Written, tmp_path: Path) -> None:
    def read(**more: Any) -> TrainingConfig:
        data = {k: v for k, v in small_values["data"].items() if k != "validation_share"}
        return read_config(written(small_values | {"data": data | more}))

    plain = read()
    assert plain.digest() == read(cache=str(tmp_path / "kept"), cache_gib=1).digest()
    assert plain.digest() == read(kind="table").digest()
    everyone = [case for case in gathered(plain).cases if case.split == "train"]
    digests = {plain.learning_digest()}
    for seed in (1, 2):
        write_folds(folds(everyone, 3, seed), tmp_path / "folds.json")
        digests |= {read(split_file="folds.json", fold=k).learning_digest() for k in range(2)}
    assert len(digests) == 5
    with pytest.raises(ConfigError, match=r"has SHA-256 .* not the one of data\.split_sha256"):
        read(split_file="folds.json", fold=0, split_sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"data\.split_file .* cannot be read"):
        read(split_file="elsewhere.json", fold=0)
