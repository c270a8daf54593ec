"""The chores of the house keep their word: Makefile, continuous integration, the checks in tools/."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

TARGETS = {"demo", "test", "test-all", "check", "format", "docs", "bench", "help"}


@pytest.fixture
def tool(repository: Path):
    """Load one script of tools/ as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, repository / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_plain_make_lists_every_target(repository):
    done = subprocess.run(["make", "--no-print-directory"], cwd=repository, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  make ([a-z-]+) ", done.stdout, re.MULTILINE))
    phony = set(
        re.findall(r"^\.PHONY: ([a-z-]+)$", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert listed >= TARGETS
    assert listed == phony


def test_continuous_integration_runs_check_and_test(repository):
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\w+)$", script.read_text(encoding="utf-8"), re.MULTILINE) == ["check", "test"]


def test_every_tool_that_checks_is_called_by_make_check(repository):
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    for name in (
        "check_licences.py",
        "check_extras.py",
        "changelog.py check",
        "lint-imports",
        "mypy",
        "ruff format --check",
    ):
        assert name in makefile


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("GPL-3.0-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("GNU Affero General Public License v3", False),
        ("LGPL-3.0-or-later", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("", False),
    ],
)
def test_a_licence_that_binds_the_user_is_refused(tool, licence, fine):
    problems = tool("check_licences").judge("some-package", licence, notice="")
    assert (problems == []) == fine


def test_an_allowed_library_must_stand_in_the_notice(tool):
    judge, licence = tool("check_licences").judge, "LGPL-3.0-or-later"
    assert judge("connected-components-3d", licence, notice="... connected-components-3d ...") == []
    assert "NOTICE" in judge("connected-components-3d", licence, notice="...")[0]


def test_a_gpl_decoder_is_found_behind_the_extra_of_another_package(tool):
    """highdicom[libjpeg] would bring a GPL decoder into a hospital's environment without anyone naming it."""
    walk = tool("check_licences").walk
    assert "pylibjpeg-libjpeg" in walk([Requirement("highdicom[libjpeg]")])
    assert "pylibjpeg-libjpeg" not in walk([Requirement("highdicom")])


def test_the_project_passes_its_own_licence_check(tool):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the extras are not installed, so their licences cannot be read")
    assert tool("check_licences").main() == 0


@pytest.mark.parametrize(
    ("name", "text", "fine"),
    [
        ("archive.added.md", "The archive is a folder.", True),
        ("archive.md", "The archive is a folder.", False),
        ("archive.invented.md", "The archive is a folder.", False),
        ("Archive.added.md", "The archive is a folder.", False),
        ("archive.added.md", "", False),
        ("archive.added.md", "no full stop", False),
        ("archive.added.md", "# A heading.", False),
        ("archive.added.md", "Too long. " * 100, False),
    ],
)
def test_a_malformed_fragment_is_named(tool, tmp_path, name, text, fine):
    (tmp_path / name).write_text(text, encoding="utf-8")
    problems = tool("changelog").check(tmp_path)
    assert (problems == []) == fine
    assert fine or name in problems[0]


def test_a_release_gathers_the_fragments_and_removes_them(tool, tmp_path):
    changelog = tool("changelog")
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "a.fixed.md").write_text("The first is\nmended.\n", encoding="utf-8")
    (tmp_path / "changelog.d" / "b.added.md").write_text("The second is new.\n", encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n{changelog.MARKER}\n## 0.0.1 (2025-01-01)\n", encoding="utf-8"
    )
    changelog.release(tmp_path, "0.1.0", "2026-01-31")
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.index("0.1.0 (2026-01-31)") < text.index("The second is new.") < text.index("- The first is mended.")
    assert text.index("- The first is mended.") < text.index("0.0.1")
    assert list((tmp_path / "changelog.d").iterdir()) == []


def test_what_the_machine_lacks_is_said_and_is_no_error(repository, tmp_path):
    """Without the outside judges the tests still run; the run says which were missing."""
    tool = repository / "tools" / "system_packages.py"
    done = subprocess.run(
        [sys.executable, str(tool)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "not installed: dciodvfy (Debian package dicom3tools)" in done.stdout


def test_torch_is_pinned_exactly(tool):
    assert re.fullmatch(r"torch==[\d.]+", tool("make_environment").torch_pin())


def test_an_environment_is_made_once(tool, tmp_path):
    make = tool("make_environment").make
    folder = tmp_path / "environment"
    assert make(folder) == 0
    (folder / "kept").touch()
    assert make(folder) == 0
    assert (folder / "kept").exists()
    (folder / "bin" / "python").unlink()
    assert make(folder) == 0
    assert not (folder / "kept").exists(), "a broken environment must be made anew"
