"""The files that a validation leaves: figures for a card, every case, a card to fill in, and the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from residency.card import InputStatistics
from residency.card.page import measured
from residency.datasets import Case, digest
from residency.train.config import TrainingConfig
from residency.train.evidence.answerer import Answerer
from residency.train.evidence.draft import TO_FILL_IN, draft
from residency.train.evidence.figures import score
from residency.train.evidence.found import Evidence, evaluations
from residency.train.evidence.pictures import Section, sections
from residency.train.evidence.rows import Row, answered
from residency.train.evidence.trained import Trained, training_of
from residency.train.log import read_log
from residency.train.pages.evidence import EvidencePage, evidence_html
from residency.train.pages.figures import Curve, Logged
from residency.train.report import input_statistics
from residency.train.written import write_whole

EVALUATION, CASES, REPORT, DRAFT = "evaluation.json", "cases.json", "report.html", "card.draft.yaml"

WORST = 4
"""Cases that the report shows."""

_CHOSEN_BY = {"dice": "mean Dice", "auc": "mean area under the ROC curve", "balanced-accuracy": "balanced accuracy"}


def write_evidence(
    config: TrainingConfig,
    evidence: Evidence,
    judged: Mapping[str, tuple[Case, Answerer]],
    out: Path,
    cancelled: Callable[[], bool],
    trained: Sequence[Trained] = (),
) -> Evidence | None:
    """Write everything into `out`, the report last; the evidence with what a card tells of the training.

    judged     case by name, and what answered
    cancelled  is asked before each training case is looked at; True: nothing is written, and None given
    trained    how, of one run or of several folds; a package tells it itself
    """
    contract = next(iter(judged.values()))[1].contract
    if trained:
        seen = statistics_of([*trained[0].learning, *trained[0].judging], config, out, cancelled)
        if seen is None:
            return None
        evidence = replace(evidence, training=training_of(config, trained), statistics=seen)
        text = draft(config, contract, evidence)
        write_whole(out / DRAFT, text.encode())
    else:
        evidence = replace(evidence, training=contract.training, statistics=contract.statistics)
        text = ""
    assert evidence.training is not None
    assert evidence.statistics is not None
    write_whole(out / EVALUATION, _json({"evaluation": [one.model_dump(mode="json") for one in evaluations(evidence)]}))
    write_whole(out / CASES, _json(_told(evidence)))
    page = EvidencePage(
        evidence=evidence,
        curves=tuple(_curve(one, f"fold {k}" if len(trained) > 1 else "") for k, one in enumerate(trained)),
        chosen_by=_CHOSEN_BY[config.judged_by or ("auc" if evidence.classifies else "dice")]
        + (" over all columns of classes" if len(config.data.tasks) > 1 else ""),
        worst=() if evidence.classifies else _worst(evidence, judged),
        card=measured(evidence.training, evidence.statistics),
        missing=TO_FILL_IN if text else (),
        draft=text,
        settings=yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    write_whole(out / REPORT, evidence_html(page).encode())
    return evidence


class _CancelledError(Exception):
    """Somebody asked to stop."""


def statistics_of(
    cases: Sequence[Case], config: TrainingConfig, out: Path, cancelled: Callable[[], bool]
) -> InputStatistics | None:
    """What the training images look like, measured once, then taken from `out`; None where it was cancelled."""
    meant = json.dumps([digest(cases), config.recipe.model_dump(mode="json"), *config.data.classes])
    file = out / "cases" / f"statistics-{hashlib.sha256(meant.encode()).hexdigest()}.json"
    try:
        return InputStatistics.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        try:
            found = input_statistics(_until(cancelled, cases), config)
        except _CancelledError:
            return None
    write_whole(file, found.model_dump_json().encode())
    return found


def _until(cancelled: Callable[[], bool], cases: Sequence[Case]) -> Iterator[Case]:
    for case in cases:
        if cancelled():
            raise _CancelledError
        yield case


def _curve(trained: Trained, name: str) -> Curve:
    """The run's log; of a run that kept none, what was found at each validation."""
    lines = [
        Logged(
            line["step"],
            _number(line.get("loss")),
            _number(line.get("figure")),
            _number(line.get("crops_second")),
            _number(line.get("waiting_share")),
        )
        for line in read_log(trained.run)
    ]
    kept = lines or [Logged(step, loss, figure) for step, loss, figure in trained.outcome.history]
    return Curve(name, tuple(kept), trained.outcome.best_at)


def _worst(
    evidence: Evidence, judged: Mapping[str, tuple[Case, Answerer]]
) -> tuple[tuple[Row, tuple[Section, ...]], ...]:
    found = []
    for row in evidence.worst[:WORST]:
        shown = sections(answered(*judged[row.case], evidence.classes), evidence.classes)
        if shown and score(row) < 1:
            found.append((row, shown))
    return tuple(found)


def _told(evidence: Evidence) -> dict[str, Any]:
    return {
        "title": evidence.title,
        "judged": evidence.judged,
        "cohort": evidence.cohort,
        "caution": evidence.caution,
        "classes": list(evidence.classes),
        "cases": [row.plain() for row in evidence.rows],
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _json(told: dict[str, Any]) -> bytes:
    return (json.dumps(told, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
