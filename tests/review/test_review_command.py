"""`residency review` as a person uses it, and where what was said appears afterwards."""

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
from residency.testing.results import DIGEST, store_result

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place(tmp_path: Path) -> FolderArchive:
    return FolderArchive(tmp_path / "archive")


@pytest.fixture
def residency(tmp_path: Path) -> Run:
    environment = os.environ | {
        "RESIDENCY_HOME": str(tmp_path / "home"),
        "RESIDENCY_ARCHIVE": str(tmp_path / "archive"),
        "COLUMNS": "200",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "residency", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_a_result_is_rejected_then_accepted_and_both_are_kept(residency: Run, place: FolderArchive):
    result = store_result(place, PatientName="Marked^Nobody")
    (study,) = place.find(Level.STUDY, Query())
    nobody = residency("review", "list", study.study_uid)
    assert "nobody has assessed it" in nobody.stdout
    first = residency("review", "reject", result["seg"], "--segment", "2", "--reason", "leaks", "--by", "Dr. A")
    assert first.returncode == 0, first.stderr
    second = residency("review", "accept", result["seg"], "--segment", "2", "--reason", "looked again", "--json")
    said = json.loads(second.stdout)
    assert (said["verdict"], said["segment"], said["by"]) == ("accepted", 2, None)
    listed = json.loads(residency("review", "list", study.study_uid, "--json").stdout)
    assert [(one["verdict"], one["by"], one["counts"]) for one in listed] == [
        ("rejected", "Dr. A", False),
        ("accepted", None, True),
    ]
    shown = residency("review", "list", result["seg"]).stdout
    assert shown.index("a later one counts") < shown.index("looked again")
    assert "Marked" not in first.stdout + second.stdout + shown


def test_what_was_said_stands_wherever_the_result_is_shown(residency: Run, place: FolderArchive, tmp_path: Path):
    """A rejected result that is exported without a word of it goes on misleading whoever gets the file."""
    result = store_result(place)
    assert residency("review", "reject", result["seg"], "--reason", "leaks into the ventricle").returncode == 0
    assert residency("models", "affected", DIGEST, "--reject", "--reason", "recalled").returncode == 0
    exported = residency("export", result["sr"], "--format", "json")
    assert exported.returncode == 0, exported.stderr
    notices = json.loads((tmp_path / "exported" / "measurements.json").read_text())["notices"]
    assert any("rejected" in text and "leaks into the ventricle" in text for text in notices)
    assert any("Rejected for Patient Safety Reasons: recalled" in text for text in notices)
    assert "leaks into the ventricle" in exported.stderr
    assert residency("report", result["seg"]).returncode == 0
    page = (tmp_path / "report.html").read_text()
    assert "leaks into the ventricle" in page
    assert "Rejected for Patient Safety Reasons" in page


@pytest.mark.parametrize(
    "arguments",
    [["--reason", " "], ["--reason", "x", "--by", ""], ["--reason", "x", "--segment", "9"]],
    ids=["no reason", "no name", "no such segment"],
)
def test_what_says_nothing_is_not_stored(residency: Run, place: FolderArchive, arguments: list[str]):
    result = store_result(place)
    before = sum(1 for _ in place.find(Level.INSTANCE, Query()))
    done = residency("review", "accept", result["seg"], *arguments)
    assert done.returncode == 2
    assert sum(1 for _ in place.find(Level.INSTANCE, Query())) == before
