"""Files that were emptied of their UIDs, on their way into an archive: what they still say, and new UIDs for the rest.

Careless de-identification leaves the data set without UIDs while the file meta group still names class and instance.
Which files are one series and one study nothing says any more, so the person who imports says it by where files lie:
a folder is a series, what was named for import is a study. New UIDs are hashes of the instances in them, so that a
second import gives the same, and nothing about the place of the files goes into them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from residency.archives.elements import Element, Encoding, MalformedError, elements
from residency.archives.part10 import texts_of
from residency.dicom.dataset import is_uid, parse, quiet, text
from residency.dicom.uids import derived_uid
from residency.errors import InputError

META_BYTES = 8192
"""What of a file is read to learn what its file meta group says; real ones take some hundred bytes."""

_META_START, _META_GROUP = 132, 0x0002


@dataclass(frozen=True)
class Place:
    """Where a file lies: the study is what was named for import, the series the folder in it."""

    study: str
    series: str


@dataclass
class Mender:
    """Gives UIDs to files that were emptied of them. Learn of every file first, then mend.

    mended  how many files got which new UIDs: (study UID, series UID) -> count
    """

    mended: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    _studies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _series: dict[Place, set[str]] = field(default_factory=lambda: defaultdict(set))
    _patients: dict[str, tuple[str, str]] = field(default_factory=dict)

    def learn(self, files: Iterable[tuple[Place, bytes]]) -> None:
        """Take note of every file by its first META_BYTES; those that name no instance are passed over."""
        for place, start in files:
            _, uid = _named_in_meta(start)
            if is_uid(uid):
                self._studies[place.study].add(uid)
                self._series[place].add(uid)

    def mend(self, place: Place, data: bytes) -> bytes:
        """The file with UIDs where it had none; as it is if it lacks none.

        Raises InputError where even the file meta group names no class and instance, where the file cannot be parsed,
        or where two patients lie in one study.
        """
        with quiet():
            dataset = parse(data)
            sop_class, sop_uid = _named_in_meta(data[:META_BYTES])
            new = {
                "SOPClassUID": sop_class,
                "SOPInstanceUID": sop_uid,
                "StudyInstanceUID": derived_uid("mended-study", *sorted(self._studies[place.study])),
                "SeriesInstanceUID": derived_uid("mended-series", *sorted(self._series[place])),
            }
            missing = [keyword for keyword in new if not text(dataset, keyword)]
            if not missing:
                return data
            if not (is_uid(sop_class) and is_uid(sop_uid)):
                raise InputError("it was emptied of its UIDs, and its file meta group names no class and instance")
            self._check_patient(place, dataset)
            for keyword in missing:
                setattr(dataset, keyword, new[keyword])
            dataset.preamble = data[:128]
            whole = BytesIO()
            dcmwrite(whole, dataset)
        self.mended[dataset.StudyInstanceUID, dataset.SeriesInstanceUID] += 1
        return whole.getvalue()

    def _check_patient(self, place: Place, dataset: Dataset) -> None:
        patient = text(dataset, "PatientID"), text(dataset, "PatientName")
        if self._patients.setdefault(place.study, patient) != patient:
            raise InputError("it lies beside files of another patient; import each patient's files on their own")


HOW = "'residency archive import --mend-uids' gives new UIDs to files that were emptied of them"


def is_emptied(data: bytes) -> bool:
    """Whether a file that belongs nowhere could be mended: its file meta group still names class and instance."""
    try:
        dataset = parse(data, pixels=False)
    except InputError:
        return False
    return not text(dataset, "SOPInstanceUID") and all(map(is_uid, _named_in_meta(data[:META_BYTES])))


def _named_in_meta(start: bytes) -> tuple[str, str]:
    """Class and instance that the file meta group names; "" where it does not."""
    found: list[Element] = []
    try:
        for element in elements(start, _META_START, len(start), Encoding(implicit=False)):
            if element.tag >> 16 != _META_GROUP:
                break
            found.append(element)
    except MalformedError:
        pass  # the data set lies beyond the start, or is none
    named = texts_of(start, found, {0x00020002: "sop_class", 0x00020003: "sop_uid"})
    return named.get("sop_class", ""), named.get("sop_uid", "")
