"""How good a net is on cases that it does not learn from: seen through the windows that it will be used with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from residency.errors import TrainingError
from residency.metrics import auc, balanced_accuracy, by_class, confusion_matrix, dice
from residency.nets.net import Net
from residency.tiles import cut, windows
from residency.train.config import TrainingConfig
from residency.train.synthesis import Regions
from residency.volume import Image, Shape

OVERLAP = 0.5
"""Share of a window that neighbours have in common."""


@dataclass(frozen=True)
class Exam:
    """A prepared case: image float32 (S, R, C), and labels int64 (S, R, C), or () where the case has one `label`.

    regions  of a case that images are painted from
    """

    name: str
    image: Tensor
    labels: Tensor
    label: int | None = None
    regions: Regions | None = None


def figure_of(net: Net, exams: Sequence[Exam], config: TrainingConfig, pool: Executor) -> float:
    """The figure that chooses the weights, higher is better; see `judged_by` of the training file."""
    if exams[0].label is None:
        return judge(net, exams, len(config.data.classes), config.patch, pool)
    return judge_classes(net, exams, config, pool)[config.judged_by or "auc"]


def judge_classes(net: Net, exams: Sequence[Exam], config: TrainingConfig, pool: Executor) -> dict[str, float]:
    """auc: mean area under the ROC curve of each class against the others; and balanced-accuracy.

    On whole prepared images; scores of several windows are averaged, as `residency.infer` does it. Raises TrainingError
    where all exams are of one class: nothing tells one net from another.
    """
    found = np.stack(list(pool.map(lambda exam: image_scores(net, exam.image.numpy(), config.patch), exams)))
    truths = np.array([exam.label for exam in exams])
    if len(set(truths.tolist())) < 2:
        raise TrainingError(
            f"the {len(exams)} cases held out are all of class '{config.data.classes[truths[0]]}': they cannot choose "
            "weights; hold out more persons"
        )
    found = found.astype(np.float64)
    if not any(term.name == "binary-cross-entropy" for term in config.loss.terms):  # else each class by itself
        found = np.exp(found - found.max(axis=1, keepdims=True))
        found /= found.sum(axis=1, keepdims=True)
    if not np.isfinite(found).all():
        return {"auc": 0.0, "balanced-accuracy": 0.0}
    matrix = confusion_matrix(found.argmax(axis=1), truths, len(config.data.classes))
    return {
        "auc": float(np.nanmean(by_class(auc, found, truths))),
        "balanced-accuracy": balanced_accuracy(matrix),
    }


def image_scores(net: Net, image: Image, window: Shape) -> Image:
    """Scores (classes,) of a prepared image (S, R, C): the mean over its windows."""
    axes = windows((image.shape[0], image.shape[1], image.shape[2]), window, OVERLAP)
    tiles = [cut(image, axes, starts) for starts in product(*(axis.starts for axis in axes))]
    with torch.inference_mode():
        answers = [net(torch.from_numpy(tile)[None, None])[0].numpy() for tile in tiles]
    mean: Image = np.stack(answers).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def judge(net: Net, exams: Sequence[Exam], classes: int, window: Shape, pool: Executor) -> float:
    """Mean Dice of a net over exams and foreground classes, on whole prepared volumes."""

    found = pool.map(lambda exam: scores(net, exam.image.numpy(), window).argmax(0), exams)
    return mean_dice(found, exams, classes)


def mean_dice(predicted: Iterable[npt.NDArray[np.integer]], exams: Sequence[Exam], classes: int) -> float:
    """Mean Dice of predicted labels over exams and foreground classes; a class absent from both is left out."""
    pairs = [(labels, exam.labels.numpy()) for labels, exam in zip(predicted, exams, strict=True)]
    figures = [dice(ours == label, theirs == label) for ours, theirs in pairs for label in range(1, classes)]
    return float(np.nanmean(figures))


def scores(net: Net, image: Image, window: Shape) -> Image:
    """Blended scores (classes, S, R, C) of a prepared image (S, R, C) by sliding windows, as `residency.infer` does it.

    Windows have the size of the training crops, also where the image is smaller: instance normalisation measures what a
    window holds, and a net that is given more margin, or less, than it learnt with answers worse.
    """
    axes = windows((image.shape[0], image.shape[1], image.shape[2]), window, OVERLAP)
    blended: Image | None = None
    for at in product(*(range(len(axis.starts)) for axis in axes)):
        starts = [axis.starts[n] for axis, n in zip(axes, at, strict=True)]
        with torch.inference_mode():
            answer = net(torch.from_numpy(cut(image, axes, starts))[None, None])[0].numpy()
        along = [axis.weights[n] for axis, n in zip(axes, at, strict=True)]
        answer *= np.einsum("i,j,k->ijk", *along)
        if blended is None:
            blended = np.zeros((len(answer), *image.shape), dtype=np.float32)
        places = [axis.inside(start) for axis, start in zip(axes, starts, strict=True)]
        blended[(slice(None), *(outer for outer, _ in places))] += answer[
            (slice(None), *(inner for _, inner in places))
        ]
    assert blended is not None  # every image has a window
    return blended
