"""What a hospital installs: no extras, no torch, under 700 MB, and everything but the workshop imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.clean_environment

LARGEST_MB = 700
WORKSHOP = ("torch", "monai", "onnxruntime", "onnxscript", "nncf", "nilearn", "SimpleITK", "pytest")
UNREACHABLE = ("name resolution", "Connection refused", "Network is unreachable", "Failed to establish", "timed out")

IMPORT_ALL = """
import importlib, pkgutil, sys
import residency

workshop = ("residency.nets", "residency.train", "residency.testing", "residency.__main__")
found = [m.name for m in pkgutil.walk_packages(residency.__path__, "residency.") if not m.name.startswith(workshop)]
for name in found:
    importlib.import_module(name)
assert not {"torch", "monai"} & set(sys.modules)
print(len(found))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The interpreter of a new virtual environment, with the project installed in it as a user would."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-input", str(repository)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("the package index cannot be reached, so no clean environment can be made")
    assert done.returncode == 0, done.stderr
    return python


def run(python: Path, *arguments: str) -> str:
    # Outside the checkout, so that nothing is found there by accident.
    done = subprocess.run([str(python), *arguments], cwd=python.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_the_workshop_is_installed(python):
    installed = {line.partition("==")[0].lower() for line in run(python, "-m", "pip", "freeze").splitlines()}
    assert "pydicom" in installed
    assert not installed & {name.lower() for name in WORKSHOP}


def test_the_environment_stays_small(python):
    files = [path for path in python.parents[1].rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < LARGEST_MB * 1_000_000


def test_everything_but_the_workshop_imports(python):
    assert int(run(python, "-W", "error", "-c", IMPORT_ALL)) > 30


def test_the_command_answers(python):
    assert "run" in run(python, str(python.parent / "residency"), "--help")
    assert "home" in run(python, str(python.parent / "residency"), "config", "show")
