"""What it takes to have Residency, GaNDLF, nnU-Net and MONAI on a machine: packages, bytes, and the wait for `--help`.

    python bench/compared.py [--torch-index https://download.pytorch.org/whl/cpu] [--env NAME=FOLDER ...]
                             [--quick] [--json FILE]

Each is installed as its users would, into a virtual environment of its own, with PyTorch for the CPU; `--env` names one
that is there already. What does not install is a row with the reason. The quick form takes Residency without training,
and what `--env` names.

GaNDLF 0.1.5 asks for PyTorch 2.7.1 to the letter. Here it stands on the PyTorch of the others, with the rest of its
requirements as it pins them, so that sizes can be compared.

Sizes are of the files that were installed, without bytecode, and without pip and setuptools. Helps are asked for in
turns, and the median is told; beside the seconds that a user waits stand those that processors worked, which other
programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import REPOSITORY, Claim, Report, main

CHILD = REPOSITORY / "bench" / "children" / "compared_child.py"
TORCH = "2.13.0"
ROUNDS = 5
LARGEST = 4
"""Packages named in a row, beside PyTorch."""


@dataclass(frozen=True)
class Candidate:
    """What is installed, and how it is asked for help.

    package       whose version is told
    requirement   argument of `pip install`
    help          program of the environment, and its arguments
    torch         whether PyTorch for the CPU is installed first
    pins_torch    whether it asks for another PyTorch than that, which is then not listened to
    """

    package: str
    requirement: str
    help: Sequence[str]
    torch: bool = True
    pins_torch: bool = False


OURS, TRAINING = "Residency", "Residency with training"
CANDIDATES = {
    OURS: Candidate("residency", str(REPOSITORY), ["residency", "--help"], torch=False),
    TRAINING: Candidate("residency", f"{REPOSITORY}[train]", ["residency", "--help"]),
    "GaNDLF": Candidate("gandlf", "GANDLF==0.1.5", ["gandlf", "--help"], pins_torch=True),
    "nnU-Net": Candidate("nnunetv2", "nnunetv2==2.8.1", ["nnUNetv2_train", "--help"]),
    "MONAI": Candidate("monai", "monai[fire]==1.6.1", ["python", "-m", "monai.bundle", "--help"]),
}
REQUIRED = "import importlib.metadata as m, json; print(json.dumps(m.requires({!r})))"

OWN = argparse.ArgumentParser(add_help=False)
OWN.add_argument("--torch-index", metavar="URL", help="where pip finds PyTorch for the CPU, beside its own index")
OWN.add_argument("--env", action="append", default=[], metavar="NAME=FOLDER", help=f"one of {', '.join(CANDIDATES)}")


class NotInstalledError(Exception):
    """What pip said."""


def bench(quick: bool) -> Report:
    """Install, count, and ask for help in turns."""
    told, _ = OWN.parse_known_args()
    there = {name: Path(folder).absolute() for name, _, folder in (text.partition("=") for text in told.env)}
    if unknown := set(there) - set(CANDIDATES):
        sys.exit(f"--env {min(unknown)}: one of {', '.join(CANDIDATES)}")
    wanted = [name for name in CANDIDATES if not quick or name in {OURS, *there}]
    with tempfile.TemporaryDirectory() as work:
        failed: dict[str, str] = {}
        for name in wanted:
            try:
                there[name] = there.get(name) or made(CANDIDATES[name], Path(work) / name, told.torch_index)
            except NotInstalledError as reason:
                failed[name] = str(reason)
        counted = {name: installed(there[name]) for name in wanted if name in there}
        waits = helps({name: there[name] for name in counted}, 2 if quick else ROUNDS)
    rows = [row(name, counted[name], waits[name]) for name in counted]
    notes = [f"{name} did not install here: {reason}" for name, reason in failed.items()]
    notes += [f"{name}: {' '.join(CANDIDATES[name].help)} ended with an error" for name in waits if not waits[name]]
    return Report("To have it on a machine", rows, claims(rows), notes)


def made(candidate: Candidate, folder: Path, torch_index: str | None) -> Path:
    """A new environment with the candidate in it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    same_torch = folder / "constraints.txt"
    same_torch.write_text(f"torch=={TORCH}\n", encoding="utf-8")
    kept = ["--constraint", str(same_torch), *(["--extra-index-url", torch_index] if torch_index else [])]
    if candidate.torch:
        pip(folder, *kept, "torch")
    if candidate.pins_torch:
        pip(folder, "--no-deps", candidate.requirement)
        required = json.loads(asked(folder, "-c", REQUIRED.format(candidate.package)))
        pip(folder, *kept, *(text for text in required if not text.startswith("torch==") and "extra ==" not in text))
    else:
        pip(folder, *kept, candidate.requirement)
    return folder


def pip(folder: Path, *arguments: str) -> None:
    """Raises NotInstalledError with the last that pip said."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalledError((errors or done.stderr.splitlines() or ["pip said nothing"])[-1])


def asked(folder: Path, *arguments: str) -> str:
    """What Python of an environment answers, far from the checkout, so that nothing is found there by accident."""
    command = [str(folder / "bin" / "python"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def installed(folder: Path) -> dict[str, dict[str, Any]]:
    """Packages of an environment by name, each with version and bytes."""
    found: dict[str, dict[str, Any]] = json.loads(asked(folder, str(CHILD)))
    return found


def helps(folders: Mapping[str, Path], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds until the help of each environment was there, and of processor time, by round; none if it failed."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in folders}
    answering = dict(folders)
    for _ in range(rounds):
        for name, folder in list(answering.items()):
            program, *arguments = CANDIDATES[name].help
            began = time.perf_counter()
            child = subprocess.Popen(
                [str(folder / "bin" / program), *arguments],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            if child.returncode:
                del answering[name]
                taken[name].clear()
                continue
            taken[name].append((time.perf_counter() - began, usage.ru_utime + usage.ru_stime))
    return taken


def row(name: str, packages: Mapping[str, Mapping[str, Any]], waits: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """One line of the table; MB are 10^6 bytes."""
    mb = {package: said["bytes"] / 1e6 for package, said in packages.items()}
    torch = mb.pop("torch", 0.0)
    largest = sorted(mb, key=lambda package: -mb[package])[:LARGEST]
    return {
        "name": name,
        "version": packages[CANDIDATES[name].package]["version"],
        "packages": len(packages),
        "MB": round(sum(mb.values()) + torch),
        "PyTorch MB": round(torch),
        "others MB": round(sum(mb.values())),
        "largest others": ", ".join(f"{package} {mb[package]:.0f}" for package in largest),
        "PyTorch": packages.get("torch", {}).get("version", "none"),
        "help": " ".join(CANDIDATES[name].help),
        "help s": round(statistics.median(wall for wall, _ in waits), 2) if waits else None,
        "help CPU s": round(statistics.median(worked for _, worked in waits), 2) if waits else None,
    }


def claims(rows: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """What may be said of ours beside the peers that were measured."""
    by_name = {row["name"]: row for row in rows}
    peers = [row for row in rows if row["name"] not in {OURS, TRAINING}]
    found = []
    for what, key, unit in (("without training is smaller", "MB", "MB"), ("answers --help sooner", "help CPU s", "s")):
        ours = by_name[OURS][key]
        measured = [row[key] for row in peers if row[key] is not None]
        least = min(measured, default=0.0)
        found.append(
            Claim(
                claim=f"Residency {what} than each of its peers",
                source="none",
                goal=f"under {least} {unit}" if measured else "no peer was measured",
                value=f"{ours} {unit}",
                holds=bool(measured) and ours is not None and ours < least,
                evaluated=bool(measured),
            )
        )
    return found


if __name__ == "__main__":
    main(bench, "Compare what it takes to have Residency, GaNDLF, nnU-Net and MONAI on a machine.", own=[OWN])
