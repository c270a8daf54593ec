"""The table of what archives do wrong and what comes of it: each door's test writes its section, and compares it.

The page is committed. RESIDENCY_WRITE_TABLES=1 in the environment of a test run writes it anew.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from residency.archive import Archive
from residency.errors import ResidencyError
from residency.models import find_models
from residency.trust import TrustStore

PAGE = Path("docs/reference/misbehaving-archives.md")
"""Below the root of the checkout."""

_HEAD = """<!-- Written by the tests of the doors; RESIDENCY_WRITE_TABLES=1 writes it anew. Do not edit. -->

# What archives do wrong

A server of our own behaves as each row says while a model is published into it or fetched from it; the tests run every
row and hold it against this page. ARCHIVE stands for the archive's address, UID for a UID. "No error" means that the
door mends it by itself. In no row is a model offered that is not whole.
"""


@dataclass(frozen=True)
class Outcome:
    """One row: what the archive does, the error that is shown, and what lies in the archive afterwards."""

    behaviour: str
    error: str
    state: str


def shown(error: ResidencyError | None, url: str) -> str:
    """An error as the table shows it: its class and its message, without what differs from run to run."""
    if error is None:
        return "no error"
    said = str(error).replace(url, "ARCHIVE")
    said = re.sub(r"\b[0-9]+(\.[0-9]+){3,}\b|\b2\.25\.[0-9]+\b", "UID", said)
    return f"`{kind_of(error)}`: {said}"


def kind_of(error: ResidencyError) -> str:
    """The name of its class, or of the nearest one in `residency.errors`."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "residency.errors")


def state_of(archive: Archive, trust: TrustStore, now: dt.datetime) -> str:
    """What of a model lies in the archive, in words."""
    models = find_models(archive, trust, now=now).models
    if not models:
        return "nothing of the model is there"
    return "; ".join(
        "the model is there, whole" if m.error is None else f"not offered: {_reason(m.error)}" for m in models
    )


def _reason(error: ResidencyError) -> str:
    return re.sub(r"[0-9]+(\.[0-9]+){3,}|2\.25\.[0-9]+", "UID", str(error)).split(":")[0]


def check_section(repository: Path, title: str, rows: Sequence[Outcome]) -> None:
    """The committed section with this title is the one that the rows give; written where the environment says so."""
    page = repository / PAGE
    committed = page.read_text("utf-8") if page.exists() else _HEAD
    made = _section(title, rows)
    if os.environ.get("RESIDENCY_WRITE_TABLES") == "1":
        page.write_text(_replaced(committed, title, made), "utf-8")
        return
    assert made in committed, f"{PAGE} is not what the tests find; RESIDENCY_WRITE_TABLES=1 writes it anew:\n{made}"


def _section(title: str, rows: Sequence[Outcome]) -> str:
    lines = [f"## {title}", "", "| the archive | error shown | afterwards |", "|---|---|---|"]
    lines += [f"| {_cell(row.behaviour)} | {_cell(row.error)} | {_cell(row.state)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _replaced(page: str, title: str, section: str) -> str:
    head, *sections = re.split(r"(?m)^(?=## )", page)
    kept = [s.strip("\n") + "\n" for s in sections if not s.startswith(f"## {title}\n")]
    return "\n".join([_HEAD.strip("\n") + "\n", *sorted([*kept, section])]) if head else section
