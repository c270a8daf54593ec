"""Cases straight from an archive: image series that a query finds, and Segmentations that refer to them.

Persons and cases are called by keyed hashes (HMAC-SHA256): whoever has not the key cannot find out by trial which
Patient ID a name stands for. No identifier of a patient is in a case, nor in a message.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from residency.archive import Archive, Entry, Level, Query
from residency.codes import Code, canonical
from residency.codes.concept import split_code_text
from residency.datasets.case import MOST_CASES, SINGLE, Case, Gathered, Labels, in_order, persons
from residency.dicom.labels import read_labels
from residency.dicom.segmentation_header import SegmentationHeader, read_segmentation_header
from residency.dicom.segmentation_read import read_segmentation
from residency.dicom.series import open_series
from residency.errors import InputError, TrainingError
from residency.labels import ATTRIBUTES, SeriesLabels
from residency.volume import Grid, Volume

SHORTEST_KEY = 16
"""Fewest bytes of the key that names persons."""

_DIGITS = 24


@dataclass(frozen=True)
class ArchiveQuery:
    """Which series of an archive are cases, and which segments are their classes.

    modality     of the images, such as `CT`
    segments     by the name of a class, what stands for it in a Segmentation: codes of the segment's type, such as
                 `SCT:10200004`, or segment numbers
    description  part of the images' Series Description, whatever the case of its letters
    reference    part of the Segmentation's Series Description
    weighting    of MR: T1, T2, FLAIR, PD, DWI
    attributes   values that all images of a series must have, by DICOM keyword
    """

    modality: str
    segments: Mapping[str, Sequence[str | int]]
    description: str = ""
    reference: str = ""
    weighting: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def read_archive(
    archive: Archive, query: ArchiveQuery, classes: Sequence[str], key: bytes, split: str = "train"
) -> Gathered:
    """All series that the query finds and a Segmentation refers to, all of one split, by name.

    classes  names of labels 0, 1, ...; the first is the background, the others are those of `query.segments`
    key      secret bytes that names of persons and cases are made with; keep them to get the same names again

    Only headers are read now. What is left out is counted, with the reason, in the notes. Raises TrainingError where
    nothing is found, a series has no Patient ID, or several Segmentations of one series have the segments that are
    asked for; ArchiveError where the archive fails.
    """
    _check(query, classes, key)
    wanted = {name: _meant(query.segments[name]) for name in classes[1:]}
    left: Counter[str] = Counter()
    described = _segmentations(archive, query, wanted, left)
    cases = []
    for entry in _series(archive, query):
        name = _name(key, "case", entry.series_uid)
        references = described.get(entry.series_uid, [])
        if not references:
            left["series without a Segmentation that has the segments"] += 1
            continue
        if len(references) > 1:
            raise TrainingError(
                f"series {entry.series_uid} (case '{name}') has {len(references)} Segmentations with such segments; "
                "say with 'reference', part of their Series Description, which is meant"
            )
        image = _image(archive, entry, query, left)
        if image is None:
            continue
        if not entry.patient_id:
            raise TrainingError(f"series {entry.series_uid} has no Patient ID: nobody can say whose it is")
        person = _name(key, "person", entry.patient_id)
        cases.append(Case(name, person, split, {SINGLE: image}, references[0]))
    reasons = tuple(f"{count} left out: {reason}" for reason, count in sorted(left.items()))
    if not cases:
        raise TrainingError(f"the query finds no case in the archive; {'; '.join(reasons) or 'no series matches'}")
    found = in_order(cases, "the archive")
    return Gathered(found, (f"{len(found)} cases of {len(persons(found))} persons", *reasons))


@dataclass(frozen=True)
class ArchivedSeries:
    """A series in an archive, of exactly these instances."""

    archive: Archive = field(repr=False)
    series_uid: str
    sop_uids: tuple[str, ...] = field(repr=False)

    def digest(self) -> bytes:
        """SHA-256 over the UIDs of the instances, which stand for their content (DICOM PS3.5 section 9)."""
        return hashlib.sha256("\n".join(self.sop_uids).encode()).digest()

    def volume(self) -> Volume:
        """Fetched and read now. Raises TrainingError where the series has changed, InputError, ArchiveError."""
        found = {one.uid: one.data for one in self.archive.instances(self.series_uid)}
        if tuple(sorted(found)) != self.sop_uids:
            raise TrainingError(
                f"series {self.series_uid} had {len(self.sop_uids)} instances when cases were gathered, and now has "
                f"{len(found)} or others; begin anew"
            )
        return open_series(found.values()).volume()


@dataclass(frozen=True)
class ArchivedSegmentation:
    """Segments of a Segmentation in an archive. segments: number of the class by number of the segment."""

    archive: Archive = field(repr=False)
    series_uid: str
    sop_uid: str
    segments: tuple[tuple[int, int], ...]

    def digest(self) -> bytes:
        """SHA-256 over its UID and the segments that are taken."""
        return hashlib.sha256(f"{self.sop_uid}\n{sorted(self.segments)}".encode()).digest()

    def labels(self, grid: Grid) -> Labels:
        """Fetched and read now. Raises TrainingError where classes overlap, InputError, ArchiveError."""
        class_of = dict(self.segments)
        data = [one.data for one in self.archive.instances(self.series_uid, [self.sop_uid])]
        if len(data) != 1:
            raise TrainingError(f"Segmentation {self.sop_uid} was there when cases were gathered, and is no more")
        found = np.zeros(grid.shape, np.uint8)
        for one in read_segmentation(data[0], grid, only=tuple(class_of)).segments:
            number, mask = class_of[one.segment.number], one.segment.mask
            if not np.isin(found[mask], (0, number)).all():
                raise TrainingError(
                    f"Segmentation {self.sop_uid}: segment {one.segment.number} overlaps one of another class; a voxel "
                    "can only be of one"
                )
            found[mask] = number
        return found


@dataclass(frozen=True)
class _Meant:
    codes: frozenset[tuple[str, str]]
    numbers: frozenset[int]

    def __contains__(self, segment: tuple[int, Code | None]) -> bool:
        number, code = segment
        return number in self.numbers or (code is not None and (code.scheme, code.value) in self.codes)


def _meant(said: Sequence[str | int]) -> _Meant:
    pairs = [(one, split_code_text(one)) for one in said if isinstance(one, str)]
    for text, pair in pairs:
        if pair is None:
            raise TrainingError(f"a segment is named by its number, or by a code such as SCT:10200004, not {text!r}")
    codes = [canonical(Code(scheme=p[0], value=p[1], meaning="asked for")) for _, p in pairs if p is not None]
    return _Meant(
        frozenset((code.scheme, code.value) for code in codes), frozenset(one for one in said if isinstance(one, int))
    )


def _check(query: ArchiveQuery, classes: Sequence[str], key: bytes) -> None:
    if len(key) < SHORTEST_KEY:
        raise TrainingError(f"the key that names persons has {len(key)} bytes; at least {SHORTEST_KEY} are needed")
    if set(query.segments) != set(classes[1:]) or len(classes) < 2:
        raise TrainingError(
            f"segments are named for {', '.join(query.segments) or 'no class'}; the classes besides the background are "
            f"{', '.join(classes[1:])}"
        )
    if unknown := sorted(set(query.attributes) - set(ATTRIBUTES)):
        raise TrainingError(f"attribute '{unknown[0]}' cannot be asked for; known are {', '.join(ATTRIBUTES)}")


def _series(archive: Archive, query: ArchiveQuery) -> Iterator[Entry]:
    count = 0
    for entry in archive.find(Level.SERIES, Query(modality=query.modality)):
        if query.description.casefold() in entry.description.casefold():
            count += 1
            if count > MOST_CASES:
                raise TrainingError(f"the query finds more than {MOST_CASES} series; ask for less")
            yield entry


def _segmentations(
    archive: Archive, query: ArchiveQuery, wanted: Mapping[str, _Meant], left: Counter[str]
) -> dict[str, list[ArchivedSegmentation]]:
    """Segmentations with segments that are asked for, by the UID of the series they refer to."""
    found: dict[str, list[ArchivedSegmentation]] = {}
    for entry in archive.find(Level.SERIES, Query(modality="SEG")):
        if query.reference.casefold() not in entry.description.casefold():
            continue
        for instance in archive.headers(entry.series_uid):
            try:
                header = read_segmentation_header(instance.data)
            except InputError:
                left["objects of modality SEG that cannot be read"] += 1
                continue
            if header.model_uid is not None:
                left["Segmentations that a network of Residency made"] += 1
                continue
            chosen = _chosen(header, wanted)
            if chosen:
                made = ArchivedSegmentation(archive, entry.series_uid, header.sop_uid, chosen)
                for uid in dict.fromkeys(header.source_series_uids):
                    found.setdefault(uid, []).append(made)
    return found


def _chosen(header: SegmentationHeader, wanted: Mapping[str, _Meant]) -> tuple[tuple[int, int], ...]:
    """(segment, class) for each segment that stands for a class. Raises TrainingError where it stands for two."""
    found = []
    for segment in header.segments:
        classes = [number for number, meant in enumerate(wanted.values(), 1) if segment in meant]
        if len(classes) > 1:
            raise TrainingError(f"Segmentation {header.sop_uid}: segment {segment[0]} stands for two classes")
        found += [(segment[0], number) for number in classes]
    return tuple(found)


def _image(archive: Archive, entry: Entry, query: ArchiveQuery, left: Counter[str]) -> ArchivedSeries | None:
    headers = list(archive.headers(entry.series_uid))
    try:
        labels = read_labels(one.data for one in headers)
    except InputError:
        left["series whose headers cannot be read"] += 1
        return None
    reason = _unfit(labels, query)
    if reason:
        left[reason] += 1
        return None
    return ArchivedSeries(archive, entry.series_uid, tuple(sorted(one.uid for one in headers)))


def _unfit(labels: SeriesLabels, query: ArchiveQuery) -> str:
    if labels.own_result:
        return "series that a network of Residency made"
    if labels.problem is not None:
        return "series that are no volume"
    if query.weighting is not None and (labels.weighting is None or labels.weighting.value != query.weighting):
        return f"series that are not {query.weighting} by their headers"
    for keyword, value in query.attributes.items():
        if labels.attributes.get(keyword) != value:
            return f"series whose {keyword} is not '{value}'"
    return ""


def _name(key: bytes, kind: str, value: str) -> str:
    return kind[0] + hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).hexdigest()[:_DIGITS]
