"""The tutorial on training, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from residency.archive import Level, Query
from residency.archives.folder import FolderArchive

PAGE = "docs/tutorial/from-images-to-a-model.md"
_BLOCK = re.compile(r"^```(text|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SAVED_AS = re.compile(r"Save this as `([^`]+)`")


def _script(page: str) -> str:
    """Every block of the page in order: commands as they stand, what is to be saved into its file."""
    lines = ["set -eu"]
    for found in _BLOCK.finditer(page):
        kind, text = found.groups()
        if kind == "yaml":
            (name,) = _SAVED_AS.findall(page[: found.start()])[-1:]
            lines.append(f"cat > {name} <<'END'\n{text}END")
        else:
            lines.append(text)
    return "\n".join(lines)


@pytest.mark.slow
def test_the_tutorial_ends_with_a_result_in_the_archive(repository: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "tools").symlink_to(repository / "tools")
    script = _script((repository / PAGE).read_text(encoding="utf-8"))
    assert script.count("residency train") == 2
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Still needed:" in done.stdout
    assert "training again" not in done.stdout
    truth = re.search(r"a nodule of ([0-9.]+) mL", done.stdout)
    assert truth is not None
    found = re.findall(r"[Nn]odule[^\n]*?([0-9]+\.[0-9]+) ?mL", done.stdout.split("residency models publish", 1)[-1])
    assert [float(one) for one in found if abs(float(one) / float(truth[1]) - 1) < 0.3], done.stdout[-3000:]
    archive = FolderArchive(tmp_path / "tutorial/archive")
    try:
        kinds = {entry.modality for entry in archive.find(Level.SERIES, Query())}
    finally:
        archive.close()
    assert {"SEG", "SR"} <= kinds
    assert (tmp_path / "tutorial/plan/validation/report.html").stat().st_size > 10_000
