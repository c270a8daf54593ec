"""Does MoNet keep what its paper says of it: on par with U-Nets where it was trained, better elsewhere?

    python bench/monet.py [--quick] [--json FILE] [--work FOLDER] [--record]

MoNet, MoNet-R and U-Net-16 on the same slices, recipe and number of steps: hippocampus, lungs of radiographs at 128
pixels, and whole heads of 2 mm (brain extraction); on the hippocampus also the nets of 64 features, elsewhere these
would take days on a CPU. Judged as they come out, on persons that no net learnt from: on images as they are, and out of
sample: under shifted scanners (monet_parts/shifts.py), and on kinds of intensities that were not learnt from. Knolle et
al., PLoS ONE 16(8):e0255397, 2021, table 1, has the pancreas of two hospitals; neither those data nor the tumours of
the journal's version are to be had here.

The full form takes about 80 minutes on two quiet cores, in two processes of one thread each. Every training is a file
in the work folder, so a bench that was stopped goes on. `--record` writes docs/results/monet.md and .json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract import REPOSITORY, RESULTS, Report, claims_told, main, measured_on, paragraph
from monet_parts.findings import claims, grouped, rows
from monet_parts.shifts import GRADES
from monet_parts.training import NETS, WIDE, Outcome, Run, outcomes

SEEDS = (0, 1, 2)
"""Of heads also the fold: every head is judged by the one training that did not learn from it."""
WORKERS = 2

ALL = [1, 2, 3]
FULL: Mapping[str, Mapping[str, Any]] = {
    "hippocampus": {"steps": 400, "batch": 4, "rate": 1e-3, "clean": None, "shifted": 12, "grades": ALL},
    "one regime": {"steps": 400, "batch": 4, "rate": 1e-3, "clean": 60, "shifted": 0, "grades": []},
    "lungs": {"steps": 300, "batch": 4, "rate": 1e-3, "clean": None, "shifted": None, "grades": ALL},
    "heads": {"steps": 300, "batch": 4, "rate": 1e-3, "clean": None, "shifted": 2, "grades": ALL},
}
WIDE_TOO = {"clean": 23, "shifted": 6}
"""On how many persons the nets of 64 features are judged, of the hippocampus alone: each takes half a minute a case."""

QUICK = {"steps": 3, "batch": 2, "clean": 3, "shifted": 1, "grades": [3]}
"""What the quick form has instead: enough to see each part at work, too little for any net to learn."""
QUICK_LEFT_OUT = ("MoNet-R", "Attention U-Net-64")

OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--work", type=Path, default=REPOSITORY / "runs" / "monet", metavar="FOLDER", help="finished runs")


def bench(quick: bool) -> Report:
    """Train and judge what is missing, and set it side by side."""
    own, _ = OPTIONS.parse_known_args()
    planned = plan(quick=quick)
    found = outcomes(planned, own.work, WORKERS, lambda line: print(line, file=sys.stderr, flush=True))
    groups = grouped([found[run.name] for run in planned])
    return Report(
        "MoNet against U-Nets at equal budget",
        rows(groups),
        claims(groups, judged=not quick),
        [
            "intervals: 95 %, seeds and persons drawn anew; HD95 in mm, of lungs in pixels of pictures of 512; a "
            "missed structure is as far away as two places of the image can be",
            f"shifts: {json.dumps(GRADES)}; see monet_parts/shifts.py",
            f"settings: {json.dumps(FULL if not quick else QUICK)}; Adam, soft Dice plus cross-entropy, augmented as "
            "MoNet's code has it (turned, enlarged, shifted, brightened)",
            *_costs(list(found.values())),
            "nets of 64 features: on the hippocampus only; on lungs and heads not measured",
            "each claim is judged at 95 % by itself; of so many, one in twenty would hold or fail by chance",
            "heads: too few for one split, so each is judged by the one training that did not learn from it: seed and "
            "fold are one, and the interval has both",
            "pancreas of two hospitals and brain tumours, of which the paper speaks: not to be had here",
        ],
    )


def plan(*, quick: bool) -> list[Run]:
    """All runs."""
    planned = []
    for task, settings in FULL.items():
        for net in NETS:
            if (net in WIDE and task != "hippocampus") or (quick and net in QUICK_LEFT_OUT):
                continue
            chosen = {**settings, **(WIDE_TOO if net in WIDE else {}), **(QUICK if quick else {})}
            if task == "one regime":
                chosen["grades"] = []
            planned += [Run(task, net, seed, chosen) for seed in (SEEDS[:1] if quick else SEEDS)]
    return planned


def _costs(found: Sequence[Outcome]) -> list[str]:
    """Processor time of learning by task and net, and of everything."""
    spent: dict[str, list[float]] = {}
    for one in found:
        spent.setdefault(f"{one['run']['task']}, {one['run']['net']}", []).append(one["of them learning"])
    whole = sum(one["processor seconds"] for one in found)
    each = "; ".join(f"{name} {sum(times) / len(times):.0f}" for name, times in spent.items())
    return [f"processor seconds of one training: {each}", f"processor time of everything: {whole / 60:.0f} min"]


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    held = sum(claim["holds"] for claim in body["claims"] if claim["evaluated"])
    lines = [
        "# MoNet against U-Nets at equal budget",
        "",
        paragraph(
            measured_on(body),
            "Same slices, recipe and number of steps for every net; judged on persons that no net learnt from, slices "
            "put together to volumes.",
        ),
        "",
        paragraph(
            f"Of {len(body['claims'])} claims {held} hold. The paper speaks of the pancreas, whose data are not to be "
            "had here; where a claim fails, it fails for these tasks, at this budget: that an interval does not lie "
            "above the goal is no proof of the contrary."
        ),
        "",
        *claims_told(body["claims"]),
    ]
    for task in dict.fromkeys(row["task"] for row in body["rows"]):
        own = [row for row in body["rows"] if row["task"] == task]
        nets = list(dict.fromkeys(row["net"] for row in own))
        sizes = {row["net"]: row["parameters"] for row in own}
        lines += ["", f"## {task[0].upper()}{task[1:]}", ""]
        for figure, digits in (("Dice", 3), ("HD95", 2)):
            lines += [
                f"| {figure} | {' | '.join(f'{net} ({sizes[net]:,})' for net in nets)} |",
                f"|---|{'---|' * len(nets)}",
                *(
                    f"| {condition} | {' | '.join(_cell(own, net, condition, figure, digits) for net in nets)} |"
                    for condition in dict.fromkeys(row["condition"] for row in own)
                ),
                "",
            ]
    return "\n".join([*lines, *(f"- {note}" for note in body["notes"])]) + "\n"


def _cell(own: Sequence[Mapping[str, Any]], net: str, condition: str, figure: str, digits: int) -> str:
    for row in own:
        if (row["net"], row["condition"]) == (net, condition):
            mean, low, high = (f"{row[name]:.{digits}f}" for name in (figure, f"{figure} low", f"{figure} high"))
            return f"{mean} ({low} to {high})"
    return "not measured"


if __name__ == "__main__":
    main(bench, "MoNet's claims, tried on the data that are here", [OPTIONS], page, RESULTS / "monet.json")
