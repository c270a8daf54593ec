"""Nothing that a person reads in a log or on a screen names the patient: UIDs only, whatever goes right or wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from residency.labels import Side
from residency.testing.template import template_study

MARKED = {
    "PatientName": "Marksurname^Markgiven",
    "PatientID": "MARKID4711",
    "PatientBirthDate": "19330101",
    "OtherPatientIDs": "MARKOTHER",
    "PatientComments": "MARKCOMMENT",
    "PatientAddress": "MARKSTREET",
    "AccessionNumber": "MARKACC",
    "StudyID": "MARKSTUDY",
    "ReferringPhysicianName": "Markdoctor^A",
    "InstitutionName": "MARKHOSPITAL",
    "OperatorsName": "Markoperator^B",
}
SEARCHED = ("mark", "19330101", "1933-01-01")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hippocampus crop of the template as files of a patient with marked names."""
    folder = tmp_path_factory.mktemp("marked")
    for number, instance in enumerate(template_study(Side.LEFT)):
        dataset = pydicom.dcmread(io.BytesIO(instance.data))
        if dataset.SeriesDescription != "HippoCrop":
            continue
        for keyword, value in MARKED.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def residency(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Command:
    """The command line of a site that trusts a publisher, has its network, and approved the label rule."""
    place = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "RESIDENCY_HOME": str(place / "home"), "RESIDENCY_ARCHIVE": str(place / "archive")}

    def command(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "residency", *arguments]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done

    key = str(place / "key")
    command("trust", "new-key", key)
    command("trust", "add", f"{key}.pub", "--role", "publisher", "--name", "Test")
    command("models", "publish", str(repository / "models" / "hippocampus"), "--key", key)
    command("rules", "approve", "hippocrop", "--by", "A. Radiologist")
    return command


def names_nobody(done: subprocess.CompletedProcess[str]) -> None:
    said = (done.stdout + done.stderr).lower()
    assert [word for word in SEARCHED if word in said] == [], said


def test_the_search_can_find_something(residency, study):
    """`archive ls` lists patients, as its help says; that the marks arrive there proves that they were in the files."""
    names_nobody(residency("archive", "import", str(study)))
    assert MARKED["PatientID"] in residency("archive", "ls").stdout


def test_a_walk_that_succeeds_names_nobody(residency, study):
    names_nobody(residency("run", str(study), "--allow-unapproved", "--explain"))
    names_nobody(residency("run", str(study), "--allow-unapproved", "--json", "--explain"))


def test_a_refused_series_names_nobody(residency, study, tmp_path):
    """A missing slice: the message says which gap, not whose."""
    files = sorted(study.iterdir())
    for file in files[: len(files) // 2] + files[len(files) // 2 + 1 :]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    done = residency("run", str(tmp_path), "--allow-unapproved", "--explain", status=3)
    assert "a slice is missing" in done.stdout
    names_nobody(done)


def test_a_damaged_file_names_nobody(residency, study, tmp_path):
    first = sorted(study.iterdir())[0].read_bytes()
    (tmp_path / "cut.dcm").write_bytes(first[: len(first) // 2])
    (tmp_path / "noise.dcm").write_bytes(first[:400] + bytes(range(256)) * 8)
    names_nobody(residency("archive", "import", str(tmp_path), status=2))


def test_a_conflict_in_the_archive_names_nobody(residency, study, tmp_path):
    residency("archive", "import", str(study))
    dataset = pydicom.dcmread(sorted(study.iterdir())[0])
    dataset.PatientComments = "MARKOTHERCOMMENT"
    dataset.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    names_nobody(residency("archive", "import", str(tmp_path), status=13))
