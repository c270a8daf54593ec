"""Selection at scale: a study against 10, 100 and 1,000 models, decision and first failing gate of every pair.

    python bench/selection_scale.py [--quick] [--json FILE]

Every model has ranges of its own, so that nothing can be answered from another model's result. "compile" is done once
an archive; "first" is the first study after it, "warm" the median of later ones with other series. The 1,000 models
come first, so that their "first" also reads the code tables.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contract import Claim, Report, main
from residency.card import Card
from residency.codes import Code, region_of_body_part
from residency.labels import Evidence, SeriesLabels, Weighting
from residency.selection import Candidate, CandidateTable, Policy, RuleSet, select, shipped_rules
from residency.standing import Approval, Standing
from residency.testing.cards import example_card

GOAL_MS = 100.0
TERMS = ("BRAIN", "HEAD", "CHEST", "ABDOMEN", "PELVIS", "LIVER", "PANCREAS", "HEART", "CHESTABDPELVIS", "SPINE", "NECK")
CLASSES = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2"}


def many_candidates(count: int, seed: int = 0) -> list[Candidate]:
    """Models of different regions, modalities, diseases and standings, each with number ranges of its own."""
    random = np.random.default_rng(seed)
    return [Candidate(_card(i, random), _standing(i)) for i in range(count)]


def _card(i: int, random: np.random.Generator) -> Card:
    least = random.uniform(0.2, 2.0, 3).round(3)
    return example_card(
        {
            "identity.family": f"family-{i // 2}",
            "identity.sequence": i % 2 + 1,
            "inputs.0.modalities": ["MR" if i % 2 else "CT"],
            "inputs.0.regions": [_region(TERMS[i % len(TERMS)]).model_dump()],
            "inputs.0.larger_region": i % 3 > 0,
            "inputs.0.derived": "refused" if i % 5 else "accepted",
            "inputs.0.weightings": ["T1"] if i % 4 == 1 else [],
            "inputs.0.spacing_mm": {
                axis: {"least": float(low), "most": float(low) + 1.0 + i / 1000}
                for axis, low in zip(("LR", "PA", "SI"), least, strict=True)
            },
            "inputs.0.field_of_view_mm": {"SI": {"least": 50 + i / 10, "most": 400 + i / 7}},
            "inputs.0.rows": {"least": 32 + i % 97, "most": 1024 + i % 89},
            "inputs.0.slices": {"least": 8 + i % 31},
        }
    )


def _standing(i: int) -> Standing:
    approval = Approval.APPROVED if i % 2 else Approval.NONE
    return Standing(digest=f"sha256:{i:064x}", publisher="Example", admitted=True, approval=approval)


def many_series(count: int, seed: int = 1) -> list[SeriesLabels]:
    """A study of different series, no two with the same geometry."""
    random = np.random.default_rng(seed)
    return [_series(i, random, seed) for i in range(count)]


def _series(i: int, random: np.random.Generator, seed: int) -> SeriesLabels:
    modality = "MR" if i % 2 else "CT"
    spacing = [float(v) for v in random.uniform(0.3, 2.5, 3)]
    return SeriesLabels(
        study_uid=f"1.2.{seed}",
        series_uid=f"1.2.{seed}.{i}",
        sop_classes=(CLASSES[modality],),
        modality=modality,
        frame_of_reference=f"1.2.{seed}.0",
        rows=int(random.integers(64, 512)),
        columns=int(random.integers(64, 512)),
        slices=int(random.integers(10, 300)),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        orientation=("SPL", "PSL", "RSP")[i % 3],
        image_type=("ORIGINAL", "PRIMARY", "AXIAL") if i % 3 else ("DERIVED", "SECONDARY"),
        photometric="MONOCHROME2",
        regions=Evidence((_region(TERMS[i % len(TERMS)]),), "Body Part Examined") if i % 7 else None,
        weighting=Evidence(Weighting.T1, "Acquisition Contrast = T1") if i % 2 else None,
        attributes={"Modality": modality, "SeriesDescription": f"series {i}"},
    )


def _region(term: str) -> Code:
    found = region_of_body_part(term)
    assert found is not None
    return found


def measure(cards: int, series: int, repeats: int) -> dict[str, Any]:
    """Milliseconds for compiling, for the first study, and for later ones (median)."""
    candidates = many_candidates(cards)
    started = time.perf_counter()
    table = CandidateTable.of(candidates)
    compiled = time.perf_counter() - started
    first = _decide(table, many_series(series))
    later = [_decide(table, many_series(series, seed)) for seed in range(2, 2 + repeats)]
    return {
        "models": cards,
        "series": series,
        "pairs": cards * series,
        "compile ms": 1000 * compiled,
        "first ms": first,
        "warm ms": statistics.median(later),
    }


def _decide(table: CandidateTable, series: Sequence[SeriesLabels]) -> float:
    started = time.perf_counter()
    selection = select(
        series, table, rules=RuleSet(shipped_rules()), policy=Policy(), content=lambda _uid, _condition: None
    )
    pairs = sum(len(gates) for _uid, gates in selection.first_failing_of_all())
    took = 1000 * (time.perf_counter() - started)
    assert len(selection.outcomes) == len(series)
    assert pairs == len(table) * len(series)
    return took


def bench(quick: bool) -> Report:
    """10, 100 and 1,000 models against 50 series; the quick form repeats less."""
    rows = [measure(cards, 50, 3 if quick else 9) for cards in (1000, 100, 10)]
    most = rows[0]
    worst = max(most["first ms"], most["warm ms"])
    claim = Claim(
        claim="1,000 models x 50 series are decided, with the first failing gate of every pair",
        source="specification",
        goal=f"under {GOAL_MS:.0f} ms, first study and later ones",
        value=f"first {most['first ms']:.0f} ms, later {most['warm ms']:.0f} ms",
        holds=worst < GOAL_MS,
    )
    return Report("Selection at scale", rows, [claim])


if __name__ == "__main__":
    main(bench, str(Path(__file__).name))
