"""What starts fast stays light: the package itself, and the help of every command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCIENTIFIC = {"numpy", "scipy", "pydicom", "highdicom", "openvino", "onnx", "onnxruntime", "torch", "monai", "nibabel"}
OTHERS = {"cc3d", "cryptography", "nilearn", "nncf", "pandas", "PIL", "reportlab", "requests", "sklearn", "yaml"}

PRINT_MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"

ALL_HELP = """
import sys
from residency.cli import app, main
import typer

def names(command, path=()):
    yield path
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from names(child, (*path, name))

for path in names(typer.main.get_command(app)):
    sys.argv = ["residency", *path, "--help"]
    try:
        main()
    except SystemExit as end:
        assert end.code in (0, None), (path, end.code)
"""


def modules_after(code: str) -> set[str]:
    """The top-level packages loaded in a fresh interpreter after running the code."""
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{PRINT_MODULES}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def test_the_check_can_fail():
    assert "numpy" in modules_after("import numpy")


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import residency; residency.__version__")
    assert "residency" in loaded
    assert not loaded & (SCIENTIFIC | OTHERS | {"pydantic", "typer", "rich", "structlog"})


def test_the_help_of_every_command_loads_nothing_scientific():
    """A second of imports before the help appears is a second before every mistake in an argument is reported."""
    assert not modules_after(ALL_HELP) & (SCIENTIFIC | OTHERS)


@pytest.mark.parametrize("start", [("-m", "residency"), ("-c", "from residency.cli import main; main()")])
def test_the_version_is_one_line(start):
    done = subprocess.run([sys.executable, *start, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("residency ")
    assert done.stdout.count("\n") == 1
