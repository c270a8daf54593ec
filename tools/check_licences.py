"""Check the licences of everything that residency and its extras draw in (not of the tools of developers).

Two ways lead to a package, and both are walked from pyproject.toml: what is installed (licence as pip-licenses reads it
from the package's metadata), and what the metadata of the installed packages ask for, with the extras they name; so an
extra of another package that would draw in a GPL decoder is found even where it is not installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED_EXTRAS = ("train", "optimise", "demo")

LESSER_ALLOWED = {"connected-components-3d"}
"""Under the LGPL, used unmodified and loaded at run time; each is named in NOTICE."""

NEVER = {"pylibjpeg-libjpeg": "GPL-3.0; python-gdcm decodes the same transfer syntaxes"}
"""Packages that no requirement may draw in, also not through an extra of another package, and why."""

FULL_GPL = re.compile(r"\bA?GPL|GNU (Affero )?General Public License", re.IGNORECASE)
LESSER_GPL = re.compile(r"\bLGPL|Lesser General Public", re.IGNORECASE)
FIELD_LIMIT = 300
"""Characters of the free-text licence field that are read: some packages put their whole licence there, which may
name the GPL only to speak of compatibility."""


def main() -> int:
    drawn = walk(requirements_of_project())
    problems = [f"{name}: {reason}" for name, reason in NEVER.items() if name in drawn]
    licences = installed_licences()
    for name in sorted(drawn & licences.keys()):
        problems += judge(name, licences[name], notice=(REPOSITORY / "NOTICE").read_text(encoding="utf-8"))
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"licences: {len(drawn & licences.keys())} packages looked at, none under the GPL")
    return 1 if problems else 0


def requirements_of_project() -> list[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in [*project["dependencies"], *(r for e in SHIPPED_EXTRAS for r in extras[e])]]


def walk(requirements: Iterable[Requirement]) -> set[str]:
    """Every package that the requirements draw in on this machine, by its canonical name, installed or not."""
    waiting = [(str(canonicalize_name(r.name)), frozenset(r.extras)) for r in requirements if _applies(r, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted = [r for r in map(Requirement, lines) if _applies(r, extras)]
        waiting += [(str(canonicalize_name(r.name)), frozenset(r.extras)) for r in wanted]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""})


def installed_licences() -> dict[str, str]:
    """Canonical name -> expression, classifier and the beginning of the licence field, as pip-licenses reports them."""
    command = [str(Path(sys.executable).parent / "pip-licenses"), "--from=all", "--format=json"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    licences = {}
    for row in rows:
        fields = (
            row.get("License-Expression"),
            row.get("License-Classifier"),
            (row.get("License-Metadata") or "")[:FIELD_LIMIT],
        )
        known = [field for field in fields if field and field != "UNKNOWN"]
        licences[str(canonicalize_name(row["Name"]))] = "; ".join(known)
    return licences


def judge(name: str, licence: str, *, notice: str) -> list[str]:
    """What is wrong with this package's licence; an alternative ("A OR B") without the GPL is enough."""
    if not licence:
        return [f"{name}: its metadata state no licence"]
    choices = re.split(r"\s+OR\s+", licence)
    if all(FULL_GPL.search(choice) for choice in choices):
        return [f"{name}: {licence}: nothing under the GPL may be drawn in"]
    if all(LESSER_GPL.search(choice) for choice in choices):
        if name not in LESSER_ALLOWED:
            return [f"{name}: {licence}: decide about it, then add it to LESSER_ALLOWED and to NOTICE"]
        if name not in notice:
            return [f"{name}: {licence}: NOTICE does not name it"]
    return []


if __name__ == "__main__":
    sys.exit(main())
