"""Make a virtual environment, or say in one line what the machine lacks for it. Standard library only, and no
syntax that an older Python would stumble over before it is told that it is too old.

python3.11 tools/make_environment.py FOLDER        make FOLDER unless it is there and of this Python
python3.11 tools/make_environment.py --torch-pin   print the exact requirement of torch in pyproject.toml
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)


def main(arguments: list[str]) -> int:
    if arguments == ["--torch-pin"]:
        print(torch_pin())
        return 0
    if len(arguments) == 1:
        return make(Path(arguments[0]))
    print(__doc__, file=sys.stderr)
    return 2


def torch_pin() -> str:
    """The requirement of torch in the extra `train`; it is exact, so that it may be installed before all others."""
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(line for line in project["optional-dependencies"]["train"] if line.startswith("torch=="))


def make(folder: Path) -> int:
    """Make the environment unless one that serves is there; the exit status, after one line of what is wrong."""
    if sys.version_info < OLDEST:
        print(f"this is Python {sys.version.split()[0]}; name a newer one: make PYTHON=python3.11 ...", file=sys.stderr)
        return 1
    if _serves(folder):
        return 0
    try:
        venv.create(folder, clear=True, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(
            f"{folder} cannot be made: this Python has no ensurepip; on Debian or Ubuntu install python{version}-venv",
            file=sys.stderr,
        )
        return 1
    return 0


def _serves(folder: Path) -> bool:
    """Whether the folder holds an environment of this very version of Python, with pip, that starts."""
    python = folder / "bin" / "python"
    if not python.exists():
        return False
    ask = [str(python), "-c", "import sys, pip; print(sys.version_info[:2])"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == str(sys.version_info[:2])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
