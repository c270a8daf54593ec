"""One contract for all benches: a table on the screen, `--quick`, and `--json FILE` with rows and claims.

A bench is a function from `quick` to a Report. A claim that fails is reported as failing and makes the exit status 1; a
claim that the quick form cannot judge has `evaluated` false. Where a bench has a page for readers, it is made from the
JSON alone and written beside it. What is recorded of a full run lies in docs/results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "docs" / "results"


@dataclass(frozen=True)
class Claim:
    """One claim: what is said, what its source reports, our goal, what was measured, and whether it holds."""

    claim: str
    source: str
    goal: str
    value: str
    holds: bool
    evaluated: bool = True


@dataclass(frozen=True)
class Report:
    """What a bench found. Rows share their keys; values are numbers or text."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def main(
    bench: Callable[[bool], Report],
    description: str,
    own: Sequence[argparse.ArgumentParser] = (),
    page: Callable[[Mapping[str, Any]], str] | None = None,
    recorded: Path | None = None,
    for_card: Callable[[Report], None] | None = None,
) -> None:
    """Command line of a bench; `own` declares options that the bench reads itself (`add_help=False`).

    page      makes of what stands in the JSON the Markdown page that is written beside it
    recorded  where `--record`, an option that it brings, writes a full run's JSON
    for_card  called with what is recorded, to write the figures of a package's card
    """
    parser = argparse.ArgumentParser(description=description, parents=own)
    parser.add_argument("--quick", action="store_true", help="minutes on two cores: proves the mechanics")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows, claims and the machine as JSON")
    if recorded:
        told = f"a full run's result: {recorded.relative_to(REPOSITORY)}" + (" and .md" if page else "")
        told += ", and evaluation.json of the package" if for_card else ""
        parser.add_argument("--record", action="store_true", help=told)
    arguments = parser.parse_args()
    record = recorded if recorded and arguments.record else None
    if record and arguments.quick:
        parser.error("what is recorded is a full run; leave --quick out")
    report = bench(arguments.quick)
    show(report)
    body = body_of(report, command(sys.argv), quick=arguments.quick)
    for file in filter(None, (arguments.json, record)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if page:
            file.with_suffix(".md").write_text(page(body), encoding="utf-8")
    if record and for_card:
        for_card(report)
    sys.exit(0 if all(c.holds or not c.evaluated for c in report.claims) else 1)


def body_of(report: Report, called: str, *, quick: bool) -> dict[str, Any]:
    """What the JSON says; a figure that is nan or infinite is a word there, since JSON has none."""
    return {
        "title": report.title,
        "command": called,
        "quick": quick,
        "machine": machine(),
        "rows": [{key: _plain(value) for key, value in row.items()} for row in report.rows],
        "claims": [asdict(c) for c in report.claims],
        "notes": list(report.notes),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def code_digest(*places: Path, packages: Sequence[str] = ()) -> str:
    """SHA-256 of Python files, of all below the places that are folders, and of the versions of installed packages.

    What a bench keeps of its work goes under it, so that a bench taken up again mixes no two states of the code.
    """
    files = sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place]))
    digest = hashlib.sha256(" ".join(f"{name} {_version(name)}" for name in packages).encode())
    for file in files:
        digest.update(f"{file.relative_to(REPOSITORY)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def command(arguments: Sequence[str]) -> str:
    """What was called, as another machine may call it: of a path inside the repository the part inside, of any other
    absolute path its name."""
    return " ".join(["python", *(_without_place(argument) for argument in arguments)])


def _without_place(argument: str) -> str:
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name


def claims_told(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Markdown, a line for each claim: what is said, its source, the goal, what was measured, the verdict."""
    lines = ["| claim | source | goal | measured | |", "|---|---|---|---|---|"]
    for claim in claims:
        verdict = "not evaluated" if not claim["evaluated"] else "holds" if claim["holds"] else "**fails**"
        cells = (claim["claim"], claim["source"], claim["goal"], claim["value"], verdict)
        lines.append(f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |")
    return lines


def cell(value: Any, form: str) -> str:
    """A figure of a table in that form; what says in words why there is none, as it is."""
    return value if isinstance(value, str) else format(value, form)


def paragraph(*sentences: str) -> str:
    """Markdown, in lines of at most 120 characters."""
    return textwrap.fill(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False)


def measured_on(body: Mapping[str, Any]) -> str:
    """One sentence of a page: the command, the machine and the versions."""
    machine = body["machine"]
    named = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if number)
    again = body.get("claims_told_at")  # where rows of an earlier run were judged anew, with no new measurement
    vectors = [flag for flag in machine["vector_flags"] if flag.startswith(("avx", "amx"))]
    return (
        f"Made by `{body['command']}` at {machine['commit']}: {machine['cpu']} ({', '.join(vectors)}), "
        f"{machine['threads']} cores, Python {machine['python']}, {named}."
        + (f" Claims and notes were told anew from these rows at {again}." if again else "")
    )


_WIDEST = 1000
"""Columns that a table is asked how many of them it needs within."""


def show(report: Report) -> None:
    """The table on the screen, row by row in words where it is too wide for that."""
    console = Console()
    rows = [{name: f"{v:.4g}" if isinstance(v, float) else str(v) for name, v in row.items()} for row in report.rows]
    if rows:
        table = Table(*rows[0].keys(), title=report.title)
        for row in rows:
            table.add_row(*row.values())
        if console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum <= console.width:
            console.print(table)
        else:
            for row in rows:
                told = "; ".join(f"{name} {value}" for name, value in row.items())
                console.print(told, highlight=False, markup=False)
    for claim in report.claims:
        verdict = "not evaluated" if not claim.evaluated else "holds" if claim.holds else "FAILS"
        console.print(f"{verdict}: {claim.claim}; goal {claim.goal}, measured {claim.value}")
    for note in report.notes:
        console.print(f"note: {note}")


def machine() -> dict[str, Any]:
    """What a reader needs to judge a timing: CPU and its vector flags, threads, versions, commit."""
    return {
        "cpu": _cpu_field("model name"),
        "vector_flags": sorted(f for f in _cpu_field("flags").split() if f.startswith(("avx", "amx", "fma", "sse4"))),
        "threads": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("numpy", "openvino", "pydicom", "highdicom", "torch")},
        "commit": _commit(),
    }


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Short hash, marked where files differ from it; results that were recorded before are no part of what measures."""
    recorded = (":(top,exclude)docs/results", ":(top,exclude,glob)models/*/evaluation.json")
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *recorded)
    if head is None or changed is None:
        return None
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
