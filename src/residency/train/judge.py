"""How good a net is on cases that it does not learn from: seen through the windows that it will be used with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from residency.errors import TrainingError
from residency.metrics import auc, balanced_accuracy, by_class, confusion_matrix, dice
from residency.nets.net import Net
from residency.tiles import Axis, cut, windows
from residency.train.config import TrainingConfig
from residency.train.synthesis import Regions
from residency.train.task import groups_of, trained_apart
from residency.train.team import ALONE, Team
from residency.volume import Image, Shape

OVERLAP = 0.5
"""Share of a window that neighbours have in common."""


@dataclass(frozen=True)
class Exam:
    """A prepared case: image float32 (channels, S, R, C), and labels: uint8 (S, R, C), or int64 (tasks,).

    label  where the net classifies: the class of the first task; -1, as in `labels`, where it is not known

    regions  of a case that images are painted from
    """

    name: str
    image: Tensor
    labels: Tensor
    label: int | None = None
    regions: Regions | None = None

    @cached_property
    def structures(self) -> Mapping[int, Tensor]:
        """Voxels in each slice, (S,), of each label above 0 that is there; whole volumes are looked through once."""
        there = [int(label) for label in torch.unique(self.labels) if label > 0]
        return {label: (self.labels == label).sum((1, 2)) for label in there}


@dataclass(frozen=True, order=True)
class Standing:
    """How good a net is: the higher the better, and where two figures are equal the higher second one.

    figure  what `judged_by` says
    second  of a net that classifies minus its mean cross-entropy: an area under the ROC curve soon cannot rise any more
            where few persons are held out. 0 of a net that segments
    """

    figure: float
    second: float = 0.0


def check_classes(exams: Sequence[Exam], config: TrainingConfig) -> None:
    """Raise TrainingError where no exam at all has one of the classes: no net could learn it."""
    if exams[0].label is None:
        _check_labels([exam.labels for exam in exams], range(1, len(config.data.classes)), config)
        return
    for k, group in enumerate(groups_of(config).values()):
        found = torch.tensor([int(exam.labels.reshape(-1)[k]) for exam in exams])
        _check_labels([found], range(group.stop - group.start), config, group.start)


def _check_labels(found: Sequence[Tensor], wanted: Iterable[int], config: TrainingConfig, first: int = 0) -> None:
    """first: the class, among all of the training file, that label 0 means."""
    missing = set(wanted)
    for labels in found:
        missing = {label for label in missing if not (labels == label).any()}
        if not missing:
            return
    names = ", ".join(f"'{config.data.classes[first + label]}'" for label in sorted(missing))
    keys = "data.classes and data.tasks name" if config.data.tasks else "data.classes names"
    other = "" if config.data.tasks else ", or say with data.merge which values of the references mean it"
    raise TrainingError(f"{keys} {names}, which none of the cases has once prepared; take it out{other}")


def check_held_out(exams: Sequence[Exam], config: TrainingConfig) -> None:
    """Raise TrainingError for exams that cannot choose weights: nothing would tell one net from another."""
    if exams[0].label is None:
        if not any((exam.labels > 0).any() for exam in exams):
            raise TrainingError(
                f"none of the {len(exams)} cases held out has any of the structures: they cannot choose weights; hold "
                "out more persons"
            )
        return
    for k, (column, group) in enumerate(groups_of(config).items()):
        there = {int(exam.labels.reshape(-1)[k]) for exam in exams} - {-1}
        if len(there) < 2:
            kinds = [config.data.classes[group][label] for label in there]
            raise TrainingError(
                f"the {len(exams)} cases held out are all of class '{kinds[0] if kinds else 'unknown'}' in column "
                f"'{column}': they cannot choose weights; hold out more persons"
            )


def standing_of(
    net: Net, exams: Sequence[Exam], config: TrainingConfig, pool: Executor, team: Team = ALONE
) -> Standing:
    """What chooses the weights; see `judged_by` of the training file. Each process of a team judges its share."""
    if exams[0].label is None:
        return Standing(judge(net, exams, len(config.data.classes), config.patch, pool, team))
    found = judge_classes(net, exams, config, pool, team)
    return Standing(found.figures[config.judged_by or "auc"], -found.cross_entropy)


@dataclass(frozen=True)
class Classified:
    """How a net classifies.

    figures        auc: mean area under the ROC curve of each class against the others; and balanced-accuracy. Of
                   several tasks their means, and those of each: `auc of COLUMN`
    cross_entropy  mean, of several tasks their sum
    """

    figures: dict[str, float]
    cross_entropy: float


def judge_classes(
    net: Net, exams: Sequence[Exam], config: TrainingConfig, pool: Executor, team: Team = ALONE
) -> Classified:
    """How a net classifies whole prepared images; scores of several windows are averaged, as `residency.infer` does."""

    def of(n: int) -> Image:
        return image_scores(net, exams[n].image.numpy(), config.patch)

    mine = range(team.rank, len(exams), team.size)
    rows = np.zeros((len(exams), len(config.data.classes)))
    for n, row in zip(mine, pool.map(of, mine), strict=True):
        rows[n] = row
    found = team.completed(rows)
    truths = np.stack([exam.labels.reshape(-1).numpy() for exam in exams])
    by_itself, each = trained_apart(config), {}
    for k, (column, group) in enumerate(groups_of(config).items()):
        known = truths[:, k] >= 0
        each[column] = _classified(found[known][:, group], truths[known, k], by_itself=by_itself)
    if len(each) == 1:
        return next(iter(each.values()))
    names = ("auc", "balanced-accuracy")
    figures = {name: float(np.mean([one.figures[name] for one in each.values()])) for name in names}
    figures |= {f"{name} of {column}": one.figures[name] for column, one in each.items() for name in names}
    return Classified(figures, sum(one.cross_entropy for one in each.values()))


def _classified(found: npt.NDArray[np.float64], truths: npt.NDArray[np.int64], *, by_itself: bool) -> Classified:
    """Of scores (exams, classes) and classes (exams,). by_itself: each class is a question of its own."""
    if not np.isfinite(found).all():
        return Classified({"auc": 0.0, "balanced-accuracy": 0.0}, float("inf"))
    if by_itself:
        shares = 1 / (1 + np.exp(-found))
        wanted = np.eye(found.shape[1])[truths]
        surprise = -(np.log(np.where(wanted > 0, shares, 1 - shares).clip(1e-12))).mean()
    else:
        shares = np.exp(found - found.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        surprise = -np.log(shares[np.arange(len(truths)), truths].clip(1e-12)).mean()
        found = shares
    matrix = confusion_matrix(found.argmax(axis=1), truths, found.shape[1])
    figures = {
        "auc": float(np.nanmean(by_class(auc, found, truths))),
        "balanced-accuracy": balanced_accuracy(matrix),
    }
    return Classified(figures, float(surprise))


def image_scores(net: Net, image: Image, window: Shape) -> Image:
    """Scores (classes,) of a prepared image (channels, S, R, C): the mean over its windows."""
    axes = windows(image.shape[1:], window, OVERLAP)
    tiles = [_tile(image, axes, starts) for starts in product(*(axis.starts for axis in axes))]
    answers = [_answer(net, tile) for tile in tiles]
    mean: Image = np.stack(answers).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def judge(net: Net, exams: Sequence[Exam], classes: int, window: Shape, pool: Executor, team: Team = ALONE) -> float:
    """Mean Dice of a net over exams and foreground classes, on whole prepared volumes."""

    def of(n: int) -> list[float]:
        return _dices(scores(net, exams[n].image.numpy(), window).argmax(0), exams[n], classes)

    mine = range(team.rank, len(exams), team.size)
    rows = np.zeros((len(exams), classes - 1))
    for n, row in zip(mine, pool.map(of, mine), strict=True):
        rows[n] = row
    return float(np.nanmean(team.completed(rows).ravel()))


def mean_dice(predicted: Iterable[npt.NDArray[np.integer]], exams: Sequence[Exam], classes: int) -> float:
    """Mean Dice of predicted labels over exams and foreground classes; a class absent from both is left out."""
    found = (_dices(labels, exam, classes) for labels, exam in zip(predicted, exams, strict=True))
    return float(np.nanmean([figure for row in found for figure in row]))


def _dices(predicted: npt.NDArray[np.integer], exam: Exam, classes: int) -> list[float]:
    reference = exam.labels.numpy()
    return [dice(predicted == label, reference == label) for label in range(1, classes)]


def scores(net: Net, image: Image, window: Shape) -> Image:
    """Blended scores (classes, S, R, C) of a prepared image (channels, S, R, C), as `residency.infer` does it.

    Windows have the size of the training crops, also where the image is smaller: instance normalisation measures what a
    window holds, and a net that is given more margin, or less, than it learnt with answers worse.
    """
    axes = windows(image.shape[1:], window, OVERLAP)
    blended: Image | None = None
    for at in product(*(range(len(axis.starts)) for axis in axes)):
        starts = [axis.starts[n] for axis, n in zip(axes, at, strict=True)]
        answer = _answer(net, _tile(image, axes, starts))
        along = [axis.weights[n] for axis, n in zip(axes, at, strict=True)]
        answer *= np.einsum("i,j,k->ijk", *along)
        if blended is None:
            blended = np.zeros((len(answer), *image.shape[1:]), dtype=np.float32)
        places = [axis.inside(start) for axis, start in zip(axes, starts, strict=True)]
        blended[(slice(None), *(outer for outer, _ in places))] += answer[
            (slice(None), *(inner for _, inner in places))
        ]
    assert blended is not None  # every image has a window
    return blended


def _tile(image: Image, axes: Sequence[Axis], starts: Sequence[int]) -> Image:
    return np.stack([cut(channel, axes, starts) for channel in image])


def _answer(net: Net, tile: Image) -> Image:
    """Scores of one window, wherever the net lies."""
    place = next(net.parameters()).device
    with torch.inference_mode():
        answer: Image = net(torch.from_numpy(tile)[None].to(place))[0].cpu().numpy()
    return answer
