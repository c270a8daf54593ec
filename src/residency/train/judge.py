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

from residency.metrics import dice
from residency.nets.net import Net
from residency.tiles import cut, windows
from residency.volume import Image, Shape

OVERLAP = 0.5
"""Share of a window that neighbours have in common."""


@dataclass(frozen=True)
class Exam:
    """A prepared case as tensors (S, R, C): image float32, labels int64."""

    name: str
    image: Tensor
    labels: Tensor


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
