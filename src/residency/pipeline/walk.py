"""The walk: a study goes in, explained results come out.

    archive -> dicom -> selection -> models -> prepare, infer, decide, measure -> dicom -> archive

Whoever reads this file has understood the product. A series that no model fits, or whose images cannot be used, ends in
an Outcome with its reasons, and the others go on; anything that is not a ResidencyError is a defect and is not caught.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from residency.archive import Archive, Level, Query
from residency.card import ContentCondition
from residency.dicom.labels import read_labels
from residency.dicom.series import open_series
from residency.engine import Engine, Network, Precision
from residency.errors import ArchiveError, EngineError, InputError, ModelError
from residency.findings import Findings
from residency.labels import SeriesLabels
from residency.models import KnownModel
from residency.package import ModelPackage
from residency.pipeline.compute import compute
from residency.pipeline.forms import ResultForms
from residency.pipeline.found import crops_of, findings_of, findings_of_crops
from residency.pipeline.outcome import Ending, Outcome, Reading, Steps, Watch, outcome_of
from residency.pipeline.result import Run, identity_of, objects_of, present, result_of, store
from residency.selection import CandidateTable, Policy, RuleSet, select
from residency.selection import Outcome as Choice
from residency.volume import Volume


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

    networks = _networks(run, house, step)
    step("infer")
    volumes = {name: s.volume() for name, s in sources.items()}
    findings = _found(run, networks, volumes, step)
    step("write")
    result = result_of(findings, identity, card, sources, volumes, house.forms)
    objects = objects_of(result, house.forms)
    step("store")
    stored, remark = store(objects, result, house.forms, house.results)
    return outcome_of(choice, Ending.RESULT, stored=stored, findings=findings, reason=remark)


def _networks(run: Run, house: House, step: Steps) -> list[Network]:
    """The networks of a run in the order in which they run: fetched, verified, admitted and compiled."""
    step("model")
    packages = [house.package(one.model) for one in (run.before, run) if one is not None]
    step("compile")
    return [house.engine.load(p.with_role("graph").data, precision=house.precision) for p in packages]


def _found(run: Run, networks: Sequence[Network], volumes: Mapping[str, Volume], step: Steps) -> Findings:
    """What the model finds in the series or, in a cascade, in the crops that the step before finds in it."""
    if run.before is None:
        decided = compute(run.card, networks[0], volumes, step.progress)
        step("measure")
        return findings_of(run, decided, volumes)
    volume, whole = volumes[run.card.inputs[0].name], run.before.card
    shown = {whole.inputs[0].name: volume}
    first = findings_of(run.before, compute(whole, networks[0], shown, step.progress), shown)
    step("crop")
    crops = crops_of(run, first, volume)
    step("infer")
    cropped = [{run.card.inputs[0].name: crop.volume} for crop in crops.crops]
    each = [compute(run.card, networks[1], crop, step.progress) for crop in cropped]
    step("measure")
    return findings_of_crops(run, first, crops, each, volume)


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


def _run_of(choice: Choice, house: House) -> Run:
    if choice.candidate is None:
        raise ModelError(f"no model is chosen for series {choice.series_uid}")
    model = house.models[choice.candidate.digest]
    before = _run_of(choice.before, house) if choice.before is not None else None
    return Run(choice, model, choice.candidate.card, str(house.engine.build), str(house.precision), before)
