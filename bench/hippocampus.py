"""How well the shipped hippocampus model segments persons it never saw.

The committed package, prepared, run and decided as a series from an archive is, on split `val` of the data, which
training and choosing never read: on the images as they are, of 1 mm, and on the same brought to coarser voxels.

    python bench/hippocampus.py [--quick] [--json FILE] [--record]

`--record` writes docs/results/hippocampus.{json,md}, and evaluation.json for the card. The data lie in ../shared/data
beside the checkout, or where RESIDENCY_SHARED_DATA says.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contract import RESULTS, Claim, Report, claims_told, main, measured_on, paragraph
from residency.card import Evaluation
from residency.datasets import Case, Table, read_case, read_cases
from residency.metrics import Interval, dice
from residency.prepare import labels_on
from residency.prepare.resample import Resample
from residency.volume import Volume
from shipped import (
    DATA,
    MODELS,
    Mask,
    Row,
    Rows,
    Shipped,
    distance_mm,
    evaluation,
    over_persons,
    shown,
    write_evaluations,
)

MODEL = MODELS / "hippocampus"
CASES = DATA / "hippocampus"

GOAL = 0.88
SOURCE = "a plain 3D U-Net of 0.6 M parameters after 1,000 steps of two crops: 0.873 anterior, 0.857 posterior"
PARTS = ("anterior", "posterior")
QUICK_CASES = 6

COARSER_MM = (1.5, 2.0)

BOTH = "Dice both"
VOLUME = "volume error both"
FIGURES: Mapping[str, str] = {
    BOTH: "Mean of the Dice coefficients of the anterior and the posterior part",
    **{f"Dice {part}": f"Dice coefficient of the {part} part" for part in PARTS},
    **{
        f"HD95 {part}": f"95th percentile of the surface distance of the {part} part, mm, the larger direction"
        for part in PARTS
    },
    **{f"volume error {part}": f"Predicted minus reference volume of the {part} part, mL" for part in PARTS},
    VOLUME: "Predicted minus reference volume of both parts together, % of the reference",
}
COHORT = "Medical Segmentation Decathlon, Task04 Hippocampus: 41 cases held out by person, never used in training"


def bench(quick: bool) -> Report:
    """Every case of `val`; the quick form a few of them, from which no claim is judged."""
    shipped, regimes = Shipped.opened(MODEL), _regimes()
    cases = [case for case in read_cases(CASES, Table(person="pair")) if case.split == "val"]
    rows = [judge(case, shipped, regimes[case.name]) for case in (cases[:QUICK_CASES] if quick else cases)]
    both = over_persons(rows, BOTH)
    return Report(
        f"Hippocampus on {len(rows)} cases of {both.persons} persons",
        rows,
        [
            Claim(
                claim="mean Dice of both parts on persons never seen",
                source=SOURCE,
                goal=f"at least {GOAL}",
                value=shown(both),
                holds=both.mean >= GOAL,
                evaluated=not quick,
            )
        ],
        [
            *(f"{told.name}: {shown(told.found)}" for told in _told(rows)),
            shipped.told,
            "intervals: 95 %, bootstrap over persons; HD95 in mm on the grid of the series; volume error is predicted "
            "minus reference, in mL, of both parts in % of the reference; coarser voxels: the image smoothed to them, "
            "its reference by the nearest voxel",
        ],
    )


def judge(case: Case, shipped: Shipped, regime: str) -> Row:
    """One case through the same functions as a series of an archive, against its reference on its own grid."""
    volume, reference = read_case(case, classes=len(PARTS) + 1)
    row: Row = {"case": case.name, "person": case.person, "intensities": regime} | _judged(volume, reference, shipped)
    for spacing_mm in COARSER_MM:
        coarse = Resample(spacing_mm=spacing_mm).apply(volume)
        found = _judged(coarse, labels_on(reference, volume.grid, coarse.grid), shipped)
        row |= {f"{figure}, {_voxels(spacing_mm)}": found[figure] for figure in (BOTH, VOLUME)}
    return row


def _judged(volume: Volume, reference: npt.NDArray[np.uint8], shipped: Shipped) -> Row:
    """FIGURES of one image on its own grid."""
    classes, found = shipped.card.outputs[0].classes, shipped.masks(volume)
    row: Row = {}
    sizes = np.zeros(2)
    for label, part in enumerate(PARTS, 1):
        wanted = reference == label
        mask: Mask = found.get(classes[label].name, np.zeros_like(wanted))
        row[f"Dice {part}"] = dice(mask, wanted)
        row[f"HD95 {part}"] = distance_mm(mask, wanted, volume.grid)
        row[f"volume error {part}"] = (int(mask.sum()) - int(wanted.sum())) * volume.grid.voxel_mm3 / 1000
        sizes += mask.sum(), wanted.sum()
    row[BOTH] = fmean(row[f"Dice {part}"] for part in PARTS)
    row[VOLUME] = 100 * float(sizes[0] / sizes[1] - 1)
    return row


def _voxels(spacing_mm: float) -> str:
    return f"voxels of {spacing_mm:g} mm"


def _regimes() -> Mapping[str, str]:
    """Kind of intensities by case: the data come in three that differ by factors of a thousand."""
    with (CASES / "cases.csv").open(newline="", encoding="utf-8") as lines:
        return {row["name"]: row["scale"] for row in csv.DictReader(lines)}


class Told(NamedTuple):
    """One figure of all rows, or of a kind of intensities or voxels."""

    figure: str
    subgroup: str | None
    found: Interval

    @property
    def name(self) -> str:
        return self.figure if self.subgroup is None else f"{self.figure}, {self.subgroup}"


def _told(rows: Rows) -> list[Told]:
    """All figures, the mean Dice of each kind of intensities, and what coarser voxels come to."""
    kinds = sorted({row["intensities"] for row in rows})
    by_kind = {kind: [row for row in rows if row["intensities"] == kind] for kind in kinds}
    return [
        *(Told(figure, None, over_persons(rows, figure)) for figure in FIGURES),
        *(Told(BOTH, f"intensities {kind}", over_persons(own, BOTH)) for kind, own in by_kind.items()),
        *(
            Told(figure, _voxels(spacing_mm), over_persons(rows, f"{figure}, {_voxels(spacing_mm)}"))
            for figure in (BOTH, VOLUME)
            for spacing_mm in COARSER_MM
        ),
    ]


def evaluations(rows: Rows) -> list[Evaluation]:
    """What is told, for the card."""
    return [evaluation(told.figure, FIGURES[told.figure], COHORT, told.found, told.subgroup) for told in _told(rows)]


def page(body: Mapping[str, Any]) -> str:
    """The page for readers, from what stands in the JSON."""
    rows = body["rows"]
    worst = min(rows, key=lambda row: float(row[BOTH]))
    lines = [
        "# Hippocampus: the shipped model on persons it never saw",
        "",
        paragraph(
            measured_on(body),
            f"The package in `models/hippocampus` on {len(rows)} cases, held out by person from the Medical "
            "Segmentation Decathlon's Task04; training and choosing never read them. Each image goes through the "
            "recipe, the windows, the network on OpenVINO (f32) and the card's decision rule, and is compared on its "
            "own grid. Training was lengthened twice because this figure was below its goal: [how often it was "
            "measured](../decisions/0014-how-val-was-used.md). Research use only.",
        ),
        "",
        *claims_told(body["claims"]),
        "",
        "| figure | mean | 95 % interval, bootstrap over persons |",
        "|---|---|---|",
        *(
            f"| {told.name} | {told.found.mean:.4f} | {told.found.low:.4f} to {told.found.high:.4f} |"
            for told in _told(rows)
        ),
        "",
        paragraph(
            "HD95 in mm, volume error (predicted minus reference) in mL, that of both parts in % of the reference. For "
            "coarser voxels the image is smoothed to them, and its reference brought by the nearest voxel. The worst "
            f"case is {worst['case']} with a Dice of {float(worst[BOTH]):.3f}."
        ),
        "",
        f"| case | {' | '.join(FIGURES)} |",
        f"|---|{'---|' * len(FIGURES)}",
        *(f"| {row['case']} | {' | '.join(f'{float(row[name]):.3f}' for name in FIGURES)} |" for row in rows),
        "",
        *(f"- {note}" for note in body["notes"] if "graph sha256" in note or note.startswith("intervals")),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(
        bench,
        "Dice of the shipped hippocampus model on persons it never saw",
        page=page,
        recorded=RESULTS / "hippocampus.json",
        for_card=lambda report: write_evaluations(MODEL, evaluations(report.rows)),
    )
