"""A result as it stands in the archive, with what belongs to it: segmentation, report, source images, and the card."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from residency.archive import Archive, Instance, Level, Query
from residency.card import Card
from residency.card.page import card_page
from residency.cli.objects import objects_of
from residency.codes import Code
from residency.decide import NO_UNITS, PROBABILITY
from residency.dicom.coding import DETECTED, NOT_DETECTED
from residency.dicom.findings import (
    Algorithm,
    MapContent,
    MeasurementGroup,
    ReportContent,
    SegmentationContent,
    read_parametric_map,
    read_report,
    read_segmentation,
)
from residency.dicom.model_object import ManifestObject
from residency.dicom.model_read import decode
from residency.dicom.provenance import approval_before
from residency.dicom.segmentation import BEFORE_KIND
from residency.dicom.series import SourceSeries, open_series
from residency.errors import InputError, ModelError
from residency.files.colours import told_apart
from residency.files.heads import ROUND_STRUCTURES_MM, view_of
from residency.files.html import ResultPage
from residency.files.measurements import NO_UNIT, MeasurementRow, decimals
from residency.files.picture import Outline
from residency.findings import Findings, Measurement
from residency.measure import CUBIC_MILLIMETRE, LONGEST_DIAMETER, MILLILITRE, VOLUME, measure
from residency.package import parse_manifest
from residency.recall import rejections
from residency.review import assessments_in
from residency.volume import Volume

NOTICE = "Made by a trained network, not verified by a person. Research use only; not a medical device."
BOTH = "both"
"""Side of what compares left and right."""
NO_PICTURE = "no picture is drawn: the image has no place in the patient and may show a face"

_SHORT_NAMES = {
    f"{code.scheme}:{code.value}": name for code, name in ((VOLUME, "volume"), (LONGEST_DIAMETER, "longest diameter"))
}
"""What measurements are called in a line for people, by quantity code; their coded names are long."""


@dataclass(frozen=True, eq=False)
class StoredResult:
    """One result read back. At least one of segmentation, report and maps is there.

    source    the images it was made from; None where they are not at hand
    card      of the very version that the result names, by its digest; None where the archive does not hold it
    warnings  what could not be had, and why
    files     the objects as the archive gave them, in DICOM's file format, by role: "seg", "seg-before", "sr",
              "probabilities", "map", "map-2" ... and the pages "sc", "sc-2" ...
    before    of a cascade: the segmentation of the step before
    said      what people have said of it since: rejection notes, and the assessments that count
    """

    segmentation: SegmentationContent | None
    report: ReportContent | None
    source: SourceSeries | None
    card: Card | None
    warnings: tuple[str, ...]
    files: Mapping[str, Instance] = field(default_factory=dict)
    maps: tuple[MapContent, ...] = ()
    probabilities: tuple[SegmentationContent, ...] = ()
    said: tuple[str, ...] = ()
    before: SegmentationContent | None = None

    @property
    def algorithm(self) -> Algorithm:
        """The network, as the result names it."""
        if self.segmentation is not None and self.segmentation.segments:
            return self.segmentation.segments[0].algorithm
        if self.report is None:
            return Algorithm()
        own = (group.algorithm for group in self.report.groups if not self.report.of_step_before(group))
        return next(own, self.report.network)

    @property
    def parameters(self) -> dict[str, str]:
        """Digest, precision, engine and the like, as the result states them."""
        lines = [line for text in self.algorithm.parameters for line in text.splitlines()]
        return {key: value for line in lines if (key := line.partition(": ")[0]) and (value := line.partition(": ")[2])}

    @property
    def notices(self) -> tuple[str, ...]:
        """What must stand wherever the result is shown."""
        said = (*self.report.notices, *self.report.approval) if self.report is not None else ()
        return (*self.headlines, *(text for text in said if text != NOTICE))

    @property
    def headlines(self) -> tuple[str, ...]:
        """What must stand even where there is room for little."""
        return (NOTICE, *self.said)


@dataclass(frozen=True)
class Numbers:
    """What a result says in short: its measurements, what must stand beside them, and its warnings."""

    rows: tuple[MeasurementRow, ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What pictures of a result show, and what its slices are called."""

    volume: Volume
    outlines: tuple[Outline, ...]
    section: str


def read_result(
    uid: str, results: Archive, images: Archive | None = None, models: Archive | None = None
) -> StoredResult:
    """The result that a UID names: of a Segmentation, of a report, or of a series that holds one of them.

    images  where the source series lies; None: in the archive of the results
    models  where the network lies; None: in the archive of the results

    Raises UsageError where the UID names no result or several, InputError where it cannot be read.
    """
    stored = _read_objects(uid, results)
    source, warnings = None, _lost(stored)
    try:
        source = _source(_made_from(stored), images or results)
    except InputError as error:
        warnings.append(f"shown without the source images: {error}")
    unmatched = _placed(stored, source) if source is not None else stored
    card, problem = _card(unmatched, models or results)
    warnings += [problem] if problem else []
    said, unread = _said(unmatched, results)
    return replace(unmatched, card=card, said=said, warnings=(*warnings, *unread))


def read_numbers(uid: str, results: Archive) -> Numbers:
    """What a stored result says, without its source images and its card. Raises as `read_result` does."""
    result = _read_objects(uid, results)
    report = result.report
    stated = tuple(t for t in (*report.notices, *report.approval) if t != NOTICE) if report is not None else ()
    said, unread = _said(result, results)
    warnings = (*(report.warnings if report is not None else ()), *_lost(result), *unread)
    return Numbers(measurements_of(result), (*said, *(stated or (NOTICE,))), warnings)


def numbers_of(findings: Findings) -> Numbers:
    """The same of findings that were made just now."""
    rows = []
    networks: list[str] = []
    for one in (findings, *([findings.before] if findings.before is not None else [])):
        for structure in one.structures:
            side = structure.side.value if structure.side is not None else BOTH if structure.both_sides else ""
            rows += [_row(found, structure.label, side, "") for found in structure.measurements]
        rows += [row if one is findings else _of_step_before(row) for row in _rows_of(one)]
        networks += [one.model.notice, one.model.approval if one is findings else approval_before(one.model)]
    for score in findings.classes:
        answer = "" if score.found is None else (DETECTED if score.found else NOT_DETECTED).meaning
        row = _row(Measurement(PROBABILITY, score.probability, NO_UNITS), score.label or score.code.meaning, "", "")
        rows.append(replace(row, side=score.side.value if score.side is not None else "", evaluation=answer))
    return Numbers(tuple(rows), tuple(dict.fromkeys(networks)), findings.warnings)


def _rows_of(findings: Findings) -> list[MeasurementRow]:
    segments = {segment.number: segment for segment in findings.segments}
    rows = []
    for found in findings.measurements:
        segment = segments.get(found.segment or 0)
        side = segment.side.value if segment is not None and segment.side is not None else ""
        rows.append(_row(found, segment.label if segment is not None else "whole series", side, ""))
    return rows


def outlines_of(result: StoredResult) -> tuple[Outline, ...]:
    """The segments with their colours, on the grid of the segmentation."""
    if result.segmentation is None:
        return ()
    segments = [read.segment for read in result.segmentation.segments]
    colours = told_apart([one.colour for one in segments])
    return tuple(Outline(one.label, colour, one.mask) for one, colour in zip(segments, colours, strict=True))


def measurements_of(result: StoredResult) -> tuple[MeasurementRow, ...]:
    """What the report says, else what the masks measure."""
    pictures = [one for one in (result.segmentation, result.before) if one is not None]
    named = {(one.sop_uid, s.segment.number): s.segment.label for one in pictures for s in one.segments}
    rows: list[MeasurementRow] = []
    if result.report is not None:
        for group in result.report.groups:
            label = named.get((group.segmentation_uid or "", group.segment or 0)) or _subject(group)
            side = group.side.value if group.side is not None else BOTH if group.both_sides else ""
            answer = _answer(group)
            found_here = [_row(m, label, side, group.tracking_uid) for m in group.measurements]
            found_here = [replace(row, evaluation=answer) if _is_probability(row) else row for row in found_here]
            # What that step outlines; a structure as a whole, such as what is intracranial, is the result's own.
            located = group.segmentation_uid is not None and result.report.of_step_before(group)
            rows += [_of_step_before(row) for row in found_here] if located else found_here
        return tuple(rows)
    if result.segmentation is not None:
        segments = {s.segment.number: s for s in result.segmentation.segments}
        for found in measure([s.segment for s in segments.values()], result.segmentation.grid).measurements:
            read = segments[found.segment or 0]
            side = read.segment.side.value if read.segment.side is not None else ""
            rows.append(_row(found, read.segment.label, side, read.tracking_uid))
    return tuple(rows)


def _of_step_before(row: MeasurementRow) -> MeasurementRow:
    """A number of a segment that finds the crops: it may be of the same structure as the result's own."""
    return replace(row, label=f"{row.label} (step before)")


def shown_measurements(rows: tuple[MeasurementRow, ...]) -> tuple[MeasurementRow, ...]:
    """For people: volumes in mL and only once."""
    kept: dict[tuple[str, int | None, str, str], MeasurementRow] = {}
    for row in rows:
        small = row.quantity_code == _text(VOLUME) and row.unit == CUBIC_MILLIMETRE.value
        shown = replace(row, value=row.value / 1000.0, unit=MILLILITRE.value) if small else row
        kept.setdefault((row.label, row.segment, row.tracking_uid, f"{shown.quantity_code} {shown.unit}"), shown)
    return tuple(kept.values())


def subject(row: MeasurementRow) -> str:
    """What a line for people is about, its side said once."""
    if row.side == BOTH or row.label.endswith((", left", ", right")):
        return row.label
    return f"{row.label}, side {row.side or 'unknown'}"


def figure(row: MeasurementRow) -> str:
    """The number of a line for people, with what the model's rule makes of it."""
    if not _is_probability(row):
        name = _SHORT_NAMES.get(row.quantity_code, row.quantity)
        return f"{name} {value_text(row)}"
    return f"probability {row.value:.3f}" + (f", {row.evaluation.lower()}" if row.evaluation else "")


def value_text(row: MeasurementRow) -> str:
    """The number with its unit, where it has one."""
    return f"{row.value:.{decimals(row.unit)}f}" + ("" if row.unit == NO_UNIT else f" {row.unit}")


def about(result: StoredResult) -> dict[str, str | list[str]]:
    """UIDs and the network: what a table of numbers needs so that it can be traced. No patient data."""
    segmentation, report = result.segmentation, result.report
    study = segmentation.study_uid if segmentation is not None else report.study_uid if report is not None else ""
    return {
        "notices": list(result.notices),
        "study": study,
        "source_series": list(_made_from(result)),
        "segmentation": segmentation.sop_uid if segmentation is not None else "",
        "report": report.sop_uid if report is not None else "",
        "network": f"{result.algorithm.name} {result.algorithm.version}".strip(),
        "publisher": result.algorithm.source,
        **result.parameters,
    }


def page_of(result: StoredResult) -> ResultPage:
    """The result for one HTML page. Nothing of the patient is in it but the images themselves and UIDs."""
    facts = [(key.replace("_", " ").capitalize(), _joined(said)) for key, said in about(result).items()]
    digest = result.parameters.get("digest")
    page = card_page(result.card, digest) if result.card is not None else None
    drawn = drawn_of(result)
    hidden = [NO_PICTURE] if drawn is None and result.source is not None else []
    return ResultPage(
        title=f"Result of {result.algorithm.name or 'a trained network'} {result.algorithm.version}".strip(),
        notices=result.notices,
        facts=tuple((what, said) for what, said in facts if said and what != "Notices"),
        volume=drawn.volume if drawn else None,
        outlines=drawn.outlines if drawn else (),
        numbers=shown_measurements(measurements_of(result)),
        reasons=tuple(line for text in (result.report.choice if result.report else ()) for line in text.splitlines()),
        warnings=(*(result.report.warnings if result.report else ()), *result.warnings, *hidden),
        sections=tuple((f"Card: {s.heading}", s.rows) for s in page.sections) if page is not None else (),
        section=drawn.section if drawn else "slice",
    )


def drawn_of(result: StoredResult) -> Drawn | None:
    """The source images, decoded, and the segments on them; None where they are not at hand or may not be drawn."""
    source, card = result.source, result.card
    if source is None:
        return None
    named = source.labels.regions.value if source.labels.regions else ()
    view = view_of(source.volume(), (*named, *(card.inputs[0].regions if card is not None else ())))
    if view is None:
        return None
    found = outlines_of(result)
    if result.before is not None:
        view = view.close_up([one.mask for one in found], ROUND_STRUCTURES_MM)
    outlines = tuple(replace(one, mask=view.of(one.mask)) for one in found)
    return Drawn(view.volume, outlines, "axial section" if view.turned else "slice")


def _read_objects(uid: str, results: Archive) -> StoredResult:
    """The objects as they stand in the archive, with nothing of what belongs to them."""
    files = objects_of(uid, results)
    return _placed(StoredResult(None, None, None, None, (), files), None)


def _placed(stored: StoredResult, source: SourceSeries | None) -> StoredResult:
    """The objects read, on the grid of their source where it is at hand."""
    files, grid = stored.files, source.grid if source is not None else None
    maps = [one.data for role, one in files.items() if role.startswith("map")]
    fractional = [one.data for role, one in files.items() if role.startswith("probabilities")]
    return replace(
        stored,
        segmentation=read_segmentation(files["seg"].data, grid) if "seg" in files else None,
        before=read_segmentation(files[BEFORE_KIND.role].data, grid) if BEFORE_KIND.role in files else None,
        report=read_report(files["sr"].data) if "sr" in files else None,
        source=source,
        maps=tuple(read_parametric_map(data, grid) for data in maps),
        probabilities=tuple(read_segmentation(data, grid) for data in fractional),
    )


def _said(result: StoredResult, results: Archive) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What people have said of a result since it was stored, and what of it cannot be read."""
    shown = (result.segmentation, result.before, result.report, *result.maps, *result.probabilities)
    objects = [one for one in shown if one is not None]
    study_uid, uids = objects[0].study_uid, [one.sop_uid for one in objects]
    unread: list[str] = []
    try:
        notes = rejections(results, study_uid, uids)
    except InputError as error:
        notes, unread = (), [f"whether the result is rejected cannot be told: {error}"]
    known = assessments_in(results, study_uid, about=uids)
    unread += [f"whether the result was assessed cannot be told: {problem}" for _, problem in known.unreadable]
    return (*map(str, notes), *(f"Assessment: {one}" for one in known.latest)), tuple(unread)


def _lost(result: StoredResult) -> list[str]:
    """Segmentations that a report of ours measures and the archive does not hold."""
    if result.report is None or not result.report.model_uid:
        return []
    there = {one.uid for one in result.files.values()}
    named = dict.fromkeys(group.segmentation_uid for group in result.report.groups)
    lost = [uid for uid in named if uid is not None and uid not in there]
    return [f"the Segmentation {uid} that the report measures is not in the archive" for uid in lost]


def _made_from(result: StoredResult) -> Mapping[str, Collection[str]]:
    """SOP Instance UIDs by series; of a result without segments, in which nothing was found, as its report says."""
    found = result.segmentation or result.before
    if found is not None:
        only = found.source_uids if len(found.source_series_uids) == 1 else ()
        return dict.fromkeys(found.source_series_uids, only)
    own = {one.uid for one in result.files.values()}
    evidence = result.report.evidence if result.report is not None else {}
    return {series: uids for series, uids in evidence.items() if not own & set(uids)}


def _source(made_from: Mapping[str, Collection[str]], images: Archive) -> SourceSeries:
    """The series that a result was made from. Raises InputError where it is not there or not whole."""
    for series_uid, sop_uids in made_from.items():
        data = [instance.data for instance in images.instances(series_uid)]
        if data:
            source = open_series(data)
            missing = set(sop_uids) - set(source.sop_uids)
            if missing:
                raise InputError(f"{len(missing)} of the images it was made from are missing, first {min(missing)}")
            return source
    raise InputError(f"{images.url} does not hold the series it was made from; give --images FOLDER")


def _card(result: StoredResult, archive: Archive) -> tuple[Card | None, str | None]:
    """The card of the version that the result names, and why there is none."""
    uid = (result.report.model_uid if result.report else None) or (
        result.segmentation.model_uid if result.segmentation else None
    )
    if not uid:
        return None, "the result names no network of this kind, so there is no card to show"
    for row in archive.find(Level.INSTANCE, Query(sop_uid=uid)):
        for header in archive.headers(row.series_uid, [uid]):
            try:
                found = decode(header.data)
                if isinstance(found, ManifestObject) and found.digest == result.parameters.get("digest"):
                    return parse_manifest(found.text).card, None
            except ModelError as error:
                return None, f"the network's card cannot be read: {error}"
    return None, f"the archive does not hold the network {uid} with the digest that the result states: no card is shown"


def _row(found: Measurement, label: str, side: str, tracking_uid: str) -> MeasurementRow:
    return MeasurementRow(
        label=label,
        segment=found.segment,
        side=side,
        quantity=found.quantity.meaning,
        quantity_code=_text(found.quantity),
        value=found.value if math.isfinite(found.value) else math.nan,
        unit=found.unit.value,
        tracking_uid=tracking_uid,
    )


def _is_probability(row: MeasurementRow) -> bool:
    return row.quantity_code == _text(PROBABILITY)


def _answer(group: MeasurementGroup) -> str:
    """What the model's rule says of a class, as reports of ours state it."""
    said = {answer for _, answer in group.evaluations}
    return next((code.meaning for code in (DETECTED, NOT_DETECTED) if str(code) in said), "")


def _subject(group: MeasurementGroup) -> str:
    return group.tracking_id or (group.finding.meaning if group.finding is not None else "whole series")


def _text(code: Code) -> str:
    return f"{code.scheme}:{code.value}"


def _joined(said: str | list[str]) -> str:
    return said if isinstance(said, str) else "\n".join(said)
