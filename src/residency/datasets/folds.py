"""Dividing cases by person: one part held out, or folds for cross-validation; and the files that keep folds.

A file of folds has nnU-Net's form (`splits_final.json`): a list with `train` and `val`, names of cases, of each fold.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from residency.datasets.case import Case, persons
from residency.errors import TrainingError
from residency.files.bounded import read_bounded
from residency.files.whole import whole

LARGEST_FILE = 64 * 1024**2
"""Most bytes of a file of folds that are read."""

MOST_FOLDS = 1000
_SHOWN = 3


@dataclass(frozen=True)
class Fold:
    """Names of the cases to learn from and of those to judge by; no person is in both."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def held_out(cases: Sequence[Case], share: float, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(kept, held out): about `share` of the persons, at least one, with all their cases.

    The choice depends on the persons' names and the seed alone: a hash ranks them, so that adding a person moves no
    other one across, whatever the order of the table or the version of a random generator.
    """
    everyone = persons(cases)
    if len(everyone) < 2:
        raise TrainingError(f"{len(everyone)} persons cannot be divided into two groups; at least two are needed")
    ranked = sorted(everyone, key=lambda person: _rank(seed, person))
    out = set(ranked[: min(max(1, round(share * len(ranked))), len(ranked) - 1)])
    return tuple(c for c in cases if c.person not in out), tuple(c for c in cases if c.person in out)


def folds(cases: Sequence[Case], count: int, seed: int, strata: Mapping[str, str] | None = None) -> tuple[Fold, ...]:
    """As many folds as asked for; each person is judged in exactly one, with all cases.

    strata  kind of each person, whatever shall be spread evenly; None: all are of one kind

    The folds' numbers of persons differ by at most one, within each kind too, and persons with many cases are dealt
    first, so that the numbers of cases stay close. Within a kind, hashes of names rank the persons: the order of the
    table does not matter. Even folds have a price: unlike `held_out`, a new person moves others, so folds are made
    once and kept in a file. Raises TrainingError where there are fewer persons than folds.
    """
    everyone = persons(cases)
    if not 2 <= count <= min(len(everyone), MOST_FOLDS):
        raise TrainingError(
            f"{len(everyone)} persons cannot be divided into {count} folds; 2 to {MOST_FOLDS} are made, each of at "
            "least one person"
        )
    many = Counter(case.person for case in cases)
    kinds = dict.fromkeys(everyone, "") if strata is None else {person: strata[person] for person in everyone}
    order = sorted(everyone, key=lambda person: (kinds[person], -many[person], _rank(seed, person)))
    fold_of: dict[str, int] = {}
    of_kind: Counter[tuple[str, int]] = Counter()
    in_all, in_cases = [0] * count, [0] * count
    for person in order:
        kind = kinds[person]
        chosen = min(range(count), key=lambda k: (of_kind[kind, k], in_all[k], in_cases[k], k))
        fold_of[person] = chosen
        of_kind[kind, chosen] += 1
        in_all[chosen] += 1
        in_cases[chosen] += many[person]
    names = sorted((case.name, fold_of[case.person]) for case in cases)
    return tuple(
        Fold(tuple(name for name, at in names if at != k), tuple(name for name, at in names if at == k))
        for k in range(count)
    )


def strata_of(cases: Sequence[Case], volumes_mm3: Mapping[str, Sequence[float]] | None = None) -> dict[str, str]:
    """Kind of each person: the class labels of the cases, or which structures the references hold and how large.

    volumes_mm3  of each case by name: the volume of each foreground class; needed where there are references

    Size is told in thirds: small, middle, large, of the persons with the same structures.
    """
    labels: dict[str, set[str]] = {}
    sizes: dict[str, list[float]] = {}
    for case in cases:
        told = labels.setdefault(case.person, set())
        told.update(f"{task}={label}" for task, label in case.labels.items())
        held = () if volumes_mm3 is None else volumes_mm3[case.name]
        told.update(f"class {k}" for k, volume in enumerate(held, 1) if volume > 0)
        sizes.setdefault(case.person, []).append(float(sum(held)))
    kinds = {person: " ".join(sorted(told)) for person, told in labels.items()}
    thirds: dict[str, str] = {}
    for kind in sorted(set(kinds.values())):
        same = sorted((float(np.mean(sizes[person])), person) for person in kinds if kinds[person] == kind)
        level = same[0][0] == same[-1][0]
        thirds.update({person: "" if level else f" third {3 * k // len(same)}" for k, (_, person) in enumerate(same)})
    return {person: kind + thirds[person] for person, kind in kinds.items()}


def write_folds(made: Sequence[Fold], file: Path) -> None:
    """Keep folds in a file; it is there whole or not at all. Raises OSError."""
    text = json.dumps([{"train": fold.train, "val": fold.val} for fold in made], indent=1) + "\n"
    with whole(file) as stream:
        stream.write(text.encode())


def read_folds(file: Path) -> tuple[Fold, ...]:
    """The folds of a file, ours or nnU-Net's. Raises TrainingError for what is no such file."""
    try:
        found = json.loads(read_bounded(file, LARGEST_FILE).decode("utf-8"))
    except OSError as error:
        raise TrainingError(f"the file of folds {file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"the file of folds {file} is not JSON: {error}") from None
    if not isinstance(found, list) or not 0 < len(found) <= MOST_FOLDS:
        raise TrainingError(f"the file of folds {file} holds no list of 1 to {MOST_FOLDS} folds")
    return tuple(_fold(one, f"{file}: fold {k}") for k, one in enumerate(found))


def in_fold(cases: Sequence[Case], fold: Fold, where: str) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """(to learn from, to judge by): the cases as a fold divides them.

    where  names file and fold in messages

    Raises TrainingError where the fold names a case that is not there, leaves one out, names one twice, leaves a side
    empty, or puts a person on both sides.
    """
    known = {case.name: case for case in cases}
    twice = [name for name, times in Counter((*fold.train, *fold.val)).items() if times > 1]
    strange = sorted({*fold.train, *fold.val} - set(known))
    left = sorted(set(known) - set(fold.train) - set(fold.val))
    for names, said in (
        (twice, "named twice"),
        (strange, "not in the training split of the data"),
        (left, "in the training split of the data, but not in the fold"),
    ):
        if names:
            raise TrainingError(f"{where}: {_listed(names)} {said}")
    if not fold.train or not fold.val:
        raise TrainingError(f"{where} has no case to {'judge by' if fold.train else 'learn from'}")
    learning, judging = tuple(known[name] for name in fold.train), tuple(known[name] for name in fold.val)
    both = sorted(set(persons(learning)) & set(persons(judging)))
    if both:
        of_both = sorted(case.name for case in cases if case.person == both[0])
        raise TrainingError(
            f"{where} puts {len(both)} persons on both sides, the first with {_listed(of_both)}: "
            "what is judged must be of persons who were not learnt from"
        )
    return learning, judging


def _fold(value: Any, where: str) -> Fold:
    parts: list[Any] = [value.get("train"), value.get("val")] if isinstance(value, dict) else []
    if not parts or not all(isinstance(p, list) and all(isinstance(name, str) for name in p) for p in parts):
        raise TrainingError(f"{where} must be a mapping with the lists of names 'train' and 'val'")
    return Fold(*(tuple(part) for part in parts))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"case {', '.join(repr(name[:80]) for name in names[:_SHOWN])}{more}"


def _rank(seed: int, person: str) -> bytes:
    return hashlib.sha256(f"{seed}:{person}".encode()).digest()
