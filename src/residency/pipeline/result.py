"""What a result says and is called: findings with the model and the choice, UIDs, and the objects that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from residency.archive import Archive, Instance, Level, Query
from residency.card import Card
from residency.decide import class_scores, in_words, segments
from residency.dicom.model_object import RAW_DATA
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries
from residency.dicom.uids import ResultIdentity
from residency.findings import ClassScore, Findings, Measurement, ModelReference, Segment
from residency.measure import CUBIC_MILLIMETRE, measure
from residency.models import KnownModel
from residency.package import digest_of
from residency.selection import Outcome as Choice
from residency.volume import Volume


@dataclass(frozen=True)
class Run:
    """One chosen model on its series, with the engine that computes it.

    engine, precision  as results name them: build and number of threads, and what is computed in
    """

    choice: Choice
    model: KnownModel
    card: Card
    engine: str
    precision: str


def identity_of(run: Run, sources: Iterable[SourceSeries]) -> ResultIdentity:
    """What determines the result of a run, and so its UIDs."""
    return ResultIdentity(
        source_uids=tuple(uid for source in sources for uid in source.sop_uids),
        model_digest=run.model.digest,
        precision=run.precision,
        engine_build=run.engine,
        approval=_approval(run.choice),
        choice=digest_of("\n".join(_reasons(run.choice)).encode()),
    )


def present(identity: ResultIdentity, source: SourceSeries, results: Archive) -> dict[str, str]:
    """The results by role, where all of them are in the archive: the report is stored last, so it stands for all."""
    uids = {role: identity.uid(role) for role in ("seg", "sr")}
    there = {
        role: uid
        for role, uid in uids.items()
        if any(True for _ in results.find(Level.INSTANCE, Query(study_uid=source.labels.study_uid, sop_uid=uid)))
    }
    return there if "sr" in there else {}


def findings_of(run: Run, decided: Mapping[str, npt.NDArray[Any]], volumes: Mapping[str, Volume]) -> Findings:
    """Decided outputs -> segments with measurements, class probabilities and maps, with the reasons of the choice."""
    card, choice = run.card, run.choice
    grid = volumes[card.inputs[0].name].grid
    side = choice.labels.side.value if choice.labels.side else None
    found: list[Segment] = []
    scores: list[ClassScore] = []
    for output in card.outputs:
        if output.kind == "segmentation":
            found += segments(decided[output.name], output, grid, side=side, first_number=len(found) + 1)
        elif output.kind == "classification":
            scores += class_scores(decided[output.name], output)
    measured = measure(found, grid)
    missing = [f"nothing found of class '{name}'" for name in _classes(card) - {s.label for s in found}]
    odd = _implausible(card, found, measured.measurements)
    notes = [f"{name}: {note}" for name, volume in volumes.items() for note in volume.notes]
    return Findings(
        grid=grid,
        model=_reference(run),
        segments=tuple(found),
        measurements=measured.measurements,
        classes=tuple(scores),
        reasons=_reasons(choice),
        warnings=(*notes, *sorted(missing), *odd, *measured.warnings),
    )


def objects_of(findings: Findings, source: SourceSeries, identity: ResultIdentity) -> dict[str, Instance]:
    """The result's objects by role, in the order of storing: the report refers to the segmentation and comes last."""
    objects: dict[str, Instance] = {}
    picture = segmentation(findings, source, identity) if findings.segments else None
    if picture is not None:
        objects["seg"] = Instance(picture.uid, picture.data)
    document = report(findings, source, identity, picture)
    objects["sr"] = Instance(document.uid, document.data)
    return objects


def _reference(run: Run) -> ModelReference:
    model, card = run.model, run.card
    return ModelReference(
        family=card.identity.family,
        name=card.identity.name,
        version=card.identity.version,
        digest=model.digest,
        publisher=card.identity.publisher.name,
        manifest_uid=model.manifest_uid,
        manifest_sop_class=RAW_DATA,
        study_uid=model.study_uid,
        series_uid=model.series_uid,
        engine=run.engine,
        precision=run.precision,
        notice=card.regulatory.notice,
        approval=_approval(run.choice),
        threshold="; ".join(f"{output.name}: {in_words(output.decision)}" for output in card.outputs),
    )


def _reasons(choice: Choice) -> tuple[str, ...]:
    """Why this model, as the result says it: the rules that matched, and every gate."""
    return (*choice.rules, *(str(gate) for gate in choice.gates))


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


def _approval(choice: Choice) -> str:
    """How far the site trusts the model, as every result says it."""
    standing = choice.candidate.standing if choice.candidate else None
    if standing and choice.approved:
        return f"{standing.approval} by {standing.approved_by}" + (f", {standing.scope}" if standing.scope else "")
    return "not approved at this site: research use"
