"""Check that all extras resolve together, from wheels alone, on this version of Python.

pip's resolver is asked for the whole set as on an empty machine (`--dry-run --ignore-installed`), so that two extras
that exclude each other, or a dependency without a wheel, are found before a user finds them. Nothing is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXTRAS = "train,optimise,demo,dev"
PATIENCE_S = 600
UNREACHABLE = ("Temporary failure in name resolution", "Connection refused", "Network is unreachable", "timed out")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input"),
            *("--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", str(report)),
            f"{REPOSITORY}[{EXTRAS}]",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode:
            return _failed(done.stderr)
        packages = json.loads(report.read_text(encoding="utf-8"))["install"]
    print(f"residency[{EXTRAS}]: {len(packages)} packages resolve together, all from wheels")
    return 0


def _failed(message: str) -> int:
    if any(sign in message for sign in UNREACHABLE):
        print("the package index cannot be reached: what is installed is checked instead of what could be")
        return subprocess.run([sys.executable, "-m", "pip", "check"], check=False).returncode
    print(message, file=sys.stderr)
    print(
        f"residency[{EXTRAS}] does not resolve: the lines above name what excludes what",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
