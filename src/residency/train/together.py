"""Keys of a training file that do not go together: each may be right by itself. Without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from residency.errors import ConfigError
from residency.nets.sides import fit, in_words, nearest
from residency.train.config_errors import Problem
from residency.train.task import task_of

if TYPE_CHECKING:
    from residency.train.config import TrainingConfig


def clashes(config: TrainingConfig, unsound: Collection[str] = ()) -> tuple[Problem, ...]:
    """Problems of the whole file, and keys that would change nothing.

    unsound  keys at the top with problems of their own; what depends on one of these is not asked
    """
    asked = [check for check, keys in _CHECKS.items() if not set(keys) & set(unsound)]
    return tuple(problem for check in asked for problem in check(config))


def remarks(config: TrainingConfig) -> tuple[str, ...]:
    """What may be meant, but a person should know."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = []
    if config.threads > cores:
        said.append(f"threads: {config.threads} share the {cores} cores that there are; {cores} would be as fast")
    if config.schedule.validate_every > config.schedule.steps:
        said.append(
            f"schedule.validate_every: {config.schedule.validate_every} is more than all {config.schedule.steps} steps:"
            " the last weights are the only ones to be judged"
        )
    return tuple(said)


def remarks_on_images(shapes: Sequence[Sequence[int]], patch: Sequence[int]) -> tuple[str, ...]:
    """The same of prepared images, by their shapes (slice, row, column), and the crops that are taken of them."""
    axes = ("slice", "row", "column")
    small = [k for k, side in enumerate(patch) if 2 * sum(shape[k] < side for shape in shapes) > len(shapes)]
    if not small:
        return ()
    most = [max(shape[k] for shape in shapes) for k in range(3)]
    return (
        f"patch: {' x '.join(map(str, patch))} voxels, and most images, once prepared, have fewer along the "
        f"{' and '.join(axes[k] for k in small)} axis (the most of any: {' x '.join(map(str, most))}). What lies "
        "outside an image is 0; a smaller patch would learn the same in less time",
    )


def _task(config: TrainingConfig) -> Iterator[Problem]:
    try:
        task_of(config)
    except ConfigError as error:
        yield Problem.of(error)


def _patch(config: TrainingConfig) -> Iterator[Problem]:
    net, patch = config.net.known, config.patch
    by_slices = net.dimensions == 2 and config.net.convert is None
    if by_slices and patch[0] != 1:
        yield Problem(
            "net.convert",
            f"net '{net.name}' is two-dimensional: say how it is to see volumes, net.convert: acs, or give it a slice "
            f"at a time, patch: [1, {patch[1]}, {patch[2]}]",
        )
        return
    sides = patch[1:] if by_slices else patch
    known = net.sides(config.net.parameters, len(sides))
    if known is not None and not fit(sides, known):  # else the net itself can tell, once it is built
        yield Problem(
            "patch",
            f"net '{net.name}' takes {in_words(known)}, got {' x '.join(map(str, patch))}; nearest: "
            f"{[*patch[: 3 - len(sides)], *nearest(sides, known)]}",
        )


def _schedule(config: TrainingConfig) -> Iterator[Problem]:
    schedule = config.schedule
    if schedule.warmup >= schedule.steps:
        yield Problem(
            "schedule.warmup",
            f"{schedule.warmup} steps of {schedule.steps} in all: the rate would never be {schedule.rate:g}; "
            "take less than schedule.steps",
        )
    late = [step for step in schedule.restarts if step >= schedule.steps]
    if late:
        yield Problem(
            "schedule.restarts",
            f"{late[0]} is not below schedule.steps, {schedule.steps}: the rate would not have fallen to 0 at the end; "
            "leave it out or take more steps",
        )


def _images(config: TrainingConfig) -> Iterator[Problem]:
    if config.synthesis.used() and len(config.data.images) > 1:
        yield Problem("synthesis", "is for cases of one image, and data.images names several; leave one of them out")


def _sharp(config: TrainingConfig) -> Iterator[Problem]:
    augment, steps = config.augment, config.schedule.steps
    if augment.sharp_from and not augment.sharp_share:
        yield Problem("augment.sharp_from", "changes nothing without a share of sharp crops: give augment.sharp_share")
    elif augment.sharp_share and augment.sharp_from >= steps:
        yield Problem(
            "augment.sharp_from", f"{augment.sharp_from} is not below schedule.steps, {steps}: it would never come"
        )


def _synthesis(config: TrainingConfig) -> Iterator[Problem]:
    synthesis = config.synthesis
    for key, needs in (("outside", "painted"), ("lesion_voxels", "lesions")):
        usual = type(synthesis).model_fields[key].default
        if getattr(synthesis, key) != usual and not getattr(synthesis, needs):
            yield Problem(f"synthesis.{key}", f"changes nothing by itself: give synthesis.{needs}")


def _mirror(config: TrainingConfig) -> Iterator[Problem]:
    if config.augment.mirror_axis == 0 and config.patch[0] == 1:
        yield Problem(
            "augment.mirror_axis", "0 mirrors across slices, and the patch has one; take 1 for rows or 2 for columns"
        )


def _names(config: TrainingConfig) -> Iterator[Problem]:
    twice = sorted({name for name in config.data.classes if config.data.classes.count(name) > 1})
    if twice:
        yield Problem("data.classes", f"named twice: {', '.join(twice)}; each class has a name of its own")


_CHECKS: Mapping[Callable[[TrainingConfig], Iterator[Problem]], Sequence[str]] = {
    _task: ("net", "loss", "data", "sampling", "synthesis", "export", "judged_by"),
    _patch: ("net", "patch"),
    _schedule: ("schedule",),
    _images: ("synthesis", "data"),
    _sharp: ("augment", "schedule"),
    _synthesis: ("synthesis",),
    _mirror: ("augment", "patch"),
    _names: ("data",),
}
"""What is asked, and the keys at the top that it depends on."""
