"""System packages that tests use as outside judges: install them where this user may, and say which are missing.

python3.11 tools/system_packages.py --install   install what is missing (root on Debian or Ubuntu); never fails
python3.11 tools/system_packages.py             print what is missing, one line each

Standard library only: it runs before anything is installed. Tests that need a missing program skip and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

PROGRAMS = {
    "dcmdump": "dcmtk",
    "dciodvfy": "dicom3tools",
    "unshare": "util-linux",
    "ip": "iproute2",
}
"""Program -> the Debian package that brings it."""

PATIENCE_S = 300


def missing() -> dict[str, str]:
    """The programs that are not on this machine, with the packages that bring them."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}


def install() -> None:
    """Install what is missing by apt-get, if this user is root and there is one; report any failure in one line."""
    packages = sorted(set(missing().values()))
    apt = shutil.which("apt-get")
    if not packages or apt is None or os.geteuid() != 0:
        return
    print(f"installing the system packages {', '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        try:
            done = subprocess.run(
                [apt, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"apt-get {command[0]} took longer than {PATIENCE_S} s and was stopped")
            return
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            print(f"apt-get {command[0]} failed: {last}")


def main(arguments: list[str]) -> int:
    if arguments == ["--install"]:
        install()
    for program, package in missing().items():
        print(f"not installed: {program} (Debian package {package}); tests that need it are skipped, and say so")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
