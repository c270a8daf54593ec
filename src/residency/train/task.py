"""What a net is to say, a class for each voxel or one for the whole image, and which keys go with it. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from residency.errors import ConfigError
from residency.train.loss_part import Task

if TYPE_CHECKING:
    from residency.train.config import TrainingConfig


def task_of(config: TrainingConfig) -> Task:
    """That of the file's net. Raises ConfigError where a key, or the loss, is for the other task."""
    task = config.net.known.task
    config.loss.check(len(config.data.classes), task)
    classifies = task == "classification"
    foreign = {
        "sampling.foreground": classifies and config.sampling.foreground > 0,
        "sampling.balanced": not classifies and config.sampling.balanced,
        "synthesis": classifies and config.synthesis.used(),
        "export.symmetric_axis": classifies and config.export.symmetric_axis is not None,
        "export.unbiased_volumes": classifies and config.export.unbiased_volumes,
        f"judged_by: {config.judged_by}": config.judged_by is not None and classifies == (config.judged_by == "dice"),
    }
    for key, meant in foreign.items():
        if meant:
            raise ConfigError(f"{key} is not for nets that {_DOES[task]}, as '{config.net.name}' does; leave it out")
    if classifies:
        column_of_labels(config)
    return task


def column_of_labels(config: TrainingConfig) -> str:
    """The column of the table that holds the class of each case. Raises ConfigError unless there is one, that fits."""
    tasks = config.data.tasks
    if len(tasks) != 1:
        raise ConfigError(
            f"net '{config.net.name}' classifies whole images: name one column of the table and its classes, "
            f"data.tasks: {{column: [{', '.join(config.data.classes)}]}}"
        )
    ((column, classes),) = tasks.items()
    if tuple(classes) != config.data.classes:
        raise ConfigError(f"data.tasks.{column} and data.classes name different classes; they are the same list")
    return column


_DOES = {"segmentation": "segment", "classification": "classify"}
