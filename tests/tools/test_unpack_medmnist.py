"""A set of MedMNIST becomes a folder of pictures with a table that the readers of cases take."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from residency.datasets import Table, digest, persons, read_cases
from residency.datasets.case import read_images

TABLE = Table(image="images/{name}.png", reference=None, tasks={"finding": ["normal", "ill"]})


@pytest.fixture
def pictures() -> dict[str, np.ndarray]:
    """Six pictures for learning, of which two are the same; one of them comes again in test."""
    random = np.random.default_rng(0)
    train = random.integers(0, 256, (6, 8, 8), dtype=np.uint8)
    train[5] = train[1]
    others = random.integers(0, 256, (4, 8, 8), dtype=np.uint8)
    others[3] = train[0]
    return {
        "train_images": train,
        "train_labels": np.array([[0], [1], [1], [0], [1], [1]], np.uint8),
        "val_images": others[:2],
        "val_labels": np.array([[0], [1]], np.uint8),
        "test_images": others[2:],
        "test_labels": np.array([[1], [0]], np.uint8),
    }


@pytest.fixture
def unpack(repository: Path, tmp_path: Path):
    def run(arrays: dict[str, np.ndarray], name: str, *classes: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        command = [sys.executable, repository / "tools" / "unpack_medmnist.py", tmp_path / f"{name}.npz"]
        done = subprocess.run(
            [*map(str, command), str(tmp_path / name), "finding", *classes], capture_output=True, text=True, check=False
        )
        return tmp_path / name, done

    return run


def test_every_picture_is_read_back_with_its_class(unpack, pictures) -> None:
    folder, done = unpack(pictures, "set", "normal", "ill")
    assert done.returncode == 0, done.stderr
    assert "train: 2 normal, 4 ill; 1 exact copies within" in done.stdout
    cases = read_cases(folder, TABLE)
    assert Counter(case.split for case in cases) == {"train": 6, "val": 2, "test": 2}
    found = Counter((read_images(c)["image"].array.tobytes(), c.labels["finding"], c.split) for c in cases)
    assert found == Counter(
        (image[None].astype(np.float32).tobytes(), int(label[0]), split)
        for split in ("train", "val", "test")
        for image, label in zip(pictures[f"{split}_images"], pictures[f"{split}_labels"], strict=True)
    )


def test_copies_are_of_one_person_in_whatever_split_they_are(unpack, pictures) -> None:
    folder, _ = unpack(pictures, "set", "normal", "ill")
    cases = read_cases(folder, TABLE)
    assert len(persons(cases)) == 8
    assert len(persons([case for case in cases if case.split == "train"])) == 5


def test_the_order_of_the_file_is_of_no_consequence(unpack, pictures) -> None:
    turned = {
        name: values[[5, 3, 1, 0, 2, 4]] if name.startswith("train") else values for name, values in pictures.items()
    }
    one, other = (read_cases(unpack(a, n, "normal", "ill")[0], TABLE) for a, n in ((pictures, "a"), (turned, "b")))
    assert digest(one) == digest(other)


def test_a_number_without_a_name_is_refused(unpack, pictures) -> None:
    _, done = unpack(pictures | {"val_labels": np.array([[0], [2]], np.uint8)}, "set", "normal", "ill")
    assert done.returncode == 1
    assert "val_labels has [0, 2], for 2 classes" in done.stderr
