"""What an archive can do, found out by trying it, and what follows from that for a site.

Everything that is stored belongs to the patient RESIDENCY-PROBE and is the same at every examination, so that a second
one adds nothing; whoever runs the archive may delete that patient. What an archive's documentation says is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from residency.archive import Archive, Instance, Level, Query
from residency.archives.part10 import same_data_set
from residency.codes import Code
from residency.dicom.capture import captures
from residency.dicom.dataset import parse, sop_uid, text
from residency.dicom.parametric_map import parametric_map
from residency.dicom.part10 import EncodedInstance
from residency.dicom.probe import (
    PROBE_LABEL,
    PROBE_PATIENT_ID,
    PROBE_PATIENT_NAME,
    PROBE_SERIES,
    private_block_of,
    raw_probe,
)
from residency.dicom.report import report
from residency.dicom.segmentation import SegmentationType, probabilities, segmentation
from residency.dicom.series import SourceSeries, open_series
from residency.dicom.uids import ResultIdentity
from residency.errors import ArchiveError, InputError
from residency.findings import Findings, ModelReference, Picture, ScoreMap, Segment
from residency.settings import ArchiveSettings
from residency.testing.phantoms import mr_series
from residency.volume import Volume, regular_grid

LARGE_PROBE = 32 * 2**20
"""Bytes of the large probe: twice what one part of a model holds."""
_SMALL_PROBE = 1024
_LABEL_MAPS = "keeps Label Map Segmentations"


class Answer(StrEnum):
    """What was found out."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "not asked"


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    what     in words
    found    whether the archive does it
    detail   what was seen: a time, the words of a refusal
    follows  what that means for this site; "" for what is as it should be
    """

    what: str
    found: Answer
    detail: str = ""
    follows: str = ""


@runtime_checkable
class Peculiar(Protocol):
    """An archive whose protocol has traits of its own to be tried."""

    def traits(self, series_uid: str, sop_uid: str) -> Iterator[tuple[str, bool, str]]:
        """(what, whether it does it, detail) of an instance that it holds."""
        ...


Watch = Callable[[Check], None]


def examine(
    archive: Archive,
    *,
    sender: Archive | None = None,
    routes: Sequence[Archive] = (),
    large: int = LARGE_PROBE,
    watch: Watch | None = None,
) -> list[Check]:
    """Try everything that Residency may ask of an archive; each Check is also given to `watch` as it is made.

    sender  the same archive, opened so that storing neither asks what is there nor compares
    routes  other doors of the same archive, through which what was stored is looked at too
    large   bytes of the large probe

    What fails is an answer. Raises ArchiveError where the archive cannot be asked at all.
    """
    made: list[Check] = []
    for check in _checks(archive, sender or archive, routes, large):
        made.append(check)
        if watch is not None:
            watch(check)
    return made


def secrets(described: ArchiveSettings) -> Iterator[Check]:
    """Whether each file of the settings that holds a secret is its owner's alone."""
    for key in ("password_file", "token_file", "client_key"):
        file: Path | None = getattr(described, key)
        try:
            mode = file.expanduser().stat().st_mode if file is not None else 0
        except OSError:
            continue  # whoever uses it says so
        if file is not None:
            others = bool(mode & 0o077)
            yield Check(
                f"{key} is its owner's alone",
                Answer.NO if others else Answer.YES,
                f"mode {mode & 0o777:04o}" if others else "",
                f"others can read or write the secret: chmod 600 {file}" if others else "",
            )


def _checks(archive: Archive, sender: Archive, routes: Sequence[Archive], large: int) -> Iterator[Check]:
    began = time.perf_counter()
    list(archive.find(Level.STUDY, Query(patient_id=PROBE_PATIENT_ID)))
    yield Check("answers a query", Answer.YES, _seconds(began))

    source, images = _source()
    yield _keeps(archive, "keeps images", images, "no study can be read from it, and no result stored")
    small = raw_probe("small", bytes(range(256)) * (_SMALL_PROBE // 256))
    yield _keeps(archive, "keeps Raw Data", [small], "models cannot live here: name another archive as 'models'")
    big = raw_probe("large", np.random.default_rng(0).bytes(large))
    yield _keeps(
        archive, f"keeps Raw Data of {large / 2**20:.0f} MiB", [big], "models beyond this size cannot live here"
    )
    yield from _block_checks(archive, small)
    yield from _query_checks(archive, small)
    yield _headers_check(archive, big, large)
    yield _overwriting(archive, sender)
    for what, made, follows in _results(source):
        check = _keeps(archive, what, made, follows)
        taken = check.found is Answer.YES and what == _LABEL_MAPS
        yield replace(check, follows="you may set 'label_map' of this archive to true") if taken else check
    for number, route in enumerate(routes, start=1):
        yield from _route_checks(route, number, [*images, small, big], small)
    if isinstance(archive, Peculiar):
        yield from _traits(archive, small)


def _traits(archive: Peculiar, probe: EncodedInstance) -> Iterator[Check]:
    try:
        for what, does, detail in archive.traits(PROBE_SERIES, probe.uid):
            yield Check(what, Answer.YES if does else Answer.NO, detail)
    except ArchiveError as error:
        yield Check("shows its traits", Answer.UNKNOWN, str(error))


def _keeps(archive: Archive, what: str, made: Sequence[EncodedInstance], follows: str) -> Check:
    """Store and compare; what goes wrong is the answer."""
    began = time.perf_counter()
    try:
        archive.store(Instance(one.uid, one.data) for one in made)
        taken = _seconds(began)
        _compare(archive, made)
    except ArchiveError as error:
        return Check(what, Answer.NO, str(error), follows)
    return Check(what, Answer.YES, f"stored and compared in {taken}")


def _compare(archive: Archive, made: Sequence[EncodedInstance]) -> None:
    """Raises ArchiveError unless the archive gives everything back with an equal data set."""
    missing = {one.uid: one.data for one in made}
    for series_uid in {text(parse(one.data, pixels=False), "SeriesInstanceUID") for one in made}:
        for found in archive.instances(series_uid, list(missing)):
            if not same_data_set(found.data, missing.pop(found.uid, b"")):
                raise ArchiveError(f"gives back {found.uid} changed")
    if missing:
        raise ArchiveError(f"took {len(made)} and does not give back {len(missing)} of them, first {min(missing)}")


def _given_back(archive: Archive, uid: str) -> bytes | None:
    return next((found.data for found in archive.instances(PROBE_SERIES, [uid])), None)


def _block_checks(archive: Archive, probe: EncodedInstance) -> Iterator[Check]:
    """Whether private elements survive, where, and as what."""
    what = "keeps private blocks"
    try:
        data = _given_back(archive, probe.uid)
        block = private_block_of(data) if data is not None else None
    except (ArchiveError, InputError) as error:
        yield Check(what, Answer.NO, str(error), "models cannot live here")
        return
    if data is None:
        yield Check(what, Answer.UNKNOWN, "the probe did not come back")
    elif block is None:
        yield Check(what, Answer.NO, "the block is gone", "models cannot live here: switch off what strips them")
    else:
        sent = private_block_of(probe.data)
        moved = sent is not None and sent.place != block.place
        detail = f"at {block.place}, bytes as {block.vr}" + (" (moved)" if moved else "")
        yield Check(what, Answer.YES, detail)


def _query_checks(archive: Archive, probe: EncodedInstance) -> Iterator[Check]:
    """What rows of a query say, which makes looking models up cheap."""
    try:
        rows = list(archive.find(Level.INSTANCE, Query(patient_id=PROBE_PATIENT_ID, sop_uid=probe.uid)))
    except ArchiveError as error:
        yield Check("finds instances", Answer.NO, str(error), "neither models nor results can be looked up")
        return
    yield Check(
        "finds instances",
        Answer.YES if rows else Answer.NO,
        f"{len(rows)} row of one instance",
        "" if rows else "neither models nor results can be looked up: let it index instances",
    )
    labelled = bool(rows) and rows[0].content_label == PROBE_LABEL
    yield Check(
        "answers Content Label",
        Answer.YES if labelled else Answer.NO,
        "",
        "" if labelled else "looking up models reads a header of each part; the local index spares it the next time",
    )


def _headers_check(archive: Archive, probe: EncodedInstance, large: int) -> Check:
    """Whether a header comes without its payload: what looking up models costs."""
    what, began = "gives headers without payloads", time.perf_counter()
    try:
        sizes = [len(header.data) for header in archive.headers(PROBE_SERIES, [probe.uid])]
    except ArchiveError as error:
        return Check(what, Answer.NO, str(error), "nothing can be chosen here")
    cheap = time.perf_counter() - began < 0.02 + large / 100e6
    if not sizes:
        return Check(what, Answer.UNKNOWN, "the probe did not come back")
    return Check(
        what,
        Answer.YES,
        f"{sizes[0]} bytes of {large} in {_seconds(began)}",
        "" if cheap else "headers cost as much as payloads here; what was looked up once is spared by the local index",
    )


def _overwriting(archive: Archive, sender: Archive) -> Check:
    """Another content under a known UID: kept out, put in its place, or refused."""
    what = "keeps the first of two contents under one UID"
    first, second = raw_probe("twice", b"first."), raw_probe("twice", b"second")
    try:
        there = _given_back(archive, first.uid)
        if there is None or not same_data_set(there, first.data):
            _send(sender, first)  # also where an examination before this one was stopped half-way
        refused = ""
        try:
            _send(sender, second)
        except ArchiveError as error:
            refused = f"refused: {error}"
        back = _given_back(archive, first.uid)
        if back is not None and same_data_set(back, first.data):
            return Check(what, Answer.YES, refused or "in silence: it reports success for the second")
        if back is not None and same_data_set(back, second.data):
            _send(sender, first)
            return Check(
                what,
                Answer.NO,
                "the second replaces the first",
                "whoever may store here may replace a model or a result; every reading compares digests, and what was "
                "replaced is refused",
            )
    except ArchiveError as error:
        return Check(what, Answer.UNKNOWN, str(error))
    return Check(what, Answer.UNKNOWN, "it gives back neither of the two")


def _send(sender: Archive, made: EncodedInstance) -> None:
    sender.store([Instance(made.uid, made.data)])


def _route_checks(
    route: Archive, number: int, made: Sequence[EncodedInstance], probe: EncodedInstance
) -> Iterator[Check]:
    """The same objects through another door of the same archive."""
    what = f"gives the same by route {number} ({route.url})"
    try:
        _compare(route, made)
        data = _given_back(route, probe.uid)
        block = private_block_of(data) if data is not None else None
    except (ArchiveError, InputError) as error:
        yield Check(what, Answer.NO, str(error), "read models and images by one and the same door")
        return
    yield Check(what, Answer.YES, f"private block at {block.place}, bytes as {block.vr}" if block else "")


def _seconds(began: float) -> str:
    return f"{time.perf_counter() - began:.2f} s"


# The results that are tried: real ones, of a phantom


def _source() -> tuple[SourceSeries, list[EncodedInstance]]:
    """A tiny series of the probe's patient, and its instances."""
    values = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
    data = mr_series(
        Volume(values, regular_grid(values.shape, (2.0, 1.0, 1.0))),
        study="probe",
        PatientID=PROBE_PATIENT_ID,
        PatientName=PROBE_PATIENT_NAME,
        QualityControlSubject="YES",
        StudyDescription="Probes of Residency: what this archive can do; may be deleted",
    )
    return open_series(data), [EncodedInstance(_uid_of(one), one) for one in data]


def _uid_of(data: bytes) -> str:
    return sop_uid(parse(data, pixels=False))


def example_results() -> Iterator[tuple[str, EncodedInstance]]:
    """(what it is, one of it) of every kind of object that a result consists of, for the probe's phantom."""
    source, _ = _source()
    for what, made, _follows in _results(source):
        yield what.removeprefix("keeps ").removesuffix("s"), made[0]


def _results(source: SourceSeries) -> Iterator[tuple[str, list[EncodedInstance], str]]:
    """(what, objects, what follows where they are not kept) of every form that a result can take."""
    findings, identity = _findings(source), _identity(source)
    binary = segmentation(findings, source, identity)
    yield "keeps Segmentations", [binary], "results have no masks here: name another archive as 'results'"
    labels = segmentation(findings, source, identity, SegmentationType.LABELMAP)
    yield _LABEL_MAPS, [labels], "leave 'label_map' of this archive false, as it is by default"
    fractional = probabilities(findings, source, identity)
    yield "keeps fractional Segmentations", [fractional], "probabilities of structures are not stored here"
    mapped = parametric_map(findings, findings.maps[1], source, identity)
    yield "keeps Parametric Maps", [mapped], "maps are not stored here"
    said = report(findings, source, identity, binary)
    yield "keeps Structured Reports", [said], "results have no report here: name another archive as 'results'"
    page = Picture(np.zeros((16, 16, 3), np.uint8), "probe")
    pictures = captures([page], findings.model, source, identity)
    yield "keeps Secondary Captures", list(pictures), "set 'summary' of this archive to \"never\""


def _findings(source: SourceSeries) -> Findings:
    brain = Code(scheme="SCT", value="12738006", meaning="Brain")
    structure = Code(scheme="SCT", value="123037004", meaning="Anatomical Structure")
    mask = np.zeros(source.grid.shape, np.bool_)
    mask[1, 2:5, 2:5] = True
    share = Code(scheme="UCUM", value="1", meaning="no units")
    score = Code(scheme="DCM", value="111047", meaning="Probability")
    values = np.where(mask, np.float32(0.5), np.float32(0))
    return Findings(
        grid=source.grid,
        model=_MODEL,
        segments=(Segment(1, "probe", structure, brain, mask),),
        maps=(
            ScoreMap(score, share, values, 1, "probe", structure, brain, fractional=True),
            ScoreMap(score, share, values, 2, "probe"),
        ),
    )


def _identity(source: SourceSeries) -> ResultIdentity:
    return ResultIdentity(source.sop_uids, _MODEL.digest, "f32", "none", _MODEL.approval)


_MODEL = ModelReference(
    family="probe",
    name="Probe",
    version="1",
    digest="sha256:" + "0" * 64,
    publisher="Residency",
    manifest_uid=raw_probe("small", b"").uid,
    manifest_sop_class="1.2.840.10008.5.1.4.1.1.66",
    study_uid=PROBE_SERIES,
    series_uid=PROBE_SERIES,
    engine="none",
    precision="f32",
    notice="A probe, not a result.",
    approval="not approved at this site: research use",
    threshold="none",
)
