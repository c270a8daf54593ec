"""Identifiers of queries and retrievals, and the rows that answer them (DICOM PS3.4 C.4, C.6.2).

A value is a value: what DICOM takes as a pattern or as several values (* ? and the backslash) is never sent as a key,
nor is what a character set could change. Such a key goes out empty, which matches everything, and rows are compared.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from residency.archive import Entry, Level, Query
from residency.archives.elements import Encoding, MalformedError, elements
from residency.archives.part10 import texts_of
from residency.dicom.dataset import is_uid
from residency.errors import AnswerError

QUERY_LEVELS = {Level.STUDY: "STUDY", Level.SERIES: "SERIES", Level.INSTANCE: "IMAGE"}

TAGS = {
    "character_set": 0x00080005,
    "sop_class": 0x00080016,
    "sop_uid": 0x00080018,
    "level": 0x00080052,
    "modality": 0x00080060,
    "modalities": 0x00080061,
    "study_description": 0x00081030,
    "series_description": 0x0008103E,
    "patient_id": 0x00100020,
    "study_uid": 0x0020000D,
    "series_uid": 0x0020000E,
    "study_instances": 0x00201208,
    "series_instances": 0x00201209,
    "content_label": 0x00700080,
}
_NAMES = {tag: name for name, tag in TAGS.items() if name != "character_set"}
_UIDS = frozenset(("sop_class", "sop_uid", "study_uid", "series_uid"))
_LITERAL = re.compile(r"[!-\)+->@-\[\]-~]([ -\)+->@-\[\]-~]{0,62}[!-\)+->@-\[\]-~])?")
"""Printable ASCII without * ? and the backslash, no blank at either end."""

KEYS = {
    Level.STUDY: ("study_uid", "patient_id", "study_description", "modalities", "study_instances"),
    Level.SERIES: ("study_uid", "series_uid", "modality", "series_description", "series_instances"),
    Level.INSTANCE: ("study_uid", "series_uid", "sop_uid", "sop_class", "content_label"),
}
"""What is asked at each level; a relational query asks for what stands above it as well."""
INHERITED = {
    Level.STUDY: (),
    Level.SERIES: ("patient_id",),
    Level.INSTANCE: ("patient_id", "modality", "series_description"),
}
OWN_UID = {Level.STUDY: "study_uid", Level.SERIES: "series_uid", Level.INSTANCE: "sop_uid"}


@dataclass(frozen=True)
class Found:
    """One row as it was answered; None where the archive did not answer the attribute."""

    patient_id: str | None = None
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    sop_class: str | None = None
    modality: str | None = None
    modalities: str | None = None
    study_description: str | None = None
    series_description: str | None = None
    content_label: str | None = None
    study_instances: str | None = None
    series_instances: str | None = None

    def below(self, above: Found) -> Found:
        """The row with what it lacks taken from the row above it."""
        return replace(
            self,
            patient_id=self.patient_id or above.patient_id,
            study_uid=self.study_uid or above.study_uid,
            series_uid=self.series_uid or above.series_uid,
            modality=self.modality or above.modality,
            series_description=above.series_description if self.series_description is None else self.series_description,
        )

    def fits(self, query: Query, level: Level) -> bool:
        """Whether it satisfies those parts of the query that belong to its level or above it."""
        given = {name: value for name, value in asked(query).items() if LEVEL_OF[name] <= DEPTH[level]}
        return all((getattr(self, name) or "") == value for name, value in given.items())

    def entry(self, level: Level) -> Entry:
        """As the port gives it."""
        patient = self.patient_id or ""
        if level is Level.STUDY:
            described, count = self.study_description or "", number(self.study_instances) or 0
            return Entry(patient, self.study_uid, description=described, instances=count)
        where = Entry(
            patient,
            self.study_uid,
            self.series_uid,
            modality=self.modality or "",
            description=self.series_description or "",
            instances=number(self.series_instances) or 0,
        )
        if level is Level.SERIES:
            return where
        label = self.content_label or ""
        return replace(where, sop_uid=self.sop_uid, sop_class=self.sop_class or "", content_label=label, instances=1)


DEPTH = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}
LEVEL_OF = {
    "patient_id": 0,
    "study_uid": 0,
    "series_uid": 1,
    "modality": 1,
    "sop_uid": 2,
    "sop_class": 2,
    "content_label": 2,
}
"""How deep an attribute of a query stands."""


def asked(query: Query) -> dict[str, str]:
    """The parts of a query that are given."""
    return {name: value for name, value in vars(query).items() if value is not None}


def possible(query: Query) -> bool:
    """False where no instance can satisfy it: a UID that is none."""
    return all(is_uid(value) for name, value in asked(query).items() if name in _UIDS)


def number(text: str | None) -> int | None:
    """A count, if it is one."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 12 else None


def identifier(level: Level, keys: Sequence[str], matched: Mapping[str, str | Sequence[str]]) -> bytes:
    """A query or retrieval in Implicit VR Little Endian: what is asked, and what must match; lists are lists of UIDs.

    Values that are no literals are left out of the matching.
    """
    values = dict.fromkeys(keys, "")
    for name, value in matched.items():
        if not isinstance(value, str):
            values[name] = "\\".join(value)
        elif _LITERAL.fullmatch(value) and (name != "modality" or len(value) <= 16):
            values[name] = value
    values |= {"level": QUERY_LEVELS[level], "character_set": "ISO_IR 192"}
    parts = []
    for name in sorted(values, key=lambda n: TAGS[n]):
        coded = values[name].encode("ascii")
        coded += (b"\0" if name in _UIDS else b" ") * (len(coded) % 2)
        parts.append(struct.pack("<HHI", TAGS[name] >> 16, TAGS[name] & 0xFFFF, len(coded)) + coded)
    return b"".join(parts)


def row_of_answer(data: bytes, level: Level, peer: str) -> Found:
    """A row at a level. Raises AnswerError where it is malformed or does not say what it is a row of."""
    values = _texts(data, peer)
    values.pop("level", None)
    for name in ("study_uid", "series_uid", "sop_uid", "sop_class"):
        needed = name == OWN_UID[level]
        if not is_uid(values.get(name, "")) and (needed or values.get(name)):
            raise AnswerError(f"{peer} answers a query with a row that has no valid UID")
    return Found(**values)


def _texts(data: bytes, peer: str) -> dict[str, str]:
    try:
        return texts_of(data, elements(data, 0, len(data), Encoding(implicit=True)), _NAMES)
    except MalformedError:
        raise AnswerError(f"{peer} answers a query with a row that is malformed") from None
