"""`residency run` as a person uses it: exit status, explanations, JSON, and no patient data anywhere."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from residency.archive import Instance, Level, Query
from residency.labels import Side
from residency.models import publish_statement
from residency.standing import Scope
from residency.testing.phantoms import mr_series
from residency.testing.template import hippocampus_crop
from residency.trust import Kind, Role, SigningKey, Statement, TrustedKey, sign_statement

MARKED = {
    "PatientName": "Marked^Nobody",
    "PatientID": "MARKED-ID-4711",
    "PatientBirthDate": "19010203",
    "AccessionNumber": "MARKED-ACC",
    "ReferringPhysicianName": "Marked^Physician",
}
CROP = {"SeriesDescription": "HippoCrop", "BodyPartExamined": None, "ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}


@pytest.fixture
def residency(ward):
    """Runs the command at this ward, in a process of its own."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, check=False)

    def command(*arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "residency", *map(str, arguments)]

    environment = os.environ | {
        "RESIDENCY_HOME": str(ward.settings.home),
        "RESIDENCY_ARCHIVE": str(ward.settings.archive),
        "RESIDENCY_THREADS": "1",
        "COLUMNS": "200",
    }
    run.command, run.environment = command, environment
    return run


@pytest.fixture
def study(tmp_path) -> Path:
    """A folder with one hippocampus crop of a person with a marked name."""
    folder = tmp_path / "study"
    folder.mkdir()
    for index, data in enumerate(mr_series(hippocampus_crop(Side.LEFT), **CROP, **MARKED)):
        (folder / f"{index}.dcm").write_bytes(data)
    return folder


def test_the_outcome_is_the_exit_status(residency, ward, study):
    assert residency("run", study).returncode == 3
    assert residency("rules", "approve", "hippocrop", "--by", "A. Radiologist").returncode == 0
    untrusted = residency("run", study)
    assert untrusted.returncode == 5
    assert "--allow-unapproved" in untrusted.stdout
    done = residency("run", study, "--allow-unapproved")
    assert done.returncode == 0, done.stderr
    assert "mL" in done.stdout
    assert "Not a medical device" in done.stdout
    assert len(list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))) == 1


def test_a_dry_run_explains_and_stores_nothing(residency, ward, study):
    ward.approve_rules()
    done = residency("run", study, "--allow-unapproved", "--dry-run", "--explain")
    assert done.returncode == 0
    assert "would run" in done.stdout
    assert "rule hippocrop version 1" in done.stdout
    assert not list(ward.archive.find(Level.INSTANCE, Query(modality="SEG")))


def test_json_is_json_and_carries_every_gate_when_asked(residency, ward, study):
    ward.approve_rules()
    answer = json.loads(residency("run", study, "--allow-unapproved", "--json", "--explain").stdout)
    (outcome,) = answer[0]["outcomes"]
    assert outcome["ending"] == "result"
    assert {m["unit"] for m in outcome["measurements"]} == {"mm3", "mL", "mm"}
    assert answer[0]["considered"]


def test_a_second_run_says_what_the_first_found(residency, ward, study):
    """What was computed before is read back from the archive: nobody has to compute again to see it."""
    ward.approve_rules()
    first, again = (residency("run", study, "--allow-unapproved") for _ in range(2))
    assert "computed before" in again.stdout
    assert again.stderr == "", "no bar, and no empty line of one, where nobody watches"

    def said(done: subprocess.CompletedProcess[str]) -> list[str]:
        return [line for line in done.stdout.splitlines() if not line.startswith("HippoCrop")]

    assert said(first) == said(again)
    assert "longest diameter" in again.stdout
    assert "Not a medical device" in again.stdout
    answer = json.loads(residency("run", study, "--allow-unapproved", "--json").stdout)
    (outcome,) = answer[0]["outcomes"]
    assert {m["unit"] for m in outcome["measurements"]} == {"mm3", "mL", "mm"}
    assert any("Research use only" in notice for notice in outcome["notices"])


def test_a_code_that_no_model_names_is_said_and_decides_nothing(residency, ward, study):
    ward.approve_rules()
    done = residency("run", study, "--allow-unapproved", "--dry-run", "--for", "SCT:26929004")
    assert done.returncode == 0, done.stderr
    assert "no model here is for 26929004 (SCT:26929004); those here are for" in done.stderr
    assert done.stderr.count("\n") == 1
    assert residency("run", study, "--for", "26929004").returncode == 11


def test_another_result_of_a_version_whose_results_were_rejected_says_so(residency, ward, study):
    """Another wording of the approval makes another result, which no note names."""
    ward.approve_rules()
    first = json.loads(residency("run", study, "--allow-unapproved", "--json").stdout)[0]["outcomes"][0]
    rejecting = ("models", "affected", ward.model_digest, "--reject", "--reason", "swaps sides", "--by", "A. Person")
    assert residency(*rejecting).returncode == 0
    asked = ("run", study, "--allow-unapproved", "--purpose", "teaching")
    key = SigningKey.new()
    ward.site.add_key(TrustedKey(key.public, frozenset({Role.APPROVER}), "Dr A", dt.datetime.now(dt.UTC)))
    approval = Statement(
        kind=Kind.APPROVED,
        subject=ward.model_digest,
        issuer=key.key_id,
        role=Role.APPROVER,
        issued=dt.datetime.now(dt.UTC),
        scope=Scope(purpose="teaching"),
    )
    publish_statement(ward.archive, ward.house().models[ward.model_digest], sign_statement(approval, key))
    second = json.loads(residency(*asked, "--json").stdout)[0]["outcomes"][0]
    assert set(second["stored"].values()).isdisjoint(first["stored"].values())
    warned = [text for text in second["warnings"] if "of this very version in this study are rejected" in text]
    assert len(warned) == 1
    assert "Rejected for Patient Safety Reasons by A. Person: swaps sides" in warned[0]
    assert f"warning: {warned[0]}" in residency(*asked).stdout


def test_a_stored_report_that_is_damaged_fails_and_is_not_passed_over(residency, ward, study):
    ward.approve_rules()
    assert residency("run", study, "--allow-unapproved").returncode == 0
    (row,) = ward.archive.find(Level.INSTANCE, Query(modality="SR"))
    name = hashlib.sha256(row.sop_uid.encode()).hexdigest()
    file = Path(ward.settings.archive) / "objects" / name[:2] / name
    file.write_bytes(file.read_bytes()[:-100])
    done = residency("run", study, "--allow-unapproved")
    assert done.returncode == 13
    assert "HippoCrop: failed" in done.stdout


def test_a_study_is_named_by_its_uid_and_results_in_it_are_counted_and_not_explained_unless_asked(residency, ward):
    ward.approve_rules()
    files = mr_series(hippocampus_crop(Side.RIGHT), **CROP)
    read = [pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
    ward.archive.store(Instance(str(d.SOPInstanceUID), data) for d, data in zip(read, files, strict=True))
    uid = str(read[0].StudyInstanceUID)
    done = residency("run", uid, "--allow-unapproved")
    assert done.returncode == 0, done.stderr
    assert "result" in done.stdout
    again = residency("run", uid, "--allow-unapproved").stdout
    assert "3 more series: results or models of Residency" in again
    assert "label rule could" not in again
    explained = residency("run", uid, "--allow-unapproved", "--explain").stdout
    assert explained.count("a result or model object of Residency") == 3


def test_without_an_explanation_the_reasons_left_out_are_counted(residency, tmp_path):
    folder = tmp_path / "brain"
    folder.mkdir()
    for index, data in enumerate(mr_series(hippocampus_crop(Side.LEFT), **CROP | {"Modality": "CT"})):
        (folder / f"{index}.dcm").write_bytes(data)
    assert "more; --explain shows them" in residency("run", folder).stdout


def test_a_file_that_is_damaged_is_named_with_its_path(residency, study):
    (study / "deep").mkdir()
    file = study / "deep" / "5.dcm"
    (study / "5.dcm").rename(file)
    file.write_bytes(file.read_bytes()[:-100])
    done = residency("run", study)
    assert done.returncode == 10
    assert "deep/5.dcm" in done.stderr


def test_no_patient_data_is_printed_or_kept_outside_the_archive(residency, ward, study):
    """Names may only be where DICOM puts them: in the archive's objects."""
    ward.approve_rules()
    calls = [
        ("run", study, "--allow-unapproved", "--explain"),
        ("run", study, "--allow-unapproved", "--json", "--explain"),
        ("archive", "ls"),
        ("run", study / "absent", "--allow-unapproved"),
    ]
    printed = "".join(done.stdout + done.stderr for done in (residency(*call) for call in calls))
    kept = b"".join(path.read_bytes() for path in ward.settings.home.rglob("*") if path.is_file())
    for marked in ("Marked", "MARKED-ACC", "19010203"):
        assert marked not in printed
        assert marked.encode() not in kept
    results = [row for row in ward.archive.find(Level.INSTANCE, Query()) if row.modality in ("SEG", "SR")]
    assert {row.patient_id for row in results} == {MARKED["PatientID"]}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("run", "1.2.3"), 13, "holds no study 1.2.3"),
        (("run", "1.2.3", "--archive", "http://127.0.0.1:9/dicom-web"), 13, "cannot be reached"),
        (("run", "1.2.3", "--archive", "ftp://host/x"), 2, "ftp:// archives are not known"),
        (("run", "1.2.3", "--archive", "{tmp}/nothing"), 2, "is no archive"),
        (("run", "1.2.3", "--archive", "pcsa"), 2, "called 'pcsa'"),
        (("run", __file__), 2, "is a file: unpack it into a folder, or 'residency archive import' it"),
        (("run", "1.2.3", "--for", "pain"), 11, "pain"),
    ],
)
def test_errors_are_one_line_with_advice_and_a_status_of_their_own(residency, tmp_path, arguments, status, message):
    done = residency(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_interrupt_leaves_nothing_half_done_and_the_next_run_finishes(residency, ward, study):
    ward.approve_rules()
    process = subprocess.Popen(
        residency.command("run", study, "--allow-unapproved"),
        env=residency.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    done = residency("run", study, "--allow-unapproved")
    assert done.returncode == 0, done.stderr
    for modality in ("SEG", "SR"):
        assert len(list(ward.archive.find(Level.INSTANCE, Query(modality=modality)))) == 1
