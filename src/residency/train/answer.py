"""From what was learnt to what is shipped: both sides alike, and volumes right on the average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from residency.nets.exclusive import Exclusive
from residency.nets.net import Net
from residency.nets.shifted import Shifted
from residency.nets.symmetric import Symmetric
from residency.train.config import TrainingConfig
from residency.train.judge import Exam, judge_classes, mean_dice, scores
from residency.train.progress import Tell, silent, watched
from residency.train.task import groups_of, trained_apart


@dataclass(frozen=True)
class Volumes:
    """What was done to volumes.

    background_shift  added to the scores of the background
    volume_ratio      predicted over reference foreground, before the shift
    unshifted_dice    mean Dice before the shift
    mean_dice         of the net as it is shipped
    """

    background_shift: float
    volume_ratio: float
    unshifted_dice: float
    mean_dice: float


@dataclass(frozen=True)
class Answering:
    """A net as it is shipped, and what was measured on the way, all on the persons that chose the weights.

    volumes  of a net that segments
    figures  of a net that classifies: area under the ROC curve, balanced accuracy
    """

    net: Net
    volumes: Volumes | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


def answering(
    net: Net, exams: Sequence[Exam], config: TrainingConfig, pool: Executor, tell: Tell = silent
) -> Answering:
    """The net as `export` in the training file asks for it.

    A soft Dice loss draws outlines that are a little too large, since missing a voxel of a small structure costs more
    than one too many. With `unbiased_volumes`, the background's scores are raised until all exams together have as many
    foreground voxels as their references; nothing else is fitted. Of several tasks the scores become log-odds of each
    class within its task: the card's activation is then a sigmoid.
    """
    if exams[0].label is not None:
        figures = judge_classes(net, exams, config, pool).figures
        return Answering(within_tasks(net, config), figures=figures)
    if config.export.symmetric_axis is not None:
        net = Symmetric(net, config.export.symmetric_axis)
    symmetric = net
    asked = [pool.submit(scores, symmetric, exam.image.numpy(), config.patch) for exam in exams]
    found = [one.result() for one in watched("asking the net about the persons held out", asked, tell)]
    margins = np.concatenate([(s[1:].max(axis=0) - s[0]).ravel() for s in found])
    wanted = sum(int((exam.labels > 0).sum()) for exam in exams)
    ratio = float((margins > 0).sum() / wanted)
    classes = len(config.data.classes)
    unshifted = mean_dice([shown.argmax(axis=0) for shown in found], exams, classes)
    shift = 0.0
    if config.export.unbiased_volumes:
        # A voxel is foreground where its margin exceeds the shift: the shift is the margin of the last one wanted.
        shift = float(np.partition(margins, len(margins) - wanted)[len(margins) - wanted])
        net = Shifted(net, [shift] + [0.0] * (classes - 1))
    for shown in found:
        shown[0] += np.float32(shift)
    figure = mean_dice([shown.argmax(axis=0) for shown in found], exams, classes)
    return Answering(net, Volumes(shift, ratio, unshifted, figure))


def within_tasks(net: Net, config: TrainingConfig) -> Net:
    """Of several tasks, the net whose scores are the log-odds of each class within its task; else the net as it is."""
    if len(config.data.tasks) < 2 or trained_apart(config):
        return net
    return Exclusive(net, tuple(groups_of(config).values()))
