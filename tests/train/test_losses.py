"""Losses: computed by hand, finite wherever a crop may lead them, and least for the perfect prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from residency.errors import ConfigError
from residency.train.loss_part import LOSSES, LossPart
from residency.train.losses import MAKERS, DeepSupervision, loss_function, strided, supervision_weights

SIDES = {2: (8, 6), 3: (6, 5, 4)}
NAMES = [name for name in LOSSES if name != "boundary"]
SUMS: list[Any] = [*NAMES, {"dice": 1.0, "boundary": 0.05}]

# Four voxels in a row, three classes.
LOGITS = torch.tensor([[[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.5, 0.5], [-1.0, 0.0, 2.0, 0.5]]])[:, :, None]
LABELS = torch.tensor([[[[0, 1, 2, 0]]]])
P = np.exp(LOGITS[0, :, 0].numpy()) / np.exp(LOGITS[0, :, 0].numpy()).sum(0)
TRUE = np.array([P[0, 0], P[1, 1], P[2, 2], P[0, 3]])
WANTED = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])


def _loss(value: Any, classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    return loss_function(LossPart.model_validate(value), classes)


def _with(name: str, **parameters: Any) -> Any:
    return {"name": name, "parameters": parameters}


def _soft_dice(label: int, squared: bool = False) -> float:
    p, t = P[label], WANTED[label]
    return float(2 * (p * t).sum() / ((p**2).sum() + t.sum() if squared else p.sum() + t.sum()))


def _tversky(label: int, alpha: float, beta: float) -> float:
    p, t = P[label], WANTED[label]
    hits = (p * t).sum()
    return float(hits / (hits + alpha * (p * (1 - t)).sum() + beta * ((1 - p) * t).sum()))


def _mean(*values: float) -> float:
    return sum(values) / len(values)


_CE = float(-np.log(TRUE).mean())
_APART = 1 / (1 + np.exp(-LOGITS[0, :, 0].numpy()))
_OF_EACH = np.where(WANTED == 1, _APART, 1 - _APART)
_BY_WEIGHT = np.array([1.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        ("dice", 1 - _mean(_soft_dice(1), _soft_dice(2))),
        (_with("dice", background=True), 1 - _mean(_soft_dice(0), _soft_dice(1), _soft_dice(2))),
        (_with("dice", squared=True), 1 - _mean(_soft_dice(1, True), _soft_dice(2, True))),
        ("cross-entropy", _CE),
        (_with("cross-entropy", weights=[1, 2, 3]), float((-np.log(TRUE) * _BY_WEIGHT).sum() / _BY_WEIGHT.sum())),
        (_with("cross-entropy", smoothing=0.3), 0.7 * _CE + 0.3 * float(-np.log(P).mean())),
        ("dice-cross-entropy", 1 - _mean(_soft_dice(1), _soft_dice(2)) + _CE),
        (_with("focal", gamma=0), _CE),
        ("focal", float((-((1 - TRUE) ** 2) * np.log(TRUE)).mean())),
        (
            _with("focal", gamma=1, alpha=0.75),
            float((-(1 - TRUE) * np.log(TRUE) * np.array([0.25, 0.75, 0.75, 0.25])).mean()),
        ),
        ("tversky", 1 - _mean(_tversky(1, 0.3, 0.7), _tversky(2, 0.3, 0.7))),
        (_with("tversky", alpha=0.5, beta=0.5), 1 - _mean(_soft_dice(1), _soft_dice(2))),
        ("focal-tversky", _mean(*((1 - _tversky(label, 0.3, 0.7)) ** 0.75 for label in (1, 2)))),
        (_with("focal-tversky", gamma=1), 1 - _mean(_tversky(1, 0.3, 0.7), _tversky(2, 0.3, 0.7))),
        ("binary-cross-entropy", float(-np.log(_OF_EACH).mean())),
        (
            _with("binary-cross-entropy", positive_weight=3),
            float((-np.log(_OF_EACH) * np.where(WANTED == 1, 3, 1)).mean()),
        ),
        (
            {"dice": 2.0, "focal": 0.5},
            2 * (1 - _mean(_soft_dice(1), _soft_dice(2))) + 0.5 * float((-((1 - TRUE) ** 2) * np.log(TRUE)).mean()),
        ),
        ({"cross-entropy": 0.25}, 0.25 * _CE),
    ],
    ids=lambda value: "" if isinstance(value, float) else str(value),
)
def test_a_loss_is_what_one_computes_by_hand(loss: Any, by_hand: float) -> None:
    assert float(_loss(loss, 3)(LOGITS, LABELS)) == pytest.approx(by_hand, rel=2e-4)


def test_the_boundary_loss_is_the_mean_of_probability_times_distance() -> None:
    labels = torch.zeros(1, 1, 1, 7, dtype=torch.int64)
    labels[..., 2:5] = 1
    logits = torch.linspace(-1, 1, 7).reshape(1, 1, 1, 7)
    p = torch.sigmoid(logits).flatten().tolist()
    # Inside, the outermost voxel is on the surface; outside, the next one is a voxel from it.
    distances = [2, 1, 0, -1, 0, 1, 2]
    by_hand = sum(a * b for a, b in zip(p, distances, strict=True)) / 7
    both, overlap = (_loss(value, 1)(logits, labels) for value in ({"dice": 1.0, "boundary": 0.5}, "dice"))
    assert float(both - overlap) == pytest.approx(0.5 * by_hand, abs=1e-6)


def test_the_first_loss_has_the_bits_that_it_always_had() -> None:
    from monai.losses.dice import DiceCELoss

    logits, labels = torch.randn(2, 3, 6, 5, 4), torch.randint(0, 3, (2, 1, 6, 5, 4))
    as_ever = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(logits, labels)
    assert torch.equal(_loss("dice-cross-entropy", 3)(logits, labels), as_ever)


def _crop(axes: int, classes: int, kind: str) -> Tensor:
    labels = torch.zeros(2, 1, *SIDES[axes], dtype=torch.int64)
    if kind == "full":
        labels += max(classes - 1, 1)
    elif kind != "empty":
        labels[:, :, 1:4, 2:4] = 1
        if classes > 2 and kind == "all classes":
            labels[:, :, 4:, :2] = 2
    return labels


def _certain(labels: Tensor, classes: int, height: float) -> Tensor:
    """Logits that say the labels."""
    if classes == 1:
        return (labels * 2.0 - 1.0) * height
    return torch.cat([(labels == label) * 2.0 - 1.0 for label in range(classes)], dim=1) * height


@pytest.mark.parametrize("kind", ["all classes", "a class absent", "empty", "full"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("loss", SUMS, ids=str)
def test_gradients_are_finite_whatever_the_crop_holds(loss: Any, classes: int, axes: int, kind: str) -> None:
    labels = _crop(axes, classes, kind)
    torch.manual_seed(0)
    for start in (
        torch.randn(2, classes, *SIDES[axes]),
        _certain(labels, classes, 200.0),  # right, beyond what a float tells from certainty
        -_certain(labels, classes, 200.0),
    ):
        logits = start.clone().requires_grad_()
        value = _loss(loss, classes)(logits, labels)
        assert value.shape == ()
        (slope,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kind", ["all classes", "a class absent", "empty", "full"])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("loss", SUMS, ids=str)
def test_nothing_is_better_than_the_perfect_prediction(loss: Any, classes: int, kind: str) -> None:
    labels, function = _crop(2, classes, kind), _loss(loss, classes)
    least = float(function(_certain(labels, classes, 30.0), labels))
    torch.manual_seed(0)
    one_wrong = labels.clone()
    one_wrong[0, 0, 0, 0] = 1 - one_wrong[0, 0, 0, 0].clamp(max=1)
    others = [torch.randn(2, classes, *SIDES[2]) * scale for scale in (0.0, 1.0, 30.0)]
    for other in (*others, -_certain(labels, classes, 30.0), _certain(one_wrong, classes, 30.0)):
        assert float(function(other, labels)) > least
    if loss not in SUMS[len(NAMES) :]:
        assert least == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("loss", SUMS, ids=str)
def test_going_down_the_slope_ends_at_the_labels(loss: Any) -> None:
    labels = _crop(2, 3, "all classes")
    torch.manual_seed(1)
    logits = torch.zeros(2, 3, *SIDES[2]).add(0.1 * torch.randn(2, 3, *SIDES[2])).requires_grad_()
    optimiser, function = torch.optim.Adam([logits], lr=0.3), _loss(loss, 3)
    for _ in range(60):
        optimiser.zero_grad()
        function(logits, labels).backward()
        optimiser.step()
    assert torch.equal(logits.argmax(1, keepdim=True), labels)


@pytest.mark.parametrize("loss", ["dice", "tversky", "focal-tversky", "dice-cross-entropy", "focal", "cross-entropy"])
def test_a_class_that_is_absent_from_a_crop_costs_by_what_it_is_given(loss: str) -> None:
    labels = _crop(2, 3, "a class absent")
    values = []
    for height in (-30.0, 0.0, 3.0):
        logits = _certain(labels, 3, 30.0)
        logits[:, 2, 6, 3] = 30.0 + height  # class 2 where the background is certain
        values.append(float(_loss(loss, 3)(logits, labels)))
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "loss",
    [
        *(name for name in SUMS if name != "binary-cross-entropy"),
        _with("focal", gamma=1.5, alpha=0.8),
        _with("cross-entropy", weights=[1, 4], smoothing=0.1),
    ],
    ids=str,
)
def test_one_logit_is_two_of_which_the_background_is_0(loss: Any, axes: int) -> None:
    labels = _crop(axes, 1, "all classes")
    torch.manual_seed(2)
    single = torch.randn(2, 1, *SIDES[axes])
    double = torch.cat([torch.zeros_like(single), single], dim=1)
    assert float(_loss(loss, 1)(single, labels)) == pytest.approx(float(_loss(loss, 2)(double, labels)), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_every_parameter_that_is_documented_changes_the_loss(name: str) -> None:
    other = {
        "background": True,
        "squared": True,
        "smooth": 5.0,
        "weights": [1.0, 2.0, 5.0],
        "smoothing": 0.2,
        "positive_weight": 2.0,
        "gamma": 3.0,
        "alpha": 0.9,
        "beta": 0.2,
    }
    for key in LOSSES[name].model_fields:
        changed = _loss(_with(name, **{key: other[key]}), 3)(LOGITS, LABELS)
        assert float(changed) != pytest.approx(float(_loss(name, 3)(LOGITS, LABELS)), rel=1e-3), key
        told = str(MAKERS[LOSSES[name]].__doc__)
        assert any(key in line.split("  ")[2].split(", ") for line in told.splitlines() if line.startswith("    "))


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy", "focal"])
def test_the_same_losses_are_of_whole_cases(loss: str, classes: int) -> None:
    labels = torch.tensor([[0], [1], [0], [1]])
    right, wrong = (sign * _certain(labels, classes, 4.0) for sign in (1, -1))
    assert right.shape == (4, classes)
    assert float(_loss(loss, classes)(right, labels)) < 0.1 < float(_loss(loss, classes)(wrong, labels))


def test_findings_may_be_there_together() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    logits = torch.tensor([[2.0, -1.0, 0.5], [-2.0, 0.0, 1.0]])
    p = torch.sigmoid(logits)
    by_hand = -torch.where(labels == 1, p, 1 - p).log().mean()
    assert float(_loss("binary-cross-entropy", 3)(logits, labels)) == pytest.approx(float(by_hand))


def test_half_precision_is_summed_in_single() -> None:
    labels = torch.zeros(1, 1, 64, 64, dtype=torch.int64)
    labels[..., 5:60, 5:60] = 1
    logits = torch.randn(1, 2, 64, 64)
    for kind in (torch.float16, torch.bfloat16):
        value = _loss("dice-cross-entropy", 2)(logits.to(kind), labels)
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(_loss("dice-cross-entropy", 2)(logits, labels)), rel=0.01)


def test_parameters_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="one for each of 2 classes"):
        _loss(_with("cross-entropy", weights=[1, 2, 3]), 1)


def test_weights_of_deep_supervision_halve_and_the_coarsest_has_none() -> None:
    assert supervision_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0.0])
    assert supervision_weights(2) == [1.0, 0.0]
    assert supervision_weights(1) == [1.0]
    with pytest.raises(ValueError, match="at least one"):
        supervision_weights(0)


def test_labels_are_brought_to_a_grid_by_strides() -> None:
    labels = torch.arange(8 * 6 * 4).reshape(1, 1, 8, 6, 4)
    coarse = strided(labels, (4, 6, 1))
    assert torch.equal(coarse, labels[:, :, ::2, :, ::4])
    as_nearest = torch.nn.functional.interpolate(labels.float(), size=(4, 6, 1), mode="nearest")
    assert torch.equal(coarse.float(), as_nearest)
    for sides in ((3, 6, 4), (16, 6, 4)):
        with pytest.raises(ValueError, match="no strides"):
            strided(labels, sides)


@pytest.mark.parametrize("axes", [2, 3])
def test_deep_supervision_is_the_weighted_sum_over_the_grids(axes: int) -> None:
    sides: Sequence[int] = (16, 8, 8)[:axes]
    labels = torch.randint(0, 3, (2, 1, *sides))
    scores = [torch.randn(2, 3, *(side // step for side in sides), requires_grad=True) for step in (1, 2, 4)]
    loss = _loss("dice-cross-entropy", 3)
    found = DeepSupervision(loss)(scores, labels)
    by_hand = 2 / 3 * loss(scores[0], labels) + 1 / 3 * loss(scores[1], strided(labels, scores[1].shape[2:]))
    torch.testing.assert_close(found, by_hand)
    found.backward()
    assert scores[0].grad is not None
    assert scores[1].grad is not None
    assert scores[2].grad is None
    torch.testing.assert_close(DeepSupervision(loss)(scores[:1], labels), loss(scores[0], labels))


def test_the_perfect_prediction_is_least_at_every_depth() -> None:
    labels = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    labels[..., 2:6, 2:6] = 1
    perfect = [_certain(strided(labels, (side, side)), 2, 30.0) for side in (8, 4, 2)]
    loss = DeepSupervision(_loss("dice-cross-entropy", 2))
    assert float(loss(perfect, labels)) == pytest.approx(0.0, abs=1e-4)
    assert math.isfinite(float(loss(perfect, labels)))
    assert float(loss([perfect[0], -perfect[1], perfect[2]], labels)) > 1.0
