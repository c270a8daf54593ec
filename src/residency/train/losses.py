"""Losses. Each maps logits (N, classes, ...) and labels (N, 1, ...), int64, to one number; lower is better.

The sides (...) are those of an image or a volume; a net that classifies has none. A net of one logit tells one class
(label 1) from the rest by a sigmoid; several logits exclude each other by a softmax. MONAI computes what it has: a loss
is where an error costs accuracy without any other sign.

Where a class is absent from a crop, the losses of its overlap fall with the probability that it is given, and the
boundary loss leaves the class out. The losses of overlap are computed in each crop by itself, then averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from residency.train import loss_part
from residency.train.loss_part import LossPart

Loss = Callable[[Tensor, Tensor], Tensor]


def loss_function(part: LossPart, classes: int) -> Loss:
    """The sum that a training file asks for. `classes` is the number of logits.

    Computed in float32, whatever the logits are: half precision cannot sum a volume. Raises ConfigError for parameters
    that do not fit so many classes.
    """
    part.check(classes)
    terms = [(term.weight, MAKERS[type(term.parameters)](term.parameters, classes)) for term in part.terms]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        found = [one(logits.float(), labels) for _, one in terms]
        if len(terms) == 1 and terms[0][0] == 1:
            return found[0]
        return torch.stack([weight * value for (weight, _), value in zip(terms, found, strict=True)]).sum()

    return loss


def loss_of_tasks(part: LossPart, groups: Sequence[slice]) -> Loss:
    """The sum over several tasks of one net that classifies, each a group of its logits.

    Labels are (N, tasks); a negative one says that the class is not known, and its task then counts nothing.
    """
    each = [loss_function(part, group.stop - group.start) for group in groups]
    if len(each) == 1:
        return each[0]

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        total = 0 * logits.float().sum()  # all logits have a gradient, of nothing known too
        for k, (group, one) in enumerate(zip(groups, each, strict=True)):
            known = labels[:, k] >= 0
            if known.any():
                total = total + one(logits[known][:, group], labels[known, k : k + 1])
        return total

    return loss


def dice_cross_entropy(_: loss_part.DiceCrossEntropy, classes: int) -> Loss:
    """Soft Dice of the foreground classes, plus cross-entropy over all classes.

    Dice sees a small structure as well as a large one; cross-entropy gives every voxel a gradient (Isensee et al.,
    "nnU-Net", Nature Methods 18:203, 2021).
    """
    from monai.losses.dice import DiceCELoss

    loss: Loss = DiceCELoss(**_overlap(classes, background=False))
    return loss


def dice(parameters: loss_part.Dice, classes: int) -> Loss:
    """1 - soft Dice, mean over classes (Milletari et al., "V-Net", 3DV 2016).

    background  count the background as a class; with one logit there is none
    squared     squared probabilities in the denominator, as V-Net has them
    smooth      added to numerator and denominator, in voxels
    """
    from monai.losses.dice import DiceLoss

    overlap = _overlap(classes, parameters.background, parameters.smooth)
    loss: Loss = DiceLoss(squared_pred=parameters.squared, **overlap)
    return loss


def cross_entropy(parameters: loss_part.CrossEntropy, classes: int) -> Loss:
    """Mean of -log p of the true class; of one logit, its binary form.

    weights    by class, the background first, also for one logit: the mean is then weighted
    smoothing  share of each label that is spread over all classes (Szegedy et al., CVPR 2016)
    """
    weights = torch.tensor(parameters.weights) if parameters.weights else None
    several = torch.nn.CrossEntropyLoss(weights, label_smoothing=parameters.smoothing)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if classes == 1:  # a sigmoid of z is a softmax of 0 and z
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        found: Tensor = several.to(logits.device)(logits, labels[:, 0])
        return found

    return loss


def binary_cross_entropy(parameters: loss_part.BinaryCrossEntropy, classes: int) -> Loss:
    """Each logit as a question of its own, by a sigmoid: for findings that may be there together.

    Labels are (N, 1, ...), or (N, classes, ...) of 0 and 1, where several may be 1.

    positive_weight  how much more a 1 counts than a 0
    """
    weight = torch.tensor(parameters.positive_weight)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        wanted = labels if labels.shape[1] == classes else _one_hot(labels, classes)
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, wanted.to(logits.dtype), pos_weight=weight.to(logits.device)
        )

    return loss


def focal(parameters: loss_part.Focal, classes: int) -> Loss:
    """Cross-entropy in which what is sure already counts little: (1 - p)^gamma times it (Lin et al., ICCV 2017).

    MONAI's, summed over the classes: with gamma 0 it is cross-entropy.

    gamma  0, or at least 1
    alpha  weight of the foreground; the background has 1 - alpha
    """
    from monai.losses.focal_loss import FocalLoss

    each = FocalLoss(
        gamma=parameters.gamma,
        alpha=parameters.alpha,
        use_softmax=classes > 1,
        to_onehot_y=classes > 1,
        reduction="none",
    )
    return lambda logits, labels: each(logits, labels).sum(dim=1).mean()


def tversky(parameters: loss_part.Tversky, classes: int) -> Loss:
    """1 - TP / (TP + alpha FP + beta FN), mean over classes (Salehi et al., MLMI 2017).

    alpha       weight of false positives; alpha = beta = 0.5 is Dice
    beta        weight of false negatives: above alpha, less is missed and more invented
    background  count the background as a class; with one logit there is none
    smooth      added to numerator and denominator, in voxels
    """
    each = _tversky_of_each(parameters, classes)
    return lambda logits, labels: each(logits, labels).mean()


def focal_tversky(parameters: loss_part.FocalTversky, classes: int) -> Loss:
    """Tversky's to the power of 1 / gamma in each class (Abraham and Khan, ISBI 2019): the poor classes weigh more.

    MONAI has it for two classes only, so this is its Tversky loss to that power. The slope of the power at 0 is
    infinite; below 1e-6 it is taken as flat.

    gamma                            at least 1; with 1 it is Tversky's
    alpha, beta, background, smooth  as Tversky's
    """
    each = _tversky_of_each(parameters, classes)
    return lambda logits, labels: each(logits, labels).clamp(min=1e-6).pow(1 / parameters.gamma).mean()


def boundary(_: loss_part.Boundary, classes: int) -> Loss:
    """Mean of p times the distance to the surface, negative inside (Kervadec et al., MIDL 2019).

    Distances are in voxels, found on the CPU at each step. It may be negative, and is at its least wherever the
    structure is filled and nothing else: it needs a loss of overlap beside it, and a weight of about 0.01, for
    distances are large. Chosen over a Hausdorff loss (Karimi and Salcudean, IEEE TMI 39:499, 2020), which needs the
    distances of the prediction too.
    """
    from monai.losses.boundary_loss import BoundaryLoss

    loss: Loss = BoundaryLoss(**_overlap(classes, background=False))
    return loss


MAKERS: Mapping[type[loss_part.Parameters], Callable[[Any, int], Loss]] = {
    loss_part.DiceCrossEntropy: dice_cross_entropy,
    loss_part.Dice: dice,
    loss_part.CrossEntropy: cross_entropy,
    loss_part.BinaryCrossEntropy: binary_cross_entropy,
    loss_part.Focal: focal,
    loss_part.Tversky: tversky,
    loss_part.FocalTversky: focal_tversky,
    loss_part.Boundary: boundary,
}
"""To add a loss: a function and its line here, its parameters and their line in `loss_part`."""


class DeepSupervision:
    """A loss summed over scores at several resolutions, finest first, weighted 1, 1/2, 1/4 ... and the coarsest 0.

    The weights sum to 1, as in nnU-Net (Isensee et al., 2021). Scores of weight 0 are not looked at: layers that make
    them and nothing else get no gradient, and a net does better without. Labels are brought to each grid by taking
    every second, fourth ... voxel, the first of them: the one that a strided convolution is centred on.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, scores: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Of scores [(N, classes, ...), ...] and labels (N, 1, ...); one score alone counts whole.

        Raises ValueError for a grid whose sides do not divide those of the labels.
        """
        parts = [
            weight * self.loss(one, strided(labels, one.shape[2:]))
            for weight, one in zip(supervision_weights(len(scores)), scores, strict=True)
            if weight
        ]
        return torch.stack(parts).sum()


def supervision_weights(levels: int) -> list[float]:
    """By level, finest first.

    >>> supervision_weights(4)
    [0.5714285714285714, 0.2857142857142857, 0.14285714285714285, 0.0]
    """
    if levels < 1:
        raise ValueError("deep supervision needs at least one score")
    raw = [0.5**level for level in range(max(1, levels - 1))]
    return [weight / sum(raw) for weight in raw] + [0.0] * (levels - len(raw))


def strided(labels: Tensor, sides: Sequence[int]) -> Tensor:
    """Labels (N, 1, ...) on a coarser grid with these sides, each a whole part of the labels' own."""
    steps = [side // coarse for side, coarse in zip(labels.shape[2:], sides, strict=True)]
    if [step * coarse for step, coarse in zip(steps, sides, strict=True)] != list(labels.shape[2:]):
        raise ValueError(f"labels of {tuple(labels.shape[2:])} have no strides to a grid of {tuple(sides)}")
    return labels[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]


def _overlap(classes: int, background: bool, smooth: float | None = None) -> dict[str, Any]:
    """What MONAI's losses of overlap are told about the logits. One logit is the foreground by itself."""
    several = classes > 1
    return {
        "softmax": several,
        "sigmoid": not several,
        "to_onehot_y": several,
        "include_background": background or not several,
        **({} if smooth is None else {"smooth_nr": smooth, "smooth_dr": smooth}),
    }


def _tversky_of_each(parameters: loss_part.Tversky, classes: int) -> Loss:
    from monai.losses.tversky import TverskyLoss

    overlap = _overlap(classes, parameters.background, parameters.smooth)
    loss: Loss = TverskyLoss(alpha=parameters.alpha, beta=parameters.beta, reduction="none", **overlap)
    return loss


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels[:, 0], classes).movedim(-1, 1)
