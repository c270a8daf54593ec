"""What a run found: decided outputs as findings, of a whole series or of crops of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.card import Card
from residency.codes import Code, canonical
from residency.decide import class_scores, score_maps, segments, uncoded
from residency.errors import CropError
from residency.findings import ClassScore, Findings, Mask, Measurement, ScoreMap, Segment, Structure
from residency.labels import Evidence, SeriesLabels, Side
from residency.measure import (
    ASYMMETRY,
    CUBIC_MILLIMETRE,
    INTRACRANIAL_SHARE,
    PERCENT,
    RATIO,
    asymmetry,
    measure,
    volume_measurements,
    volume_mm3,
)
from residency.pipeline.crops import Crop, cut, cut_off, in_words, locate, owned
from residency.pipeline.result import Run
from residency.selection import Status, Verdict
from residency.selection.cascade import located
from residency.selection.gates import NOTHING
from residency.selection.header_gates import header_verdicts
from residency.volume import Grid, Volume

Decided = Mapping[str, npt.NDArray[Any]]
"""Decided outputs by name, on the grid of what the model was shown."""

INTRACRANIAL = frozenset(
    {
        Code(scheme="SCT", value="1101003", meaning="Intracranial"),
        Code(scheme="SCT", value="128319008", meaning="Intracranial structure"),
    }
)
"""Types of a class whose volume is the intracranial volume."""

_ASKED_OF_CROPS = ("region", "side", "field of view", "rows", "columns", "slices")
"""Gates, by how their names begin, whose answers a crop has of its own."""


@dataclass(frozen=True, eq=False)
class _Part:
    """What decided outputs of one image, or one crop, come to."""

    segments: tuple[Segment, ...]
    classes: tuple[ClassScore, ...]
    maps: tuple[ScoreMap, ...]


def findings_of(run: Run, decided: Decided, volumes: Mapping[str, Volume]) -> Findings:
    """Decided outputs -> segments with measurements, class probabilities and maps, with the reasons of the choice."""
    card, choice = run.card, run.choice
    grid = volumes[card.inputs[0].name].grid
    part = _part(card, decided, grid, side.value if (side := choice.labels.side) else None)
    measured = measure(part.segments, grid)
    odd = _implausible(card, part.segments, measured.measurements)
    notes = [f"{name}: {note}" for name, volume in volumes.items() for note in volume.notes]
    return Findings(
        grid=grid,
        model=run.reference,
        segments=part.segments,
        measurements=measured.measurements,
        classes=part.classes,
        maps=part.maps,
        reasons=run.reasons,
        warnings=(*notes, *_not_found(card, part), *_unnamed(card), *odd, *measured.warnings),
    )


@dataclass(frozen=True, eq=False)
class Crops:
    """The crops that a model with a step before is shown, and what was said of those and others.

    reasons   the gates that each passed
    warnings  how they were found, and which could not be given to the model
    """

    crops: tuple[Crop, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def crops_of(run: Run, first: Findings, volume: Volume) -> Crops:
    """The crops of a volume in which a run is to look, each asked the gates that a crop answers for itself.

    first  what the step before found in the volume

    Raises CropError where there is no crop that the model can be given, with the reasons.
    """
    before, step = run.card.step_before, run.before
    if before is None or step is None:
        raise ValueError("a run without a step before is shown the whole series")
    structure, reference = _masks_of(first, step.card, run.card)
    found = locate(structure, reference, volume.grid, paired=before.paired, margin_mm=before.margin_mm)
    crops: list[Crop] = []
    reasons: list[str] = []
    refused: list[str] = []
    warnings = list(found.notes)
    for box in found.boxes:
        crop = cut(volume, box, before.margin_mm)
        labels = _labels_of(crop, run.choice.labels, f"crop round what {step.card.identity.name} finds", run.card)
        verdicts = header_verdicts(labels, run.card.inputs[0])
        failing = [verdict for verdict in verdicts if verdict.status is not Status.PASS]
        if failing:
            refused.append(f"crop, {box.name}: {'; '.join(map(str, failing))}")
            continue
        crops.append(crop)
        reasons += [f"crop, {box.name}: {verdict}" for verdict in _own_answers(verdicts)]
        if cut_off(box, volume.grid):
            warnings.append(f"{box.name}: the structure reaches the border of the images and may be cut off")
    if not crops:
        raise CropError("no crop fits the model: " + "; ".join((*refused, *found.notes)))
    return Crops(tuple(crops), tuple(reasons), (*warnings, *(f"not looked at: {one}" for one in refused)))


def findings_of_crops(run: Run, first: Findings, crops: Crops, decided: Sequence[Decided], volume: Volume) -> Findings:
    """What a model found in crops, put back on the grid of their source, and what the structures measure as a whole.

    decided  of each crop, on its own grid
    """
    card, grid = run.card, volume.grid
    segments_found: list[Segment] = []
    measurements: list[Measurement] = []
    classes: list[ClassScore] = []
    structures: list[Structure] = []
    warnings = list(crops.warnings)
    number = 1 + max((segment.number for segment in first.segments), default=0)
    for crop, outputs in zip(crops.crops, decided, strict=True):
        own = owned(crop, [other for other in crops.crops if other is not crop], grid)
        kept = {output.name: outputs[output.name] for output in card.outputs}
        kept |= {o.name: _only(outputs[o.name], own) for o in card.outputs if o.kind == "segmentation"}
        part = _part(card, kept, crop.volume.grid, crop.box.side, number + len(segments_found))
        measured = measure(part.segments, crop.volume.grid)
        odd = _implausible(card, part.segments, measured.measurements)
        warnings += [f"{crop.box.name}: {text}" for text in (*_not_found(card, part), *odd, *measured.warnings)]
        back = [_put_back(segment, crop, grid) for segment in part.segments]
        segments_found += back
        measurements += measured.measurements
        classes += part.classes
        structures += _whole(run, crop, back, grid)
    structures = [*_compared(structures), *structures]
    cavity = _intracranial(first, run)
    return Findings(
        grid=grid,
        model=run.reference,
        segments=tuple(segments_found),
        measurements=tuple(measurements),
        classes=tuple(classes),
        reasons=(*run.reasons, *crops.reasons),
        warnings=(
            *warnings,
            *_unnamed(card),
            *(f"step before: {text}" for text in (*first.warnings, *_unstored(first))),
        ),
        structures=tuple(_with_share(one, cavity) for one in structures),
        before=replace(first, maps=(), structures=(cavity,) if cavity is not None else ()),
    )


def _part(card: Card, decided: Decided, grid: Grid, side: Side | None, first_number: int = 1) -> _Part:
    found: list[Segment] = []
    scores: list[ClassScore] = []
    maps: list[ScoreMap] = []
    for output in card.outputs:
        values = decided[output.name]
        if output.kind == "segmentation":
            found += segments(values, output, grid, side=side, first_number=first_number + len(found))
        elif output.kind == "classification":
            scores += class_scores(values, output, side=side)
        else:
            maps += score_maps(values, output, grid, side=side, first_number=len(maps) + 1)
    return _Part(tuple(found), tuple(scores), tuple(maps))


def _masks_of(first: Findings, first_card: Card, card: Card) -> tuple[Mask, Mask]:
    """Where the step before found the structure, and where what tells the sides: what is intracranial, else the rest.

    What is intracranial is so with the structure in it, whichever of the two classes a voxel was given.
    """
    names = {kind.name for kind in located(first_card, card)}
    structure = _union((s.mask for s in first.segments if s.label in names), first.grid)
    cavity = [s.mask for s in first.segments if _is_intracranial(s)]
    rest = [s.mask for s in first.segments if s.label not in names]
    return structure, _union(cavity or rest, first.grid)


def _labels_of(crop: Crop, labels: SeriesLabels, source: str, card: Card) -> SeriesLabels:
    """What is known of a crop: as of its series, but for its size, its region and its side."""
    slices, rows, columns = crop.volume.grid.shape
    side = Evidence(crop.box.side, f"{source}: {in_words(crop.box.side)}") if crop.box.side else labels.side
    regions = Evidence(card.inputs[0].regions, source)
    return replace(labels, slices=slices, rows=rows, columns=columns, regions=regions, side=side)


def _own_answers(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    return (v for v in verdicts if v.gate.startswith(_ASKED_OF_CROPS) and v.rule != NOTHING)


def _only(decided: npt.NDArray[Any], own: Mask) -> npt.NDArray[Any]:
    """Decided labels or masks of a crop, nothing in voxels that belong to another crop."""
    return np.where(own, decided, np.zeros((), decided.dtype))


def _put_back(segment: Segment, crop: Crop, grid: Grid) -> Segment:
    """A segment of a crop on the grid of the source; where its side is proven its label says it too."""
    mask = np.zeros(grid.shape, dtype=np.bool_)
    mask[crop.box.slices] = segment.mask
    return replace(segment, mask=mask, label=_sided(segment.label, crop.box.side))


def _sided(label: str, side: Side | None) -> str:
    return f"{label}, {in_words(side)}" if side is not None else label


def _not_found(card: Card, part: _Part) -> list[str]:
    return sorted(f"nothing found of class '{name}'" for name in _classes(card) - {s.label for s in part.segments})


def _whole(run: Run, crop: Crop, found: Sequence[Segment], grid: Grid) -> Iterator[Structure]:
    """The structure that the crop shows, made of all its segments; nothing where none was found."""
    for region in run.card.inputs[0].regions:
        parts = [segment for segment in found if canonical(segment.type) == canonical(region)]
        if parts:
            volume = volume_mm3(_union((segment.mask for segment in parts), grid), grid)
            yield Structure(
                label=_sided(region.meaning, crop.box.side),
                category=parts[0].category,
                type=parts[0].type,
                measurements=volume_measurements(volume),
                region=parts[0].region,
                side=crop.box.side,
            )


def _compared(wholes: Sequence[Structure]) -> Iterator[Structure]:
    """The asymmetry of each structure that has a left and a right one."""
    for left in (one for one in wholes if one.side is Side.LEFT):
        for right in (one for one in wholes if one.side is Side.RIGHT and one.type == left.type):
            value = asymmetry(_mm3(left), _mm3(right))
            yield replace(
                left,
                label=f"{left.type.meaning}, left and right",
                measurements=(*volume_measurements(_mm3(left) + _mm3(right)), Measurement(ASYMMETRY, value, RATIO)),
                side=None,
                both_sides=True,
            )


def _intracranial(first: Findings, run: Run) -> Structure | None:
    """The intracranial volume, where the step before outlines it; the structure of the crops is a part of it."""
    outlined = [segment for segment in first.segments if _is_intracranial(segment)]
    if not outlined or run.before is None:
        return None
    names = {kind.name for kind in located(run.before.card, run.card)}
    parts = (s.mask for s in first.segments if _is_intracranial(s) or s.label in names)
    volume = volume_mm3(_union(parts, first.grid), first.grid)
    return Structure(
        label="Intracranial volume",
        category=outlined[0].category,
        type=outlined[0].type,
        measurements=volume_measurements(volume),
        region=outlined[0].region,
    )


def _with_share(structure: Structure, cavity: Structure | None) -> Structure:
    if cavity is None or not _mm3(cavity) > 0:
        return structure
    share = Measurement(INTRACRANIAL_SHARE, 100.0 * _mm3(structure) / _mm3(cavity), PERCENT)
    return replace(structure, measurements=(*structure.measurements, share))


def _mm3(structure: Structure) -> float:
    return next(m.value for m in structure.measurements if m.unit == CUBIC_MILLIMETRE)


def _is_intracranial(segment: Segment) -> bool:
    return canonical(segment.type) in INTRACRANIAL


def _union(masks: Iterable[Mask], grid: Grid) -> Mask:
    whole = np.zeros(grid.shape, dtype=np.bool_)
    for mask in masks:
        whole |= mask
    return whole


def _unstored(first: Findings) -> list[str]:
    return [f"the map '{found.label}' is not stored" for found in first.maps]


def _unnamed(card: Card) -> list[str]:
    """Classes that no report can name."""
    names = [name for output in card.outputs for name in uncoded(output)]
    return [f"class '{name}' is not reported: the card gives it no code" for name in names]


def _implausible(card: Card, found: Iterable[Segment], measurements: Iterable[Measurement]) -> list[str]:
    """Volumes outside what the card calls plausible for their class."""
    volumes = {m.segment: m.value for m in measurements if m.unit == CUBIC_MILLIMETRE}
    return [
        f"the volume of '{segment.label}', {volumes[segment.number]:.0f} mm3, is not plausible: "
        f"the card expects {limits}"
        for segment in found
        if (limits := card.monitoring.plausible_mm3.get(segment.label))
        and segment.number in volumes
        and not limits.holds(volumes[segment.number])
    ]


def _classes(card: Card) -> set[str]:
    """Names of the classes that a segmentation can find."""
    kinds = [kind for output in card.outputs if output.kind == "segmentation" for kind in output.classes]
    return {kind.name for kind in kinds if kind.type is not None}
