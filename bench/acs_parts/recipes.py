"""What the bench trains: five recipes, each of which gives the trained net and what was found.

All random numbers are functions of the seed and of what they are for, never of the method, so that the methods of one
seed see the same data in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from acs_parts import medical, shapes
from acs_parts.medical import Classes, Images, Splits
from acs_parts.networks import flat, published_weights, solid

SMOOTH = 1e-2

Settings = Mapping[str, Any]
Learned = Mapping[str, Tensor] | None
Trained = tuple[nn.Module, dict[str, Any]]


def solid_shapes(method: str, seed: int, s: Settings, learned: Learned) -> Trained:
    """Solid shapes in noise; mean Dice of the five shapes over the test volumes after some epochs."""
    random = np.random.default_rng([seed, 3])
    training, test = shapes.volumes(s["train"], random), shapes.volumes(s["test"], random)
    net = solid("shapes", method, seed, learned, classes=len(shapes.SOLID) + 1, width=s["width"])
    curve = {}
    for epoch in _epochs(net, training, segmentation_loss, s, seed):
        if epoch in s["at"]:
            curve[str(epoch)] = pooled_dice(net, test, len(shapes.SOLID))
    return net, {"Dice": curve}


def flat_shapes(seed: int, s: Settings) -> Trained:
    """The pretraining: the same net in 2D on flat shapes; mean Dice on as many new pictures as in the 3D test."""
    random = np.random.default_rng([seed, 2])
    training, test = shapes.pictures(s["train"], random), shapes.pictures(s["test"], random)
    net = flat("shapes", seed, classes=len(shapes.FLAT) + 1, width=s["width"])
    for _ in _epochs(net, training, segmentation_loss, s, seed):
        pass
    return net, {"Dice": {str(s["epochs"]): pooled_dice(net, test, len(shapes.FLAT))}}


def adrenal(method: str, seed: int, s: Settings, learned: Learned) -> Trained:
    """AdrenalMNIST3D; AUC and accuracy on test in the epoch with the best AUC on val, the earlier of equals."""
    splits = _padded(medical.adrenal(), s)
    channels = s.get("channels", 1)
    splits = {name: (images.repeat(channels, axis=1), classes) for name, (images, classes) in splits.items()}
    settings = {"channels": channels, "classes": 2, "width": s["width"], "stem": s["stem"]}
    net = solid(s["net"], method, seed, learned, **settings)
    best, curve, found = -1.0, {}, {}
    for epoch in _epochs(net, splits["train"], _cross_entropy, s, seed, dim=True):
        curve[str(epoch)] = auc(*_judged(net, splits["val"]))
        if curve[str(epoch)] > best:
            best = curve[str(epoch)]
            scores, classes = _judged(net, splits["test"])
            found = {"AUC": auc(scores, classes), "accuracy": float(((scores > 0) == (classes == 1)).mean())}
            found["epoch"] = epoch
    return net, {"test": found, "AUC on val": curve}


def published(method: str, seed: int, s: Settings, learned: Learned) -> Trained:
    """AdrenalMNIST3D with weights of a file of the user's, where the settings name one."""
    return adrenal(method, seed, s, published_weights(Path(s["weights"])) if "weights" in s else learned)


def radiographs(seed: int, s: Settings) -> Trained:
    """The pretraining: the same ResNet in 2D on PneumoniaMNIST; AUC on its test split."""
    splits = _padded(medical.pneumonia(), s)
    net = flat(s["net"], seed, channels=1, classes=2, width=s["width"], stem=s["stem"])
    for _ in _epochs(net, splits["train"], _cross_entropy, s, seed):
        pass
    return net, {"test": {"AUC": auc(*_judged(net, splits["test"]))}}


def hippocampus(method: str, seed: int, s: Settings, learned: Learned) -> Trained:
    """Random crops of the training persons; mean Dice of both parts on the persons of val after some steps."""
    cases, held_out = medical.hippocampus("train", s["most"]), medical.hippocampus("val", s["most"])
    net = solid("shapes", method, seed, learned, classes=3, width=s["width"])
    optimiser = torch.optim.Adam(net.parameters(), lr=s["rate"])
    random = np.random.default_rng([seed, 5])
    curve = {}
    for step in range(1, s["steps"] + 1):
        crops = [_random_crop(cases[int(random.integers(len(cases)))], s["side"], random) for _ in range(s["batch"])]
        images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*crops, strict=True))
        _step(net, optimiser, segmentation_loss, images[:, None], labels.long())
        if step in s["at"]:
            curve[str(step)] = float(np.mean([_case_dice(net, case) for case in held_out]))
    return net, {"Dice": curve}


TASKS: Mapping[str, Callable[[str, int, Settings, Learned], Trained]] = {
    "shapes": solid_shapes,
    "first epochs": solid_shapes,
    "adrenal": adrenal,
    "published": published,
    "hippocampus": hippocampus,
}
PRETRAININGS: Mapping[str, Callable[[int, Settings], Trained]] = {
    "flat shapes": flat_shapes,
    "radiographs": radiographs,
}


# What the recipes share.


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice over the classes present in the batch. Logits (N, K, *grid), labels (N, *grid)."""
    wanted = nn.functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    axes = [0, *range(2, logits.ndim)]
    shares = logits.softmax(1)
    both, either = (shares * wanted).sum(axes), shares.sum(axes) + wanted.sum(axes)
    missed = 1 - (2 * both + SMOOTH) / (either + SMOOTH)
    return nn.functional.cross_entropy(logits, labels) + missed[wanted.sum(axes) > 0].mean()


def _cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, classes)


def _epochs(
    net: nn.Module,
    data: tuple[Images, npt.NDArray[Any]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    settings: Settings,
    seed: int,
    *,
    dim: bool = False,
) -> Iterator[int]:
    """Train with Adam, one yield an epoch; a batch of fewer than two images is left out, since BatchNorm needs two.

    `dim` multiplies each image by a number of 0..1 in training, and by 0.5 when judged: without it a net could read
    that a shape is filled with ones. `fall` in the settings: epochs from which the rate is a tenth.
    """
    images, labels = torch.from_numpy(data[0]), torch.from_numpy(data[1].astype(np.int64))
    optimiser = torch.optim.Adam(net.parameters(), lr=settings["rate"])
    random = np.random.default_rng([seed, 4])
    for epoch in range(1, settings["epochs"] + 1):
        for group in optimiser.param_groups:
            group["lr"] = settings["rate"] * 0.1 ** sum(epoch > fall for fall in settings.get("fall", ()))
        order = random.permutation(len(images))
        for at in range(0, len(order) - 1, settings["batch"]):
            chosen = torch.from_numpy(order[at : at + settings["batch"]])
            light = random.random((len(chosen), *[1] * (images.ndim - 1)), np.float32)
            batch = images[chosen] * torch.from_numpy(light) if dim else images[chosen]
            _step(net, optimiser, loss_of, batch, labels[chosen])
        yield epoch


def _step(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
) -> None:
    net.train()
    loss = loss_of(net(faster(images)), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if not math.isfinite(loss.item()):
        raise RuntimeError("the loss is no longer a number")


def faster(images: Tensor) -> Tensor:
    """Volumes with their channels last in memory: a fifth faster to train on a CPU, for every method."""
    return images.to(memory_format=torch.channels_last_3d) if images.ndim == 5 else images


def pooled_dice(net: nn.Module, data: tuple[Images, npt.NDArray[np.uint8]], classes: int) -> float:
    """Mean Dice of the classes 1..classes, all images taken as one; a class that occurs nowhere is left out."""
    found, labels = _classes(net, data[0]), data[1]
    counted = [
        (2 * ((found == k) & (labels == k)).sum(), (found == k).sum(), (labels == k).sum()) for k in _of(classes)
    ]
    return float(np.mean([both / (one + other) for both, one, other in counted if other]))


def _of(classes: int) -> range:
    return range(1, classes + 1)


def _classes(net: nn.Module, images: Images) -> Classes:
    net.eval()
    with torch.inference_mode():
        parts = [net(faster(torch.from_numpy(images[at : at + 8]))).argmax(1) for at in range(0, len(images), 8)]
    found: Classes = torch.cat(parts).numpy()
    return found


def _case_dice(net: nn.Module, case: medical.Crop) -> float:
    """Mean Dice of both parts, the image padded at its far ends to a grid that the net takes."""
    pad = [(0, -side % 4) for side in case.image.shape]
    found = _classes(net, np.pad(case.image, pad, mode="edge")[None, None])[0]
    found = found[tuple(slice(side) for side in case.image.shape)]
    masks = [(found == k, case.labels == k) for k in (1, 2)]
    return float(np.mean([2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in masks]))


def _random_crop(case: medical.Crop, side: int, random: np.random.Generator) -> tuple[Images, npt.NDArray[np.uint8]]:
    pad = [(0, max(0, side - n)) for n in case.image.shape]
    image, labels = np.pad(case.image, pad, mode="edge"), np.pad(case.labels, pad)
    at = [int(random.integers(n - side + 1)) for n in image.shape]
    window = tuple(slice(a, a + side) for a in at)
    return image[window], labels[window]


def _padded(splits: Splits, settings: Settings) -> dict[str, tuple[Images, Classes]]:
    """Zeros around all images up to `side`; of the training images the first `most`."""
    found = {}
    for name, (images, classes) in splits.items():
        most = settings["most"] if name == "train" else None
        short = [settings["side"] - n for n in images.shape[2:]]
        pad = [(0, 0), (0, 0), *((n // 2, n - n // 2) for n in short)]
        found[name] = np.pad(images[:most], pad), classes[:most]
    return found


def _judged(net: nn.Module, data: tuple[Images, Classes]) -> tuple[npt.NDArray[np.float64], Classes]:
    """Difference of the two logits, images at half their brightness (see `_epochs`), and the classes."""
    net.eval()
    images = torch.from_numpy(data[0]) * (0.5 if data[0].ndim == 5 else 1.0)
    with torch.inference_mode():
        logits = torch.cat([net(faster(images[at : at + 32])) for at in range(0, len(images), 32)]).double()
    return (logits[:, 1] - logits[:, 0]).numpy(), data[1]


def auc(scores: npt.NDArray[np.float64], classes: Classes) -> float:
    """Area under the ROC curve; ties count half. NaN where a class is absent."""
    ill = classes == 1
    pairs = int(ill.sum()) * int((~ill).sum())
    if not pairs:
        return math.nan
    ranks = rankdata(scores)
    return float((ranks[ill].sum() - ill.sum() * (ill.sum() + 1) / 2) / pairs)
