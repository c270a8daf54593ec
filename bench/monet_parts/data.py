"""The slices that the bench learns from and is judged on: hippocampus crops, lungs of radiographs, whole heads.

Images keep their own intensities here, so that a scanner can be shifted before anything is normalised. The data lie in
../shared/data beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residency.datasets import Table, read_case, read_cases
from residency.files.nifti import read_nifti, read_nifti_labels
from residency.files.photograph import read_photograph
from residency.prepare import labels_on, prepare
from residency.recipe import Recipe, recipe
from residency.volume import Volume

DATA = Path(os.environ.get("RESIDENCY_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FOLDS = 3
"""Of the heads: too few to be judged on those of one split alone."""

STANDING = recipe(("orient", {"letters": "SPL"}))
SMALL = recipe(("resize", {"shape": (1, 128, 128)}))

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Exam:
    """One image with its reference.

    part        the split that the source of the data puts it in, or of heads the number of the fold
    kind        of intensities, where a set has several; "" else
    image       float32 (S, R, C), intensities as they came; slices to superior, rows to posterior, columns to the left
    labels      uint8, the same shape
    spacing_mm  of the three axes; of a radiograph, which says nothing of millimetres, in pixels of the source
    """

    name: str
    person: str
    part: str
    kind: str
    image: Images
    labels: Labels
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Task:
    """What is segmented: classes beside the background, the rows and columns that every slice is padded to, and where
    the images lie.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int]
    folder: str


TASKS = {
    "hippocampus": Task(("anterior", "posterior"), (64, 48), "hippocampus"),
    "one regime": Task(("anterior", "posterior"), (64, 48), "hippocampus"),
    "lungs": Task(("lungs",), (128, 128), "cxr_lungs"),
    "heads": Task(("intracranial",), (128, 112), "brain_extraction"),
}


@cache
def exams(task: str) -> tuple[Exam, ...]:
    """All exams of a task in the order of their names."""
    if task == "one regime":
        return exams("hippocampus")
    found = {"hippocampus": _hippocampus, "lungs": _lungs, "heads": _heads}[task]()
    return tuple(sorted(found, key=lambda exam: exam.name))


@cache
def tables_digest(task: str) -> str:
    """SHA-256 of the table of cases: who is in which split, and what the images are."""
    return hashlib.sha256((DATA / TASKS[task].folder / "cases.csv").read_bytes()).hexdigest()


def learning(task: str, fold: int) -> list[Exam]:
    """Those to learn from."""
    if task == "heads":
        return [exam for exam in exams(task) if exam.part != str(fold)]
    train = [exam for exam in exams(task) if exam.part == "train"]
    return [exam for exam in train if exam.kind == "float32_low"] if task == "one regime" else train


def judging(task: str, fold: int) -> list[Exam]:
    """Those to be judged on, no person of whom was learnt from."""
    if task == "heads":
        return [exam for exam in exams(task) if exam.part == str(fold)]
    if task == "one regime":
        return [exam for exam in exams(task) if exam.part == "val" or exam.kind != "float32_low"]
    return [exam for exam in exams(task) if exam.part == "val"]


def one_a_person(found: Sequence[Exam], most: int | None = None) -> list[Exam]:
    """The first exam of each person, of at most so many persons; those of fewer are among those of more."""
    first: dict[str, Exam] = {}
    for exam in found:
        first.setdefault(exam.person, exam)
    return sorted(first.values(), key=lambda exam: hashlib.sha256(exam.person.encode()).digest())[:most]


def _hippocampus() -> Iterator[Exam]:
    folder = DATA / "hippocampus"
    kinds = {row["name"]: row["scale"] for row in _rows(folder)}
    for case in read_cases(folder, Table(person="pair")):
        volume, labels = read_case(case, classes=3)
        yield Exam(case.name, case.person, case.split, kinds[case.name], *_standing(volume, labels))


def _lungs() -> Iterator[Exam]:
    """Masks drawn by people, or with their help; not those that a network made, and not those with one lung."""
    folder = DATA / "cxr_lungs"
    for row in _rows(folder):
        if row["mask"] not in ("manual", "v7") or row["note"]:
            continue
        picture, mask = (
            read_photograph((folder / place / f"{row['case']}.png").read_bytes()) for place in ("images", "lungs")
        )
        labels = (mask.array > 0).astype(np.uint8)
        yield Exam(row["case"], row["group"], row["split"], row["mask"], *_prepared(picture, labels, SMALL))


def _heads() -> Iterator[Exam]:
    """Those with one kind of reference: the intracranial mask, all that DLMUSE labels. All are of 2 mm."""
    folder = DATA / "brain_extraction"
    chosen = sorted(row["case"] for row in _rows(folder) if row["reference"] == "DLMUSE")
    for number, name in enumerate(chosen):
        volume = read_nifti((folder / name / "t1.nii.gz").read_bytes())
        held, _ = read_nifti_labels((folder / name / "dlmuse.nii.gz").read_bytes())
        yield Exam(name, name, str(number % FOLDS), "", *_standing(volume, (held > 0).astype(np.uint8)))


def _standing(volume: Volume, labels: Labels) -> tuple[Images, Labels, tuple[float, float, float]]:
    return _prepared(volume, labels, STANDING)


def _prepared(volume: Volume, labels: Labels, steps: Recipe) -> tuple[Images, Labels, tuple[float, float, float]]:
    """Image, labels and spacing after steps that move voxels."""
    made = prepare(volume, steps).volume
    return made.array, labels_on(labels, volume.grid, made.grid), made.grid.spacing_mm


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))
