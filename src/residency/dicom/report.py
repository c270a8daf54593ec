"""Findings as a structured report of DICOM's template 1500, Measurement Report (DICOM PS3.16 TID 1500, PS3.3 A.35).

A Comprehensive 3D SR, or a Comprehensive SR where the source has no frame of reference. One measurement group a
segment: volumetric (TID 1411) in the patient, planar (TID 1410) on a radiograph; without a segment to refer to, the
plain group (TID 1501). Classes and measures of the whole series are plain groups as well: of a class its probability
and, as a qualitative evaluation under its own code, whether the card's rule detects it; Finding is only said of what is
detected, so that no reader takes a small probability for a finding. The template is extensible; what it has no row for
(notice, approval, the explained choice, the network's manifest) stands under own concepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from residency.codes import Code
from residency.decide import NO_UNITS, PROBABILITY
from residency.dicom import content
from residency.dicom import dataset as datasets
from residency.dicom.coding import (
    APPROVAL,
    ARTIFICIAL_INTELLIGENCE,
    BOTH_SIDES,
    CHOICE,
    DETECTED,
    FINDING,
    FINDING_CATEGORY,
    FINDING_SITE,
    LATERALITY,
    MAP,
    MODEL,
    NOT_DETECTED,
    NOTICE,
    SIDE,
    SIDES,
    WARNING,
)
from residency.dicom.document import evidence_series, evidence_study
from residency.dicom.functional_groups import Frame
from residency.dicom.part10 import EncodedInstance
from residency.dicom.provenance import algorithm_parameters, approval_before, cascade
from residency.dicom.result import (
    MANUFACTURER,
    EncodedResult,
    ResultKind,
    encoded,
    has_date,
    head,
    image_references,
    reference,
    slice_references,
    source_references,
)
from residency.dicom.segmentation import (
    BEFORE_KIND,
    EncodedSegmentation,
    NumberedSegment,
    SegmentationType,
    frames_of,
    numbered,
)
from residency.dicom.uids import ResultIdentity, derived_uid
from residency.findings import ClassScore, Findings, Measurement, ModelReference, Structure
from residency.measure import CUBIC_MILLIMETRE, VOLUME, volume_mm3
from residency.volume import Space

if TYPE_CHECKING:
    from residency.dicom.series import SourceSeries

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"

_LANGUAGE = Code(scheme="RFC5646", value="en-GB", meaning="English (United Kingdom)")
_IMAGING_PROCEDURE = Code(scheme="SCT", value="363679005", meaning="Imaging procedure")
_DEVICE = Code(scheme="DCM", value="121007", meaning="Device")


def _dcm(value: str, meaning: str) -> Code:
    return Code(scheme="DCM", value=value, meaning=meaning)


_TITLE = _dcm("126000", "Imaging Measurement Report")
_MEASUREMENTS = _dcm("126010", "Imaging Measurements")
_GROUP = _dcm("125007", "Measurement Group")
_TRACKING_ID = _dcm("112039", "Tracking Identifier")
_TRACKING_UID = _dcm("112040", "Tracking Unique Identifier")
_REFERENCED_SEGMENT = _dcm("121191", "Referenced Segment")
_REFERENCED_SEGMENTATION_FRAME = _dcm("121214", "Referenced Segmentation Frame")
_SOURCE_IMAGE = _dcm("121233", "Source image for segmentation")
_SOURCE_SERIES = _dcm("121232", "Source series for segmentation")
_SERIES = _dcm("112002", "Series Instance UID")
_SOURCE_OF_MEASUREMENT = _dcm("121112", "Source of Measurement")

_SIDE_UNKNOWN = "side unknown: neither a header nor a rule proves it"

MOST_IMAGES_NAMED = 16
"""Instances that a group about a whole series names one by one; of a longer series the series alone is named there, and
its instances stand in the evidence, once.
"""


def report(
    findings: Findings,
    source: SourceSeries,
    identity: ResultIdentity,
    segmentation: EncodedSegmentation | None,
    more: Sequence[EncodedResult] = (),
    others: Sequence[SourceSeries] = (),
) -> EncodedInstance:
    """The findings as one structured report in a new series of the source's study.

    segmentation  the Segmentation of the same findings, to which the measurement groups refer; None without one
    more          what else belongs to the same findings: Parametric Maps and probabilities, which the report names,
                  and of a cascade the Segmentation of the step before, where that found anything
    others        the series that the model read besides the source, on whose grid the findings lie
    """
    kind = report_kind(report_class(source), segmentation.type if segmentation is not None else None)
    result = head(kind, findings.model, source, identity)
    result.CompletionFlag = "COMPLETE"
    result.VerificationFlag = "UNVERIFIED"
    result.PreliminaryFlag = "PRELIMINARY"
    result.ReferencedPerformedProcedureStepSequence = None
    result.PerformedProcedureCodeSequence = None
    read = (source, *others)
    _add_evidence(result, findings.model, read, [*([segmentation] if segmentation else []), *more])
    of_before = BEFORE_KIND.series_uid(identity)
    before = next((m for m in more if isinstance(m, EncodedSegmentation) and m.series_uid == of_before), None)
    maps = [one for one in more if one is not before]
    groups = [*_groups(findings, read, identity, segmentation)]
    if findings.before is not None:
        groups += _groups(findings.before, read, identity, before, "before-")
    body = _body(findings, read, groups, maps)
    for element in content.container(_TITLE, "1500", body, relation=None):
        result.add(element)
    return encoded(result, source)


def report_class(source: SourceSeries) -> str:
    """Comprehensive 3D SR where the source has a frame of reference, else Comprehensive SR."""
    in_space = source.grid.frame_of_reference is not None and source.grid.space is Space.PATIENT
    return COMPREHENSIVE_3D_SR if in_space else COMPREHENSIVE_SR


def report_kind(sop_class: str, segmentation: SegmentationType | None) -> ResultKind:
    """What a report's UIDs depend on: besides its role the form of the Segmentation that it refers to."""
    form = () if segmentation in (None, SegmentationType.BINARY) else (str(segmentation),)
    return ResultKind("sr", sop_class, "SR", offset=2, form=form)


def _body(
    findings: Findings, read: Sequence[SourceSeries], groups: Sequence[Dataset], maps: Sequence[EncodedResult]
) -> list[Dataset]:
    """The items under the root, in the order of TID 1500; ours before the measurements, so that they are read first."""
    model, source = findings.model, read[0]
    networks = cascade(model)
    return [
        content.coded(_dcm("121049", "Language of Content Item and Descendants"), _LANGUAGE, content.HAS_CONCEPT_MOD),
        *(item for one in networks for item in _observer(one)),
        *_procedure(source),
        *_remarks(findings, source),
        *(
            content.instance(MODEL, reference(one.manifest_sop_class, one.manifest_uid), "COMPOSITE")
            for one in networks
        ),
        *(content.instance(MAP, reference(found.sop_class, found.uid)) for found in maps),
        *([content.container(_MEASUREMENTS, "", groups)] if groups else []),
    ]


def _observer(model: ModelReference) -> list[Dataset]:
    """TID 1002 and 1004: the network on this machine as a device."""

    def name(value: str, meaning: str, text: str) -> Dataset:
        return content.text(_dcm(value, meaning), text, content.HAS_OBS_CONTEXT)

    return [
        content.coded(_dcm("121005", "Observer Type"), _DEVICE, content.HAS_OBS_CONTEXT),
        content.uid(
            _dcm("121012", "Device Observer UID"),
            derived_uid("device", model.digest, model.engine, model.precision),
            content.HAS_OBS_CONTEXT,
        ),
        name("121013", "Device Observer Name", model.name),
        name("121014", "Device Observer Manufacturer", MANUFACTURER),
        name("121015", "Device Observer Model Name", f"{model.family} {model.version}"),
        name("121016", "Device Observer Serial Number", model.digest),
    ]


def _procedure(source: SourceSeries) -> list[Dataset]:
    """Procedure reported: the study's own codes, else that it was imaging."""
    codes = datasets.codes(source.datasets[0], "ProcedureCodeSequence") or (_IMAGING_PROCEDURE,)
    return [content.coded(_dcm("121058", "Procedure reported"), code, content.HAS_CONCEPT_MOD) for code in codes]


def _remarks(findings: Findings, source: SourceSeries) -> list[Dataset]:
    """What to know before the numbers: what this is, how far it is trusted, why this network, what is odd."""
    warnings = list(findings.warnings)
    if not has_date(source.datasets[0]):
        warnings.append("the source has no date: Content Date of this report is a placeholder")
    return [
        *(content.text(NOTICE, notice) for notice in dict.fromkeys(one.notice for one in cascade(findings.model))),
        content.text(APPROVAL, findings.model.approval),
        *(content.text(APPROVAL, approval_before(one)) for one in cascade(findings.model)[1:]),
        *(content.text(CHOICE, reason) for reason in findings.reasons),
        *(content.text(WARNING, warning) for warning in warnings),
    ]


def _groups(
    findings: Findings,
    read: Sequence[SourceSeries],
    identity: ResultIdentity,
    segmentation: EncodedSegmentation | None,
    part: str = "",
) -> Iterable[Dataset]:
    """One group each. part: tells what several findings of one result number alike."""
    source = read[0]
    segments = numbered(findings, identity)
    frames = frames_of(segments) if segments else ()
    algorithm = _algorithm(findings.model)
    for number, structure in enumerate(findings.structures, start=1):
        tracking = _tracking(structure.label, identity.uid("tracking", f"{part}structure", str(number)))
        yield _group(
            "1501",
            [*tracking, *_structure_head(structure), *algorithm, *_about(read), *_structure_values(structure)],
        )
    for segment in segments:
        roi, template = _roi(segment, frames, source, segmentation)
        yield _group(template, [*_segment_head(segment), *algorithm, *roi, *_segment_values(segment, findings)])
    whole = [m for m in findings.measurements if m.segment is None]
    if whole:
        tracking = _tracking("whole series", identity.uid("tracking", f"{part}series"))
        yield _group("1501", [*tracking, *algorithm, *_about(read), *_numbers(whole)])
    for number, score in enumerate(findings.classes, start=1):
        tracking = _tracking(score.label or score.code.meaning, identity.uid("tracking", f"{part}class", str(number)))
        yield _group("1501", [*tracking, *_class_head(score), *algorithm, *_about(read), *_class_values(score)])


def _group(template: str, children: Sequence[Dataset]) -> Dataset:
    return content.container(_GROUP, template, children)


def _tracking(name: str, tracking_uid: str) -> list[Dataset]:
    """TID 4108."""
    return [
        content.text(_TRACKING_ID, name, content.HAS_OBS_CONTEXT),
        content.uid(_TRACKING_UID, tracking_uid, content.HAS_OBS_CONTEXT),
    ]


def _segment_head(numbered_segment: NumberedSegment) -> list[Dataset]:
    """Tracking, category, type and site of a segment; the side only where it is proven."""
    segment = numbered_segment.segment
    side = [content.coded(LATERALITY, SIDES[segment.side], content.HAS_CONCEPT_MOD)] if segment.side else []
    site = segment.region or (segment.type if side else None)
    return [
        *_tracking(numbered_segment.tracking_id, numbered_segment.tracking_uid),
        content.coded(FINDING_CATEGORY, segment.category),
        content.coded(FINDING, segment.type),
        *([content.coded(FINDING_SITE, site, content.HAS_CONCEPT_MOD, side)] if site else []),
    ]


def _structure_head(structure: Structure) -> list[Dataset]:
    """Category, type and site of a structure as a whole; its side where it is proven, or that both are compared."""
    code = BOTH_SIDES if structure.both_sides else SIDES[structure.side] if structure.side else None
    side = [content.coded(LATERALITY, code, content.HAS_CONCEPT_MOD)] if code else []
    site = structure.region or (structure.type if side else None)
    return [
        content.coded(FINDING_CATEGORY, structure.category),
        content.coded(FINDING, structure.type),
        *([content.coded(FINDING_SITE, site, content.HAS_CONCEPT_MOD, side)] if site else []),
    ]


def _structure_values(structure: Structure) -> list[Dataset]:
    unknown = [] if structure.side or structure.both_sides else [content.text(SIDE, _SIDE_UNKNOWN)]
    return [*_numbers(structure.measurements), *unknown]


def _algorithm(model: ModelReference) -> list[Dataset]:
    """TID 4019."""
    mod = content.HAS_CONCEPT_MOD
    return [
        content.text(_dcm("111001", "Algorithm Name"), model.name, mod),
        content.text(_dcm("111003", "Algorithm Version"), model.version, mod),
        content.text(_dcm("122405", "Algorithm Manufacturer"), model.publisher, mod),
        *(content.text(_dcm("111002", "Algorithm Parameters"), line, mod) for line in algorithm_parameters(model)),
        content.coded(_dcm("111000", "Algorithm Family"), ARTIFICIAL_INTELLIGENCE, mod),
    ]


def _roi(
    segment: NumberedSegment, frames: Sequence[Frame], source: SourceSeries, segmentation: EncodedSegmentation | None
) -> tuple[list[Dataset], str]:
    """What the group measures: the whole segment (TID 1411), its one frame (TID 1410) or, without one, the series."""
    numbers = [k for k, f in enumerate(frames, start=1) if f.segment == segment.number]
    if segmentation is None:
        return [_of_series(source)], "1501"
    referenced = reference(segmentation.sop_class, segmentation.uid)
    if source.grid.space is Space.PATIENT:
        referenced.ReferencedSegmentNumber = segment.number
        series = content.uid(_SOURCE_SERIES, source.labels.series_uid)
        return [content.instance(_REFERENCED_SEGMENT, referenced), series], "1411"
    if not numbers:
        return [_of_series(source)], "1501"
    if segmentation.type is SegmentationType.LABELMAP:
        # Its one frame holds all segments, and only one of the two numbers may be given (PS3.3 table 10-3).
        referenced.ReferencedSegmentNumber = segment.number
    else:
        referenced.ReferencedFrameNumber = numbers[0]
    image = content.instance(_SOURCE_IMAGE, slice_references(source)[0])
    return [content.instance(_REFERENCED_SEGMENTATION_FRAME, referenced), image], "1410"


def _segment_values(numbered_segment: NumberedSegment, findings: Findings) -> list[Dataset]:
    """The measurements of a segment, its volume in any case, and that its side is unknown where it is."""
    segment = numbered_segment.segment
    measured = list(findings.of_segment(segment.number))
    if findings.grid.space is Space.PATIENT and not any(m.quantity == VOLUME for m in measured):
        volume = volume_mm3(segment.mask, findings.grid)
        measured.insert(0, Measurement(VOLUME, volume, CUBIC_MILLIMETRE, segment.number))
    unknown = [] if segment.side else [content.text(SIDE, _SIDE_UNKNOWN)]
    return [*_numbers(measured), *unknown]


def _numbers(measurements: Iterable[Measurement]) -> list[Dataset]:
    return [content.number(m.quantity, m.value, m.unit) for m in measurements]


def _class_head(score: ClassScore) -> list[Dataset]:
    """Category, finding and site of a class; a finding only where the card's rule does not deny it.

    Without a site that it could modify, the side stands alone.
    """
    site = score.region
    side = [content.coded(LATERALITY, SIDES[score.side], content.HAS_CONCEPT_MOD)] if score.side else []
    return [
        *([content.coded(FINDING_CATEGORY, score.category)] if score.category else []),
        *([content.coded(FINDING, score.code)] if score.found is not False else []),
        *([content.coded(FINDING_SITE, site, content.HAS_CONCEPT_MOD, side)] if site else side),
    ]


def _class_values(score: ClassScore) -> list[Dataset]:
    """The probability, what the card's rule makes of it, and that the side is unknown where it is."""
    answer = DETECTED if score.found else NOT_DETECTED
    return [
        content.number(PROBABILITY, score.probability, NO_UNITS),
        *([content.coded(score.code, answer)] if score.found is not None else []),
        *([] if score.side else [content.text(SIDE, _SIDE_UNKNOWN)]),
    ]


def _about(read: Sequence[SourceSeries]) -> list[Dataset]:
    """The series that a statement about all of it is about, and its images where they are few; frames by number."""
    items = [_of_series(series) for series in read]
    for series in read:
        references = image_references(series, range(series.grid.shape[0]))
        if len(references) <= MOST_IMAGES_NAMED:
            items += [content.instance(_SOURCE_OF_MEASUREMENT, image) for image in references]
    return items


def _of_series(source: SourceSeries) -> Dataset:
    return content.uid(_SERIES, source.labels.series_uid)


def _add_evidence(
    result: Dataset, model: ModelReference, read: Sequence[SourceSeries], others: Sequence[EncodedResult]
) -> None:
    """Everything referenced: what was read, the other objects of the result, and the manifest in its own study."""
    own: dict[str, list[Dataset]] = {}
    for other in others:
        own.setdefault(other.series_uid, []).append(reference(other.sop_class, other.uid))
    series = [evidence_series(one.labels.series_uid, source_references(one)) for one in read]
    series += [evidence_series(uid, instances) for uid, instances in own.items()]
    result.CurrentRequestedProcedureEvidenceSequence = [evidence_study(read[0].labels.study_uid, series)]
    result.PertinentOtherEvidenceSequence = [
        evidence_study(
            one.study_uid,
            [evidence_series(one.series_uid, [reference(one.manifest_sop_class, one.manifest_uid)])],
        )
        for one in cascade(model)
    ]
