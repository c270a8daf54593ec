"""The repository stands alone: no path of one machine, nothing large, every file in its place."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

LARGEST_BYTES = 2_000_000
# Brackets keep these patterns from finding themselves.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(wor[k]|roo[t]|hom[e]/\w|op[t]/(pypi|wheels))\b")
NEIGHBOUR = re.compile(r"\.\./share[d]/(?!data\b)")
NOT_OURS = re.compile(r"share[d]/(design|papers)|\b(component[s]|model_objec[t]|styl[e])\.md\b|\bissu[e] #?\d+\b")
WORKSHOP = {"residency.nets", "residency.train", "residency.testing", "residency.cli", "residency.__main__"}


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    """The files under version control."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("no git checkout: which files belong to the project cannot be asked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.split("\0") if name and (path := repository / name).is_file()]


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def texts(paths: list[Path]) -> list[tuple[Path, str]]:
    found = []
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:8000]:
            found.append((path, data.decode("utf-8", errors="replace")))
    return found


def test_no_file_names_a_path_of_one_machine(tracked):
    hits = [f"{path}: {m.group()}" for path, text in texts(tracked) for m in MACHINE_PATHS.finditer(text)]
    assert not hits


def test_only_the_training_data_are_looked_for_beside_the_checkout(tracked):
    hits = [f"{path}: {m.group()}" for path, text in texts(tracked) for m in NEIGHBOUR.finditer(text)]
    assert not hits


def test_no_file_leans_on_notes_that_do_not_travel_with_it(tracked):
    """Whoever clones the repository must be able to follow every reference in it."""
    hits = [f"{path}: {m.group()}" for path, text in texts(tracked) for m in NOT_OURS.finditer(text)]
    assert not hits


def test_nothing_large_is_committed_but_models(tracked, repository):
    large = [p for p in tracked if p.stat().st_size > LARGEST_BYTES and repository / "models" not in p.parents]
    assert not large


def test_every_room_is_under_the_contracts(repository, project):
    """A new module that no contract names would be free to import anything."""
    rooms = {
        f"residency.{path.stem}"
        for path in (repository / "src" / "residency").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"residency.__init__"}
    contracts = {contract["name"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    floors, hospital = (
        contracts["The floors of the house"],
        contracts["What a hospital installs never reaches the workshop"],
    )
    on_floors = {f"residency.{name}" for line in floors["layers"] for name in re.findall(r"\w+", line)}
    assert rooms == on_floors
    assert rooms - WORKSHOP == set(hospital["source_modules"])


def test_the_metadata_agree_with_one_another(project):
    classifiers = project["project"]["classifiers"]
    versions = {line.rsplit(" ", 1)[-1] for line in classifiers if "Python :: 3." in line}
    assert project["project"]["requires-python"] == ">=3.11"
    assert versions == {"3.11", "3.12", "3.13"}
    # An SPDX expression and a licence classifier exclude each other (PEP 639).
    assert project["project"]["license"] == "Apache-2.0"
    assert not [line for line in classifiers if line.startswith("License")]
    assert project["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_the_two_versions_are_one(repository, project):
    import residency

    assert residency.__version__ == project["project"]["version"]


def test_the_licence_is_whole(repository):
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
