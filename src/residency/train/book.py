"""What the steps of a run are told to: always its log, and TensorBoard where the training file asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from residency.errors import DependencyError
from residency.train.log import RunLog
from residency.train.progress import Progress

EVENTS = "tensorboard"
"""Folder in the run folder."""

Logs = Literal["tensorboard"]


class Book:
    """Open for a run that stands at `step`; a context. Raises DependencyError where the writer is not installed."""

    def __init__(self, run: Path, step: int, logs: Logs | None = None) -> None:
        self._log = RunLog(run, step)
        self._events = None if logs is None else _writer(run / EVENTS, step)

    def __call__(self, done: Progress) -> None:
        """Tell of a step."""
        self._log(done)
        if self._events is not None:
            told = {
                "loss": done.loss,
                "rate": done.rate,
                "crops_a_second": done.crops_second,
                "waiting_share": done.waiting_share,
                "figure": done.figure,
            }
            for name, value in told.items():
                if value is not None:
                    self._events.add_scalar(name, value, done.step)

    def keep(self) -> None:
        """To the disk, before a checkpoint."""
        self._log.keep()
        if self._events is not None:
            self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        if self._events is not None:
            self._events.close()


def _writer(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise DependencyError("logs: tensorboard needs tensorboardX: pip install tensorboardX") from None
    # What a killed run told after its checkpoint is hidden: those steps are told anew. A file's name has the second in
    # which it was begun; the step keeps a run that goes on within that second from writing over its beginning.
    return SummaryWriter(str(folder), purge_step=step + 1, filename_suffix=f".{step}")
