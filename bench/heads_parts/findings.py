"""What the rows of bench/heads.py come to: groups of heads, claims, and the figures of the card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from contract import Claim
from heads_parts.judged import ACCEPTED, FIGURES, HD95, HIPPOCAMPUS, INTRACRANIAL
from heads_parts.shown import STRIPPED, UNCHANGED
from residency.card import Evaluation
from shipped import Rows, evaluation, over_persons, shown

VAL, KEPT, IXI = "T1, split val", "T1, people with a FLAIR", "T1, another source"
FLAIR, CHANGED, MASKS = "FLAIR", "T1, split val, changed", "T1, reference is a brain mask"
BARE = f"T1, {STRIPPED}"

COHORTS = {
    VAL: "NiChart demonstration data set, split val: T1, 2 mm, never used in training",
    KEPT: "NiChart demonstration data set: T1, 2 mm, of people kept out of training",
    IXI: "IXI (Hammersmith Hospital): one T1, 2 mm; no head of this source was used in training",
    FLAIR: "NiChart demonstration data set: FLAIR, 2 mm, of people kept out of training; reference of their T1 brought "
    "over by a rigid registration",
    CHANGED: "NiChart demonstration data set, split val: T1 changed by code",
    BARE: "NiChart demonstration data set, split val: T1 with nothing left outside the reference",
    MASKS: "Open MS data (Ljubljana): T1, 0.9 x 0.9 x 3 mm; the reference is a brain mask, which leaves out fluid that "
    "the model takes in",
}
EVERY, UNSEEN = "T1, all heads never seen", (VAL, KEPT, IXI)
"""T1 heads as they are, of people that training never saw, with references of one kind."""
COHORTS[EVERY] = (
    "The T1 heads of 2 mm that training never saw: seven of NiChart, three of them split val, and one of IXI"
)

LEAST_DICE, AIM, MOST_HD95_MM = 0.965, 0.975, 4.0
SOURCE = "deepbet on T1 of 1 mm: median Dice 0.990, worst 0.969 (arXiv 2308.07003), other data"
_OF_CARD = (INTRACRANIAL, HD95, HIPPOCAMPUS)


def kinds(rows: Rows) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """(group, change) -> its rows, in their order."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["group"], row["change"]), []).append(row)
    return found


def unseen(rows: Rows) -> list[Mapping[str, Any]]:
    """T1 heads as they are, of people that training never saw."""
    return [row for row in rows if row["group"] in UNSEEN]


def told(row: Mapping[str, Any], figure: str) -> bool:
    """The row has the figure."""
    return not math.isnan(float(row[figure]))


def claims(rows: Rows, *, judged: bool) -> list[Claim]:
    """Of outlines, the worst of them, the cascade, and what must be refused."""
    val = [row for row in rows if row["group"] == VAL]
    found = [
        *_outlined("T1 heads of val", val, judged=judged),
        *_outlined("all T1 heads that training never saw", unseen(rows), judged=judged),
        *_outlined("a head of another source (IXI)", [row for row in rows if row["group"] == IXI], judged=judged),
    ]
    heads = unseen(rows)
    both = sum(bool(row["both sides found"]) for row in heads)
    found.append(
        Claim(
            "the cascade measures a left and a right hippocampus in every T1 head that training never saw",
            "none",
            f"{len(heads)} of {len(heads)}",
            f"{both} of {len(heads)}",
            both == len(heads),
            judged,
        )
    )
    bare = [row for row in rows if row["group"] == BARE]
    let_in = sum(bool(row[ACCEPTED]) for row in bare)
    whole = [row for row in rows if row["group"] in (*UNSEEN, FLAIR)]
    refused = sum(not row[ACCEPTED] for row in whole)
    found.append(
        Claim(
            "heads without their skull are refused, T1 and FLAIR with it are not",
            "none",
            f"0 of {len(bare)} let in, 0 of {len(whole)} refused",
            f"{let_in} of {len(bare)} let in, {refused} of {len(whole)} refused",
            let_in == refused == 0,
            judged,
        )
    )
    return found


def _outlined(whose: str, rows: Rows, *, judged: bool) -> list[Claim]:
    mean, far = over_persons(rows, INTRACRANIAL), over_persons(rows, HD95)
    worst, farthest = min(row[INTRACRANIAL] for row in rows), max(row[HD95] for row in rows)
    aim = "reached" if mean.mean >= AIM else "not reached"
    return [
        Claim(
            f"mean Dice of the intracranial mask, {whose}",
            SOURCE,
            f"at least {LEAST_DICE}, aim {AIM}",
            f"{shown(mean)}, worst {worst:.4f}; aim {aim}",
            mean.mean >= LEAST_DICE,
            judged,
        ),
        Claim(
            f"HD95 of the intracranial mask, mean and worst, {whose}",
            "none",
            f"at most {MOST_HD95_MM:g} mm, the worst too",
            f"{shown(far, 2)} mm, worst {farthest:.2f} mm",
            farthest <= MOST_HD95_MM,
            judged,
        ),
    ]


def evaluations(rows: Rows) -> list[Evaluation]:
    """Three figures of all heads never seen, of each group, and of each change."""
    groups: list[tuple[str, str, Rows]] = [(EVERY, UNCHANGED, unseen(rows))]
    groups += [(group, change, own) for (group, change), own in kinds(rows).items()]
    return [
        evaluation(
            figure,
            FIGURES[figure],
            COHORTS[group],
            over_persons(own, figure),
            None if change == UNCHANGED else change,
        )
        for group, change, own in groups
        for figure in _OF_CARD
        if any(told(row, figure) for row in own)
    ]
