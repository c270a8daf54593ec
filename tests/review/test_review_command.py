"""`residency review` as a person uses it, and where what was said appears afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.cli import app
from residency.errors import ResidencyError
from residency.testing.results import DIGEST, store_result

Run = Callable[..., "Done"]


@pytest.fixture
def place(tmp_path: Path) -> FolderArchive:
    return FolderArchive(tmp_path / "archive")


@dataclass(frozen=True)
class Done:
    """What a command ended with, as `residency.cli.main` would end."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def residency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RESIDENCY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RESIDENCY_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        result = CliRunner().invoke(app, arguments)
        if isinstance(result.exception, ResidencyError):
            return Done(result.exception.exit_status, result.stdout, result.stderr + str(result.exception))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

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
    rejecting = ("--reject", "--reason", "recalled", "--by", "A. Radiologist")
    assert residency("models", "affected", DIGEST, *rejecting).returncode == 0
    exported = residency("export", result["sr"], "--format", "json")
    assert exported.returncode == 0, exported.stderr
    notices = json.loads((tmp_path / "exported" / "measurements.json").read_text())["notices"]
    assert any("rejected" in text and "leaks into the ventricle" in text for text in notices)
    assert any("Rejected for Patient Safety Reasons by A. Radiologist: recalled" in text for text in notices)
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
