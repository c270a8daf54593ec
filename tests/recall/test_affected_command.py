"""`residency models affected`: what a person who recalls a model sees, and what the archive holds afterwards."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive
from residency.cli import app
from residency.dicom.key_objects import KEY_OBJECT_SELECTION
from residency.errors import ResidencyError
from residency.models import find_models, publish, publish_statement
from residency.package import ModelPackage
from residency.site import Site
from residency.testing.results import DIGEST, store_result
from residency.trust import Kind, Role, SigningKey, Statement, TrustStore, sign_statement

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


@pytest.mark.parametrize("name", ["", "x" * 65, "Dr\nA"])
def test_a_name_that_a_note_cannot_hold_is_refused_before_anything(residency: Run, place: FolderArchive, name: str):
    """A note is never changed: a name that was cut would stand in it for good."""
    store_result(place)
    done = residency("models", "affected", DIGEST, "--reject", "--by", name)
    assert done.returncode == 2
    assert "--by needs 1 to 64" in done.stderr
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


def test_a_revoked_model_is_recalled_by_its_name(
    residency: Run,
    place: FolderArchive,
    package: ModelPackage,
    key: SigningKey,
    trust: TrustStore,
    now: dt.datetime,
    *,
    tmp_path: Path,
):
    """The very model that must be recalled is the one that nobody may use any longer."""
    publish(place, package, key)
    first, second = (store_result(place, package.digest, study=study, PatientID=study) for study in ("a", "b"))
    store_result(place, DIGEST, study="c", PatientID="c")
    (model,) = find_models(place, trust, now=now).models
    revoked = Statement(
        kind=Kind.REVOKED, subject=package.digest, issuer=key.key_id, role=Role.PUBLISHER, issued=now, comment="wrong"
    )
    publish_statement(place, model, sign_statement(revoked, key))
    (model,) = find_models(place, trust, now=now).models
    assert not model.standing.trusted
    Site(tmp_path / "home").add_key(trust.keys[0])
    rejecting = ("--reject", "--by", "A. Radiologist")
    found = json.loads(residency("models", "affected", package.card.identity.family, *rejecting, "--json").stdout)
    assert (found["digest"], found["family"]) == (package.digest, package.card.identity.family)
    assert "neither suspended nor revoked" not in residency("models", "affected", package.digest, *rejecting).stderr
    listed = {one["sop_instance"] for study in found["studies"] for one in study["objects"]}
    assert listed == {*first.values(), *second.values()}
    assert len(notes(place)) == 2


def test_a_model_that_is_still_in_use_is_told_before_its_results_are_rejected(
    residency: Run, place: FolderArchive, package: ModelPackage, key: SigningKey
):
    """The next run would make results that no note names."""
    publish(place, package, key)
    store_result(place, package.digest)
    name = package.card.identity.family
    listed = residency("models", "affected", name)
    assert listed.stderr == ""
    assert f"of Example segmenter 1.0.0 of the family '{name}', {package.digest}" in listed.stdout
    done = residency("models", "affected", name, "--reject", "--by", "A. Radiologist")
    assert "neither suspended nor revoked here" in done.stderr
    assert "residency models suspend" in done.stderr
    assert len(notes(place)) == 1


def test_a_note_names_who_rejects(residency: Run, place: FolderArchive):
    store_result(place)
    done = residency("models", "affected", DIGEST, "--reject", "--reason", "wrong")
    assert done.returncode == 2
    assert "--by" in done.stderr
    assert notes(place) == []


def test_a_model_that_nobody_knows_is_refused(residency: Run, place: FolderArchive):
    done = residency("models", "affected", "no-such-family")
    assert done.returncode == 2
    assert "residency models list" in done.stderr
