"""What a net is to say, a class for each voxel or one for the whole image, and which keys go with it. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from residency.errors import ConfigError, UsageError
from residency.train.loss_part import Task

if TYPE_CHECKING:
    from residency.train.config import TrainingConfig


def task_of(config: TrainingConfig) -> Task:
    """That of the file's net. Raises ConfigError where a key, or the loss, is for the other task."""
    task = config.net.known.task
    groups = groups_of(config) if task == "classification" else {"": slice(0, len(config.data.classes))}
    for group in groups.values():
        config.loss.check(group.stop - group.start, task)
    foreign = [place for place, meant in ONLY.items() if meant != task and _is_said(config, place)]
    if config.judged_by is not None and _JUDGES.get(config.judged_by, "classification") != task:
        foreign.append(f"judged_by: {config.judged_by}")
    if foreign:
        raise ConfigError(f"{foreign[0]} is not for nets that {_DOES[task]}, as '{config.net.name}' does; leave it out")
    if len(groups) > 1 and config.sampling.balanced:
        raise ConfigError("sampling.balanced is for one task, and data.tasks has several; leave it out")
    return task


def _is_said(config: TrainingConfig, place: str) -> bool:
    """Whether the value there is another than that of a file that leaves it out."""
    holder: Any = config
    *way, key = place.split(".")
    for part in way:
        holder = getattr(holder, part)
    usual = type(holder).model_fields[key].get_default(call_default_factory=True)
    return bool(getattr(holder, key) != usual)


def column_of_labels(config: TrainingConfig) -> str:
    """The column of the table that holds the class of each case. Raises ConfigError unless there is one, that fits."""
    tasks = config.data.tasks
    if len(tasks) > 1:
        raise ConfigError(f"data.tasks: one column is expected here, got {', '.join(tasks)}")
    if not tasks:
        raise ConfigError(
            f"net '{config.net.name}' classifies whole images: name one column of the table and its classes, "
            f"data.tasks: {{column: [{', '.join(config.data.classes)}]}}"
        )
    ((column, classes),) = tasks.items()
    if tuple(classes) != config.data.classes:
        raise ConfigError(f"data.tasks.{column} and data.classes name different classes; they are the same list")
    return column


def scores_apart(config: TrainingConfig) -> bool:
    """Whether each score of the graph is a question of its own, that a sigmoid answers: of several tasks (`Exclusive`),
    or trained so. Else one softmax answers all.
    """
    return len(config.data.tasks) > 1 or trained_apart(config)


def trained_apart(config: TrainingConfig) -> bool:
    """Whether the loss takes each score for a question of its own."""
    return any(term.name == "binary-cross-entropy" for term in config.loss.terms)


@dataclass(frozen=True)
class Judged:
    """What of a net's answer is judged.

    column   of the table, that holds the classes; None where masks are judged
    classes  that are judged
    own      which of the net's scores are theirs
    every    the classes of all scores
    """

    column: str | None
    classes: tuple[str, ...]
    own: slice
    every: tuple[str, ...]

    @property
    def told(self) -> str | None:
        """The column, where there are others too."""
        return self.column if len(self.classes) < len(self.every) else None


def judged_of(config: TrainingConfig, column: str | None = None) -> Judged:
    """All that a net says, or of several columns of classes the one that is named.

    Raises UsageError where there are several columns and none of them is named, or there is none called so.
    """
    if task_of(config) == "segmentation":
        if column is not None:
            raise UsageError(f"--task {column}: net '{config.net.name}' segments, and has no columns of classes")
        return Judged(None, config.data.classes, slice(0, len(config.data.classes)), config.data.classes)
    groups = groups_of(config)
    if column is None and len(groups) == 1:
        column = next(iter(groups))
    if column is None or column not in groups:
        said = "the training file has several tasks" if column is None else f"--task {column} is none of the tasks"
        raise UsageError(f"{said}; judge one at a time: --task {' or '.join(groups)}")
    return Judged(column, tuple(config.data.tasks[column]), groups[column], config.data.classes)


def groups_of(config: TrainingConfig) -> Mapping[str, slice]:
    """The columns of the table that hold classes, and which of the net's scores are each one's.

    Raises ConfigError unless `data.classes` names the classes of the one column, or all of them, column by column.
    """
    tasks = config.data.tasks
    if len(tasks) < 2:
        return {column_of_labels(config): slice(0, len(config.data.classes))}
    wanted = tuple(f"{column}: {name}" for column, names in tasks.items() for name in names)
    if wanted != config.data.classes:
        raise ConfigError(
            "data.classes names every score of the net; with several tasks these are, in order: "
            + ", ".join(f'"{name}"' for name in wanted)
        )
    ends = list(accumulate(map(len, tasks.values())))
    return {column: slice(end - len(tasks[column]), end) for column, end in zip(tasks, ends, strict=True)}


ONLY: Mapping[str, Task] = {
    "sampling.foreground": "segmentation",
    "sampling.balanced": "classification",
    "synthesis": "segmentation",
    "export.symmetric_axis": "segmentation",
    "export.unbiased_volumes": "segmentation",
}
"""Keys, and parts, that one task alone has."""

_JUDGES: Mapping[str, Task] = {"dice": "segmentation"}
"""Figures that choose weights; the others are of classification."""

_DOES = {"segmentation": "segment", "classification": "classify"}
