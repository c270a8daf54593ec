"""MONAI as a process of bench/training.py: an ordinary script of its documented parts, and its answers.

    python bench/children/training_monai.py TASK ARGUMENTS_AS_JSON

Dictionary transforms, CacheDataset, DataLoader with two workers, DiceCELoss, AdamW with a cosine, sliding windows; the
net, unless another is asked for, is SegResNet as MONAI's tumour tutorial builds it.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import SegResNet
from monai.transforms import (
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    SaveImaged,
    SpatialPadd,
)
from monai.utils import set_determinism

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training_parts.clock import Clock

Arguments = Mapping[str, Any]
BOTH = ("image", "label")
PATCH, BATCH, WORKERS = (40, 56, 40), 2, 2
"""The patch holds a whole crop of the median size; every side is a multiple of 8, as SegResNet needs."""

RATE, DECAY = 1e-3, 1e-5
CLASSES = 3


def learn(arguments: Arguments) -> dict[str, Any]:
    """Train for the budget; mark-SHARE.pt in the folder are the weights at the marks."""
    entered = time.monotonic()
    set_determinism(arguments["seed"])
    cases = json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    patch, batch = tuple(arguments.get("patch") or PATCH), arguments.get("batch") or BATCH
    data = CacheDataset(_files(cases, "learn"), _to_learn(patch), num_workers=WORKERS, progress=False)
    loader = DataLoader(
        data, batch_size=batch, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True
    )
    net, loss_of = _net(arguments), DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    folder = Path(arguments["folder"])
    set_up = time.monotonic() - entered
    clock = Clock(
        arguments["budget_s"],
        arguments["marks"],
        lambda mark: torch.save(net.state_dict(), folder / f"mark-{mark}.pt"),
        arguments["warm_s"],
    )
    batches: Iterator[Any] = itertools.chain.from_iterable(itertools.repeat(loader))
    net.train()
    while not clock.over:
        began = time.monotonic()
        images = next(batches)
        waited = time.monotonic() - began
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * clock.share)) / 2
        optimiser.zero_grad()
        loss = loss_of(net(images["image"]), images["label"])
        loss.backward()
        optimiser.step()
        clock.after_step(batch, waited, float(loss.detach()))
    size = sum(parameter.numel() for parameter in net.parameters())
    return clock.told() | {"set_up_s": set_up, "parameters": size}


def answer(arguments: Arguments) -> dict[str, Any]:
    """Label files of the cases to judge on, by sliding windows with Gaussian weights, on the images' own grids."""
    cases = json.loads(Path(arguments["cases"]).read_text(encoding="utf-8"))
    net = _net(arguments).eval()
    net.load_state_dict(torch.load(arguments["weights"], weights_only=True))
    before = Compose(_read(("image",)))
    after = Compose(
        [
            AsDiscreted("found", argmax=True),
            Invertd("found", before, orig_keys="image", nearest_interp=True, to_tensor=True),
            SaveImaged(
                "found",
                output_dir=Path(arguments["folder"]) / "predictions",
                output_postfix="",
                separate_folder=False,
                output_dtype="uint8",
                print_log=False,
            ),
        ]
    )
    began = time.monotonic()
    for image in DataLoader(Dataset(_files(cases, "judge"), before), batch_size=1):
        with torch.inference_mode():
            image["found"] = sliding_window_inference(image["image"], PATCH, 1, net, overlap=0.5, mode="gaussian")
        for one in decollate_batch(image):
            after(one)
    return {"seconds": time.monotonic() - began}


def _net(arguments: Arguments) -> torch.nn.Module:
    if given := arguments.get("net"):
        from residency.nets import build

        return build(given["name"], channels=1, classes=CLASSES, **given["parameters"])
    return SegResNet(init_filters=16, out_channels=CLASSES, in_channels=1, dropout_prob=0.2)


def _read(keys: tuple[str, ...]) -> list[Any]:
    return [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        EnsureTyped(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        NormalizeIntensityd("image", channel_wise=True),
    ]


def _to_learn(patch: tuple[int, ...]) -> Compose:
    return Compose(
        [
            *_read(BOTH),
            SpatialPadd(BOTH, patch),
            RandSpatialCropd(BOTH, patch, random_size=False),
            RandFlipd(BOTH, prob=0.5, spatial_axis=0),
            RandAffined(
                BOTH,
                prob=0.5,
                rotate_range=(0.2, 0.2, 0.2),
                scale_range=(0.1, 0.1, 0.1),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandGaussianNoised("image", prob=0.15, std=0.1),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
        ]
    )


def _files(cases: Mapping[str, Any], part: str) -> list[dict[str, str]]:
    return [
        {"image": f"{cases['images']}/{name}.nii.gz", "label": f"{cases['labels']}/{name}.nii.gz"}
        for name in cases[part]
    ]


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    found = {"learn": learn, "answer": answer}[sys.argv[1]](given)
    Path(given["answer"]).write_text(json.dumps(found), encoding="utf-8")
