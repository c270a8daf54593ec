"""Losses by name. Each maps logits (N, classes, S, R, C) and labels (N, 1, S, R, C), int64, to one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def dice_cross_entropy() -> Loss:
    """Soft Dice of the foreground classes, plus cross-entropy over all classes.

    Dice sees a small structure as well as a large one; cross-entropy gives every voxel a gradient (Isensee et al.,
    "nnU-Net", 2021).
    """
    from monai.losses.dice import DiceCELoss

    loss: Loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    return loss


LOSSES: Mapping[str, Callable[[], Loss]] = {"dice-cross-entropy": dice_cross_entropy}
