"""How a network came to be, of one run or of the runs of all folds, as a card tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from residency.card import Training
from residency.datasets import Case
from residency.train.config import TrainingConfig
from residency.train.report import how_trained
from residency.train.state import Outcome


@dataclass(frozen=True)
class Trained:
    """One run: its folder, the cases learnt from, those that chose the weights, and how it went."""

    run: Path
    config: TrainingConfig
    learning: tuple[Case, ...]
    judging: tuple[Case, ...]
    outcome: Outcome


def training_of(config: TrainingConfig, trained: Sequence[Trained], shipped: str = "") -> Training:
    """The field `training` of a card. `shipped` says what became of several runs.

    The digest of the configuration of several is that of their digests, one a line: the training file without folds
    holds other persons out.
    """
    first = trained[0]
    told = how_trained(first.config, first.learning, first.judging, first.outcome)
    if len(trained) == 1:
        return told
    files = "".join(f"{one.config.digest()}\n" for one in trained)
    learnt = [len(one.learning) for one in trained]
    split = (
        f"{len(trained)} folds by person of split '{config.data.train}' (file of folds "
        f"sha256:{first.config.data.split_sha256}): {min(learnt)} to {max(learnt)} of {learnt[0] + len(first.judging)} "
        f"cases were learnt from in a fold, the others chose its weights. {shipped}"
    )
    return told.model_copy(
        update={
            "split": split.strip(),
            "steps": sum(one.outcome.step for one in trained),
            "duration_minutes": round(sum(one.outcome.seconds for one in trained) / 60, 1),
            "config_digest": f"sha256:{hashlib.sha256(files.encode()).hexdigest()}",
        }
    )
