"""What the runs come to: figures with intervals over seeds and persons, and the paper's claims, held or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contract import Claim
from monet_parts.data import TASKS
from monet_parts.training import NETS, Outcome

ROUNDS = 4000
MARGIN = 0.01
"""Of Dice: a net that is not worse by more is called on par."""

OURS = "MoNet"
SOURCE = {
    "U-Net-16": ("0.74 against 0.67", "0.70 against 0.59"),
    "U-Net-64": ("0.74 against 0.70", "0.70 against 0.50"),
    "Attention U-Net-64": ("0.74 against 0.66", "0.70 against 0.37"),
    "MoNet-R": ("none: MoNet-R is ours", "none: MoNet-R is ours"),
}
"""Dice of the pancreas, table 1 of the paper: on held-out scans of the decathlon, and on those of another hospital."""

PUBLISHED = {"MoNet": 403_556, "U-Net-16": 1_946_705, "U-Net-64": 31_054_145, "Attention U-Net-64": 31_753_349}
"""Parameters of table 3 of the paper."""

IN, OUT = "as it is", "out of sample"

Key = tuple[int, str]
"""Seed and person."""


@dataclass(frozen=True)
class Interval:
    """A mean over exams, and its 95 % interval over seeds and persons."""

    mean: float
    low: float
    high: float
    exams: int
    persons: int
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval(values: Mapping[Key, Sequence[float]]) -> Interval:
    """The mean over all values, and its interval when both seeds and persons are drawn anew.

    Both are drawn with replacement, apart from each other (Owen, "The pigeonhole bootstrap", Annals of Applied
    Statistics 1:386, 2007), since a training is as much a matter of chance as a patient.
    """
    seeds, persons = sorted({key[0] for key in values}), sorted({key[1] for key in values})
    sums, counts = np.zeros((len(seeds), len(persons))), np.zeros((len(seeds), len(persons)))
    for (seed, person), found in values.items():
        place = seeds.index(seed), persons.index(person)
        sums[place], counts[place] = np.sum(found), len(found)
    random = np.random.default_rng(0)
    of_seeds = random.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), ROUNDS)
    of_persons = random.multinomial(len(persons), np.full(len(persons), 1 / len(persons)), ROUNDS)
    drawn = np.einsum("rs,sp,rp->r", of_seeds, counts, of_persons)
    totals = np.einsum("rs,sp,rp->r", of_seeds, sums, of_persons)
    low, high = np.percentile(totals[drawn > 0] / drawn[drawn > 0], (2.5, 97.5))
    every = sum(map(len, values.values()))
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), every, len(persons), len(seeds))


@dataclass(frozen=True)
class Found:
    """All runs of one net in one task."""

    task: str
    net: str
    runs: Sequence[Outcome]

    def values(self, name: str, wanted: Callable[[Outcome], bool]) -> dict[Key, list[float]]:
        """One figure of all exams that are wanted, by seed and person."""
        found: dict[Key, list[float]] = {}
        for run in self.runs:
            for one in filter(wanted, run["figures"]):
                found.setdefault((run["run"]["seed"], one["person"]), []).append(one[name])
        return found

    def conditions(self) -> list[tuple[str, Callable[[Outcome], bool]]]:
        """What this net was judged under: name, and which figures are meant."""
        figures = self.runs[0]["figures"]
        kinds = sorted({one["kind"] for one in figures}) if self.task in ("hippocampus", "one regime") else []
        shifts = list(dict.fromkeys((one["shift"], one["grade"]) for one in figures if one["grade"]))
        return [
            *([(IN, _clean)] if self.task != "one regime" else []),
            *((f"intensities {kind}", _of_kind(kind)) for kind in kinds),
            *((f"{shift} {grade}", _under(shift, grade)) for shift, grade in shifts),
        ]


def _clean(one: Outcome) -> bool:
    return bool(one["shift"] == IN)


def _of_kind(kind: str) -> Callable[[Outcome], bool]:
    return lambda one: _clean(one) and one["kind"] == kind


def _under(shift: str, grade: int) -> Callable[[Outcome], bool]:
    return lambda one: one["shift"] == shift and one["grade"] == grade


def _sample(task: str, sample: str) -> Callable[[Outcome], bool]:
    """Which figures of a task count as of the sample that was learnt from, and which as out of it."""
    if task == "one regime":
        return lambda one: (one["kind"] == "float32_low") is (sample == IN)
    return lambda one: _clean(one) is (sample == IN)


def grouped(outcomes: Sequence[Outcome]) -> list[Found]:
    """The runs that differ in the seed alone, together, in the order of tasks and nets."""
    return [
        Found(task, net, runs)
        for task in TASKS
        for net in NETS
        if (runs := [o for o in outcomes if (o["run"]["task"], o["run"]["net"]) == (task, net)])
    ]


def rows(groups: Sequence[Found]) -> list[dict[str, Any]]:
    """One a task, net and condition."""
    return [_row(group, name, wanted) for group in groups for name, wanted in group.conditions()]


def _row(group: Found, name: str, wanted: Callable[[Outcome], bool]) -> dict[str, Any]:
    overlap, far = (interval(group.values(figure, wanted)) for figure in ("Dice", "HD95"))
    return {
        "task": group.task,
        "net": group.net,
        "parameters": group.runs[0]["parameters"],
        "condition": name,
        "Dice": overlap.mean,
        "Dice low": overlap.low,
        "Dice high": overlap.high,
        "HD95": far.mean,
        "HD95 low": far.low,
        "HD95 high": far.high,
        "missed": int(sum(map(sum, group.values("missed", wanted).values()))),
        "exams": overlap.exams,
        "persons": overlap.persons,
        "seeds": overlap.seeds,
    }


def claims(groups: Sequence[Found], *, judged: bool) -> list[Claim]:
    """The claim on size, and the two of table 1, for every task and rival."""
    made = _smaller(groups)
    for group in groups:
        ours = next((one for one in groups if (one.task, one.net) == (group.task, OURS)), None)
        if group.net == OURS or ours is None:
            continue
        on_par, better = (difference(ours, group, sample) for sample in (IN, OUT))
        of = f"{_named(group.task)}, MoNet less {group.net}, Dice"
        made += [
            Claim(
                f"on par where it was trained: {of}",
                SOURCE[group.net][0],
                f"interval above {-MARGIN:g}",
                str(on_par),
                on_par.low > -MARGIN,
                judged,
            ),
            Claim(
                f"better out of sample: {of}",
                SOURCE[group.net][1],
                "interval above 0",
                str(better),
                better.low > 0,
                judged,
            ),
        ]
    return made


def _smaller(groups: Sequence[Found]) -> list[Claim]:
    """What the paper says of sizes, of the nets as they are trained here."""
    sizes = {group.net: group.runs[0]["parameters"] for group in groups}
    return [
        Claim(
            f"smaller: trainable parameters of MoNet, share of those of {rival}",
            f"{PUBLISHED[OURS]:,} against {PUBLISHED[rival]:,}, statistics of the norms counted",
            "below 1",
            f"{sizes[OURS] / size:.3f} ({sizes[OURS]:,} against {size:,})",
            sizes[OURS] < size,
        )
        for rival, size in sizes.items()
        if rival in PUBLISHED and rival != OURS and OURS in sizes
    ]


def difference(ours: Found, theirs: Found, sample: str) -> Interval:
    """Ours less theirs in Dice, on the exams and conditions that both were judged under, seed by seed."""
    wanted = _sample(ours.task, sample)
    of_them = {_identity(run, one): one["Dice"] for run in theirs.runs for one in filter(wanted, run["figures"])}
    found: dict[Key, list[float]] = {}
    for run in ours.runs:
        for one in filter(wanted, run["figures"]):
            if (identity := _identity(run, one)) in of_them:
                key = (run["run"]["seed"], one["person"])
                found.setdefault(key, []).append(one["Dice"] - of_them[identity])
    return interval(found)


def _identity(run: Outcome, one: Outcome) -> tuple[Any, ...]:
    return run["run"]["seed"], one["exam"], one["shift"], one["grade"]


def _named(task: str) -> str:
    return "hippocampus, learnt from one kind of intensities" if task == "one regime" else task
