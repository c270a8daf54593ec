"""What the bench of ACS convolutions judges by: its measures, the epoch that it takes, the order of its data."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def recipes() -> Any:
    return importlib.import_module("acs_parts.recipes")


@pytest.fixture
def medical() -> Any:
    return importlib.import_module("acs_parts.medical")


def test_auc_is_the_share_of_pairs_in_order_with_ties_counted_half(recipes: Any) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        scores, classes = random.integers(0, 4, 12).astype(float), random.permutation([0] * 5 + [1] * 7)
        pairs = [np.sign(ill - well) / 2 + 0.5 for ill in scores[classes == 1] for well in scores[classes == 0]]
        assert recipes.auc(scores, classes) == pytest.approx(np.mean(pairs))
    assert recipes.auc(np.array([0.1, 0.9]), np.array([0, 1])) == 1
    assert recipes.auc(np.array([0.9, 0.1]), np.array([0, 1])) == 0
    assert math.isnan(recipes.auc(np.array([0.9, 0.1]), np.array([1, 1])))


class Given(nn.Module):
    """Answers an image whose values are classes with those classes."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.one_hot(image[:, 0].long(), 4).movedim(-1, 1).float()


def test_dice_is_of_all_images_taken_as_one_and_of_the_classes_that_occur(recipes: Any) -> None:
    found = np.zeros((10, 1, 2, 2, 2), np.float32)
    labels = np.zeros((10, 2, 2, 2), np.uint8)
    found[0, 0, 0] = 1  # a plane of four voxels
    labels[0, 0, 0] = 1  # two of them right
    labels[9, 1, 0] = 1  # two voxels of an image behind the first eight, missed
    found[9, 0, 0, 0] = 2
    labels[9, 0, 0] = 2
    first, second = 2 * 2 / (4 + 4), 2 * 2 / (2 + 2)
    assert recipes.pooled_dice(Given(), (found, labels), 3) == pytest.approx((first + second) / 2)


def test_pooling_gives_each_voxel_its_overlap_and_keeps_the_mean(medical: Any) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 16, 16, 16)).astype(np.uint8)
    pooled = medical.pooled(images, 7)
    np.testing.assert_allclose(pooled.mean((1, 2, 3)), images.mean((1, 2, 3)) / 255, rtol=1e-5)
    repeated = images[0].repeat(7, 0).repeat(7, 1).repeat(7, 2) / 255  # a voxel in sevenths: 16 of them an output
    wanted = repeated.reshape(7, 16, 7, 16, 7, 16).mean((1, 3, 5))
    np.testing.assert_allclose(pooled[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(medical.pooled(images, 16), images / 255, rtol=1e-5)


CLASSES = np.array([0, 1, 0, 1])
RIGHT, HALF, WRONG = np.array([0.0, 1, 0, 1]), np.array([0.0, 1, 1, 0]), np.array([1.0, 0, 1, 0])
ON_VAL = (WRONG, RIGHT, HALF, RIGHT)
"""By epoch: the second is best, the fourth as good."""


@pytest.mark.parametrize("on_test", [(RIGHT, WRONG, RIGHT, RIGHT), (WRONG, HALF, WRONG, WRONG)])
def test_the_epoch_is_chosen_on_val_and_never_on_test(
    recipes: Any, monkeypatch: pytest.MonkeyPatch, on_test: tuple[Any, ...]
) -> None:
    images = {name: np.full((4, 1, 4, 4, 4), k, np.float32) for k, name in enumerate(("train", "val", "test"))}
    at = SimpleNamespace(epoch=0)

    def epochs(net: Any, data: Any, *_: Any, **__: Any) -> Iterator[int]:
        assert data[0].max() == 0  # trained on train alone
        for at.epoch in (1, 2, 3, 4):
            yield at.epoch

    def judged(_: Any, data: Any) -> tuple[Any, Any]:
        return (ON_VAL if data[0].max() == 1 else on_test)[at.epoch - 1], data[1]

    monkeypatch.setattr(recipes.medical, "adrenal", lambda: {name: (one, CLASSES) for name, one in images.items()})
    monkeypatch.setattr(recipes, "solid", lambda *_, **__: nn.Identity())
    monkeypatch.setattr(recipes, "_epochs", epochs)
    monkeypatch.setattr(recipes, "_judged", judged)
    settings = {"side": 4, "most": None, "net": "resnet18", "width": 4, "stem": "image"}
    _, found = recipes.adrenal("ACS", 0, settings, None)
    assert found["test"]["epoch"] == 2
    assert found["test"]["AUC"] == recipes.auc(on_test[1], CLASSES)
    assert found["AUC on val"] == {str(k + 1): recipes.auc(one, CLASSES) for k, one in enumerate(ON_VAL)}


SHAPES = {"width": 2, "train": 5, "test": 1, "epochs": 2, "at": (), "batch": 2, "rate": 1e-3}
CROPS = {"width": 2, "side": 8, "most": None, "steps": 3, "at": (), "batch": 2, "rate": 1e-3}


def seen(recipes: Any, monkeypatch: pytest.MonkeyPatch, task: str, method: str, seed: int, settings: Any) -> str:
    """A digest of every batch that a training would take a step on."""
    digest = hashlib.sha256()

    def step(_net: Any, _optimiser: Any, _loss: Any, images: Tensor, labels: Tensor) -> None:
        digest.update(images.numpy().tobytes() + labels.numpy().tobytes())

    monkeypatch.setattr(recipes, "_step", step)
    recipes.TASKS[task](method, seed, settings, None)
    return digest.hexdigest()


@pytest.mark.parametrize(("task", "settings"), [("shapes", SHAPES), ("hippocampus", CROPS)])
def test_all_methods_of_a_seed_see_the_same_batches_in_the_same_order(
    recipes: Any, monkeypatch: pytest.MonkeyPatch, task: str, settings: Any
) -> None:
    networks = importlib.import_module("acs_parts.networks")
    random = np.random.default_rng(0)
    crops = tuple(
        SimpleNamespace(image=random.random((9, 8, 7), np.float32), labels=random.integers(0, 3, (9, 8, 7), np.uint8))
        for _ in range(3)
    )
    monkeypatch.setattr(recipes.medical, "hippocampus", lambda split, most: crops)
    of = {method: seen(recipes, monkeypatch, task, method, 0, settings) for method in networks.METHODS}
    assert len(of) == 5
    assert len(set(of.values())) == 1
    assert seen(recipes, monkeypatch, task, "ACS", 1, settings) not in of.values()
    empty = hashlib.sha256().hexdigest()
    assert empty not in of.values()


def test_only_the_last_layer_is_not_carried_over(recipes: Any) -> None:
    networks = importlib.import_module("acs_parts.networks")
    learned, other = (networks.flat("shapes", seed, classes=3, width=2).state_dict() for seed in (0, 1))
    made = networks.solid("shapes", "ACS", 1, learned, classes=3, width=2).state_dict()
    for name, value in made.items():
        assert torch.equal(value, (other if name.startswith("head.") else learned)[name])
