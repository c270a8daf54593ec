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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = {
    "chromium": "chromium",
    "dcmdump": "dcmtk",
    "dciodvfy": "dicom3tools",
    "unshare": "util-linux",
    "ip": "iproute2",
    "setpriv": "util-linux",
    "Orthanc": "orthanc",
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so": "orthanc-dicomweb",
}
"""Program, or the file of a plugin -> the Debian package that brings it."""

PATIENCE_S = 300


def missing() -> dict[str, str]:
    """The programs that are not on this machine, with the packages that bring them."""
    return {program: package for program, package in PROGRAMS.items() if not _is_there(program)}


def _is_there(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None


def install() -> None:
    """Install what is missing by apt-get, if this user is root and there is one; report any failure in one line."""
    packages = sorted(set(missing().values()))
    apt = shutil.which("apt-get")
    if not packages or apt is None or os.geteuid() != 0:
        return
    print(f"installing the system packages {', '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_started():
        if not _ran([apt, "update", "-qq"], environment):
            return
        for package in packages:  # one by one: a system may lack one of them
            _ran([apt, "install", "-qq", "-y", "--no-install-recommends", package], environment)


def _ran(command: list[str], environment: dict[str, str]) -> bool:
    """Whether apt-get did it; if not, why, in one line."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"apt-get {command[1]} {command[-1]} took longer than {PATIENCE_S} s and was stopped")
        return False
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        print(f"apt-get {command[1]} {command[-1]} failed: {last}")
    return done.returncode == 0


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Packages of servers start them, open to the network; Debian asks this file whether they may (invoke-rc.d(8))."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    if arguments == ["--install"]:
        install()
    for program, package in missing().items():
        print(f"not installed: {program} (Debian package {package}); tests that need it are skipped, and say so")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
