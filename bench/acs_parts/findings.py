"""From finished runs and costs to rows, claims and notes: nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from acs_parts.costs import Cost
from acs_parts.networks import METHODS
from acs_parts.runs import Outcome
from contract import Claim

EARLY_GAIN = 0.08
"""Dice after 5 epochs on shapes, ACS pretrained minus ACS random: the only accuracy that is a goal here."""

FIGURES = {
    "shapes": "mean Dice of five shapes, test volumes",
    "first epochs": "the same with more seeds, after the first epochs",
    "adrenal": "AUC; early on val, at the end on test in the epoch that was best on val",
    "published": "AUC; early on val, at the end on test in the epoch that was best on val",
    "hippocampus": "mean Dice of both parts, persons of val",
}
RESNET = "ResNet-18, 3x64x64x64"
UNIT = {
    "shapes": "epochs",
    "first epochs": "epochs",
    "adrenal": "epochs",
    "published": "epochs",
    "hippocampus": "steps",
}
TIMED = {"first epochs": "shapes", "published": RESNET}
"""Task -> what was timed for it, where that has another name."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The runs of all seeds of one method from one start in one task, in the order of the seeds."""

    task: str
    method: str
    pretrained: bool
    outcomes: Sequence[Outcome]

    @property
    def curves(self) -> list[Mapping[str, float]]:
        return [one.get("Dice") or one["AUC on val"] for one in self.outcomes]

    @property
    def early(self) -> list[float]:
        """By seed: the second point of the curve."""
        return [list(curve.values())[1] for curve in self.curves]

    @property
    def end(self) -> list[float]:
        """By seed: the last point of the curve, or the figure on test where there is one."""
        return [one["test"]["AUC"] if "test" in one else list(one["Dice"].values())[-1] for one in self.outcomes]

    @property
    def start(self) -> str:
        return "2D pretraining" if self.pretrained else "random"


def rows(groups: Sequence[Group], found: Mapping[str, Mapping[str, Cost]]) -> list[Row]:
    """One row a method and start in each task, then the rows of the nets that are only timed.

    early, end   means over seeds; beside them the figure of each seed
    curves       of each seed, at the `points`: epochs or steps, as UNIT says
    accuracy     on test, of each seed; empty where there is no such figure
    """
    trained = [
        {
            "task": group.task,
            "method": group.method,
            "start": group.start,
            **_figures(group),
            **_costs(found[TIMED.get(group.task, group.task)][group.method]),
        }
        for group in groups
    ]
    timed = [
        {"task": name, "method": method, "start": "-", **dict.fromkeys(_NO_FIGURES, "-"), **_costs(cost)}
        for name, methods in found.items()
        if name == RESNET
        for method, cost in methods.items()
    ]
    return [*trained, *timed]


_NO_FIGURES = ("early", "early by seed", "end", "end by seed", "points", "curves", "accuracy by seed")


def _figures(group: Group) -> Row:
    accuracies = [one["test"]["accuracy"] for one in group.outcomes if "test" in one]
    return {
        "early": round(fmean(group.early), 6),
        "early by seed": _rounded(group.early),
        "end": round(fmean(group.end), 6),
        "end by seed": _rounded(group.end),
        "points": [int(point) for point in group.curves[0]],
        "curves": [_rounded(list(curve.values())) for curve in group.curves],
        "accuracy by seed": _rounded(accuracies),
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 6) for value in values]


def _costs(cost: Cost) -> Row:
    times = {
        f"{what} ms": cost.median(what) for what in ("step", "eager", "eager, folded", "OpenVINO", "OpenVINO, folded")
    }
    told = {what: "-" if time is None else round(time, 2) for what, time in times.items()}
    return {"parameters": cost.parameters, "MMAC": round(cost.macs / 1e6, 1), **told}


def shown(values: Sequence[float]) -> str:
    """Mean, and least to most."""
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def claims(groups: Sequence[Group], found: Mapping[str, Mapping[str, Cost]], judged: bool) -> list[Claim]:
    """The goals. Accuracy at the end is none of them: it changes its order with the seed."""
    gains = _gains("shapes", "ACS", groups)
    all_gains = gains + _gains("first epochs", "ACS", groups)
    more = len(all_gains) - len(gains)
    dense, acs = found[RESNET]["Conv3d"], found[RESNET]["ACS"]
    return [
        Claim(
            claim="shapes, Dice after 5 epochs, ACS pretrained in 2D minus ACS random, mean over seeds",
            source="pretraining in 2D speeds up ACS (Yang et al., JBHI 2021, proof of concept)",
            goal=f"over {EARLY_GAIN}",
            value=shown(gains),
            holds=fmean(gains) > EARLY_GAIN,
            evaluated=judged,
        ),
        Claim(
            claim=f"the same over {len(all_gains)} seeds"
            + (f"; {more} of them were added after the claim above was seen to fail" if more else ""),
            source="as above",
            goal=f"over {EARLY_GAIN}",
            value=f"{shown(all_gains)}, more than nothing in {sum(gain > 0 for gain in all_gains)}",
            holds=fmean(all_gains) > EARLY_GAIN,
            evaluated=judged,
        ),
        Claim(
            claim="parameters of ResNet-18 with ACS against Conv3d",
            source="about -22 % (Baheti et al., BrainLes 2022, abstract; two networks, not one converted)",
            goal="at most -60 %",
            value=f"{100 * (acs.parameters / dense.parameters - 1):.1f} %",
            holds=acs.parameters <= 0.4 * dense.parameters,
        ),
        Claim(
            claim=f"multiply-accumulates of {RESNET}, Conv3d over ACS",
            source="less computation than 3D convolution (Yang et al., abstract)",
            goal="at least 3",
            value=f"{dense.macs / acs.macs:.2f}",
            holds=dense.macs >= 3 * acs.macs,
        ),
        *_faster(dense, acs, judged),
    ]


def _gains(task: str, method: str, groups: Sequence[Group]) -> list[float]:
    """By seed: early figure, pretrained minus random."""
    by = {group.pretrained: group.early for group in groups if (group.task, group.method) == (task, method)}
    return [learned - random for learned, random in zip(by.get(True, ()), by.get(False, ()), strict=True)]


def _faster(dense: Cost, acs: Cost, judged: bool) -> list[Claim]:
    told = {"step": "time of a training step in PyTorch", "OpenVINO": "latency in OpenVINO f32, ACS not folded"}
    return [
        Claim(
            claim=f"{words} of {RESNET}, Conv3d over ACS",
            source="none",
            goal="over 1",
            value="not timed" if ratio is None else f"{ratio:.2f}",
            holds=ratio is not None and ratio > 1,
            evaluated=judged,
        )
        for what, words in told.items()
        for ratio in (_ratio(dense.median(what), acs.median(what)),)
    ]


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one / other


def notes(groups: Sequence[Group], learned: Sequence[Outcome], alone: Mapping[str, float], judged: bool) -> list[str]:
    """What the figures are; where the runs can be judged, the sources' claims beside what was found."""
    return [
        *(
            f"{task}: {words}; early is the second point of the curve, points are {UNIT[task]}"
            for task, words in FIGURES.items()
            if _in(task, groups)
        ),
        *(f"adrenal without a network, {name}: AUC on test {figure:.3f}" for name, figure in alone.items()),
        *(f"2D pretraining on {_of(one)}" for one in learned),
        *(_gain(task, method, groups) for task in FIGURES for method in METHODS if _gains(task, method, groups)),
        *(tell(task, groups) for tell in (_best, _relative) for task in FIGURES if judged and _in(task, groups)),
    ]


def _in(task: str, groups: Sequence[Group]) -> bool:
    return any(group.task == task for group in groups)


def _gain(task: str, method: str, groups: Sequence[Group]) -> str:
    return f"{task}, {method}: early, 2D pretraining minus random: {shown(_gains(task, method, groups))}"


def _of(one: Outcome) -> str:
    run = one["run"]
    figure = one["test"]["AUC"] if "test" in one else list(one["Dice"].values())[-1]
    return f"{run['task']}, seed {run['seed']}: {'AUC' if 'test' in one else 'Dice'} {figure:.3f} on new pictures"


def _best(task: str, groups: Sequence[Group]) -> str:
    ranked = sorted((group for group in groups if group.task == task), key=lambda group: -fmean(group.end))
    told = ", ".join(f"{group.method} {group.start} {fmean(group.end):.3f}" for group in ranked)
    return f"{task}, best first by the mean at the end (source: pretrained ACS is best, Yang et al.): {told}"


def _relative(task: str, groups: Sequence[Group]) -> str:
    by = {(group.method, group.pretrained): fmean(group.end) for group in groups if group.task == task}
    dense, acs, learned = by["Conv3d", False], by["ACS", False], by["ACS", True]
    return (
        f"{task}, against Conv3d from random weights: ACS random {100 * (acs / dense - 1):+.1f} %, ACS pretrained "
        f"{100 * (learned / dense - 1):+.1f} % (source: about +33 % of validation accuracy, Baheti et al., abstract; "
        "relative, on a small radiogenomic task)"
    )
