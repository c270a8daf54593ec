"""The walk: a study goes in, explained results come out.

    archive -> dicom -> selection -> models -> prepare, infer, decide, measure -> dicom -> archive

Whoever reads this file has understood the product. A series that no model fits, or whose images cannot be used, ends in
an Outcome with its reasons, and the others go on; anything that is not a ResidencyError is a defect and is not caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from residency.archive import Archive, Instance, Level, Query
from residency.card import Card, ContentCondition
from residency.decide import class_scores, in_words, segments
from residency.dicom.labels import read_labels
from residency.dicom.model_object import RAW_DATA
from residency.dicom.report import report
from residency.dicom.segmentation import segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.engine import Engine, Network, Precision
from residency.errors import ArchiveError, EngineError, InputError, ModelError, ResidencyError
from residency.findings import ClassScore, Findings, ModelReference, Segment
from residency.infer import infer
from residency.labels import SeriesLabels
from residency.measure import measure
from residency.models import KnownModel
from residency.package import ModelPackage, digest_of
from residency.prepare import prepare
from residency.selection import CandidateTable, Policy, RuleSet, Selection, select
from residency.selection import Outcome as Choice
from residency.standing import Approval
from residency.volume import Volume

Watch = Callable[[str, str, int, int], None]
"""Called with (series UID, step, done, total) as a step begins (done 0) and goes on; what it raises ends the run."""


class Ending(StrEnum):
    """How the walk ended for one series. Nothing is silent."""

    RESULT = "result"
    PRESENT = "result, computed before"
    WOULD_RUN = "would run"
    NONE = "none"
    AMBIGUOUS = "ambiguous"
    UNTRUSTED = "untrusted"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Outcome:
    """One series and what became of it.

    reasons   never empty: names the attribute, the rule or the instance
    stored    SOP Instance UIDs of the results by role: "seg", "sr"
    error     the error behind REFUSED, FAILED, and UNTRUSTED found after selection
    """

    series_uid: str
    name: str
    ending: Ending
    reasons: tuple[str, ...]
    model: str | None = None
    digest: str | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    findings: Findings | None = None
    error: ResidencyError | None = None


@dataclass(frozen=True)
class House:
    """What the walk is handed: archives, the models known, the site's rules, an engine, and how packages are had.

    results  where results go; may be the archive of the images
    models   by version digest
    package  a chosen model -> its package, fetched, verified and admitted on this engine; raises ModelError
    """

    images: Archive
    results: Archive
    models: Mapping[str, KnownModel]
    candidates: CandidateTable
    rules: RuleSet
    engine: Engine
    precision: Precision
    package: Callable[[KnownModel], ModelPackage]


@dataclass(frozen=True)
class Reading:
    """What became of a study: the explained choice, and one Outcome a series."""

    selection: Selection
    outcomes: tuple[Outcome, ...]


def read_study(
    study_uid: str, house: House, policy: Policy, *, dry: bool = False, watch: Watch | None = None
) -> Reading:
    """Choose a model for every series of a study, run the chosen ones, and store their results.

    dry  stop after the choice. Raises ArchiveError if the study is not there, UsageError if the policy names no model.
    """
    labels, refused = _labels_of(study_uid, house.images)
    selection = select(labels, house.candidates, rules=house.rules, policy=policy, content=_content_of(house.images))
    read = (_follow(choice, house, dry, watch) for choice in selection.outcomes)
    return Reading(selection, (*read, *refused))


def read_series(choice: Choice, house: House, watch: Watch | None = None) -> Outcome:
    """Run the chosen model on its series and store what it found.

    The results' UIDs follow from what determines them: where they are in the archive already, the work is done.
    """
    step = _Steps(choice.series_uid, watch)
    model = house.models[_digest(choice)]
    card = model.card
    if card is None:
        raise ModelError(f"the model {model.name} has no readable card")

    step("read")
    sources = {name: open_series(i.data for i in house.images.instances(uid)) for name, uid in choice.inputs.items()}
    source = sources[card.inputs[0].name]
    identity = _identity(sources.values(), choice, house)
    stored = _present(identity, source, house.results)
    if stored:
        return _outcome(choice, Ending.PRESENT, stored=stored)

    step("model")
    package = house.package(model)
    step("compile")
    network = house.engine.load(package.with_role("graph").data, precision=house.precision)
    step("infer")
    volumes = {name: s.volume() for name, s in sources.items()}
    decided = compute(card, network, volumes, step.progress)

    step("measure")
    findings = _findings(decided, card, volumes, _reference(model, card, choice, house), choice)
    step("write")
    objects = _written(findings, source, identity)
    step("store")
    house.results.store(objects.values())
    return _outcome(choice, Ending.RESULT, stored={role: o.uid for role, o in objects.items()}, findings=findings)


def compute(
    card: Card, network: Network, volumes: Mapping[str, Volume], progress: Callable[[int, int], None] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Volumes by input name -> decided outputs on the source's grid; the one way to results and golden cases."""
    prepared = {needs.name: prepare(volumes[needs.name], needs.recipe) for needs in card.inputs}
    return infer(prepared, network, card, progress)


def replay(volume: Volume, package: ModelPackage, engine: Engine, precision: Precision) -> npt.NDArray[np.uint8]:
    """The golden volume through the model, as results are computed: class indices (slices, rows, columns).

    Raises ModelError for a card with several inputs or whose first output is no segmentation.
    """
    card = package.card
    output = card.outputs[0]
    if len(card.inputs) != 1 or output.kind != "segmentation":
        raise ModelError("only the golden case of one input and a segmentation can be replayed; the card has another")
    network = engine.load(package.with_role("graph").data, precision=precision)
    decided = compute(card, network, {card.inputs[0].name: volume})
    index_of = {kind.name: kind.index for kind in output.classes}
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    for segment in segments(decided[output.name], output, volume.grid):
        labels[segment.mask] = index_of[segment.label]
    return labels


def _labels_of(study_uid: str, images: Archive) -> tuple[list[SeriesLabels], list[Outcome]]:
    """Labels of every series of a study; a series whose headers cannot be read is refused and holds up no other."""
    names = {row.series_uid: row.description for row in images.find(Level.SERIES, Query(study_uid=study_uid))}
    if not names:
        raise ArchiveError(f"{images.url} holds no study {study_uid}; see 'residency archive ls'")
    labels, refused = [], []
    for series_uid, name in sorted(names.items()):
        try:
            labels.append(read_labels(header.data for header in images.headers(series_uid)))
        except InputError as error:
            refused.append(Outcome(series_uid, name or series_uid, Ending.REFUSED, (str(error),), error=error))
    return labels, refused


def _content_of(images: Archive) -> Callable[[str, ContentCondition], bool | None]:
    def content(series_uid: str, condition: ContentCondition) -> bool | None:
        from residency.selection.content import condition_holds

        volume = open_series(i.data for i in images.instances(series_uid)).volume()
        return condition_holds(volume, condition)

    return content


def _follow(choice: Choice, house: House, dry: bool, watch: Watch | None) -> Outcome:
    """Do what was chosen; what goes wrong on the way becomes the outcome of this series."""
    if choice.candidate is None:
        return _outcome(choice, Ending(choice.kind.value))
    beyond = _beyond_us(choice.candidate.card)
    if beyond:
        return _outcome(choice, Ending.UNSUPPORTED, reason=beyond)
    if dry:
        return _outcome(choice, Ending.WOULD_RUN)
    try:
        return read_series(choice, house, watch)
    except InputError as error:
        return _outcome(choice, Ending.REFUSED, error=error)
    except ModelError as error:
        return _outcome(choice, Ending.UNTRUSTED, error=error)
    except (ArchiveError, EngineError) as error:
        return _outcome(choice, Ending.FAILED, error=error)


def _beyond_us(card: Card) -> str | None:
    """What a card asks for that is not done yet; it is said, never left out of a result."""
    if card.step_before is not None:
        return f"the model needs the result of '{card.step_before.family}' first; cascades are not run by this version"
    maps = [output.name for output in card.outputs if output.kind == "map"]
    return f"output '{maps[0]}' of the model is a map; maps are not stored by this version" if maps else None


def _outcome(
    choice: Choice,
    ending: Ending,
    *,
    stored: Mapping[str, str] | None = None,
    findings: Findings | None = None,
    error: ResidencyError | None = None,
    reason: str | None = None,
) -> Outcome:
    candidate = choice.candidate
    return Outcome(
        series_uid=choice.series_uid,
        name=choice.labels.name,
        ending=ending,
        reasons=(*([str(error)] if error else [reason] if reason else []), *choice.reasons),
        model=candidate.name if candidate else None,
        digest=candidate.digest if candidate else None,
        stored=stored or {},
        findings=findings,
        error=error,
    )


def _digest(choice: Choice) -> str:
    if choice.candidate is None:
        raise ModelError(f"no model is chosen for series {choice.series_uid}")
    return choice.candidate.digest


def _identity(sources: Iterable[SourceSeries], choice: Choice, house: House) -> ResultIdentity:
    return ResultIdentity(
        source_uids=tuple(uid for source in sources for uid in source.sop_uids),
        model_digest=_digest(choice),
        precision=str(house.precision),
        engine_build=str(house.engine.build),
        approval=_approval(choice),
        choice=digest_of("\n".join(_reasons(choice)).encode()),
    )


def _reasons(choice: Choice) -> tuple[str, ...]:
    """Why this model, as the result says it: the rules that matched, and every gate."""
    return (*choice.rules, *(str(gate) for gate in choice.gates))


def _present(identity: ResultIdentity, source: SourceSeries, results: Archive) -> dict[str, str]:
    """The results by role, where all of them are in the archive: the report is stored last, so it stands for all."""
    uids = {role: identity.uid(role) for role in ("seg", "sr")}
    there = {
        role: uid
        for role, uid in uids.items()
        if any(True for _ in results.find(Level.INSTANCE, Query(study_uid=source.labels.study_uid, sop_uid=uid)))
    }
    return there if "sr" in there else {}


def _findings(
    decided: Mapping[str, npt.NDArray[Any]],
    card: Card,
    volumes: Mapping[str, Volume],
    model: ModelReference,
    choice: Choice,
) -> Findings:
    """Decided outputs -> segments with measurements, class probabilities and maps, with the reasons of the choice."""
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
    notes = [f"{name}: {note}" for name, volume in volumes.items() for note in volume.notes]
    return Findings(
        grid=grid,
        model=model,
        segments=tuple(found),
        measurements=measured.measurements,
        classes=tuple(scores),
        reasons=_reasons(choice),
        warnings=(*notes, *sorted(missing), *measured.warnings),
    )


def _classes(card: Card) -> set[str]:
    """Names of the classes that a segmentation can find."""
    kinds = [kind for output in card.outputs if output.kind == "segmentation" for kind in output.classes]
    return {kind.name for kind in kinds if kind.type is not None}


def _reference(model: KnownModel, card: Card, choice: Choice, house: House) -> ModelReference:
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
        engine=str(house.engine.build),
        precision=str(house.precision),
        notice=card.regulatory.notice,
        approval=_approval(choice),
        threshold="; ".join(f"{output.name}: {in_words(output.decision)}" for output in card.outputs),
    )


def _approval(choice: Choice) -> str:
    """How far the site trusts the model, as every result says it."""
    standing = choice.candidate.standing if choice.candidate else None
    if standing and standing.approval in (Approval.APPROVED, Approval.RESTRICTED):
        return f"{standing.approval} by {standing.approved_by}" + (f", {standing.scope}" if standing.scope else "")
    return "not approved at this site: research use"


def _written(findings: Findings, source: SourceSeries, identity: ResultIdentity) -> dict[str, Instance]:
    """The result's objects by role, in the order of storing: the report refers to the segmentation and comes last."""
    objects: dict[str, Instance] = {}
    picture = segmentation(findings, source, identity) if findings.segments else None
    if picture is not None:
        objects["seg"] = Instance(picture.uid, picture.data)
    document = report(findings, source, identity, picture)
    objects["sr"] = Instance(document.uid, document.data)
    return objects


class _Steps:
    """Tells the watcher which step of a series has begun, and how far it is."""

    def __init__(self, series_uid: str, watch: Watch | None) -> None:
        self._series_uid = series_uid
        self._watch = watch
        self._step = ""

    def __call__(self, step: str) -> None:
        self._step = step
        self.progress(0, 1)

    def progress(self, done: int, total: int) -> None:
        if self._watch is not None:
            self._watch(self._series_uid, self._step, done, total)
