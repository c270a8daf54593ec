"""A plan carried out: train, judge, export, draft the card, and build the package once the card is whole.

Each part leaves files that tell the next time that it is done; a part that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.errors import TrainingError
from residency.models.build import EVALUATION_FILE, GRAPH_FILE, TRAINING_FILE
from residency.train.config import TrainingConfig
from residency.train.differing import SETTINGS

RUN, VALIDATION, PACKAGE = "run", "validation", "package"
"""Folders below that of a plan."""

PLAN_TRAINING, PLAN = "train.yaml", "plan.json"


@dataclass(frozen=True)
class Through:
    """What has come of a plan.

    still_needed  what a person must say before there is a package; () where there is one
    digest        of the package
    """

    folder: Path
    still_needed: tuple[str, ...]
    digest: str | None


def is_exported(config: TrainingConfig, folder: Path) -> bool:
    """The package folder holds the graph of this very training: same file, same data."""
    told, ran = _json(folder / PACKAGE / TRAINING_FILE), _json(folder / RUN / SETTINGS)
    if told is None or ran is None or not (folder / PACKAGE / GRAPH_FILE).exists():
        return False
    training = told["training"]
    found = (training["config_digest"], training["datasets"][0]["digest"])
    return bool(found == (f"sha256:{config.digest()}", ran["data_digest"]))


def fingerprint_of(folder: Path) -> dict[str, Any]:
    """What the plan knows of its data. Raises TrainingError where plan.json is missing or damaged."""
    told = _json(folder / PLAN)
    if told is None or "fingerprint" not in told:
        raise TrainingError(f"{folder / PLAN} is missing or damaged; plan again: residency plan DATA --out {folder}")
    found: dict[str, Any] = told["fingerprint"]
    return found


def bring_evaluation(folder: Path) -> None:
    """The figures of the validation into the package folder. The report stays out: it shows people's images."""
    shutil.copyfile(folder / VALIDATION / EVALUATION_FILE, folder / PACKAGE / EVALUATION_FILE)


def forget_golden(folder: Path) -> None:
    """A golden case that code made for an older graph; one of a person's own stays."""
    from residency.train import phantom

    licence = folder / PACKAGE / "licence-golden.txt"
    if licence.exists() and licence.read_text(encoding="utf-8") == phantom.LICENCE:
        further = [file.name for file in (folder / PACKAGE).glob(phantom.FURTHER.format("*"))]
        for name in (phantom.INPUT, phantom.EXPECTED, phantom.PROBABILITIES, *further):
            (folder / PACKAGE / name).unlink(missing_ok=True)


def _json(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
