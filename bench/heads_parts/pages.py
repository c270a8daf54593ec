"""The page of bench/heads.py, from what stands in its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contract import claims_told, measured_on, paragraph
from heads_parts import cascaded, judged
from heads_parts.findings import BARE, COHORTS, EVERY, FLAIR, MASKS, kinds, told, unseen
from heads_parts.judged import ACCEPTED, HD95, INTRACRANIAL
from heads_parts.shown import UNCHANGED
from shipped import Rows, over_persons, shown

_DIGITS = {HD95: 2, "volume error intracranial": 1, ACCEPTED: 2, "both sides found": 2}
_LARGER_IS_WORSE = {HD95}
_WORST = (INTRACRANIAL, HD95)
_CASCADE = ("both sides found", "Dice left", "Dice right", "volume error left", "volume error right")
_BY_HEAD = ("mL left", "reference mL left", "mL right", "reference mL right", "Dice left", "Dice right")


def page(body: Mapping[str, Any]) -> str:
    """Markdown."""
    rows = body["rows"]
    own = [row for row in rows if row["group"] not in (MASKS, BARE)]
    apart = [row for row in rows if row["group"] == MASKS]
    groups = [(EVERY, UNCHANGED, unseen(rows)), *((*kind, found) for kind, found in kinds(own).items())]
    lines = [
        "# Heads: the shipped models on heads they never saw",
        "",
        paragraph(
            measured_on(body),
            "Each image goes through the recipe, the windows, the network on OpenVINO (f32) and the rule of the card, "
            "and is compared on its own grid. The references of T1 and FLAIR are labels of another network (DLMUSE): "
            "agreement with it is measured, not truth. Tumours: not tested. Research use only.",
        ),
        "",
        *claims_told(body["claims"]),
        "",
        "## Brain extraction",
        "",
        paragraph(
            "Means with 95 % intervals by bootstrap over persons, and the worst image. HD95 in mm, volume error in per "
            "cent. What the columns mean stands below.",
        ),
        "",
        *_table(groups, judged.FIGURES, _WORST),
        "",
        "## The hippocampi, by the cascade",
        "",
        paragraph(
            "The head model finds both hippocampi, the hippocampus model outlines each in its crop. Its outlines "
            "follow another protocol than the reference (Medical Segmentation Decathlon, MUSE), so Dice stays below 1 "
            "and volumes differ for that reason too. Thick slices are refused by its card, and count as not found. It "
            "takes T1 alone: an inverted contrast would have to be told by the header, which says nothing here.",
        ),
        "",
        *_table(
            [(group, change, found) for group, change, found in groups if group != FLAIR],
            cascaded.FIGURES,
            (),
            _CASCADE,
        ),
        "",
        f"| head | {' | '.join(_BY_HEAD)} | what stood in the way |",
        f"|---|{'---|' * (len(_BY_HEAD) + 1)}",
        *(
            f"| {row['case']} | {' | '.join(_number(row, name, 2) for name in _BY_HEAD)} | {row['cascade'] or '-'} |"
            for row in unseen(rows)
        ),
        "",
        "## Heads whose reference is a brain mask",
        "",
        paragraph(COHORTS[MASKS] + "; its figures are no measure of the model beside those above."),
        "",
        *_table(
            [(*kind, found) for kind, found in kinds(apart).items()],
            judged.FIGURES,
            _WORST,
            (*_WORST, "volume error intracranial", ACCEPTED),
        ),
        "",
        "## Worst ten of the images with a reference of the same kind",
        "",
        "| case | heads | change | Dice intracranial | HD95 intracranial |",
        "|---|---|---|---|---|",
        *(
            f"| {row['case']} | {row['group']} | {row['change']} | {row[INTRACRANIAL]:.4f} | {row[HD95]:.2f} |"
            for row in sorted(own, key=lambda row: float(row[INTRACRANIAL]))[:10]
        ),
        "",
        "## What the columns mean",
        "",
        *(f"- {name}: {meant}" for name, meant in {**judged.FIGURES, **cascaded.FIGURES}.items()),
        "",
        "## Where a group comes from",
        "",
        *(f"- {group}: {meant}" for group, meant in COHORTS.items()),
        "",
        "## Each image",
        "",
        f"| case | heads | change | {' | '.join(judged.FIGURES)} | refused because |",
        f"|---|---|---|{'---|' * (len(judged.FIGURES) + 1)}",
        *(
            f"| {row['case']} | {row['group']} | {row['change']} | "
            f"{' | '.join(_number(row, name) for name in judged.FIGURES)} | {row['refused because'] or 'accepted'} |"
            for row in rows
        ),
        "",
        *(f"- {note}" for note in body["notes"]),
    ]
    return "\n".join(lines) + "\n"


def _table(
    groups: Sequence[tuple[str, str, Rows]],
    figures: Mapping[str, str],
    worst: Sequence[str],
    chosen: Sequence[str] = (),
) -> list[str]:
    """A line for each group and change: people, means with intervals, and the worst of some figures."""
    names = tuple(chosen or figures)
    heads = [*names, *(f"worst {name}" for name in worst)]
    lines = [f"| heads | change | people | {' | '.join(heads)} |", f"|---|---|---|{'---|' * len(heads)}"]
    for group, change, rows in groups:
        people = len({row["person"] for row in rows})
        cells = [*(_mean(rows, name) for name in names), *(_worst(rows, name) for name in worst)]
        lines.append(f"| {group} | {change} | {people} | {' | '.join(cells)} |")
    return lines


def _mean(rows: Rows, figure: str) -> str:
    if not any(told(row, figure) for row in rows):
        return "not told"
    return shown(over_persons(rows, figure), _digits(figure))


def _worst(rows: Rows, figure: str) -> str:
    found = [float(row[figure]) for row in rows if told(row, figure)]
    pick = max if figure in _LARGER_IS_WORSE else min
    return f"{pick(found):.{_digits(figure)}f}" if found else "not told"


def _number(row: Mapping[str, Any], figure: str, digits: int | None = None) -> str:
    return f"{float(row[figure]):.{digits or _digits(figure)}f}" if told(row, figure) else "not told"


def _digits(figure: str) -> int:
    return 1 if figure.startswith("volume error") else _DIGITS.get(figure, 4)
