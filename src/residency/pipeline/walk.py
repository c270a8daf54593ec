"""The walk: a study goes in, explained results come out.

    archive -> dicom -> selection -> models -> prepare, infer, decide, measure -> dicom -> archive

Whoever reads this file has understood the product. A series that no model fits, or whose images cannot be used, ends in
an Outcome with its reasons, and the others go on; anything that is not a ResidencyError is a defect and is not caught.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from residency.archive import Archive, Level, Query
from residency.card import Card, ContentCondition
from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.engine import Engine, Precision
from residency.errors import ArchiveError, EngineError, InputError, ModelError
from residency.labels import SeriesLabels
from residency.models import KnownModel
from residency.package import ModelPackage
from residency.pipeline.compute import compute
from residency.pipeline.forms import ResultForms
from residency.pipeline.outcome import Ending, Outcome, Reading, Steps, Watch, outcome_of
from residency.pipeline.result import Run, findings_of, identity_of, objects_of, present, result_of, store
from residency.selection import CandidateTable, Policy, RuleSet, select
from residency.selection import Outcome as Choice


@dataclass(frozen=True)
class House:
    """What the walk is handed: archives, the models known, the site's rules, an engine, and how packages are had.

    results  where results go; may be the archive of the images
    models   by version digest
    package  a chosen model -> its package, fetched, verified and admitted on this engine; raises ModelError
    forms    what is known of the archive that takes results, and so which objects a result becomes
    """

    images: Archive
    results: Archive
    models: Mapping[str, KnownModel]
    candidates: CandidateTable
    rules: RuleSet
    engine: Engine
    precision: Precision
    package: Callable[[KnownModel], ModelPackage]
    forms: ResultForms = field(default_factory=ResultForms)


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
    step = Steps(choice.series_uid, watch)
    run = _run_of(choice, house)
    card = run.card

    step("read")
    sources = {name: open_series(i.data for i in house.images.instances(uid)) for name, uid in choice.inputs.items()}
    source = sources[card.inputs[0].name]
    identity = identity_of(run, sources)
    stored = present(identity, source, house.results)
    if stored:
        return outcome_of(choice, Ending.PRESENT, stored=stored)

    step("model")
    package = house.package(run.model)
    step("compile")
    network = house.engine.load(package.with_role("graph").data, precision=house.precision)
    step("infer")
    volumes = {name: s.volume() for name, s in sources.items()}
    decided = compute(card, network, volumes, step.progress)

    step("measure")
    findings = findings_of(run, decided, volumes)
    step("write")
    result = result_of(findings, identity, card, sources, volumes, house.forms)
    objects = objects_of(result, house.forms)
    step("store")
    stored, remark = store(objects, result, house.forms, house.results)
    return outcome_of(choice, Ending.RESULT, stored=stored, findings=findings, reason=remark)


def _labels_of(study_uid: str, images: Archive) -> tuple[list[SeriesLabels], list[Outcome]]:
    """Labels of every series of a study; a series whose headers cannot be read holds up no other."""
    names = {row.series_uid: row.description for row in images.find(Level.SERIES, Query(study_uid=study_uid))}
    if not names:
        raise ArchiveError(f"{images.url} holds no study {study_uid}; see 'residency archive ls'")
    labels, refused = [], []
    for series_uid, name in sorted(names.items()):
        try:
            labels.append(read_labels(header.data for header in images.headers(series_uid)))
        except (InputError, ArchiveError) as error:
            ending = Ending.REFUSED if isinstance(error, InputError) else Ending.FAILED
            refused.append(Outcome(series_uid, name or series_uid, ending, (str(error),), error=error))
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
        return outcome_of(choice, Ending(choice.kind.value))
    beyond = _beyond_us(choice.candidate.card)
    if beyond:
        return outcome_of(choice, Ending.UNSUPPORTED, reason=beyond)
    if dry:
        return outcome_of(choice, Ending.WOULD_RUN)
    try:
        return read_series(choice, house, watch)
    except InputError as error:
        return outcome_of(choice, Ending.REFUSED, error=error)
    except ModelError as error:
        return outcome_of(choice, Ending.UNTRUSTED, error=error)
    except (ArchiveError, EngineError) as error:
        return outcome_of(choice, Ending.FAILED, error=error)


def _beyond_us(card: Card) -> str | None:
    """What a card asks for that is not done yet; it is said, never left out of a result."""
    if card.step_before is not None:
        return f"the model needs the result of '{card.step_before.family}' first; cascades are not run by this version"
    return None


def _run_of(choice: Choice, house: House) -> Run:
    if choice.candidate is None:
        raise ModelError(f"no model is chosen for series {choice.series_uid}")
    model = house.models[choice.candidate.digest]
    return Run(choice, model, choice.candidate.card, str(house.engine.build), str(house.precision))
