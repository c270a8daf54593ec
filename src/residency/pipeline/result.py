"""What a result is called and stored as: the run behind it, its UIDs, and its objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from residency.archive import Archive, Instance, Level, Query
from residency.card import Card
from residency.decide import output_in_words
from residency.dicom.capture import capture_kind, captures
from residency.dicom.model_object import RAW_DATA
from residency.dicom.parametric_map import MAP_KIND, parametric_map
from residency.dicom.part10 import EncodedInstance
from residency.dicom.report import report, report_kind
from residency.dicom.result import EncodedResult, ResultKind
from residency.dicom.segmentation import (
    BEFORE_KIND,
    PROBABILITIES_KIND,
    SegmentationType,
    probabilities,
    segmentation,
    segmentation_kind,
)
from residency.dicom.segmentation_read import read_segmentation
from residency.dicom.series import SourceSeries
from residency.dicom.uids import ResultIdentity
from residency.errors import AlteredError, InputError, LostError, RejectedError
from residency.findings import Findings, ModelReference, Picture
from residency.models import KnownModel
from residency.package import digest_of
from residency.pipeline.forms import ResultForms
from residency.pipeline.summary import summary_of
from residency.selection import Outcome as Choice
from residency.volume import Volume


@dataclass(frozen=True)
class Run:
    """One chosen model on its series, with the engine that computes it.

    engine, precision  as results name them: build and number of threads, and what is computed in
    before             of a cascade: the model that runs first and finds the crops that this one is shown
    """

    choice: Choice
    model: KnownModel
    card: Card
    engine: str
    precision: str
    before: Run | None = None

    @property
    def approval(self) -> str:
        """How far the site trusts the model, as every result says it."""
        return self.choice.approval or "not approved at this site: research use"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why this model, as the result says it: the rules that matched, and every gate; of the step before too."""
        own = (*self.choice.rules, *(str(gate) for gate in self.choice.gates))
        if self.before is None:
            return own
        name = f"step before, {self.before.card.identity.name} {self.before.card.identity.version}"
        return (*own, *(f"{name}: {gate}" for gate in self.before.choice.gates))

    @property
    def reference(self) -> ModelReference:
        """The model as results name it."""
        model, card = self.model, self.card
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
            engine=self.engine,
            precision=self.precision,
            notice=card.regulatory.notice,
            approval=self.approval,
            threshold="; ".join(f"{output.name}: {output_in_words(output)}" for output in card.outputs),
            before=self.before.reference if self.before is not None else None,
        )


def identity_of(run: Run, sources: Mapping[str, SourceSeries]) -> ResultIdentity:
    """What determines the result of a run, and so its UIDs. sources: by input name."""
    inputs = [f"input {name}: {source.labels.series_uid}" for name, source in sources.items()]
    runs = [run, *([run.before] if run.before is not None else [])]
    return ResultIdentity(
        source_uids=tuple(uid for source in sources.values() for uid in source.sop_uids),
        model_digest=" after ".join(one.model.digest for one in runs),
        precision=run.precision,
        engine_build=run.engine,
        approval=" after ".join(one.approval for one in runs),
        # Which series is which input is part of it: two that fit both inputs, exchanged, are another result.
        choice=digest_of("\n".join((*inputs, *run.reasons)).encode()),
    )


def present(identity: ResultIdentity, source: SourceSeries, results: Archive) -> dict[str, str]:
    """The results by role, where all of them are in the archive: the report is stored last, so it stands for all.

    A result in another form than would be written today is the result all the same.
    """
    for form in (SegmentationType.BINARY, SegmentationType.LABELMAP):
        document = report_kind("", form)
        if document.sop_uid(identity) in _stored(document, identity, source, results):
            kinds = (BEFORE_KIND, segmentation_kind(form), PROBABILITIES_KIND, MAP_KIND, capture_kind(form), document)
            return {
                role: uid
                for kind in kinds
                for role, uid in _by_role(kind, identity, _stored(kind, identity, source, results)).items()
            }
    return {}


def _stored(kind: ResultKind, identity: ResultIdentity, source: SourceSeries, results: Archive) -> set[str]:
    series = Query(study_uid=source.labels.study_uid, series_uid=kind.series_uid(identity))
    return {row.sop_uid for row in results.find(Level.INSTANCE, series)}


def _by_role(kind: ResultKind, identity: ResultIdentity, there: set[str]) -> dict[str, str]:
    """Those of the objects of one kind that are there; from the second on, roles are numbered."""
    of = {n: replace(kind, number=n).sop_uid(identity) for n in range(1, len(there) + 1)}
    return {_role(kind.role, n): uid for n, uid in of.items() if uid in there}


def _role(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}-{number}"


@dataclass(frozen=True, eq=False)
class Result:
    """Findings with all that their objects are made from.

    source    the series on whose grid the findings lie
    others    the series that the model read besides it
    pictures  pages that show the findings, for viewers that show no Segmentation
    """

    findings: Findings
    identity: ResultIdentity
    source: SourceSeries
    others: tuple[SourceSeries, ...] = ()
    pictures: tuple[Picture, ...] = ()


def result_of(
    findings: Findings,
    identity: ResultIdentity,
    card: Card,
    sources: Mapping[str, SourceSeries],
    volumes: Mapping[str, Volume],
    forms: ResultForms,
) -> Result:
    """The result of a run, with pictures where the archive wants them. sources, volumes: by input name."""
    needs, *more = card.inputs
    source, others = sources[needs.name], tuple(sources[one.name] for one in more)
    pictures = summary_of(findings, volumes[needs.name], needs, source) if forms.wants_summary() else ()
    return Result(findings, identity, source, others, pictures)


def objects_of(result: Result, forms: ResultForms) -> dict[str, Instance]:
    """The result's objects by role, in the order of storing: the report refers to the others and comes last."""
    findings, source, identity = result.findings, result.source, result.identity
    made: dict[str, EncodedInstance] = {}
    picture, more = None, []
    if findings.before is not None and findings.before.segments:
        more.append(segmentation(findings.before, source, identity, kind=BEFORE_KIND))
        made[BEFORE_KIND.role] = more[0]
    if findings.segments:
        form = forms.segmentation_type(findings)
        picture = made["seg"] = segmentation(findings, source, identity, form, forms.label_map_syntax)
    maps = _maps_of(findings, source, identity)
    made |= maps
    pages = captures(result.pictures, findings.model, source, identity, picture.type if picture else None)
    made |= {_role("sc", n): page for n, page in enumerate(pages, start=1)}
    made["sr"] = report(findings, source, identity, picture, (*more, *maps.values()), result.others)
    return {role: Instance(one.uid, one.data) for role, one in made.items()}


def store(
    objects: Mapping[str, Instance], result: Result, forms: ResultForms, results: Archive
) -> tuple[dict[str, str], str | None]:
    """Stores the objects of a result; their SOP Instance UIDs by role, and a remark where it is not as was meant.

    A label map that the archive is not proven to take is stored first and read back; where that fails the whole result
    is stored with a BINARY Segmentation, and the remark says why. Raises ArchiveError where the archive takes neither.
    """
    remark = None if forms.label_map_proven else _label_map_refused(objects, result, results)
    if remark is not None:
        objects = objects_of(result, replace(forms, label_map=False))
    results.store(objects.values())
    return {role: one.uid for role, one in objects.items()}, remark


def _maps_of(findings: Findings, source: SourceSeries, identity: ResultIdentity) -> dict[str, EncodedResult]:
    """Maps by role: probabilities of structures in one object, every other map in one of its own."""
    made: dict[str, EncodedResult] = {}
    if any(found.fractional for found in findings.maps):
        made[PROBABILITIES_KIND.role] = probabilities(findings, source, identity)
    others = [found for found in findings.maps if not found.fractional]
    for n, found in enumerate(others, start=1):
        made[_role(MAP_KIND.role, n)] = parametric_map(findings, found, source, identity, n)
    return made


def _label_map_refused(objects: Mapping[str, Instance], result: Result, results: Archive) -> str | None:
    """Why the archive cannot be given the label map among the objects, None where it can or where there is none.

    It is stored and read back; only equal voxels count.
    """
    kind = segmentation_kind(SegmentationType.LABELMAP)
    sent = objects.get("seg")
    if sent is None or sent.uid != kind.sop_uid(result.identity):
        return None
    try:
        results.store([sent])
        back = next(iter(results.instances(kind.series_uid(result.identity), [sent.uid])), None)
        found = read_segmentation(back.data, result.source.grid).segments if back is not None else ()
    except (RejectedError, LostError, AlteredError, InputError) as error:
        return f"the archive takes no label map, segments are stored as BINARY: {error}"
    wanted = [s.mask for s in sorted(result.findings.segments, key=lambda s: s.number)]
    equal = len(found) == len(wanted) and all(
        np.array_equal(one.segment.mask, mask) for one, mask in zip(found, wanted, strict=True)
    )
    return None if equal else "the archive does not give back the label map that it took; segments are stored as BINARY"
