"""Loss, schedule, augmentation, sampling: rules on a fingerprint and a net, each with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from residency.datasets.fingerprint import Fingerprint
from residency.train.planning.fit import LEAST_STEPS, Fitted
from residency.train.planning.recipe import all_ct
from residency.train.planning.values import Choice, Limits, Machine
from residency.volume import Space

LEFT_AXIS = 2
"""Of the fingerprint: along it left becomes right."""

_MOST_SAMPLES = 500_000
"""Crops that a training sees at most: what nnU-Net shows a net, 1000 epochs of 250 batches of 2."""
WORKING = 0.85
"""Share of the time that goes into steps; the rest reads, validates and saves."""
_VALIDATING = 0.1
_LEAST_VALIDATIONS = 10
_SMALL_SHARE = 0.05
_SIDE = re.compile(r"(?:^|[^a-z])(?:(?:left|right)(?:$|[^a-z])|(?:lt|rt|l|r)(?:$|[^a-z0-9]))", re.IGNORECASE)
"""A side in a name; L1 is a vertebra."""


def validation_share(found: Fingerprint) -> Choice:
    """Persons held out to choose the weights."""
    persons = max(2, min(max(2, round(0.1 * found.persons)), 20, found.persons - 1))
    share = min(0.9, max(0.01, round(persons / found.persons, 3)))
    return Choice(
        "data.validation_share",
        share,
        f"{round(share * found.persons)} of {found.persons} persons choose the weights: a tenth, from 2 to 20",
    )


def loss_of(found: Fingerprint) -> Choice:
    if found.task == "classification":
        return Choice("loss", "cross-entropy", "each image has one class")
    return Choice("loss", "dice-cross-entropy", "overlap and every voxel alike; what most trainings of this kind take")


def schedule_of(found: Fingerprint, fitted: Fitted, limits: Limits, machine: Machine) -> list[Choice]:
    """Steps that fit into the time, and how often is validated."""
    in_time = max(1, round(WORKING * limits.hours * 3600 / fitted.step))
    useful = max(LEAST_STEPS, _MOST_SAMPLES // fitted.batch)
    plenty, steps = in_time > useful, max(20, min(in_time, useful))
    if steps >= 1000:
        steps -= steps % 100
    held_out = max(1, round(validation_share(found).value * len(found.cases)))
    validation = held_out * fitted.answer
    every = max(10, math.ceil(validation / (_VALIDATING * fitted.step)))
    every = max(1, min(every, steps // _LEAST_VALIDATIONS)) if steps >= _LEAST_VALIDATIONS else steps
    why = f"{limits.hours:g} h at {fitted.step:.2g} s a step, {machine.how}"
    if plenty:
        why = f"{steps * fitted.batch} crops are as many as are known to help; {limits.hours:g} h would allow {in_time}"
    classifies = found.task == "classification"
    rate, because = (
        (0.001, "usual for AdamW and batch norms") if classifies else (0.002, "usual for AdamW and these nets")
    )
    return [
        Choice("schedule.steps", steps, why),
        Choice("schedule.batch", fitted.batch, _why_batch(fitted, limits)),
        Choice("schedule.rate", rate, because),
        Choice("schedule.warmup", min(50, steps // 10), "the first steps of a fresh net are its wildest"),
        Choice("schedule.decay", 0.5, "the second half cools down to 0, where the last figures are gained"),
        Choice("schedule.weight_decay", 0.0001, "usual for AdamW"),
        Choice(
            "schedule.average", 0.995 if steps >= 1000 else 0.98, "the running average of weights is judged and shipped"
        ),
        Choice(
            "schedule.validate_every",
            every,
            f"{steps // every} validations, each of about {validation:.2g} s on {held_out} cases",
        ),
    ]


def _why_batch(fitted: Fitted, limits: Limits) -> str:
    if fitted.work.together:
        return "its norms measure a batch, so it has more than a few"
    return f"one crop for each of {limits.threads} threads, or as many as a crop is small"


def augment_of(found: Fingerprint, order: Sequence[int], fitted: Fitted) -> tuple[list[Choice], tuple[str, ...]]:
    """Choices, and what a person should decide."""
    axis, why, warnings = _mirrored(found, order)
    made = []
    if axis is not None:
        made.append(Choice("augment.mirror_axis", axis, why))
    thick = max(fitted.patch) / min(side for side in fitted.patch if side > 1) > 3 and min(fitted.patch) > 1
    degrees = 5 if thick else 12
    made += [
        Choice(
            "augment.rotate_degrees", degrees, "people lie askew" + ("; little, as slices are thick" if thick else "")
        ),
        Choice("augment.scale", 0.1, "people differ in size"),
        Choice("augment.shift_voxels", _shift(fitted), "nothing shall depend on where a structure lies in its crop"),
    ]
    if found.task == "segmentation" and not thick:
        made.append(Choice("augment.bend_voxels", 1.0, "people differ in shape"))
    ct = all_ct(found)
    strength = 0.1 if ct else 0.2
    scaled = "CT is calibrated: a little" if ct else "scanners differ"
    made += [
        Choice("augment.contrast", strength, scaled),
        Choice("augment.brightness", strength, scaled),
        Choice("augment.gamma", 0.1 if ct else 0.3, scaled),
        Choice("augment.noise", 0.1, "noise differs"),
    ]
    return made, warnings


def _shift(fitted: Fitted) -> int:
    return max(1, min(10, min(side for side in fitted.patch if side > 1) // 10))


def _mirrored(found: Fingerprint, order: Sequence[int]) -> tuple[int | None, str, tuple[str, ...]]:
    sided = [name for name in found.classes if _SIDE.search(name)]
    if sided:
        said = f"not mirrored: '{sided[0]}' has a side, and its mirror image would have the wrong name"
        return None, said, (said,)
    pair = mirror_pair(found)
    if pair is not None:
        said = (
            f"not mirrored: '{found.classes[pair[0]]}' and '{found.classes[pair[1]]}' lie opposite each other in "
            "almost every case, so they may be left and right; set augment.mirror_axis if they are not"
        )
        return None, said, (said,)
    if found.space is Space.PATIENT:
        axis, where = list(order).index(LEFT_AXIS), "left becomes right"
        if found.flat and found.cases[0].shape[LEFT_AXIS] == 1:
            return None, "the only slice cannot be mirrored along itself", ()
    else:
        axis, where = 2, "columns are reversed"
    warning = f"crops are mirrored ({where}): leave augment.mirror_axis out if a side means something here"
    return axis, f"no class has a side, so {where} makes two of one", (warning,)


def mirror_pair(found: Fingerprint) -> tuple[int, int] | None:
    """Two classes of like size, opposite each other in nine of ten cases: left and right, likely."""
    for one in range(1, len(found.classes)):
        for other in range(one + 1, len(found.classes)):
            both = [c.structures for c in found.cases if one in c.structures and other in c.structures]
            if not both or len(both) < len(found.cases) / 2:
                continue
            places = [(c[one].middle, c[other].middle) for c in both]
            apart = [
                (a[LEFT_AXIS] - 0.5) * (b[LEFT_AXIS] - 0.5) < 0
                and abs(a[LEFT_AXIS] + b[LEFT_AXIS] - 1) < 0.15
                and abs(a[0] - b[0]) < 0.15
                and abs(a[1] - b[1]) < 0.15
                for a, b in places
            ]
            ratio = sorted(c[one].voxels / c[other].voxels for c in both)[len(both) // 2]
            if sum(apart) >= 0.9 * len(apart) and 0.5 < ratio < 2:
                return one, other
    return None


def sampling_of(found: Fingerprint, fitted: Fitted) -> list[Choice]:
    """Small structures, rare classes."""
    if found.task == "classification":
        held = [sum(case.label == name for case in found.cases) for name in found.classes]
        if max(held) > 1.5 * max(1, min(held)):
            why = f"the rarest class has {min(held)} cases, the most frequent {max(held)}"
            return [Choice("sampling.balanced", True, why)]
        return []
    whole = all(side >= extent for side, extent in zip(fitted.patch, fitted.shape, strict=True))
    shares = [found.share(value) for value in range(1, len(found.classes))]
    if whole or not shares:
        return []
    smallest = min(shares)
    covered = math.prod(fitted.patch) / max(1.0, math.prod(fitted.shape))
    share = 0.5 if smallest < _SMALL_SHARE / 10 or covered < 0.1 else 0.33
    why = (
        f"a crop shows {100 * covered:.0f} % of an image, and the smallest structure fills {100 * smallest:.2g} % of it"
    )
    return [Choice("sampling.foreground", share, why)]


def net_choices(fitted: Fitted) -> list[Choice]:
    """Net, patch, and what was given up for the limits."""
    why = {
        "unet": "voxels are about as long as wide: a plain U-Net, which runs fast on a CPU",
        "planned-unet": "slices are thick: kernels and strides follow the spacing, as nnU-Net plans them",
        "unet-16": "single slices: a small U-Net of two dimensions",
        "resnet18": "a class of a picture: the smallest usual network for it",
        "resnet18-3d": "a class of a volume: the smallest usual network for it",
    }[fitted.net]
    given_up = f"; {len(fitted.tried)} larger ones broke a limit ({fitted.tried[-1]})" if fitted.tried else ""
    parameters: dict[str, Any] = {key: list(v) if isinstance(v, tuple) else v for key, v in fitted.parameters.items()}
    shape = " x ".join(f"{side:.0f}" for side in fitted.shape)
    patch = (
        "the whole image" if all(p >= s for p, s in zip(fitted.patch, fitted.shape, strict=True)) else "a part of it"
    )
    return [
        Choice("net.name", fitted.net, why),
        Choice(
            "net.parameters",
            parameters,
            f"{fitted.work.parameters:,} parameters, {fitted.work.macs / 1e9:.2g} G "
            f"multiply-accumulates a crop{given_up}",
        ),
        Choice(
            "patch", list(fitted.patch), f"a prepared image of median size has {shape}: the net sees {patch} at once"
        ),
    ]
