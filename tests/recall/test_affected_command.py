"""`residency models affected`: what a person who recalls a model sees, and what the archive holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.dicom.key_objects import KEY_OBJECT_SELECTION
from residency.testing.results import DIGEST, store_result

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place(tmp_path: Path) -> FolderArchive:
    return FolderArchive(tmp_path / "archive")


@pytest.fixture
def residency(tmp_path: Path, place: FolderArchive) -> Run:
    environment = os.environ | {
        "RESIDENCY_HOME": str(tmp_path / "home"),
        "RESIDENCY_ARCHIVE": str(tmp_path / "archive"),
        "COLUMNS": "200",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "residency", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def notes(place: FolderArchive) -> list[str]:
    return [row.sop_uid for row in place.find(Level.INSTANCE, Query(sop_class=KEY_OBJECT_SELECTION))]


def test_it_lists_then_rejects_once(residency: Run, place: FolderArchive):
    ours = store_result(place, PatientID="MARKED-4711", PatientName="Marked^Nobody")
    listed = residency("models", "affected", DIGEST)
    assert listed.returncode == 0, listed.stderr
    assert all(uid in listed.stdout for uid in ours.values())
    assert "2 results in 1 studies" in listed.stdout
    assert "nothing was changed" in listed.stdout
    assert notes(place) == []
    asked = ("models", "affected", DIGEST, "--reject", "--reason", "wrong volumes", "--by", "A. Radiologist", "--json")
    first, again = (json.loads(residency(*asked).stdout) for _ in range(2))
    assert [study["note_was_present"] for study in (*first["studies"], *again["studies"])] == [False, True]
    assert notes(place) == [first["studies"][0]["rejection_note"]]
    assert "Marked" not in listed.stdout + json.dumps(first)


def test_a_model_without_results_is_no_error(residency: Run, place: FolderArchive):
    done = residency("models", "affected", DIGEST.removeprefix("sha256:").upper())
    assert done.returncode == 0, done.stderr
    assert "0 results in 0 studies" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "wrong"],
        ["--reject", "--reason", "113000"],
        ["--reject", "--reason", "113001", "--reason", "113037"],
        ["--reject", "--reason", "113037", "--reason", "111218"],
    ],
    ids=["reason without reject", "unknown code", "two titles", "modifier of another title"],
)
def test_reasons_that_cannot_be_written_are_refused_before_anything(
    residency: Run, place: FolderArchive, arguments: list[str]
):
    store_result(place)
    done = residency("models", "affected", DIGEST, *arguments)
    assert done.returncode == 2
    assert "--reason" in done.stderr
    assert notes(place) == []


def test_a_part_that_cannot_be_read_is_said_and_is_the_exit_status(residency: Run, place: FolderArchive, tmp_path):
    """A short list that looks whole would leave results in use."""
    import hashlib

    ours = store_result(place)
    name = hashlib.sha256(ours["seg"].encode()).hexdigest()
    file = tmp_path / "archive" / "objects" / name[:2] / name
    file.write_bytes(file.read_bytes()[:400])
    done = residency("models", "affected", DIGEST)
    assert done.returncode == 13
    assert "not judged" in done.stderr
    assert ours["sr"] in done.stdout
